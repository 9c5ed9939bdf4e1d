//! Locks and signals between processes, for tasks and for threads.
//!
//! Their state is words in memory that all processes have mapped which they were sent to. What is
//! not contended takes no system call. Who has to wait sleeps on a bell that the others ring, and
//! beside it on the process whose turn it is: so the death of a holder is an error to the next one, and
//! never a deadlock. Nothing has a name, and nothing is left when the last process that has it ends.
//!
//! The chapter [locks](crate::guide::locks) of the guide tells which to use when.
//!
//! They travel as parts of a task's argument or result, or of a message on a
//! [`Connection`](crate::Connection).

// - `lock`, `rlock`, `semaphore`, `condition`, `event`, `barrier`: the primitives
// - `cell`: the words and the bells, and how they travel
// - `atom`, `holder`: one word, and how one says who has something
// - `vigil`: sleeping until there is news; `waiting`: looking and sleeping until it is over
mod atom;
mod barrier;
pub(crate) mod cell;
mod condition;
mod error;
mod event;
mod holder;
mod lock;
#[cfg(test)]
mod model;
mod rlock;
mod semaphore;
pub(crate) mod vigil;
mod waiting;

pub use self::barrier::{Barrier, BarrierError, BarrierWaitResult};
pub use self::condition::{Condition, WrongLock};
pub use self::error::LockError;
pub use self::event::Event;
pub(crate) use self::lock::Held;
pub use self::lock::{Lock, LockGuard};
pub use self::rlock::{RLock, RLockGuard};
pub use self::semaphore::{AcquireError, BoundedSemaphore, Permit, ReleaseError, Semaphore};
