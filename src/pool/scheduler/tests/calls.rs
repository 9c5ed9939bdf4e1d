//! Where calls go, and how one is ended.

use super::*;

#[test]
fn nothing_waits_behind_a_call_of_unknown_length() {
    let mut desk = Desk::ready(1);
    desk.submit_all(1, &["a", "b"]);
    assert!(desk.was_sent("a") && !desk.was_sent("b"));
    desk.start("a");
    desk.finish("a", MS);
    assert!(desk.was_sent("b"), "b follows when the worker is free");
}

#[test]
fn nothing_waits_behind_a_long_call_and_no_long_call_behind_a_short_one() {
    let mut desk = Desk::ready(1);
    desk.teach(1, 10 * MS);
    desk.teach(2, US);
    desk.submit_all(1, &["long"]);
    desk.submit_all(2, &["short"]);
    assert!(!desk.was_sent("short"));
    desk.start("long");
    desk.finish("long", 10 * MS);
    desk.submit_all(1, &["next"]);
    assert!(desk.was_sent("short") && !desk.was_sent("next"));
}

#[test]
fn tens_of_no_ops_are_sent_ahead() {
    let names: Vec<&str> = (0..200).map(|n| &*n.to_string().leak()).collect();
    let mut desk = Desk::ready(1);
    desk.teach(1, Duration::ZERO);
    desk.submit_all(1, &names);
    let ahead = desk.assigned.len() - 1;
    assert!(
        (30..=super::super::LANES).contains(&ahead),
        "{ahead} are sent ahead"
    );
    for name in &names {
        desk.start(name);
        desk.finish(name, Duration::ZERO);
    }
    assert_eq!(desk.assigned[1..], names, "all are sent, in their order");
}

#[test]
fn what_waits_behind_a_late_call_goes_to_whoever_is_free() {
    let mut desk = Desk::ready(2);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let [late, free] = desk.behind("c", ["a", "b"]);
    desk.start(late);
    desk.start(free);
    desk.finish(free, US);
    desk.pass(3 * MS);
    assert_eq!(desk.worker_of("c"), desk.worker_of(free));
    assert_eq!(desk.killed, []);
}

#[test]
fn a_call_that_was_sent_is_cancelled_until_it_is_started() {
    let mut desk = Desk::ready(1);
    desk.submit_all(1, &["a"]);
    desk.cancel("a");
    assert_eq!(desk.outcome("a"), Some(Outcome::Cancelled));
    desk.submit_all(1, &["b"]);
    desk.start("b");
    desk.cancel("b");
    assert_eq!(desk.outcome("b"), None, "too late");
    desk.finish("b", US);
    assert!(desk.responded("b"));
}

#[test]
fn a_call_in_the_line_is_cancelled_aborted_or_waits_too_long() {
    let mut desk = Desk::ready(1);
    desk.submit_all(1, &["busy", "a", "b"]);
    desk.submit(
        "c",
        JobSpec {
            queue_timeout: Some(5 * MS),
            ..JobSpec::default()
        },
    );
    desk.start("busy");
    desk.cancel("a");
    desk.abort("b");
    desk.pass(4 * MS);
    assert_eq!(desk.outcome("c"), None);
    desk.pass(2 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::Cancelled));
    assert_eq!(desk.outcome("b"), Some(Outcome::Aborted(false)));
    assert_eq!(desk.outcome("c"), Some(Outcome::WaitedTooLong));
}

#[test]
fn a_limit_counts_from_the_true_start() {
    let mut desk = Desk::ready(1);
    let limited = JobSpec {
        kind: 1,
        timeout: Some(300 * MS),
        ..JobSpec::default()
    };
    for name in ["a", "b", "c"] {
        desk.submit(name, limited);
    }
    for name in ["a", "b", "c"] {
        desk.start(name);
        desk.pass(200 * MS);
        desk.finish(name, 200 * MS);
    }
    assert!(
        desk.responded("c"),
        "though it waited for longer than its limit"
    );
    assert_eq!(desk.killed, []);
}

