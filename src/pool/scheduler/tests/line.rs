//! Who is first among those that wait.

use super::*;
use crate::pool::scheduler::queue::Queue;

impl Desk {
    fn submit_urgent(&mut self, name: &'static str, priority: i32) {
        self.submit(
            name,
            JobSpec {
                kind: 1,
                priority,
                ..JobSpec::default()
            },
        );
    }

    /// Runs whatever is sent, one after the other, until nothing is.
    fn run_all(&mut self) {
        let mut done = 0;
        while let Some(name) = self.assigned.get(done).copied() {
            done += 1;
            if self.pages[&self.sent[name]] == Progress::Waiting {
                self.start(name);
                self.finish(name, MS);
            }
        }
    }
}

/// Else rooms would let nobody in for the sake of one that was taken back, and is needed by nobody.
#[test]
fn a_room_that_waits_is_no_call_that_waits() {
    let mut desk = Desk::ready(1);
    desk.submit_all(2, &["busy", "waits"]);
    let room = JobSpec {
        room: Some(3),
        ..JobSpec::default()
    };
    let key = desk.core.take_in(desk.now, room, "room");
    assert_eq!((desk.core.waiting(), desk.core.calls_waiting()), (2, 1));
    desk.core.handle(desk.now, Event::Cancel(key));
    assert_eq!((desk.core.waiting(), desk.core.calls_waiting()), (1, 1));
}

#[test]
fn the_higher_priority_goes_first_and_within_one_who_was_first() {
    let mut desk = Desk::ready(1);
    desk.submit_all(2, &["busy"]);
    for (name, priority) in [
        ("a", 0),
        ("low", i32::MIN),
        ("high", 5),
        ("b", 0),
        ("top", i32::MAX),
        ("high too", 5),
        ("c", 0),
    ] {
        desk.submit_urgent(name, priority);
    }
    desk.cancel("b");
    desk.run_all();
    let order = ["busy", "top", "high", "high too", "a", "c", "low"];
    assert_eq!(desk.assigned, order);
}

#[test]
fn what_was_sent_ahead_is_not_overtaken() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["a", "b"]);
    desk.submit_urgent("urgent", 9);
    desk.run_all();
    assert_eq!(desk.assigned[1..], ["a", "b", "urgent"]);
}

#[test]
fn what_is_taken_back_goes_before_later_ones_of_its_priority_and_behind_higher_ones() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["lost", "a", "b"]);
    let worker = desk.worker_of("b");
    // What comes now is not known to be short, so it waits.
    desk.submit_all(2, &["later"]);
    desk.submit(
        "urgent",
        JobSpec {
            kind: 2,
            priority: 1,
            ..JobSpec::default()
        },
    );
    desk.start("lost");
    desk.exit(worker);
    desk.tell(Event::Ready(*desk.started.last().expect("replaced")));
    desk.run_all();
    assert_eq!(desk.assigned[4..], ["urgent", "a", "b", "later"]);
}

/// A queue beside what it should be: keys in the order of their turns.
#[test]
fn a_queue_keeps_its_order_and_its_bounds_whoever_leaves() {
    let mut random = 7_u64;
    let mut below = |end: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % end
    };
    let (mut queue, mut model) = (Queue::default(), Vec::<(i32, i64, JobKey)>::new());
    let (mut first, mut last) = (0, 0);
    for number in 1..20_000 {
        let job = JobKey::of_number(number);
        let waits = |model: &[(i32, i64, JobKey)], job| model.iter().any(|entry| entry.2 == job);
        match below(8) {
            // More come than go, then the other way round.
            0..=4 if number % 400 < 200 => {
                let priority = below(5) as i32 - 2;
                if below(4) == 0 {
                    first -= 1;
                    queue.push_front(job, priority);
                    model.push((-priority, first, job));
                } else {
                    last += 1;
                    queue.push_back(job, priority);
                    model.push((-priority, last, job));
                }
            }
            5 if !model.is_empty() => {
                model.remove(below(model.len() as u64) as usize);
                queue.leave_gap(|job| waits(&model, job));
            }
            _ => {
                let expected = model.iter().min().map(|entry| entry.2);
                assert_eq!(queue.first(|job| waits(&model, job)), expected);
                if let Some(expected) = expected {
                    queue.take_first();
                    model.retain(|entry| entry.2 != expected);
                }
            }
        }
        assert_eq!(queue.is_empty(), model.is_empty());
        let (kept, priorities) = queue.kept();
        assert!(
            kept <= 32.max(2 * model.len()) + 1 && priorities <= 5,
            "{kept}"
        );
    }
}

/// What was opened in the name of the same call later took the place in the line of what had left it.
#[test]
fn rooms_in_the_name_of_one_call_are_told_apart() {
    let mut desk = Desk::ready(1);
    let room = JobSpec {
        room: Some(1),
        ..JobSpec::default()
    };
    desk.submit_all(2, &["busy", "first"]);
    desk.submit("room", room);
    desk.submit_all(2, &["second"]);
    desk.cancel("room");
    desk.submit("room again", room);
    desk.run_all();
    assert_eq!(desk.assigned, ["busy", "first", "second", "room again"]);
}
