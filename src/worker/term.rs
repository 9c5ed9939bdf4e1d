//! How long this worker stays: after each task it is asked whether that was the last.
//!
//! The worker itself sees to it, and not only its parent, because only here it is sure that
//! nothing more is run: what was sent ahead lies unbegun in the pipe until the parent, who reads
//! of the end in the header of a response, has taken it back.

use std::cell::Cell;

use crate::wire::message::WorkerStart;

/// The time that a worker has in its pool.
#[derive(Debug)]
pub(super) struct Term {
    /// How many tasks may still be run.
    left: Cell<u64>,
    over: Cell<bool>,
}

impl Term {
    /// A term as the pool wants it.
    pub(super) fn new(start: &WorkerStart) -> Self {
        let left = match start.max_tasks {
            0 => u64::MAX,
            max => max,
        };
        Self {
            left: Cell::new(left),
            over: Cell::new(false),
        }
    }

    /// Counts a task that has come to its end; tells whether it was the last.
    pub(super) fn task_over(&self) -> bool {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 {
            self.over.set(true);
        }
        self.over.get()
    }

    /// Whether nothing more is to be run.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(max_tasks: u64) -> Term {
        Term::new(&WorkerStart {
            name: "worker".to_owned(),
            depth: 1,
            max_frame: 1,
            max_tasks,
        })
    }

    #[test]
    fn a_term_of_three_is_over_with_the_third_task() {
        let term = term(3);
        assert_eq!([(); 3].map(|()| term.task_over()), [false, false, true]);
        assert!(term.is_over());
    }

    #[test]
    fn a_term_without_a_limit_has_no_end() {
        let term = term(0);
        assert!((0..10_000).all(|_| !term.task_over()));
    }
}
