//! How long this worker stays: after each task it is found out whether that was the last.
//!
//! The worker itself sees to it, and not only its parent, because only here it is sure that
//! nothing more is run: what was sent ahead lies unbegun in the pipe until the parent, who reads
//! of the end in the header of a response, has taken it back.

use std::cell::{Cell, RefCell};
use std::io;

use crate::sys::memory::Memory;
use crate::task::context;
use crate::task::entry::{self, Sink, Verdict};
use crate::task::identity::Target;
use crate::task::payload;
use crate::wire::message::WorkerStart;

/// The time that a worker has in its pool.
#[derive(Debug)]
pub(super) struct Term {
    /// How many tasks may still be run.
    left: Cell<u64>,
    /// Our own memory, and how much of it may be used.
    memory: Option<(Memory, u64)>,
    retire_when: Option<Target>,
    scratch: RefCell<Vec<u8>>,
    over: Cell<bool>,
}

impl Term {
    /// A term as the pool wants it.
    pub(super) fn new(start: &WorkerStart) -> io::Result<Self> {
        let left = match start.max_tasks {
            0 => u64::MAX,
            max => max,
        };
        let retire_when = match &*start.retire_when {
            [] => None,
            target => Some(postcard::from_bytes(target).map_err(io::Error::other)?),
        };
        let memory = match start.max_memory {
            Some(max) => Some((Memory::of_self()?, max)),
            None => None,
        };
        Ok(Self {
            left: Cell::new(left),
            memory,
            retire_when,
            scratch: RefCell::default(),
            over: Cell::new(false),
        })
    }

    /// Counts a task that has come to its end; tells whether it was the last.
    pub(super) fn task_over(&self) -> bool {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        // Asked after each task, also when it is known already: it may keep books of its own.
        let asked = self.retire_when.is_some_and(|target| self.ask(target));
        if left == 0 || asked || self.is_too_large() || context::is_to_retire() {
            self.over.set(true);
        }
        self.over.get()
    }

    /// Whether another task may be begun while so many are under way.
    pub(super) fn allows_one_more(&self, under_way: u64) -> bool {
        !self.is_over() && under_way < self.left.get()
    }

    /// Whether nothing more is to be run.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether a task has left more than the next one may be blamed for.
    fn is_too_large(&self) -> bool {
        let memory = self.memory.as_ref();
        memory.is_some_and(|(memory, max)| memory.used().is_ok_and(|used| used > *max))
    }

    /// Asks the program's own function.
    fn ask(&self, target: Target) -> bool {
        // It says nothing if its address makes no sense, which is reason enough to go.
        let mut opinion = Opinion(true);
        let _ = entry::run(
            target,
            [].as_slice().into(),
            &mut self.scratch.borrow_mut(),
            &mut opinion,
        );
        opinion.0
    }
}

/// What the program's function says.
struct Opinion(bool);

impl Sink for Opinion {
    fn publish(&mut self, verdict: Verdict<'_>) {
        match verdict {
            Verdict::Returned(answer, ..) => self.0 = payload::decode(answer).unwrap_or(true),
            Verdict::Panicked(panic) => {
                eprintln!("procpool: the function that tells when a worker retires: {panic}");
            }
            Verdict::ArgumentUndecodable(_) | Verdict::ResultUnencodable(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::Attributes;

    fn term(max_tasks: u64, retire_when: Option<fn() -> bool>) -> Term {
        term_with(max_tasks, None, retire_when)
    }

    fn term_with(
        max_tasks: u64,
        max_memory: Option<u64>,
        retire_when: Option<fn() -> bool>,
    ) -> Term {
        let target = retire_when.map(|function| Target::of::<_, ()>(function).expect("it is ours"));
        let retire_when = target.map_or_else(Vec::new, |target| {
            postcard::to_stdvec(&target).expect("two numbers")
        });
        let start = WorkerStart {
            name: "worker".to_owned(),
            depth: 1,
            large_payloads: 0,
            max_frame: 1,
            busy_poll: 0,
            attributes: Attributes::default(),
            initializer: false,
            finalizer: Vec::new(),
            max_tasks,
            max_memory,
            retire_when,
            log_level: 0,
        };
        Term::new(&start).expect("it makes sense")
    }

    #[test]
    fn a_term_of_three_is_over_with_the_third_task() {
        let term = term(3, None);
        assert_eq!([(); 3].map(|()| term.task_over()), [false, false, true]);
        assert!(term.is_over());
    }

    #[test]
    fn a_term_without_a_limit_has_no_end() {
        let term = term(0, Some(|| false));
        assert!((0..10_000).all(|_| !term.task_over()));
    }

    #[test]
    fn the_programs_own_function_ends_a_term_by_true_and_by_a_panic() {
        assert!(term(0, Some(|| true)).task_over());
        assert!(term(0, Some(|| panic!("in a test"))).task_over());
    }

    #[test]
    fn a_process_that_is_too_large_runs_nothing_more() {
        assert!(term_with(0, Some(1), None).task_over());
        assert!(!term_with(0, Some(u64::MAX), None).task_over());
    }
}
