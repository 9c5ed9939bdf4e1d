//! Jobs of many items: where they wait, when they are cut short, and what ends one of them.

use super::*;
use crate::pool::scheduler::Refusal;

#[test]
fn one_chunk_waits_behind_a_chunk() {
    let mut desk = Desk::ready(1);
    for name in ["a", "b", "c"] {
        desk.submit_chunk(1, name, 10);
    }
    assert!(desk.was_sent("b") && !desk.was_sent("c"));
    desk.start("a");
    desk.finish("a", MS);
    assert!(desk.was_sent("c"));
}

#[test]
fn a_chunk_is_expected_to_take_as_long_as_its_items() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "lesson", 1_000);
    desk.start("lesson");
    desk.finish("lesson", 1_000 * US);
    desk.submit_all(1, &["a", "b"]);
    assert!(desk.was_sent("b"), "a call takes as long as one item");
    desk.submit_chunk(1, "chunk", 1_000);
    assert!(!desk.was_sent("chunk"), "and a chunk as long as all of its");
}

#[test]
fn every_item_has_a_number_of_its_own() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "a", 10);
    desk.submit_all(1, &["b"]);
    assert_eq!(desk.keys["b"].number(), desk.keys["a"].number() + 10);
}

#[test]
fn a_late_chunk_is_cut_for_whoever_has_nothing_to_do() {
    let mut desk = Desk::ready(2);
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.pass(Duration::from_micros(1_900));
    assert_eq!(desk.cuts, []);
    desk.pass(Duration::from_micros(200));
    assert_eq!(desk.cuts, [desk.sent["a"]]);
    desk.pass(50 * MS);
    assert_eq!(desk.cuts.len(), 1, "once is enough");
}

#[test]
fn a_late_chunk_is_not_cut_while_all_are_busy() {
    let mut desk = Desk::ready(2);
    for name in ["a", "b"] {
        desk.submit_chunk(1, name, 10);
        desk.start(name);
    }
    desk.pass(50 * MS);
    assert_eq!(desk.cuts, []);
    desk.finish("b", 50 * MS);
    assert_eq!(desk.cuts, [desk.sent["a"]]);
}

#[test]
fn what_waits_behind_a_late_chunk_is_taken_back_and_not_cut() {
    let mut desk = Desk::ready(2);
    for name in ["a", "b", "c"] {
        desk.submit_chunk(1, name, 10);
    }
    let [late, free] = desk.behind("c", ["a", "b"]);
    desk.start(late);
    desk.start(free);
    desk.finish(free, MS);
    desk.pass(3 * MS);
    assert_eq!(desk.worker_of("c"), desk.worker_of(free));
    assert_eq!(desk.cuts, []);
}

#[test]
fn cancelling_a_chunk_cuts_it_and_kills_nobody() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "a", 10);
    desk.submit_chunk(1, "b", 10);
    desk.start("a");
    desk.cancel("a");
    desk.cancel("b");
    assert_eq!(desk.cuts, [desk.sent["a"]]);
    assert_eq!(
        desk.outcome("b"),
        Some(Outcome::Cancelled),
        "it had not begun"
    );
    desk.finish("a", MS);
    assert!(desk.responded("a"));
    assert_eq!(desk.killed, []);
}

#[test]
fn aborting_a_chunk_cuts_it_and_ends_what_runs() {
    let mut desk = Desk::ready(1);
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.abort("a");
    assert_eq!(desk.cuts, [desk.sent["a"]]);
    assert_eq!(desk.outcome("a"), Some(Outcome::Aborted(true)));
    assert_eq!(desk.killed, [desk.worker_of("a")]);
}

#[test]
fn a_limit_is_each_items_own() {
    let mut desk = Desk::ready(1);
    let spec = JobSpec {
        items: 3,
        timeout: Some(30 * MS),
        ..JobSpec::default()
    };
    desk.submit("a", spec);
    desk.start("a");
    for _ in 0..2 {
        desk.pass(25 * MS);
        desk.end_item("a");
        desk.next_item("a");
    }
    desk.pass(29 * MS);
    assert_eq!(desk.outcome("a"), None);
    desk.pass(2 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
    assert_eq!(desk.killed.len(), 1);
}

#[test]
fn an_item_that_is_over_when_it_is_to_be_ended_does_not_cost_the_next() {
    let mut desk = Desk::ready(1);
    let spec = JobSpec {
        items: 2,
        timeout: Some(30 * MS),
        ..JobSpec::default()
    };
    desk.submit("a", spec);
    desk.start("a");
    let begun = desk.now;
    desk.now = desk.now + 30 * MS;
    let (worker, ticket) = desk.sent["a"];
    // The first was still running when it was looked at …
    let probed = Event::Probed(worker, ticket, Progress::Running(begun));
    desk.core.handle(desk.now, probed);
    // … and the second runs when it is ended.
    desk.end_item("a");
    desk.next_item("a");
    desk.drain();
    assert_eq!((desk.outcome("a"), desk.killed.len()), (None, 0));
    desk.pass(30 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
}

fn chunk_of(items: u32) -> JobSpec {
    JobSpec {
        items,
        ..JobSpec::default()
    }
}

#[test]
fn a_pool_that_is_asked_to_wait_takes_chunks_until_it_need_not() {
    let mut desk = Desk::ready(1);
    desk.tell(Event::Hold);
    desk.tell(Event::Close);
    assert_eq!(desk.retired, [], "work will come");
    let call = desk.core.submit(desk.now, JobSpec::default(), "call");
    assert_eq!(call, Err((Refusal::Closed, "call")));
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.finish("a", MS);
    assert_eq!(desk.retired, []);
    desk.tell(Event::Unhold);
    assert_eq!(desk.retired.len(), 1);
    desk.exit(desk.retired[0]);
    assert!(desk.finished);
}

#[test]
fn cancel_pending_cuts_what_runs_and_drops_what_comes_late() {
    let mut desk = Desk::ready(1);
    desk.tell(Event::Hold);
    desk.submit_chunk(1, "a", 10);
    desk.start("a");
    desk.tell(Event::CancelPending);
    assert_eq!(desk.cuts, [desk.sent["a"]]);
    let late = desk.core.submit(desk.now, chunk_of(9), "late");
    assert_eq!(late, Err((Refusal::Dropped, "late")));
}

#[test]
fn a_pool_that_is_ended_waits_for_nobody() {
    let mut desk = Desk::ready(1);
    desk.tell(Event::Hold);
    desk.tell(Event::Terminate);
    let late = desk.core.submit(desk.now, chunk_of(9), "late");
    assert_eq!(late, Err((Refusal::Closed, "late")));
    desk.exit(desk.killed[0]);
    assert!(desk.finished);
}
