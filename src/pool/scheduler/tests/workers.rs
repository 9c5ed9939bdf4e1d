//! When workers are started, replaced and let go, and how the pool ends.

use super::*;
use crate::pool::scheduler::Refusal;

#[test]
fn workers_are_started_on_demand_and_reused() {
    let mut desk = Desk::new(4);
    for name in ["a", "b", "c"] {
        desk.submit_all(1, &[name]);
        for worker in desk.started.clone() {
            desk.tell(Event::Ready(worker));
        }
        desk.start(name);
        desk.finish(name, 10 * MS);
    }
    assert_eq!(desk.started.len(), 1);
}

#[test]
fn saturation_never_exceeds_the_limit() {
    let names: Vec<&str> = (0..60).map(|n| &*n.to_string().leak()).collect();
    let mut desk = Desk::new(4);
    desk.submit_all(1, &names);
    for nth in 0..4 {
        let worker = desk.started[nth];
        desk.tell(Event::Ready(worker));
    }
    assert_eq!(desk.started.len(), 4);
    assert_eq!(desk.assigned.len(), 4);
    desk.tell(Event::Close);
    for name in names {
        desk.start(name);
        desk.finish(name, 10 * MS);
    }
    assert_eq!(desk.started.len(), 4);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert!(desk.finished);
}

#[test]
fn an_idle_worker_that_starts_nothing_is_passed_over_and_replaced() {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["a"]);
    let stuck = desk.worker_of("a");
    desk.pass(100 * MS);
    assert_ne!(desk.worker_of("a"), stuck, "another worker has it");
    desk.start("a");
    desk.pass(1_900 * MS);
    assert_eq!(desk.killed, []);
    desk.pass(101 * MS);
    assert_eq!(desk.killed, [stuck]);
    desk.finish("a", 2_000 * MS);
}

#[test]
fn an_idle_worker_that_was_late_and_passes_by_is_kept() {
    let mut desk = Desk::ready(1);
    desk.submit_all(1, &["a"]);
    let (worker, ticket) = desk.sent["a"];
    desk.pass(100 * MS);
    desk.tell(Event::Acknowledged(worker, ticket));
    assert_ne!(desk.sent["a"].1, ticket, "it is sent again");
    desk.start("a");
    desk.pass(3_000 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn an_orphan_finishes_what_it_runs_and_is_replaced() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b"]);
    let orphan = desk.worker_of("a");
    desk.start("a");
    desk.tell(Event::Orphaned(orphan));
    desk.finish("a", US);
    assert_eq!(desk.retired, [orphan]);
    desk.exit(orphan);
    let next = *desk.started.last().expect("it is replaced");
    desk.tell(Event::Ready(next));
    assert_eq!(desk.worker_of("b"), next);
}

#[test]
fn five_failed_starts_break_the_pool_and_spare_what_runs() {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["a", "b", "c"]);
    desk.start("a");
    desk.start("b");
    let lost = desk.worker_of("b");
    desk.exit(lost);
    for failed in 1..=5 {
        desk.pass(500 * MS);
        let worker = *desk.started.last().expect("it is tried again");
        assert_eq!(desk.started.len(), 2 + failed);
        assert_eq!(desk.outcome("c"), None);
        desk.start_fails(worker);
    }
    assert_eq!(desk.outcome("c"), Some(Outcome::Broken(None, false)));
    assert_eq!(desk.core.refusal(), Some(Refusal::Broken(None)));
    desk.finish("a", 10 * MS);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert!(desk.finished);
}

#[test]
fn a_start_that_can_never_succeed_breaks_the_pool_at_once() {
    let mut desk = Desk::new(2);
    desk.submit_all(1, &["a"]);
    let worker = desk.started[0];
    desk.tell(Event::StartFailed(worker, StartFailure::Permanent));
    assert_eq!(desk.outcome("a"), Some(Outcome::Broken(None, false)));
    assert!(desk.finished);
}

#[test]
fn a_pool_that_may_not_restart_breaks_at_the_first_loss() {
    let mut desk = Desk::with(without_restart(2)).readied();
    desk.submit_all(1, &["a", "b", "c"]);
    desk.start("a");
    desk.start("b");
    let (lost, other) = (desk.worker_of("a"), desk.worker_of("b"));
    desk.exit(lost);
    for (name, started) in [("a", true), ("b", true), ("c", false)] {
        let outcome = Outcome::Broken(Some(lost), started);
        assert_eq!(desk.outcome(name), Some(outcome), "{name}");
    }
    let refused = desk.core.submit(desk.now, JobSpec::default(), "late");
    assert_eq!(refused, Err((Refusal::Broken(Some(lost)), "late")));
    assert_eq!(desk.killed, [other]);
    desk.exit(other);
    assert!(desk.finished);
}

#[test]
fn a_pool_that_may_not_restart_replaces_what_it_killed_itself() {
    let mut desk = Desk::with(without_restart(1)).readied();
    desk.submit_all(1, &["a"]);
    desk.start("a");
    desk.abort("a");
    desk.exit(desk.worker_of("a"));
    assert_eq!(desk.core.refusal(), None);
    assert_eq!(desk.started.len(), 2);
}

/// Two workers, of which one runs `running`; `sent` is in the hands of the other, `waits` in none.
fn busy() -> Desk {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["running", "sent", "waits"]);
    desk.start("running");
    desk
}