#[test]
fn a_call_that_runs_for_its_limit_is_ended_with_its_worker() {
    let mut desk = Desk::ready(1);
    desk.submit(
        "a",
        JobSpec {
            timeout: Some(30 * MS),
            ..JobSpec::default()
        },
    );
    desk.pass(20 * MS);
    desk.start("a");
    desk.pass(29 * MS);
    assert_eq!(desk.outcome("a"), None);
    desk.pass(MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
    assert_eq!(desk.killed, [desk.worker_of("a")]);
}

#[test]
fn a_call_that_is_over_when_its_limit_comes_is_answered_by_its_response() {
    let mut desk = Desk::ready(1);
    desk.submit(
        "a",
        JobSpec {
            timeout: Some(30 * MS),
            ..JobSpec::default()
        },
    );
    desk.start("a");
    desk.end("a");
    desk.pass(40 * MS);
    desk.respond("a", 29 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn aborting_the_running_call_spares_those_behind_it() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let worker = desk.worker_of("c");
    desk.start("a");
    desk.abort("a");
    assert_eq!(desk.outcome("a"), Some(Outcome::Aborted(true)));
    assert_eq!(desk.killed, [worker]);
    for name in ["b", "c"] {
        assert_eq!(
            desk.core.holder(desk.keys[name]),
            None,
            "{name} is out of its reach"
        );
    }
    desk.exit(worker);
    let next = *desk.started.last().expect("the worker is replaced");
    desk.tell(Event::Ready(next));
    for name in ["b", "c"] {
        assert_eq!(desk.worker_of(name), next);
        desk.start(name);
        desk.finish(name, US);
    }
    assert_eq!(
        desk.assigned[1..],
        ["a", "b", "c", "b", "c"],
        "in their order, both times"
    );
}

fn graceful() -> Desk {
    let (restart, abort_grace) = (Restart::OnFailure, 50 * MS);
    Desk::with(Rules {
        workers: 1,
        starts_at_once: 1,
        restart,
        abort_grace,
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    })
    .readied()
}

#[test]
fn a_call_that_ends_within_the_grace_keeps_its_worker() {
    let mut desk = graceful();
    desk.submit_all(1, &["a", "b"]);
    desk.start("a");
    desk.abort("a");
    assert_eq!(
        desk.outcome("a"),
        Some(Outcome::Aborted(true)),
        "the caller is told at once"
    );
    desk.pass(40 * MS);
    assert!(!desk.was_sent("b"), "nothing is sent behind it");
    desk.pass_by("a");
    assert!(desk.was_sent("b"));
    desk.pass(20 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn a_call_that_does_not_end_within_the_grace_costs_its_worker() {
    let mut desk = graceful();
    desk.submit_all(1, &["a"]);
    desk.start("a");
    desk.abort("a");
    desk.pass(50 * MS);
    assert_eq!(desk.killed, [desk.worker_of("a")]);
}

#[test]
fn a_call_is_lost_alone_with_its_worker() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b"]);
    let worker = desk.worker_of("a");
    desk.start("a");
    desk.exit(worker);
    assert_eq!(desk.outcome("a"), Some(Outcome::Lost(worker)));
    let next = *desk.started.last().expect("the worker is replaced");
    desk.tell(Event::Ready(next));
    desk.start("b");
    desk.finish("b", US);
}

#[test]
fn what_a_page_says_about_a_start_is_believed_within_reason() {
    for start in [Moment(0), Moment(u64::MAX)] {
        let mut desk = Desk::ready(1);
        desk.pass(500 * MS);
        desk.submit(
            "a",
            JobSpec {
                timeout: Some(30 * MS),
                ..JobSpec::default()
            },
        );
        desk.pages.insert(desk.sent["a"], Progress::Running(start));
        desk.pass(29 * MS);
        assert_eq!(desk.outcome("a"), None, "never before its limit");
        desk.pass(31 * MS);
        assert_eq!(desk.outcome("a").is_some(), start == Moment(0));
    }
}
