//! Running a job again: after which failures, when, how often; and what ends that.

use super::*;
use crate::pool::scheduler::Retry;

/// A job of kind 1 that is repeated like this.
fn repeated(retry: Retry) -> JobSpec {
    JobSpec {
        kind: 1,
        retry,
        ..JobSpec::default()
    }
}

impl Desk {
    /// The call is running, and its worker dies.
    fn lose(&mut self, name: &str) {
        self.start(name);
        self.exit(self.worker_of(name));
    }

    /// The worker that was started last is ready.
    fn replace_all(&mut self) {
        let next = *self.started.last().expect("a worker was started");
        self.tell(Event::Ready(next));
    }

    /// The call says that it has panicked; tells whether it will be run again.
    fn panic(&mut self, name: &str) -> bool {
        self.end(name);
        let (worker, ticket) = self.sent[name];
        let again = self.core.panicked(self.now, worker, ticket);
        self.core.settle(self.now);
        self.drain();
        assert!(again.is_none_or(|key| key == self.keys[name]));
        again.is_some()
    }

    fn times_sent(&self, name: &str) -> usize {
        self.assigned.iter().filter(|sent| **sent == name).count()
    }
}

#[test]
fn a_poison_job_is_given_up_when_it_has_killed_so_many_workers() {
    let mut desk = Desk::ready(1);
    desk.submit("a", repeated(Retry::new(2)));
    for killed in 1..=2 {
        desk.lose("a");
        assert_eq!((desk.outcome("a"), desk.repeated.len()), (None, killed));
        desk.replace_all();
        desk.pass(Duration::ZERO);
    }
    let last = desk.worker_of("a");
    desk.lose("a");
    assert_eq!(desk.outcome("a"), Some(Outcome::Lost(last)));
    assert_eq!(desk.times_sent("a"), 3);
}

#[test]
fn only_a_loss_is_repeated_unless_more_is_asked_for() {
    let mut desk = Desk::ready(1);
    let spec = JobSpec {
        timeout: Some(5 * MS),
        ..repeated(Retry::new(9))
    };
    desk.submit("slow", spec);
    desk.start("slow");
    desk.pass(5 * MS);
    assert_eq!(desk.outcome("slow"), Some(Outcome::RanTooLong));
    desk.exit(desk.worker_of("slow"));
    desk.replace_all();
    desk.submit("panics", spec);
    desk.start("panics");
    assert!(!desk.panic("panics"), "it is answered like any other");
    desk.respond("panics", MS);
}

#[test]
fn a_job_without_retry_is_run_at_most_once() {
    let mut desk = Desk::ready(1);
    let all = Retry::new(0).on_panic(true).on_timeout(true);
    desk.submit("a", repeated(all));
    desk.start("a");
    assert!(!desk.panic("a"));
    desk.respond("a", MS);
    desk.submit("b", repeated(all));
    desk.lose("b");
    assert!(matches!(desk.outcome("b"), Some(Outcome::Lost(_))));
    assert_eq!(desk.repeated, []);
}

#[test]
fn a_panic_is_repeated_where_that_is_asked_for() {
    let mut desk = Desk::ready(1);
    desk.submit("a", repeated(Retry::new(1).on_panic(true)));
    desk.start("a");
    assert!(desk.panic("a"));
    desk.pass(Duration::ZERO);
    desk.start("a");
    assert!(!desk.panic("a"), "that was its last run");
    desk.respond("a", MS);
    assert_eq!((desk.times_sent("a"), desk.started.len()), (2, 1));
}

#[test]
fn the_pause_grows_up_to_its_bound() {
    let retry = Retry::new(9).backoff(10 * MS, 35 * MS);
    let pauses: Vec<_> = (1..6).map(|count| retry.pause(count)).collect();
    assert_eq!(pauses, [10 * MS, 20 * MS, 35 * MS, 35 * MS, 35 * MS]);
    let longest = Retry::new(9).backoff(MS, Duration::MAX).pause(u32::MAX);
    assert!(longest > Duration::from_secs(1_000_000));

    let mut desk = Desk::ready(1);
    desk.submit("a", repeated(retry));
    for pause in [10 * MS, 20 * MS, 35 * MS, 35 * MS] {
        let sent = desk.times_sent("a");
        desk.lose("a");
        desk.replace_all();
        desk.pass(pause - US);
        assert_eq!(desk.times_sent("a"), sent);
        desk.pass(US);
        assert_eq!(desk.times_sent("a"), sent + 1);
    }
}

#[test]
fn what_pauses_occupies_no_worker_and_comes_back_behind_its_priority() {
    let mut desk = Desk::ready(1);
    let urgent = JobSpec {
        priority: 1,
        ..repeated(Retry::new(1).backoff(5 * MS, 5 * MS).on_panic(true))
    };
    desk.submit("a", urgent);
    desk.start("a");
    desk.panic("a");
    desk.submit_all(2, &["other"]);
    assert!(desk.was_sent("other"));
    desk.submit_all(2, &["waits"]);
    desk.submit("urgent too", urgent);
    desk.pass(5 * MS);
    desk.start("other");
    desk.finish("other", MS);
    for next in ["urgent too", "a"] {
        assert_eq!(desk.assigned.last(), Some(&next));
        desk.start(next);
        desk.finish(next, MS);
    }
    assert!(desk.was_sent("waits"));
}

/// A desk with a job that pauses for 50 ms, and must be over in 30 if that is said.
fn pausing(due: bool) -> Desk {
    let mut desk = Desk::ready(1);
    let spec = JobSpec {
        deadline: due.then(|| desk.now + 30 * MS),
        queue_timeout: Some(10 * MS),
        ..repeated(Retry::new(3).backoff(50 * MS, 50 * MS))
    };
    desk.submit("a", spec);
    desk.lose("a");
    desk.replace_all();
    desk
}

