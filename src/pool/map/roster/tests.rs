//! The roster by hand: what one thread says while another is between two locks.

use super::*;
use crate::pool::error::Kind;
use crate::pool::job::{Break, Relapse};
use crate::sys::clock::Moment;

fn roster() -> Roster {
    Roster::new(Measure {
        look_ahead: 100,
        chunk_size: Some(2),
        ordered: true,
        workers: 2,
    })
}

fn items(count: u8) -> impl Iterator<Item = Result<Packed, TaskError>> {
    (0..count).map(|n| Ok(Packed::copy_of(&[n])))
}

/// Takes out the chunk that is to be submitted.
fn batch(roster: &mut Roster) -> Batch {
    match roster.duty() {
        Some(Duty::Submit(batch)) => batch,
        other => panic!("a chunk is to go out: {other:?}"),
    }
}

fn finish(roster: &mut Roster, batch: &Batch) {
    let item = |n| News::Item(n, Raw::Failed(TaskError::new(Kind::Cancelled)));
    let mut news: Vec<_> = (0..batch.count).map(item).collect();
    news.push(News::Over(batch.count, std::time::Duration::ZERO));
    roster.hear(batch.id, news);
}

#[test]
fn the_pool_is_told_to_wait_before_there_is_work_and_not_to_wait_after_it() {
    let mut roster = roster();
    assert!(roster.prepare(), "it does not know yet");
    assert!(
        roster.duty().is_none(),
        "another thread does not say the contrary first"
    );
    roster.take(items(4), false);
    let (one, two) = (batch(&mut roster), batch(&mut roster));
    assert!(!roster.prepare(), "it knows");
    finish(&mut roster, &one);
    finish(&mut roster, &two);
    assert!(roster.duty().is_none(), "more is just coming");
    roster.take(items(0), true);
    assert!(matches!(roster.duty(), Some(Duty::Unhold)));
    assert!(roster.duty().is_none(), "said once");
}

/// The key of a job in a pool of its own.
fn key() -> JobKey {
    let mut core = crate::pool::scheduler::Scheduler::new(crate::pool::scheduler::Rules {
        workers: 1,
        ..Default::default()
    });
    let now = crate::sys::clock::Moment(1);
    core.submit(now, Default::default(), ())
        .expect("the pool is open")
}

#[test]
fn what_was_being_submitted_when_its_map_was_left_is_withdrawn() {
    let mut roster = roster();
    roster.prepare();
    roster.take(items(4), true);
    let (known, unknown) = (batch(&mut roster), batch(&mut roster));
    assert!(roster.submitted(known.id, key()).is_none());
    let events = roster.abandon(Ending::Abort);
    assert!(matches!(*events, [Event::Abort(_)]), "{events:?}");
    let event = roster.submitted(unknown.id, key());
    assert!(matches!(event, Some(Event::Abort(_))), "{event:?}");
    assert!(matches!(roster.duty(), Some(Duty::Unhold)));
}

#[test]
fn a_chunk_that_is_over_before_its_key_is_known_needs_none() {
    let mut roster = roster();
    roster.prepare();
    roster.take(items(2), true);
    let batch = batch(&mut roster);
    finish(&mut roster, &batch);
    assert!(roster.submitted(batch.id, key()).is_none());
    assert_eq!(roster.abandon(Ending::Cancel).len(), 0);
}

/// A pool that was closed had ended by then, and the item was refused.
#[test]
fn the_pool_waits_for_the_answers_that_are_on_the_way_when_a_chunk_breaks() {
    let failure = || TaskError::new(Kind::Cancelled);
    let again = News::Again(
        0,
        Relapse {
            failure: failure(),
            pause: std::time::Duration::ZERO,
            settled: true,
        },
    );
    for (answer, goes_out) in [
        (again, true),
        (News::Item(0, Raw::Failed(failure())), false),
    ] {
        let mut roster = roster();
        roster.prepare();
        roster.take(items(2), true);
        let broken = batch(&mut roster);
        let broke = News::Broke(Break {
            victim: Some((1, failure())),
            unbegun: 2..2,
            rest: None,
        });
        assert!(roster.hear(broken.id, vec![broke]));
        assert!(roster.duty().is_none(), "an answer is on the way");
        assert!(roster.hear(broken.id, vec![answer]));
        if goes_out {
            assert!(roster.book().pauses());
            roster.book().resume(Moment(u64::MAX));
            let again = batch(&mut roster);
            finish(&mut roster, &again);
        }
        assert!(matches!(roster.duty(), Some(Duty::Unhold)));
    }
}
