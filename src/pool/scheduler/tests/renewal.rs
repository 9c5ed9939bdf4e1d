//! Workers that have served long enough: when they go, who goes first, and what that costs nobody.

use std::num::NonZeroU64;

use super::*;
use crate::pool::scheduler::Renewal;

/// A desk whose workers, all of them ready, run at most so many tasks.
fn limited(workers: usize, max_tasks: u64) -> Desk {
    renewing(
        workers,
        Renewal {
            max_tasks: NonZeroU64::new(max_tasks),
            ..Renewal::default()
        },
    )
}

fn renewing(workers: usize, renewal: Renewal) -> Desk {
    let rules = Rules {
        workers,
        starts_at_once: workers,
        renewal,
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    };
    Desk::with(rules).readied()
}

impl Desk {
    /// Runs one call and tells by which worker.
    fn run(&mut self, kind: u64) -> WorkerId {
        self.answers.clear();
        self.submit_all(kind, &["one"]);
        self.start("one");
        let worker = self.worker_of("one");
        self.finish("one", 10 * MS);
        worker
    }

    /// Whoever was retired is gone, and the latest worker is ready.
    fn replace(&mut self, worker: WorkerId) {
        self.exit(worker);
        let next = *self.started.last().expect("it is replaced");
        assert_eq!(next.place, worker.place);
        self.tell(Event::Ready(next));
    }
}

#[test]
fn a_worker_leaves_after_its_last_task_and_not_before() {
    let mut desk = limited(1, 3);
    let worker = desk.run(1);
    for _ in 0..2 {
        assert_eq!(desk.retired, []);
        assert_eq!(desk.run(1), worker);
    }
    assert_eq!(desk.retired, [worker]);
    desk.submit_all(1, &["next"]);
    assert!(!desk.was_sent("next"));
    desk.replace(worker);
    assert_ne!(desk.worker_of("next"), worker);
}

#[test]
fn no_more_is_sent_ahead_than_the_worker_may_run() {
    let mut desk = limited(1, 4);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c", "d"]);
    assert!(desk.was_sent("c"), "the lesson was the first of four");
    assert!(!desk.was_sent("d"));
    for name in ["a", "b", "c"] {
        desk.start(name);
        desk.finish(name, US);
    }
    let worker = desk.worker_of("a");
    assert_eq!(desk.retired, [worker]);
    desk.replace(worker);
    assert!(desk.was_sent("d"));
}

#[test]
fn a_call_that_was_taken_back_was_not_run() {
    let mut desk = limited(1, 2);
    desk.teach(1, US);
    desk.submit_all(1, &["never"]);
    desk.cancel("never");
    desk.submit_all(1, &["second"]);
    assert!(desk.was_sent("second"));
    assert_eq!(desk.retired, []);
}

#[test]
fn an_ended_call_was_run() {
    let rules = Rules {
        workers: 1,
        starts_at_once: 1,
        abort_grace: 50 * MS,
        renewal: Renewal {
            max_tasks: NonZeroU64::new(1),
            ..Renewal::default()
        },
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    };
    let mut desk = Desk::with(rules).readied();
    desk.submit_all(1, &["aborted"]);
    desk.start("aborted");
    desk.abort("aborted");
    desk.pass(40 * MS);
    assert_eq!(
        (&*desk.retired, &*desk.killed),
        (&[][..], &[][..]),
        "it has its grace"
    );
    desk.pass_by("aborted");
    assert_eq!(desk.retired, [desk.worker_of("aborted")]);
}

#[test]
fn items_of_a_chunk_are_tasks() {
    let mut desk = limited(1, 9);
    let chunk = JobSpec {
        items: 9,
        ..JobSpec::default()
    };
    desk.submit("chunk", chunk);
    desk.start("chunk");
    let (worker, ticket) = desk.sent["chunk"];
    desk.submit_all(1, &["next"]);
    for _ in 0..9 {
        desk.core.item_answered(worker, ticket);
    }
    desk.finish("chunk", US);
    assert_eq!(desk.retired, [worker]);
    assert!(!desk.was_sent("next"));
}

#[test]
fn the_item_that_runs_in_a_chunk_which_was_cut_is_a_task() {
    let mut desk = limited(1, 4);
    desk.teach(1, US);
    desk.submit_chunk(1, "chunk", 10);
    let worker = desk.worker_of("chunk");
    desk.start("chunk");
    for _ in 0..2 {
        desk.end_item("chunk");
        let (_, ticket) = desk.sent["chunk"];
        desk.core.item_answered(worker, ticket);
        desk.next_item("chunk");
    }
    desk.cancel("chunk");
    assert_eq!(desk.cuts.len(), 1);
    desk.submit_all(1, &["x"]);
    assert!(!desk.was_sent("x"), "with the third item it has run four");
}

