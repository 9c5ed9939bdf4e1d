//! Calls of one key: they go to one place, and keep nobody else waiting.

use super::*;

fn keyed(key: u64) -> JobSpec {
    JobSpec {
        kind: 1,
        key: Some(key),
        ..JobSpec::default()
    }
}

impl Desk {
    fn serve(&mut self, name: &'static str) {
        self.start(name);
        self.finish(name, MS);
    }
}

/// Two workers, and a key for each of them.
fn two() -> (Desk, [u64; 2]) {
    let mut desk = Desk::ready(2);
    let mut keys = [0; 2];
    for key in 1..20 {
        desk.submit("probe", keyed(key));
        keys[desk.worker_of("probe").place] = key;
        desk.serve("probe");
    }
    assert!(keys.iter().all(|key| *key > 0), "both places have keys");
    desk.assigned.clear();
    (desk, keys)
}

#[test]
fn calls_of_a_key_go_to_one_worker_and_wait_for_it() {
    let (mut desk, [key, other]) = two();
    desk.submit("a", keyed(key));
    desk.submit("b", keyed(key));
    desk.submit("c", keyed(other));
    assert_ne!(desk.worker_of("a"), desk.worker_of("c"));
    desk.serve("c");
    assert!(!desk.was_sent("b"), "though the other worker is idle");
    desk.serve("a");
    assert_eq!(desk.worker_of("b"), desk.worker_of("a"));
}

#[test]
fn what_waits_for_one_worker_keeps_nobody_waiting_for_another() {
    let (mut desk, [key, _]) = two();
    desk.submit("a", keyed(key));
    desk.submit("b", keyed(key));
    desk.submit_all(2, &["free"]);
    assert_ne!(desk.worker_of("free"), desk.worker_of("a"));
}

#[test]
fn what_may_go_anywhere_leaves_a_worker_to_those_who_wait_for_it() {
    for first in [0, 1] {
        let (mut desk, keys) = two();
        desk.submit_all(2, &["x", "y"]);
        desk.submit_all(2, &["anywhere"]);
        desk.submit("bound", keyed(keys[first]));
        // Both become free before it is decided who goes where.
        for name in ["x", "y"] {
            let (worker, ticket) = desk.sent[name];
            desk.start(name);
            desk.end(name);
            let answered = desk.core.complete(desk.now, worker, ticket, MS);
            assert!(matches!(answered, Ok(Some(_))));
        }
        desk.core.settle(desk.now);
        desk.drain();
        assert!(
            desk.was_sent("anywhere") && desk.was_sent("bound"),
            "{first}"
        );
    }
}

#[test]
fn the_most_urgent_of_both_lines_goes_first() {
    let (mut desk, [key, _]) = two();
    desk.submit_all(2, &["x", "y"]);
    let urgent = JobSpec {
        priority: 1,
        ..keyed(key)
    };
    desk.submit_all(2, &["open"]);
    desk.submit("bound", keyed(key));
    desk.submit("urgent", urgent);
    let x_is_at_home = desk.worker_of("x").place == 0;
    let home = if x_is_at_home { "x" } else { "y" };
    desk.serve(home);
    for next in ["urgent", "open", "bound"] {
        assert_eq!(desk.assigned.last(), Some(&next));
        desk.serve(next);
    }
}

#[test]
fn the_next_worker_of_the_place_gets_the_calls_of_one_that_died() {
    let (mut desk, [key, _]) = two();
    for name in ["a", "b", "c"] {
        desk.submit(name, keyed(key));
    }
    let dead = desk.worker_of("a");
    desk.start("a");
    desk.exit(dead);
    assert!(!desk.was_sent("b"));
    let next = *desk.started.last().expect("it is replaced");
    assert_eq!(next.place, dead.place);
    desk.tell(Event::Ready(next));
    desk.serve("b");
    desk.serve("c");
    assert_eq!(desk.worker_of("c"), next);
}