#[test]
fn what_pauses_is_cancelled_aborted_and_dropped_like_what_waits() {
    let ends: [(Event, Outcome); 3] = [
        (Event::CancelPending, Outcome::Cancelled),
        (Event::Terminate, Outcome::ShutDown(false)),
        (Event::Tick, Outcome::Cancelled),
    ];
    for (event, outcome) in ends {
        let mut desk = pausing(false);
        match event {
            Event::Tick => desk.cancel("a"),
            _ => desk.tell(event),
        }
        assert_eq!(desk.outcome("a"), Some(outcome));
        desk.pass(100 * MS);
        assert_eq!(desk.times_sent("a"), 1);
    }
    let mut desk = pausing(false);
    desk.abort("a");
    assert_eq!(desk.outcome("a"), Some(Outcome::Aborted(false)));
}

#[test]
fn the_deadline_holds_during_the_pause_and_the_waiting_limit_does_not() {
    let mut desk = pausing(true);
    desk.pass(29 * MS);
    assert_eq!(desk.outcome("a"), None);
    desk.pass(MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::Expired(false)));
    let mut desk = pausing(false);
    desk.pass(50 * MS);
    assert_eq!(desk.times_sent("a"), 2);
}

#[test]
fn a_closed_pool_finishes_what_is_to_be_run_again() {
    let mut desk = pausing(false);
    desk.tell(Event::Close);
    desk.pass(49 * MS);
    assert_eq!(desk.retired, []);
    desk.pass(MS);
    desk.start("a");
    desk.finish("a", MS);
    assert_eq!(desk.retired, [desk.worker_of("a")]);
}

#[test]
fn what_is_not_wanted_any_more_is_not_repeated() {
    for event in [Event::CancelPending, Event::Terminate] {
        let mut desk = Desk::ready(1);
        desk.submit("a", repeated(Retry::new(9)));
        desk.start("a");
        desk.tell(event);
        desk.exit(desk.worker_of("a"));
        assert!(desk.outcome("a").is_some(), "{event:?}");
    }
}

#[test]
fn a_pool_in_which_no_worker_can_be_started_repeats_nothing() {
    let mut desk = pausing(false);
    desk.exit(*desk.started.last().expect("it was replaced"));
    let next = *desk.started.last().expect("and again");
    desk.tell(Event::StartFailed(next, StartFailure::Permanent));
    assert_eq!(desk.outcome("a"), Some(Outcome::Broken(None, false)));
    assert!(desk.finished);
}

#[test]
fn the_last_call_of_a_pool_without_new_workers_ends_as_it_did_and_not_as_those_that_wait() {
    let mut desk = Desk::ready(2);
    let retry = Retry::new(9).on_timeout(true);
    let timeout = Some(10 * MS);
    desk.submit(
        "a",
        JobSpec {
            timeout,
            ..repeated(retry)
        },
    );
    desk.start("a");
    let of_a = desk.worker_of("a");
    let idle = desk.started.iter().find(|worker| **worker != of_a);
    desk.exit(*idle.expect("there are two"));
    let next = *desk.started.last().expect("it is replaced");
    desk.tell(Event::StartFailed(next, StartFailure::Permanent));
    desk.pass(10 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
    assert_eq!(desk.repeated, []);
}

/// Two workers, a grace, and a job that has run too long and is to be run again for that.
fn ended_with_grace(grace: Duration) -> Desk {
    let rules = Rules {
        workers: 2,
        starts_at_once: 2,
        restart: Restart::OnFailure,
        abort_grace: grace,
        ..Rules::default()
    };
    let mut desk = Desk::with(rules).readied();
    let spec = JobSpec {
        timeout: Some(5 * MS),
        ..repeated(Retry::new(1).on_timeout(true))
    };
    desk.submit("a", spec);
    desk.start("a");
    desk.pass(5 * MS);
    assert_eq!(desk.repeated, [("a", Outcome::RanTooLong)]);
    desk
}

#[test]
fn no_run_begins_while_the_one_before_may_come_to_its_end() {
    let mut desk = ended_with_grace(50 * MS);
    desk.pass(40 * MS);
    assert_eq!(desk.times_sent("a"), 1, "though a worker is free");
    desk.pass_by("a");
    desk.pass(Duration::ZERO);
    assert_eq!((desk.times_sent("a"), desk.killed.len()), (2, 0));
}

#[test]
fn no_run_begins_before_the_worker_of_the_one_before_is_dead() {
    let mut desk = ended_with_grace(Duration::ZERO);
    let killed = desk.killed[0];
    desk.pass(40 * MS);
    assert_eq!(desk.times_sent("a"), 1, "though a worker is free");
    desk.exit(killed);
    desk.pass(Duration::ZERO);
    assert_eq!(desk.times_sent("a"), 2);
}

#[test]
fn what_waits_for_the_end_of_its_run_can_be_cancelled() {
    let mut desk = ended_with_grace(50 * MS);
    desk.cancel("a");
    assert_eq!(desk.outcome("a"), Some(Outcome::Cancelled));
    desk.pass_by("a");
    desk.pass(10 * MS);
    assert_eq!(desk.times_sent("a"), 1);
}

#[test]
fn an_abort_is_not_forgotten_in_a_worker_that_is_dying_already() {
    let mut desk = Desk::ready(1);
    desk.submit("a", repeated(Retry::new(9)));
    desk.start("a");
    let dying = desk.worker_of("a");
    desk.tell(Event::Condemned(dying));
    desk.abort("a");
    desk.exit(dying);
    assert_eq!(desk.outcome("a"), Some(Outcome::Lost(dying)));
}
