//! What the simulator or a reader has found, each as small as it goes.

use super::*;
use crate::pool::scheduler::LANES;
use crate::pool::scheduler::cost::Costs;

#[test]
fn what_does_not_come_back_from_behind_a_late_call_is_not_asked_for_again() {
    let mut desk = Desk::ready(2);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let [late, _] = desk.behind("c", ["a", "b"]);
    for name in [late, "c"] {
        desk.start(name);
        desk.end(name);
    }
    // It hung here: every answer that was lost asked for the same again.
    desk.pass(3 * MS);
    desk.respond(late, US);
    desk.respond("c", US);
}

#[test]
fn nothing_is_sent_behind_a_late_call_by_one_whose_clock_is_a_little_behind() {
    let mut desk = Desk::ready(2);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let [late, free] = desk.behind("c", ["a", "b"]);
    desk.start(late);
    desk.start(free);
    desk.pass(2 * MS);
    // It has read the clock, and then somebody else was first to have the core.
    desk.now = Moment(desk.now.0 - 1_000_000);
    desk.submit_all(1, &["d"]);
    desk.now = desk.now + MS;
    // Both stayed behind a call that never ended.
    desk.finish(free, US);
    assert_eq!(desk.worker_of("c"), desk.worker_of(free));
    assert_eq!(desk.worker_of("d"), desk.worker_of(free));
}

#[test]
fn an_abort_is_not_forgotten_when_its_worker_is_late_at_the_same_moment() {
    let mut desk = Desk::ready(2);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let [late, _] = desk.behind("c", ["a", "b"]);
    desk.start(late);
    desk.now = desk.now + 2 * MS;
    desk.abort("c");
    assert_eq!(desk.outcome("c"), Some(Outcome::Aborted(false)));
}

#[test]
fn a_call_that_was_sent_ahead_waits_no_longer_than_it_may() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a"]);
    desk.submit(
        "b",
        JobSpec {
            kind: 1,
            queue_timeout: Some(5 * MS),
            ..JobSpec::default()
        },
    );
    assert!(desk.was_sent("b"));
    desk.start("a");
    desk.pass(5 * MS);
    assert_eq!(desk.outcome("b"), Some(Outcome::WaitedTooLong));
}

#[test]
fn nothing_is_sent_to_a_worker_in_which_a_second_call_is_being_ended() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    let spec = JobSpec {
        kind: 1,
        timeout: Some(US),
        ..JobSpec::default()
    };
    desk.submit("a", spec);
    desk.submit("b", spec);
    desk.start("a");
    desk.now = desk.now + MS;
    let (worker, ticket) = desk.sent["a"];
    desk.core.handle(
        desk.now,
        Event::Probed(worker, ticket, Progress::Running(Moment(0))),
    );
    // Before the first is asked for, it comes to its end, and the second begins and is late too.
    desk.end("a");
    desk.start("b");
    desk.now = desk.now + MS;
    let second = desk.sent["b"].1;
    desk.core.handle(
        desk.now,
        Event::Probed(worker, second, Progress::Running(Moment(0))),
    );
    desk.submit(
        "innocent",
        JobSpec {
            kind: 1,
            ..JobSpec::default()
        },
    );
    assert_eq!(desk.outcome("b"), Some(Outcome::RanTooLong));
    assert!(!desk.was_sent("innocent"));
}

#[test]
fn a_worker_orphaned_while_it_starts_is_given_nothing() {
    let mut desk = Desk::new(1);
    desk.submit_all(1, &["a"]);
    let worker = desk.started[0];
    desk.tell(Event::Orphaned(worker));
    desk.tell(Event::Ready(worker));
    assert!(!desk.was_sent("a"));
    assert_eq!(desk.retired, [worker]);
}

#[test]
fn a_worker_condemned_while_it_starts_is_a_failed_start() {
    let mut desk = Desk::new(1);
    desk.submit_all(1, &["a"]);
    for _ in 0..5 {
        desk.pass(500 * MS);
        let worker = *desk.started.last().expect("it is tried again");
        desk.tell(Event::Condemned(worker));
        desk.start_fails(worker);
    }
    assert_eq!(desk.outcome("a"), Some(Outcome::Broken(None, false)));
}

#[test]
fn a_pool_that_may_not_restart_is_broken_by_a_violation() {
    let mut desk = Desk::with(without_restart(1)).readied();
    desk.submit_all(1, &["a"]);
    desk.start("a");
    let worker = desk.worker_of("a");
    desk.tell(Event::Condemned(worker));
    desk.exit(worker);
    assert_eq!(desk.outcome("a"), Some(Outcome::Broken(Some(worker), true)));
}

