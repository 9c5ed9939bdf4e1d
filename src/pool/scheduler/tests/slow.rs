//! Runs that take longer than is usual are told of, each once, while they run.

use super::*;

impl Desk {
    /// A desk with workers that are ready, where runs of more than 10 ms are slow.
    fn observant(workers: usize) -> Self {
        let rules = Rules {
            workers,
            starts_at_once: workers,
            leave_limit: LEAVE_LIMIT,
            slow_call: Some(10 * MS),
            ..Rules::default()
        };
        Self::with(rules).readied()
    }
}

#[test]
fn a_slow_run_is_told_once_while_it_runs() {
    let mut desk = Desk::observant(1);
    desk.submit_all(1, &["a"]);
    // The wait is no part of it.
    desk.pass(30 * MS);
    desk.start("a");
    let begun = desk.now;
    desk.pass(9 * MS);
    assert_eq!(desk.slow, []);
    desk.pass(2 * MS);
    assert_eq!(desk.slow, [("a", begun)]);
    desk.pass(100 * MS);
    assert_eq!(desk.slow, [("a", begun)]);
    assert_eq!(desk.outcome("a"), None);
}

#[test]
fn a_run_that_is_quick_enough_is_not_told() {
    let mut desk = Desk::observant(1);
    for name in ["a", "b", "c"] {
        desk.submit_all(1, &[name]);
        desk.start(name);
        desk.pass(9 * MS);
        desk.finish(name, 9 * MS);
    }
    desk.pass(50 * MS);
    assert_eq!(desk.slow, []);
}

#[test]
fn a_slow_run_still_ends_at_its_limit() {
    let mut desk = Desk::observant(1);
    let spec = JobSpec {
        timeout: Some(25 * MS),
        ..JobSpec::default()
    };
    desk.submit("a", spec);
    desk.start("a");
    let begun = desk.now;
    desk.pass(20 * MS);
    assert_eq!(
        (&*desk.slow, desk.outcome("a")),
        (&[("a", begun)][..], None)
    );
    desk.pass(5 * MS);
    assert_eq!(desk.outcome("a"), Some(Outcome::RanTooLong));
}

#[test]
fn of_a_chunk_each_slow_item_is_told_once() {
    let mut desk = Desk::observant(1);
    desk.submit_chunk(1, "chunk", 3);
    desk.start("chunk");
    let first = desk.now;
    desk.pass(15 * MS);
    // The same call, and another item of it.
    let second = desk.now;
    desk.pages
        .insert(desk.sent["chunk"], Progress::Running(second));
    desk.pass(5 * MS);
    assert_eq!(desk.slow, [("chunk", first)]);
    // Until when it is looked at again is found out at the second look.
    desk.pass(50 * MS);
    assert_eq!(desk.slow, [("chunk", first), ("chunk", second)]);
}
