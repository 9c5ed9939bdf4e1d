//! A lock that whoever has it can acquire again.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::LockError;
use super::lock::{Lock, LockGuard};

/// A [`Lock`] that who has it can acquire again, as Python's `multiprocessing.RLock`.
///
/// Python's belongs to a thread. A task has no thread of its own, so here it belongs to who has the
/// guard: [`acquire_again`](RLockGuard::acquire_again) gives one more, and the lock is released with the
/// last of them. A function that acquires what its caller may have already takes the guard:
///
/// ```
/// use procpool::{LockError, RLock, RLockGuard};
///
/// fn deposit(held: &RLockGuard, amounts: &[u64]) -> u64 {
///     let _again = held.acquire_again(); // may outlive the caller's
///     amounts.iter().sum()
/// }
///
/// fn book(lock: &RLock) -> Result<u64, LockError<RLockGuard>> {
///     let guard = lock.blocking_lock(None)?;
///     Ok(deposit(&guard, &[1, 2]) + deposit(&guard, &[3]))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lock = RLock::new()?;
/// assert_eq!(book(&lock)?, 6);
/// assert!(!lock.is_locked());
/// # Ok(()) }
/// ```
///
/// Who has a guard and asks the lock itself for another waits for ever, as at any lock. In all else it
/// is a [`Lock`]: when a holder dies, in fairness, and in costs.
#[derive(Clone, Serialize, Deserialize)]
pub struct RLock(Lock);

impl RLock {
    /// Makes a lock that nobody has.
    ///
    /// # Errors
    ///
    /// As [`Lock::new`].
    pub fn new() -> io::Result<Self> {
        Lock::new().map(Self)
    }

    /// Acquires the lock, once nobody else has it.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has not acquired it, and keeps nobody waiting.
    pub async fn lock(&self) -> Result<RLockGuard, LockError<RLockGuard>> {
        first(self.0.lock().await)
    }

    /// The same, at most for that long.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock_timeout`].
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub async fn lock_timeout(&self, limit: Duration) -> Result<RLockGuard, LockError<RLockGuard>> {
        first(self.0.lock_timeout(limit).await)
    }

    /// Acquires the lock on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`lock`](Self::lock).
    #[track_caller]
    pub fn blocking_lock(
        &self,
        limit: Option<Duration>,
    ) -> Result<RLockGuard, LockError<RLockGuard>> {
        first(self.0.blocking_lock(limit))
    }

    /// Acquires the lock if nobody has it at this moment.
    ///
    /// # Errors
    ///
    /// As [`Lock::try_lock`].
    pub fn try_lock(&self) -> Result<RLockGuard, LockError<RLockGuard>> {
        first(self.0.try_lock())
    }

    /// Tells whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

fn first(locked: Result<LockGuard, LockError>) -> Result<RLockGuard, LockError<RLockGuard>> {
    let first = |guard| RLockGuard(Arc::new(guard));
    locked.map(first).map_err(|error| error.map(first))
}

/// Tells whether it is locked, and by which process; never waits.
impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RLock({})", self.0.state())
    }
}

/// Has an [`RLock`], as often as there are guards of it: dropping the last one releases that. May be
/// moved to any task or thread of its process.
#[must_use = "dropped at once it protects nothing"]
pub struct RLockGuard(Arc<LockGuard>);

impl RLockGuard {
    /// Acquires the lock once more. It takes nothing but this guard, and cannot fail.
    pub fn acquire_again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// How often it is acquired.
    pub fn count(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Says that what the lock protects is in order, although a process has died that had it; see
    /// [`LockGuard::mark_sound`].
    pub fn mark_sound(&self) {
        self.0.mark_sound();
    }
}

impl fmt::Debug for RLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