#[test]
fn close_finishes_everything() {
    let mut desk = busy();
    desk.tell(Event::Close);
    assert!(
        desk.core
            .submit(desk.now, JobSpec::default(), "late")
            .is_err()
    );
    desk.start("sent");
    for name in ["running", "sent"] {
        desk.finish(name, 10 * MS);
    }
    desk.start("waits");
    assert_eq!(desk.retired, [], "the workers stay until all is done");
    desk.finish("waits", 10 * MS);
    assert_eq!(desk.retired.len(), 2);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert!(desk.finished);
}

#[test]
fn cancel_pending_finishes_what_runs() {
    let mut desk = busy();
    desk.tell(Event::CancelPending);
    assert_eq!(desk.outcome("sent"), Some(Outcome::Cancelled));
    assert_eq!(desk.outcome("waits"), Some(Outcome::Cancelled));
    desk.finish("running", 10 * MS);
    assert_eq!(desk.retired.len(), 2);
    assert_eq!(desk.killed, []);
}

#[test]
fn terminate_ends_everything_at_once() {
    let mut desk = busy();
    desk.tell(Event::Terminate);
    assert_eq!(desk.outcome("running"), Some(Outcome::ShutDown(true)));
    assert_eq!(desk.outcome("sent"), Some(Outcome::ShutDown(false)));
    assert_eq!(desk.outcome("waits"), Some(Outcome::ShutDown(false)));
    assert_eq!(desk.killed.len(), 2);
    for worker in desk.killed.clone() {
        assert!(!desk.finished);
        desk.exit(worker);
    }
    assert!(desk.finished);
}

#[test]
fn a_result_that_was_finished_survives_terminate() {
    let mut desk = busy();
    desk.end("running");
    desk.tell(Event::Terminate);
    assert_eq!(desk.outcome("running"), None);
    desk.respond("running", MS);
}

#[test]
fn a_worker_that_does_not_leave_is_killed() {
    let mut desk = Desk::ready(1);
    desk.tell(Event::Close);
    desk.pass(499 * MS);
    assert_eq!(desk.killed, []);
    desk.pass(MS);
    assert_eq!(desk.killed, desk.retired);
    desk.exit(desk.killed[0]);
    assert!(desk.finished);
}

#[test]
fn a_pool_without_workers_finishes_when_it_is_closed() {
    let mut desk = Desk::new(3);
    desk.tell(Event::Close);
    desk.tell(Event::Terminate);
    assert!(desk.finished && desk.started.is_empty());
}

/// The newest worker becomes ready and dies without having begun a call.
fn dies_barren(desk: &mut Desk) {
    let worker = *desk.started.last().expect("a worker is being started");
    desk.tell(Event::Ready(worker));
    desk.exit(worker);
}

#[test]
fn workers_that_die_as_soon_as_they_are_ready_are_replaced_ever_more_slowly() {
    let mut desk = Desk::new(1);
    desk.tell(Event::StartAll);
    dies_barren(&mut desk);
    assert_eq!(desk.started.len(), 2, "the first is replaced at once");
    for pause in [100, 200, 400, 800, 1_000, 1_000] {
        let started = desk.started.len();
        dies_barren(&mut desk);
        desk.pass((pause - 1) * MS);
        assert_eq!(desk.started.len(), started, "not within {pause} ms");
        desk.pass(MS);
        assert_eq!(desk.started.len(), started + 1, "after {pause} ms");
    }
    desk.pass(Duration::from_secs(60));
    assert_eq!(desk.core.refusal(), None, "that never breaks the pool");
}

/// Whatever a call that was begun comes to.
#[test]
fn workers_that_die_when_they_have_begun_a_call_are_replaced_at_once() {
    for end in [Desk::finished, Desk::lost, Desk::ended] {
        let mut desk = Desk::with(Rules {
            workers: 1,
            abort_grace: 10 * MS,
            ..Rules::default()
        });
        desk.tell(Event::StartAll);
        for nth in 0..20 {
            dies_barren(&mut desk);
            let worker = *desk.started.last().expect("it is replaced");
            assert_eq!(desk.started.len(), 2 * nth + 2, "at once");
            desk.tell(Event::Ready(worker));
            desk.submit_all(1, &["a"]);
            desk.start("a");
            end(&mut desk);
            desk.exit(worker);
            desk.answers.clear();
        }
    }
}

impl Desk {
    fn finished(&mut self) {
        self.finish("a", MS);
    }

    fn ended(&mut self) {
        self.abort("a");
    }

    fn lost(&mut self) {}
}

#[test]
fn idle_workers_that_have_served_or_lived_are_replaced_at_once_however_often() {
    let mut desk = Desk::ready(1);
    for nth in 1..20 {
        let worker = *desk.started.last().expect("it is replaced");
        assert_eq!(desk.started.len(), nth);
        desk.tell(Event::Ready(worker));
        if nth % 2 == 0 {
            desk.submit_all(1, &["a"]);
            desk.start("a");
            desk.finish("a", MS);
        } else {
            desk.pass(Duration::from_secs(1));
        }
        desk.exit(worker);
        desk.answers.clear();
    }
}

#[test]
fn a_call_that_was_sent_and_not_begun_is_no_sign_of_life() {
    let mut desk = Desk::new(1);
    desk.submit_all(1, &["a"]);
    dies_barren(&mut desk);
    dies_barren(&mut desk);
    assert_eq!(desk.started.len(), 2);
    desk.pass(100 * MS);
    let worker = desk.started[2];
    desk.tell(Event::Ready(worker));
    desk.start("a");
    desk.finish("a", MS);
    assert!(desk.responded("a"));
}
