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

#[test]
fn a_pool_that_grows_has_more_workers_when_they_are_needed() {
    let mut desk = Desk::ready(1);
    desk.submit_all(1, &["a", "b", "c"]);
    assert_eq!(desk.started.len(), 1);
    desk.tell(Event::Resize(3));
    desk.all_ready();
    assert_eq!(desk.started.len(), 3);
    assert!(desk.was_sent("b") && desk.was_sent("c"));
}

#[test]
fn a_pool_that_shrinks_lets_the_highest_places_finish_and_leave() {
    let mut desk = Desk::ready(3);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b", "c"]);
    ["a", "b", "c"].iter().for_each(|name| desk.start(name));
    desk.submit_all(1, &["d", "e", "f"]);
    assert!(["d", "e", "f"].iter().all(|name| desk.was_sent(name)));
    desk.tell(Event::Resize(1));
    assert!(desk.retired.is_empty() && desk.killed.is_empty());
    for name in ["a", "b", "c"] {
        desk.finish(name, MS);
    }
    let mut retired: Vec<_> = desk.retired.iter().map(|worker| worker.place).collect();
    retired.sort_unstable();
    assert_eq!(retired, [1, 2]);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert_eq!(desk.started.len(), 3, "they are not replaced");
    for name in ["d", "e", "f"] {
        assert_eq!(desk.worker_of(name).place, 0);
        desk.start(name);
        desk.finish(name, MS);
    }
    assert_eq!(desk.core.places.len(), 1);
}

#[test]
fn a_worker_that_is_being_started_in_a_place_too_many_is_given_up() {
    let mut desk = Desk::new(2);
    desk.submit_all(1, &["a", "b"]);
    let [first] = *desk.started else {
        panic!("one at a time at first: {:?}", desk.started)
    };
    desk.tell(Event::Ready(first));
    let second = desk.started[1];
    desk.tell(Event::Resize(1));
    assert_eq!(desk.killed, [second]);
    desk.start_fails(second);
    assert_eq!(desk.started.len(), 2);
    desk.start("a");
    desk.finish("a", 10 * MS);
    assert_eq!(desk.worker_of("b"), first);
}

#[test]
fn a_place_can_be_filled_again_before_it_was_empty() {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["a", "b"]);
    ["a", "b"].iter().for_each(|name| desk.start(name));
    desk.tell(Event::Resize(1));
    desk.tell(Event::Resize(2));
    desk.submit_all(1, &["c", "d"]);
    desk.finish("a", 10 * MS);
    desk.finish("b", 10 * MS);
    let [leaving] = *desk.retired else {
        panic!("{:?}", desk.retired)
    };
    assert_eq!(leaving.place, 1, "what was decided is done");
    desk.exit(leaving);
    desk.all_ready();
    assert!(desk.was_sent("c") && desk.was_sent("d"));
    assert_eq!(desk.started.len(), 3);
}

#[test]
fn who_is_kept_warm_is_there_again_when_there_is_room_for_it() {
    let mut desk = sized(3, 3, None);
    desk.tell(Event::Tick);
    desk.all_ready();
    desk.tell(Event::Resize(1));
    assert_eq!(desk.retired.len(), 2);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    desk.tell(Event::Resize(3));
    assert_eq!(desk.started.len(), 5);
}

#[test]
fn a_closed_pool_of_another_size_finishes() {
    let mut desk = Desk::ready(2);
    desk.submit_all(1, &["a", "b", "c"]);
    ["a", "b"].iter().for_each(|name| desk.start(name));
    desk.tell(Event::Close);
    desk.tell(Event::Resize(1));
    desk.finish("a", 10 * MS);
    desk.finish("b", 10 * MS);
    desk.start("c");
    desk.finish("c", 10 * MS);
    for worker in desk.retired.clone() {
        desk.exit(worker);
    }
    assert!(desk.finished);
}

#[test]
fn who_waits_until_all_are_ready_waits_for_none_that_there_may_not_be() {
    let mut desk = Desk::new(2);
    desk.tell(Event::StartAll);
    desk.tell(Event::Ready(desk.started[0]));
    assert!(!desk.core.is_complete());
    desk.tell(Event::Resize(1));
    assert!(desk.core.is_complete());
}
