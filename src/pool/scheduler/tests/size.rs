//! How many workers there are: who is kept warm, and who leaves because there is nothing to do.

use super::*;
use crate::pool::scheduler::place::Phase;

const IDLE: Duration = Duration::from_millis(100);

fn sized(workers: usize, min_workers: usize, idle_timeout: Option<Duration>) -> Desk {
    Desk::with(Rules {
        workers,
        min_workers,
        idle_timeout,
        starts_at_once: workers,
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    })
}

impl Desk {
    fn all_ready(&mut self) {
        while self.core.places.iter().any(|place| {
            let worker = place.worker.as_ref();
            worker.is_some_and(|worker| worker.phase == Phase::Starting)
        }) {
            for worker in self.started.clone() {
                self.tell(Event::Ready(worker));
            }
        }
    }
}

#[test]
fn who_is_kept_warm_is_started_unasked_and_replaced() {
    let mut desk = sized(4, 2, None);
    desk.tell(Event::Tick);
    desk.all_ready();
    assert_eq!(desk.started.len(), 2);
    desk.exit(desk.started[0]);
    assert_eq!(desk.started.len(), 3);
    assert_eq!(desk.started[2].place, desk.started[0].place);
}

#[test]
fn without_a_timeout_nobody_leaves() {
    let mut desk = sized(3, 0, None).readied();
    desk.pass(100_000 * MS);
    assert!(desk.retired.is_empty());
}

#[test]
fn idle_workers_leave_and_come_back_when_they_are_needed() {
    let mut desk = sized(3, 0, Some(IDLE)).readied();
    desk.pass(IDLE - MS);
    assert!(desk.retired.is_empty());
    desk.pass(MS);
    assert_eq!(desk.retired.len(), 3);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert_eq!(desk.started.len(), 3, "they are not replaced");
    desk.submit_all(1, &["a"]);
    assert_eq!(desk.started.len(), 4);
    desk.all_ready();
    assert!(desk.was_sent("a"));
}

#[test]
fn who_is_kept_warm_stays_however_long_it_is_idle() {
    let mut desk = sized(4, 2, Some(IDLE)).readied();
    desk.pass(IDLE);
    assert_eq!(desk.retired.len(), 2);
    desk.pass(100 * IDLE);
    assert_eq!(desk.retired.len(), 2);
}

#[test]
fn a_worker_that_has_something_to_do_is_not_idle() {
    let mut desk = sized(1, 0, Some(IDLE)).readied();
    desk.pass(IDLE - MS);
    desk.submit_all(1, &["a"]);
    desk.start("a");
    desk.pass(10 * IDLE);
    desk.finish("a", 10 * IDLE);
    desk.pass(IDLE - MS);
    assert!(desk.retired.is_empty());
    desk.pass(MS);
    assert_eq!(desk.retired.len(), 1);
}

#[test]
fn who_was_needed_leaves_when_another_has_come() {
    let mut desk = sized(2, 1, Some(IDLE));
    desk.submit_all(1, &["a"]);
    desk.all_ready();
    desk.start("a");
    desk.finish("a", MS);
    let first = desk.started[0];
    desk.pass(10 * IDLE);
    assert!(desk.retired.is_empty(), "it is the one that is kept");
    desk.submit_all(1, &["b", "c"]);
    desk.all_ready();
    let other = desk.started[1];
    let [long, short] = if desk.worker_of("b") == other {
        ["b", "c"]
    } else {
        ["c", "b"]
    };
    desk.start(long);
    desk.start(short);
    desk.finish(short, MS);
    desk.pass(10 * IDLE);
    assert_eq!(desk.retired, [first], "the other is there, if busy");
}

#[test]
fn all_that_were_asked_for_have_been_there_even_if_they_leave_again_at_once() {
    let mut desk = sized(2, 0, Some(IDLE));
    desk.tell(Event::StartAll);
    assert!(!desk.core.is_complete());
    let [first, second] = [0, 1].map(|place| WorkerId {
        place,
        number: place as u64 + 1,
    });
    desk.tell(Event::Ready(first));
    desk.pass(10 * IDLE);
    assert_eq!(desk.retired, [first]);
    desk.exit(first);
    assert!(!desk.core.is_complete());
    desk.tell(Event::Ready(second));
    assert!(desk.core.is_complete());
}
