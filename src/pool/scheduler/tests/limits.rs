//! Deadlines: one limit on waiting and running together.

use super::*;

impl Desk {
    /// A job that must be over this long from now.
    fn submit_due(&mut self, name: &'static str, within: Duration) {
        let deadline = Some(self.now + within);
        self.submit(
            name,
            JobSpec {
                kind: 1,
                deadline,
                ..JobSpec::default()
            },
        );
    }
}

#[test]
fn a_deadline_ends_what_runs_and_what_waits() {
    let mut desk = Desk::ready(1);
    for name in ["runs", "waits"] {
        desk.submit_due(name, 30 * MS);
    }
    desk.pass(10 * MS);
    desk.start("runs");
    desk.pass(19 * MS);
    assert_eq!((desk.outcome("runs"), desk.outcome("waits")), (None, None));
    desk.pass(MS);
    assert_eq!(desk.outcome("runs"), Some(Outcome::Expired(true)));
    assert_eq!(desk.outcome("waits"), Some(Outcome::Expired(false)));
    assert_eq!(desk.killed, [desk.worker_of("runs")]);
    assert!(!desk.was_sent("waits"));
}

#[test]
fn a_deadline_reaches_what_was_sent_and_is_not_started() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_due("a", 30 * MS);
    desk.submit_due("b", 30 * MS);
    assert!(desk.was_sent("b"));
    desk.pass(30 * MS);
    for name in ["a", "b"] {
        assert_eq!(desk.outcome(name), Some(Outcome::Expired(false)), "{name}");
    }
    assert_eq!(desk.killed, [], "nothing ran");
}

#[test]
fn the_earlier_of_limit_and_deadline_holds() {
    let spec = JobSpec {
        timeout: Some(10 * MS),
        ..JobSpec::default()
    };
    for (waits, outcome) in [
        (5 * MS, Outcome::RanTooLong),
        (25 * MS, Outcome::Expired(true)),
    ] {
        let mut desk = Desk::ready(1);
        let deadline = Some(desk.now + 30 * MS);
        desk.submit("a", JobSpec { deadline, ..spec });
        desk.pass(waits);
        desk.start("a");
        desk.pass(4 * MS);
        assert_eq!(desk.outcome("a"), None);
        desk.pass(6 * MS);
        assert_eq!(desk.outcome("a"), Some(outcome));
    }
}

#[test]
fn the_earlier_of_waiting_limit_and_deadline_is_named() {
    for (deadline, outcome) in [(4, Outcome::Expired(false)), (6, Outcome::WaitedTooLong)] {
        let mut desk = Desk::ready(1);
        desk.submit_all(1, &["busy"]);
        let spec = JobSpec {
            queue_timeout: Some(5 * MS),
            deadline: Some(desk.now + deadline * MS),
            ..JobSpec::default()
        };
        desk.submit("a", spec);
        desk.pass(10 * MS);
        assert_eq!(desk.outcome("a"), Some(outcome));
    }
}

#[test]
fn what_is_past_its_deadline_is_not_started_even_where_a_worker_is_free() {
    let mut desk = Desk::ready(1);
    desk.submit_due("late", Duration::ZERO);
    assert_eq!(desk.outcome("late"), Some(Outcome::Expired(false)));
    desk.submit_all(1, &["busy"]);
    desk.start("busy");
    desk.submit_due("later", 5 * MS);
    // The worker is free again before the clock has ticked.
    desk.now = desk.now + 6 * MS;
    desk.finish("busy", MS);
    assert_eq!(desk.outcome("later"), Some(Outcome::Expired(false)));
    assert!(!desk.was_sent("late") && !desk.was_sent("later"));
}

#[test]
fn a_result_that_is_there_when_the_deadline_passes_is_a_result() {
    let mut desk = Desk::ready(1);
    desk.submit_due("a", 30 * MS);
    desk.start("a");
    desk.end("a");
    desk.pass(40 * MS);
    desk.respond("a", 29 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn a_call_that_begins_while_it_is_taken_back_is_ended_then() {
    let mut desk = Desk::ready(1);
    desk.submit_due("a", 30 * MS);
    let (worker, ticket) = desk.sent["a"];
    desk.now = desk.now + 30 * MS;
    desk.core.handle(desk.now, Event::Tick);
    // It begins between the look at it and the attempt to take it back.
    let looked = desk.core.next_action();
    assert!(matches!(looked, Some(Action::Probe(..))), "{looked:?}");
    desk.core
        .handle(desk.now, Event::Probed(worker, ticket, Progress::Waiting));
    desk.start("a");
    desk.drain();
    assert_eq!(desk.outcome("a"), None);
    desk.pass(MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::Expired(true)));
}