#[test]
fn a_planned_renewal_comes_in_the_last_tenth_and_at_each_workers_own_time() {
    let mut ran = Vec::new();
    let mut desk = limited(1, 200);
    for _ in 0..20 {
        let before = desk.retired.len();
        let mut count = 0;
        while desk.retired.len() == before {
            desk.run(1);
            count += 1;
        }
        ran.push(count);
        desk.replace(desk.retired[before]);
    }
    assert!(
        ran.iter().all(|count| (180..=200).contains(count)),
        "{ran:?}"
    );
    ran.sort_unstable();
    ran.dedup();
    assert!(ran.len() > 5, "{ran:?}");
}

#[test]
fn one_worker_at_a_time_is_renewed_by_plan_and_whoever_is_at_the_bound_in_any_case() {
    let mut desk = limited(2, 100);
    let workers = desk.started.clone();
    // Both are beyond the point where a planned renewal may come.
    let (mut first, mut other) = (None, None);
    for _ in 0..100 {
        desk.answers.clear();
        desk.submit_all(1, &["a", "b"]);
        for name in ["a", "b"] {
            desk.start(name);
        }
        desk.finish("a", 10 * MS);
        desk.finish("b", 10 * MS);
        if let [retired] = *desk.retired {
            first = Some(retired);
            other = workers.iter().copied().find(|worker| *worker != retired);
            break;
        }
    }
    let (first, other) = first.zip(other).expect("one has gone");
    // As long as the place of the first is empty the other goes on, to its bound and not beyond.
    let mut more = 0;
    while desk.retired.len() == 1 {
        assert_eq!(desk.run(1), other);
        more += 1;
    }
    assert!((1..=10).contains(&more), "{more}");
    assert_eq!(desk.retired, [first, other]);
}

#[test]
fn the_next_planned_renewal_follows_when_the_first_is_over() {
    let mut desk = limited(3, 1_000);
    let workers = desk.started.clone();
    for worker in &workers {
        let state = desk.core.worker(*worker).expect("it is ready");
        (0..998).for_each(|_| state.stay.spend());
    }
    desk.run(1);
    for gone in 0..3 {
        assert_eq!(desk.retired.len(), gone + 1);
        desk.replace(desk.retired[gone]);
    }
    let mut retired = desk.retired.clone();
    retired.sort();
    assert_eq!(retired, workers);
}

#[test]
fn a_worker_that_resigns_is_sent_nothing_and_what_it_holds_goes_elsewhere() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    let worker = desk.worker_of("a");
    assert_eq!(desk.worker_of("c"), worker);
    desk.start("a");
    desk.end("a");
    let (_, ticket) = desk.sent["a"];
    let answered = desk.core.complete(desk.now, worker, ticket, US);
    assert!(answered.is_ok());
    desk.tell(Event::Resigned(worker));
    assert_eq!(desk.retired, [worker]);
    desk.submit_all(1, &["d"]);
    desk.replace(worker);
    for name in ["b", "c", "d"] {
        assert_ne!(desk.worker_of(name), worker);
        desk.start(name);
        desk.finish(name, US);
    }
    assert_eq!(desk.assigned, ["a lesson", "a", "b", "c", "b", "c", "d"]);
}

#[test]
fn a_closed_pool_renews_only_who_may_run_no_more() {
    let mut desk = limited(1, 100);
    let worker = desk.started[0];
    let state = desk.core.worker(worker).expect("it is ready");
    (0..98).for_each(|_| state.stay.spend());
    desk.submit_all(1, &["a", "b", "c"]);
    desk.tell(Event::Close);
    desk.start("a");
    desk.finish("a", 10 * MS);
    assert_eq!(desk.worker_of("b"), worker);
    desk.start("b");
    desk.finish("b", 10 * MS);
    assert_eq!(desk.retired, [worker]);
    desk.replace(worker);
    desk.start("c");
    desk.finish("c", 10 * MS);
    desk.exit(desk.retired[1]);
    assert!(desk.finished);
}

fn aging(workers: usize) -> Desk {
    let max_age = Some(1_000 * MS);
    renewing(
        workers,
        Renewal {
            max_age,
            ..Renewal::default()
        },
    )
}

#[test]
fn an_idle_worker_is_renewed_in_the_last_tenth_of_its_age() {
    let mut desk = aging(1);
    desk.pass(899 * MS);
    assert_eq!(desk.retired, []);
    desk.pass(101 * MS);
    assert_eq!(desk.retired, [desk.started[0]]);
    desk.replace(desk.started[0]);
    desk.pass(899 * MS);
    assert_eq!(desk.retired.len(), 1, "its own age counts");
}

