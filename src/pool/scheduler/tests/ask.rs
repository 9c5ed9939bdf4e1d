//! Asking calls to come to their ends: by their callers, and at their soft limits.

use super::*;
use crate::pool::scheduler::Retry;

impl Desk {
    fn request(&mut self, name: &str) {
        self.tell(Event::Request(self.keys[name]));
    }

    fn asked_for(&self, name: &str) -> Vec<Request> {
        let (worker, ticket) = self.sent[name];
        let asked = self
            .asked
            .iter()
            .filter(|asked| (asked.0, asked.1) == (worker, ticket));
        asked.map(|(.., why)| *why).collect()
    }
}

fn soft(limit: Duration) -> JobSpec {
    JobSpec {
        kind: 1,
        soft_timeout: Some(limit),
        ..JobSpec::default()
    }
}

#[test]
fn what_has_run_to_its_soft_limit_is_asked_once_and_its_response_counts() {
    let mut desk = Desk::ready(1);
    desk.submit("a", soft(30 * MS));
    desk.pass(10 * MS);
    desk.start("a");
    desk.pass(29 * MS);
    assert_eq!(desk.asked, [], "it counts from the true start");
    desk.pass(MS);
    assert_eq!(desk.asked_for("a"), [Request::SoftLimit]);
    desk.pass(1_000 * MS);
    assert_eq!(desk.asked.len(), 1);
    desk.finish("a", 1_030 * MS);
    assert_eq!(desk.killed, []);
}

#[test]
fn the_hard_limit_ends_what_takes_no_notice_of_the_soft_one() {
    let mut desk = Desk::ready(1);
    let timeout = Some(50 * MS);
    desk.submit(
        "a",
        JobSpec {
            timeout,
            ..soft(20 * MS)
        },
    );
    desk.start("a");
    desk.pass(49 * MS);
    assert_eq!(desk.asked_for("a"), [Request::SoftLimit]);
    assert_eq!(desk.outcome("a"), None);
    desk.pass(MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
}

#[test]
fn the_next_call_of_a_worker_is_not_asked_for_the_last() {
    let mut desk = Desk::ready(1);
    desk.submit("a", soft(30 * MS));
    desk.start("a");
    desk.pass(29 * MS);
    desk.finish("a", 29 * MS);
    desk.submit("b", soft(30 * MS));
    desk.start("b");
    desk.pass(29 * MS);
    assert_eq!(desk.asked, []);
}

#[test]
fn each_item_of_a_chunk_has_a_soft_limit_of_its_own() {
    let mut desk = Desk::ready(1);
    desk.submit(
        "a",
        JobSpec {
            items: 4,
            ..soft(30 * MS)
        },
    );
    desk.start("a");
    desk.pass(20 * MS);
    for _ in 0..2 {
        desk.end_item("a");
        desk.next_item("a");
        desk.pass(20 * MS);
    }
    assert_eq!(desk.asked, [], "no item has run that long");
    desk.end_item("a");
    desk.next_item("a");
    desk.pass(100 * MS);
    assert_eq!(desk.asked_for("a"), [Request::SoftLimit]);
    desk.end_item("a");
    desk.pass(100 * MS);
    assert_eq!(desk.asked.len(), 1, "between two items nothing runs");
}

#[test]
fn who_asks_for_the_end_of_what_has_not_been_started_gets_it() {
    let mut desk = Desk::ready(1);
    desk.teach(1, US);
    desk.submit_all(1, &["sent", "behind"]);
    desk.start("sent");
    desk.submit_all(2, &["waits"]);
    for name in ["waits", "behind"] {
        desk.request(name);
        assert_eq!(desk.outcome(name), Some(Outcome::Cancelled), "{name}");
    }
    assert_eq!(desk.asked, []);
    desk.request("sent");
    assert_eq!(desk.asked_for("sent"), [Request::Caller]);
    assert_eq!(desk.outcome("sent"), None);
    desk.finish("sent", MS);
}

#[test]
fn what_was_asked_to_end_is_not_run_again() {
    let mut desk = Desk::ready(1);
    let retry = Retry::new(5);
    desk.submit("a", JobSpec { retry, ..soft(MS) });
    desk.start("a");
    desk.pass(10 * MS);
    desk.request("a");
    let worker = desk.worker_of("a");
    desk.tell(Event::Exited(worker));
    assert_eq!(desk.outcome("a"), Some(Outcome::Lost(worker)));
}

#[test]
fn a_soft_limit_does_not_keep_a_task_from_being_run_again() {
    let mut desk = Desk::ready(1);
    let retry = Retry::new(5);
    desk.submit("a", JobSpec { retry, ..soft(MS) });
    desk.start("a");
    desk.pass(10 * MS);
    desk.tell(Event::Exited(desk.worker_of("a")));
    assert_eq!(desk.outcome("a"), None);
    assert_eq!(desk.repeated.len(), 1);
}

/// One worker that runs the first of four items, each of which is asked to end after 2 ms.
fn running_chunk() -> Desk {
    let mut desk = Desk::ready(1);
    desk.submit(
        "a",
        JobSpec {
            items: 4,
            ..soft(2 * MS)
        },
    );
    desk.start("a");
    desk
}

#[test]
fn what_goes_on_after_it_was_asked_is_looked_at_the_more_seldom_and_the_next_item_in_time() {
    let mut desk = running_chunk();
    desk.pass(2 * MS);
    assert_eq!(desk.asked.len(), 1);
    let mut ticks = 0;
    let until = desk.now + 60_000 * MS;
    while let Some(at) = desk.core.wake_at().filter(|at| *at <= until) {
        desk.pass(desk.now.until(at));
        ticks += 1;
    }
    assert!(ticks < 20, "{ticks} looks at one item");
    desk.end_item("a");
    let (worker, ticket) = desk.sent["a"];
    desk.next_item("a");
    desk.core.item_answered(worker, ticket);
    desk.drain();
    desk.pass(MS);
    assert_eq!(desk.asked.len(), 1);
    desk.pass(MS);
    assert_eq!(desk.asked.len(), 2, "in a minute it would be too late");
}

#[test]
fn an_answer_that_comes_before_the_page_says_so_does_not_put_off_the_look_at_the_next_item() {
    let mut desk = running_chunk();
    desk.pass(60_000 * MS);
    let (worker, ticket) = desk.sent["a"];
    desk.core.item_answered(worker, ticket);
    desk.drain();
    desk.pass(MS / 2);
    desk.end_item("a");
    desk.next_item("a");
    desk.pass(4 * MS);
    assert_eq!(desk.asked.len(), 2);
}

#[test]
fn a_worker_that_stands_still_behind_an_answer_does_not_put_off_the_look_at_the_next_item() {
    let mut desk = running_chunk();
    desk.pass(2 * MS);
    let (worker, ticket) = desk.sent["a"];
    desk.core.item_answered(worker, ticket);
    desk.drain();
    for _ in 0..500 {
        desk.pass(MS);
    }
    desk.end_item("a");
    desk.next_item("a");
    desk.pass(4 * MS);
    assert_eq!(desk.asked.len(), 2);
}
