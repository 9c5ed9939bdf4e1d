//! What was found wrong with chunks, each as small as it goes.

use super::*;
use crate::pool::scheduler::Refusal;

fn limited(items: u32) -> JobSpec {
    JobSpec {
        items,
        timeout: Some(30 * MS),
        ..JobSpec::default()
    }
}

#[test]
fn a_chunk_that_was_to_be_cut_before_it_began_is_cut_when_it_has() {
    for cancelled in [false, true] {
        let mut desk = Desk::ready(2);
        desk.submit_chunk(1, "a", 10);
        // Its worker is slow to begin: there is nothing to be cut yet.
        desk.pass(3 * MS);
        assert_eq!(desk.cuts, []);
        desk.start("a");
        match cancelled {
            true => desk.cancel("a"),
            false => desk.pass(3 * MS),
        }
        assert_eq!(desk.cuts, [desk.sent["a"]], "cancelled: {cancelled}");
    }
}

#[test]
fn a_limit_that_comes_between_two_items_is_no_circle() {
    let mut desk = Desk::ready(1);
    desk.submit("a", limited(2));
    desk.start("a");
    desk.pass(29 * MS);
    desk.end_item("a");
    // It hung here: what had run for its limit was ended, was over, was asked for, had run …
    desk.pass(50 * MS);
    desk.next_item("a");
    desk.pass(29 * MS);
    assert_eq!((desk.outcome("a"), desk.killed.len()), (None, 0));
}

#[test]
fn a_worker_stopped_between_two_items_is_noticed() {
    let mut desk = Desk::ready(1);
    desk.submit("a", limited(2));
    desk.start("a");
    desk.end_item("a");
    desk.pass(2_300 * MS);
    assert_eq!(
        desk.killed,
        [desk.worker_of("a")],
        "what it has finished is found when it is dead"
    );
}

#[test]
fn a_worker_that_is_found_between_two_items_again_and_again_is_not_stopped() {
    let mut desk = Desk::ready(1);
    desk.submit("a", limited(1_000));
    desk.start("a");
    for _ in 0..500 {
        desk.end_item("a");
        desk.pass(9 * MS);
        desk.next_item("a");
        desk.pass(MS);
    }
    assert_eq!(desk.killed, []);
}

#[test]
fn nothing_is_begun_between_the_end_of_everything_and_the_kill() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.end_item("a");
    desk.tell(Event::Terminate);
    assert_eq!(desk.cuts, [desk.sent["a"]]);
}

#[test]
fn a_finished_pool_takes_nothing_more() {
    let mut desk = Desk::ready(1);
    desk.tell(Event::Close);
    desk.exit(desk.retired[0]);
    assert!(desk.finished);
    // A map that had seen the pool open, and was slow to take its items.
    desk.tell(Event::Hold);
    let late = desk.core.submit(desk.now, limited(2), "late");
    assert_eq!(late, Err((Refusal::Closed, "late")));
}

#[test]
fn an_abort_reaches_a_worker_that_is_being_killed() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.tell(Event::Condemned(desk.worker_of("a")));
    assert_eq!(desk.killed.len(), 1);
    desk.abort("a");
    assert_eq!(desk.cuts, [desk.sent["a"]], "until it is dead it goes on");
}

#[test]
fn no_item_is_begun_after_the_deadline_that_came_between_two() {
    for timeout in [None, Some(10_000 * MS)] {
        let mut desk = Desk::ready(1);
        let deadline = Some(desk.now + 30 * MS);
        desk.submit(
            "a",
            JobSpec {
                timeout,
                deadline,
                ..limited(10)
            },
        );
        desk.start("a");
        desk.pass(29 * MS);
        desk.end_item("a");
        desk.pass(MS);
        assert_eq!(desk.cuts, [desk.sent["a"]], "{timeout:?}");
    }
}

#[test]
fn a_deadline_is_not_forgotten_between_two_items() {
    let mut desk = Desk::ready(1);
    let deadline = Some(desk.now + 45 * MS);
    desk.submit(
        "a",
        JobSpec {
            deadline,
            ..limited(10)
        },
    );
    desk.start("a");
    desk.pass(29 * MS);
    desk.end_item("a");
    // Its limit is looked at: that of the next will be over after the deadline.
    desk.pass(2 * MS);
    desk.next_item("a");
    desk.pass(14 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::Expired(true)));
}