#[test]
fn a_busy_worker_finishes_its_call_before_it_goes_for_its_age() {
    let mut desk = aging(1);
    desk.submit_all(1, &["long"]);
    desk.start("long");
    desk.pass(3_000 * MS);
    desk.submit_all(1, &["next"]);
    assert_eq!((&*desk.retired, &*desk.killed), (&[][..], &[][..]));
    desk.finish("long", 3_000 * MS);
    assert_eq!(desk.retired, [desk.started[0]]);
    assert!(!desk.was_sent("next"));
}

#[test]
fn ages_follow_each_other_unless_one_holds_up_the_others_to_the_end() {
    let mut desk = aging(3);
    desk.pass(990 * MS);
    let [first] = *desk.retired else {
        panic!("one by plan: {:?}", desk.retired)
    };
    // It does not leave; the others go at their full age.
    desk.pass(9 * MS);
    assert_eq!(desk.retired, [first]);
    desk.pass(MS);
    assert_eq!(desk.retired.len(), 3);
}

const FULL: u64 = 1_000;

fn measured(workers: usize, abort_grace: Duration) -> Desk {
    let rules = Rules {
        workers,
        starts_at_once: workers,
        abort_grace,
        renewal: Renewal {
            max_memory: Some(FULL),
            ..Renewal::default()
        },
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    };
    Desk::with(rules).readied()
}

#[test]
fn a_call_with_which_its_worker_has_grown_too_large_is_ended_and_no_other() {
    let mut desk = measured(1, 50 * MS);
    desk.teach(1, US);
    desk.submit_all(1, &["grows", "behind"]);
    let worker = desk.worker_of("grows");
    assert_eq!(desk.worker_of("behind"), worker);
    desk.start("grows");
    desk.tell(Event::Measured(worker, FULL));
    assert_eq!(desk.outcome("grows"), None, "so much it may use");
    desk.tell(Event::Measured(worker, FULL + 1));
    let outcome = Outcome::GrewTooLarge(FULL + 1, FULL);
    assert_eq!(desk.outcome("grows"), Some(outcome));
    assert_eq!(desk.killed, [worker], "there is no grace for it");
    desk.replace(worker);
    assert_ne!(desk.worker_of("behind"), worker);
}

#[test]
fn a_result_that_was_finished_counts_however_large_its_worker_is() {
    let mut desk = measured(1, Duration::ZERO);
    desk.submit_all(1, &["done"]);
    let worker = desk.worker_of("done");
    desk.start("done");
    desk.end("done");
    desk.tell(Event::Measured(worker, FULL + 1));
    desk.respond("done", MS);
    assert_eq!((&*desk.killed, &*desk.retired), (&[][..], &[worker][..]));
}

#[test]
fn an_item_that_was_begun_after_the_measurement_is_not_blamed_for_it() {
    let mut desk = measured(1, Duration::ZERO);
    let chunk = JobSpec {
        items: 10,
        ..JobSpec::default()
    };
    desk.submit("chunk", chunk);
    let worker = desk.worker_of("chunk");
    let then = desk.now;
    desk.now = desk.now + MS;
    desk.start("chunk");
    desk.core.handle(then, Event::Measured(worker, FULL + 1));
    desk.drain();
    assert_eq!(desk.outcome("chunk"), None);
    desk.tell(Event::Measured(worker, FULL + 1));
    let outcome = Outcome::GrewTooLarge(FULL + 1, FULL);
    assert_eq!(desk.outcome("chunk"), Some(outcome));
}

#[test]
fn who_grows_is_ended_also_when_the_response_before_it_has_not_come() {
    let mut desk = measured(1, Duration::ZERO);
    desk.teach(1, US);
    desk.submit_all(1, &["done", "grows"]);
    let worker = desk.worker_of("grows");
    desk.start("done");
    desk.end("done");
    desk.start("grows");
    desk.tell(Event::Measured(worker, FULL + 1));
    assert_eq!(desk.outcome("done"), None);
    let outcome = Outcome::GrewTooLarge(FULL + 1, FULL);
    assert_eq!(desk.outcome("grows"), Some(outcome));
    desk.respond("done", US);
}

#[test]
fn an_idle_worker_that_is_too_large_is_renewed() {
    let mut desk = measured(2, Duration::ZERO);
    let worker = desk.started[0];
    desk.tell(Event::Measured(worker, FULL + 1));
    assert_eq!((&*desk.killed, &*desk.retired), (&[][..], &[worker][..]));
}

#[test]
fn what_goes_on_in_its_grace_and_grows_is_killed() {
    let mut desk = measured(1, 5_000 * MS);
    desk.submit_all(1, &["aborted"]);
    let worker = desk.worker_of("aborted");
    desk.start("aborted");
    desk.abort("aborted");
    assert_eq!(desk.killed, []);
    desk.tell(Event::Measured(worker, FULL + 1));
    assert_eq!(desk.killed, [worker]);
}
