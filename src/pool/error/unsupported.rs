//! What an executor may be unable to do, and how it says so.

use std::fmt;

/// Something that a pool of processes can do, and one of threads cannot. See
/// [`Executor::require`](crate::Executor::require).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// To end code that is running, and not only the waiting for it: by
    /// [`abort`](crate::TaskHandle::abort), by a [time limit](crate::Task::timeout), by
    /// [`terminate`](crate::Executor::terminate).
    EndRunning,
    /// To outlive what a task does to the process in which it runs: a crash, an exit, a corrupted
    /// heap.
    Isolate,
    /// To run a call again that has failed: by [`retry`](crate::Task::retry).
    Retry,
    /// To send all calls of one key to one worker: by [`key`](crate::Task::key).
    Key,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndRunning => "code that runs in the program itself cannot be ended",
            Self::Isolate => "what crashes in the program itself takes it along",
            Self::Retry => "a call whose argument was moved into it cannot be run again",
            Self::Key => "threads have their memory in common, and no calls of their own",
        })
    }
}

/// An executor was asked for what it is unable to do.
///
/// ```
/// use procpool::{Ability, Executor, ThreadPool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::builder().workers(1).build()?;
/// let unsupported = pool.require(Ability::EndRunning).unwrap_err();
/// assert_eq!(unsupported.ability(), Ability::EndRunning);
/// assert_eq!(unsupported.to_string(), "code that runs in the program itself cannot be ended");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub(crate) Ability);

impl Unsupported {
    /// Returns what the executor is unable to do.
    pub fn ability(&self) -> Ability {
        self.0
    }
}