#[test]
fn a_violation_in_a_dying_worker_costs_what_it_had_finished() {
    let mut desk = Desk::with(without_restart(1)).readied();
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b"]);
    let worker = desk.worker_of("a");
    desk.start("a");
    desk.end("a");
    desk.start("b");
    desk.abort("b");
    desk.tell(Event::Condemned(worker));
    desk.exit(worker);
    assert_eq!(
        desk.outcome("a"),
        Some(Outcome::Broken(Some(worker), true)),
        "and not lost without a break"
    );
}

#[test]
fn a_long_call_that_ends_at_its_limit_costs_no_worker() {
    let mut desk = Desk::ready(1);
    desk.submit(
        "a",
        JobSpec {
            timeout: Some(3_000 * MS),
            ..JobSpec::default()
        },
    );
    desk.start("a");
    desk.pass(2_999 * MS);
    desk.end("a");
    desk.pass(2 * MS);
    desk.respond("a", 2_999 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn a_stopped_worker_does_not_keep_a_finished_call_for_ever() {
    for aborted in [false, true] {
        let mut desk = Desk::ready(1);
        desk.teach(1, US);
        desk.submit_all(1, &["a"]);
        let timeout = (!aborted).then_some(30 * MS);
        desk.submit(
            "b",
            JobSpec {
                kind: 1,
                timeout,
                ..JobSpec::default()
            },
        );
        desk.start("a");
        desk.pass(200 * MS);
        desk.end("a");
        desk.start("b");
        if aborted {
            desk.core.handle(desk.now, Event::Abort(desk.keys["b"]));
        }
        desk.end("b");
        desk.drain();
        desk.pass(2_300 * MS);
        assert_eq!(
            desk.killed,
            [desk.worker_of("b")],
            "its outbox is read when it is dead"
        );
        desk.respond("a", US);
        desk.respond("b", US);
    }
}

#[test]
fn a_worker_stopped_between_two_calls_is_noticed() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b"]);
    let worker = desk.worker_of("b");
    desk.start("a");
    desk.pass(500 * MS);
    desk.finish("a", 500 * MS);
    desk.pass(2_200 * MS);
    assert_eq!(desk.killed, [worker]);
    assert_eq!(
        desk.core.holder(desk.keys["b"]),
        None,
        "b waits for the next one"
    );
}

#[test]
fn a_stopped_worker_whose_lanes_are_all_recalled_is_noticed() {
    let mut desk = Desk::ready(1);
    for _ in 0..LANES {
        desk.submit_all(1, &["cancelled"]);
        desk.cancel("cancelled");
        desk.answers.clear();
    }
    desk.submit_all(1, &["a"]);
    assert!(!desk.was_sent("a"), "there is no lane for it");
    desk.pass(2_000 * MS);
    assert_eq!(desk.killed.len(), 1);
    desk.exit(desk.killed[0]);
    desk.tell(Event::Ready(desk.started[1]));
    assert!(desk.was_sent("a"));
}

#[test]
fn a_pool_that_gave_up_starts_no_worker_for_a_call_that_comes_back() {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["a", "b"]);
    desk.start("b");
    let lost = desk.worker_of("b");
    desk.exit(lost);
    let worker = *desk.started.last().expect("it is replaced");
    desk.tell(Event::StartFailed(worker, StartFailure::Permanent));
    let started = desk.started.len();
    desk.exit(desk.worker_of("a"));
    assert_eq!(desk.started.len(), started);
    assert_eq!(desk.outcome("a"), Some(Outcome::Broken(None, false)));
    assert!(desk.finished);
}

#[test]
fn a_tiny_limit_is_no_storm_of_ticks() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a"]);
    desk.submit(
        "b",
        JobSpec {
            kind: 1,
            timeout: Some(US),
            ..JobSpec::default()
        },
    );
    desk.start("a");
    desk.pass(MS);
    let (before, mut ticks) = (desk.now, 0);
    while let Some(at) = desk.core.wake_at().filter(|at| *at <= before + 10 * MS) {
        desk.now = at;
        desk.tell(Event::Tick);
        ticks += 1;
    }
    assert!(ticks <= 12, "{ticks} ticks in ten milliseconds");
}

#[test]
fn no_run_time_is_too_long_to_be_told() {
    let mut desk = Desk::ready(2);
    desk.teach(1, Duration::MAX);
    desk.teach(1, Duration::MAX);
    desk.submit_all(1, &["a", "b", "c"]);
    assert!(!desk.was_sent("c"));
}

#[test]
fn a_program_of_endless_kinds_does_not_fill_the_memory() {
    let mut costs = Costs::default();
    for kind in 0..100_000 {
        costs.learn(kind, 1_000);
    }
    assert!(costs.kept() <= 4096);
}