#[test]
fn the_worker_of_a_place_is_started_for_those_who_wait_for_it() {
    let (_, keys) = two();
    let mut desk = Desk::new(2);
    for (key, name) in keys.into_iter().zip(["a", "b"]) {
        desk.submit(name, keyed(key));
        let started = *desk.started.last().expect("it is started");
        desk.tell(Event::Ready(started));
        desk.serve(name);
    }
    assert_eq!(desk.started.len(), 2);
    assert_ne!(desk.worker_of("a"), desk.worker_of("b"));
}

#[test]
fn what_waits_for_one_worker_ends_like_all_that_waits() {
    for event in [Event::CancelPending, Event::Terminate, Event::Tick] {
        let (mut desk, [key, _]) = two();
        desk.submit("a", keyed(key));
        desk.start("a");
        let spec = JobSpec {
            queue_timeout: Some(5 * MS),
            ..keyed(key)
        };
        for name in ["b", "c"] {
            desk.submit(name, spec);
        }
        desk.cancel("b");
        desk.pass(5 * MS);
        assert_eq!(desk.outcome("b"), Some(Outcome::Cancelled));
        assert_eq!(desk.outcome("c"), Some(Outcome::WaitedTooLong));
        desk.submit("d", keyed(key));
        desk.tell(event);
        assert_eq!(desk.outcome("d").is_some(), !matches!(event, Event::Tick));
        assert_eq!(
            desk.core.waiting(),
            usize::from(matches!(event, Event::Tick))
        );
    }
}

#[test]
fn a_pool_that_cannot_start_workers_lets_any_that_lives_do_it() {
    let (mut desk, [key, other]) = two();
    desk.teach(9, US);
    let short = |key| JobSpec {
        kind: 9,
        ..keyed(key)
    };
    desk.submit("a", short(key));
    desk.submit("b", short(key));
    let home = desk.worker_of("b");
    desk.submit("busy", keyed(other));
    desk.start("a");
    desk.start("busy");
    desk.core.give_up();
    desk.tell(Event::Condemned(home));
    assert_eq!(desk.outcome("b"), None, "somebody lives");
    desk.finish("busy", MS);
    assert_ne!(desk.worker_of("b"), home);
    desk.serve("b");
}

#[test]
fn any_number_of_keys_leaves_nothing_behind() {
    let mut desk = Desk::ready(3);
    for key in 0..1_000 {
        desk.submit("a", keyed(key));
        desk.submit("b", keyed(key));
        desk.serve("a");
        desk.serve("b");
    }
    let (keys, priorities, moments) = desk.core.line.kept();
    assert!(keys == 0 && priorities <= 1 && moments == 0);
}

#[test]
fn the_keys_are_spread_over_the_places() {
    let mut desk = Desk::ready(4);
    let mut counts = [0; 4];
    for key in 0..400 {
        desk.submit("a", keyed(key));
        counts[desk.worker_of("a").place] += 1;
        desk.serve("a");
    }
    assert!(
        counts.iter().all(|count| (50..150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn who_waits_for_a_place_that_goes_waits_for_another() {
    let (mut desk, keys) = two();
    for (name, key) in ["low", "high"].into_iter().zip(keys) {
        desk.submit(name, keyed(key));
        desk.start(name);
    }
    desk.submit("waits", keyed(keys[1]));
    assert!(!desk.was_sent("waits"));
    desk.tell(Event::Resize(1));
    desk.finish("high", MS);
    assert!(!desk.was_sent("waits"), "its worker leaves");
    desk.finish("low", MS);
    assert_eq!(desk.worker_of("waits").place, 0);
    desk.serve("waits");
    desk.submit("later", keyed(keys[1]));
    assert_eq!(desk.worker_of("later").place, 0);
}

#[test]
fn who_waits_for_a_place_waits_for_the_right_one_when_there_are_more() {
    let (mut desk, keys) = two();
    desk.tell(Event::Resize(1));
    desk.exit(desk.retired[0]);
    desk.submit("runs", keyed(keys[0]));
    desk.start("runs");
    desk.submit("waits", keyed(keys[1]));
    assert!(!desk.was_sent("waits"));
    desk.tell(Event::Resize(2));
    desk.tell(Event::Ready(desk.started[2]));
    assert_eq!(desk.worker_of("waits").place, 1);
}
