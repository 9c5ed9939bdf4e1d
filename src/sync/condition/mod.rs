//! Waiting, without a lock, for what others do under that lock.

#[cfg(test)]
mod model;
mod table;
mod wait;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::table::{HEAD, Table, WORDS};
use self::wait::Wait;
use super::cell::Cell;
use super::error::{Fault, LockError};
use super::lock::{Lock, LockGuard};
use super::waiting;
use crate::sys::blocking;
use crate::sys::incarnation::Incarnation;

/// Lets who has a [`Lock`] wait for what others do under it, as Python's `multiprocessing.Condition`.
///
/// Waiting releases the lock, sleeps until it is notified, and acquires the lock again. Both is for who
/// has the lock only, which is why all of it takes the guard:
///
/// ```compile_fail
/// # fn notify(condition: procpool::Condition) {
/// condition.notify_all(); // without the lock it is no call at all
/// # }
/// ```
///
/// A clone is the same condition, with the same lock, and so is what arrives where one was sent.
///
/// ```
/// use procpool::{Condition, ProcessPool, SharedMemory};
///
/// fn produce((changed, stock): (Condition, SharedMemory)) {
///     for _ in 0..3 {
///         let guard = changed.blocking_lock(None).expect("nobody dies here");
///         stock.write_at(0, &[stock.to_vec()[0] + 1]);
///         changed.notify_one(&guard).expect("it is its own lock");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let (changed, stock) = (Condition::new()?, SharedMemory::new(1)?);
/// let produces = pool.submit(produce, (changed.clone(), stock.clone()));
/// let guard = changed.lock().await?;
/// let guard = changed.wait_for(guard, || stock.to_vec() == [3]).await?;
/// drop(guard);
/// # produces.await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # When a process dies
///
/// One that dies waiting is passed by, and what one was notified of that dies before it has returned goes
/// to another who waits. One that dies with the lock may have been about to notify: within a second all who
/// wait wake, and acquire the lock as anybody does [after such a death](Lock#when-a-holder-dies). So a wait
/// may end although nobody has notified; [`wait_for`](Self::wait_for) looks whether there is a reason.
///
/// # Costs
///
/// To notify where nobody waits takes no system call. A notification wakes all who wait, of whom those
/// sleep on that it is not for; and who waits looks around four times a second. At most 16,384 can wait at
/// a time.
#[derive(Clone)]
pub struct Condition {
    cell: Arc<Cell>,
    lock: Lock,
}

const KIND: &str = "condition";

/// How many can wait at a time.
const ENTRIES: usize = 16_384;

impl Condition {
    /// Makes a condition with a lock of its own.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings; and where there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        Self::with_lock(&Lock::new()?)
    }

    /// Makes a condition for that lock, which may have others.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_lock(lock: &Lock) -> io::Result<Self> {
        Ok(Self {
            cell: Arc::new(Cell::new(KIND, HEAD + WORDS * ENTRIES, 1)?),
            lock: lock.clone(),
        })
    }

    /// Returns its lock.
    pub fn as_lock(&self) -> &Lock {
        &self.lock
    }

    /// Acquires its lock, as [`Lock::lock`].
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::lock`].
    pub async fn lock(&self) -> Result<LockGuard, LockError> {
        self.lock.lock().await
    }

    /// Acquires its lock on a thread that may block, as [`Lock::blocking_lock`].
    ///
    /// # Errors
    ///
    /// As [`Lock::blocking_lock`].
    ///
    /// # Panics
    ///
    /// As [`Lock::blocking_lock`].
    #[track_caller]
    pub fn blocking_lock(&self, limit: Option<Duration>) -> Result<LockGuard, LockError> {
        self.lock.blocking_lock(limit)
    }

    /// Releases the lock, waits until it is notified, and acquires the lock again.
    ///
    /// # Errors
    ///
    /// - [`is_owner_died`](LockError::is_owner_died): the lock is acquired again, but what it protects may
    ///   be in disorder.
    /// - [`is_wrong_lock`](LockError::is_wrong_lock): the guard is of another lock, or of a process that
    ///   this one was forked from. It is in the error, and nothing was done.
    /// - The system has no room for one who sleeps, or too many wait: the lock is released.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped does not acquire the lock again. If it was notified already, another who
    /// waits is instead.
    pub async fn wait(&self, guard: LockGuard) -> Result<LockGuard, LockError> {
        let (guard, _) = self.wait_within(guard, None).await?;
        Ok(guard)
    }

    /// The same, at most for that long, and then tells whether it was notified. How long it takes to
    /// acquire the lock again is not limited.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). That the limit passes is none.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_timeout(
        &self,
        guard: LockGuard,
        limit: Duration,
    ) -> Result<(LockGuard, bool), LockError> {
        self.wait_within(guard, Some(limit)).await
    }

    /// Waits until that is so, which it looks at under the lock: at once, and whenever it was notified.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_for(
        &self,
        mut guard: LockGuard,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<LockGuard, LockError> {
        while !is_so() {
            guard = self.wait(guard).await?;
        }
        Ok(guard)
    }

    /// The same, at most for that long; tells whether it is so.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). That the limit passes is none.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_for_timeout(
        &self,
        mut guard: LockGuard,
        limit: Duration,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<(LockGuard, bool), LockError> {
        let left = waiting::left_of(Some(limit));
        while !is_so() {
            let Some(limit) = left().filter(|left| !left.is_zero()) else {
                return Ok((guard, false));
            };
            (guard, _) = self.wait_within(guard, Some(limit)).await?;
        }
        Ok((guard, true))
    }

    /// Waits on a thread that may block, as [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    ///
    /// On a thread that drives async tasks: those need [`wait`](Self::wait).
    #[track_caller]
    pub fn blocking_wait(
        &self,
        guard: LockGuard,
        limit: Option<Duration>,
    ) -> Result<(LockGuard, bool), LockError> {
        blocking::must_be_allowed();
        let deadline = waiting::deadline(limit);
        let mut wait = Wait::begin(self, guard)?;
        waiting::on_thread(&mut wait, deadline).map_err(Fault::System)?;
        wait.end(self.lock.blocking_lock(None))
    }

    /// Waits on a thread that may block, as [`wait_for_timeout`](Self::wait_for_timeout).
    ///
    /// # Errors
    ///
    /// As [`wait_for_timeout`](Self::wait_for_timeout).
    ///
    /// # Panics
    ///
    /// As [`blocking_wait`](Self::blocking_wait).
    #[track_caller]
    pub fn blocking_wait_for(
        &self,
        mut guard: LockGuard,
        limit: Option<Duration>,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<(LockGuard, bool), LockError> {
        let left = waiting::left_of(limit);
        while !is_so() {
            let left = left();
            if left.is_some_and(|left| left.is_zero()) {
                return Ok((guard, false));
            }
            (guard, _) = self.blocking_wait(guard, left)?;
        }
        Ok((guard, true))
    }

    async fn wait_within(
        &self,
        guard: LockGuard,
        limit: Option<Duration>,
    ) -> Result<(LockGuard, bool), LockError> {
        let deadline = waiting::deadline(limit);
        let mut wait = Wait::begin(self, guard)?;
        let waited = waiting::in_future(&mut wait, deadline).await;
        waited.map_err(Fault::System)?;
        wait.end(self.lock.lock().await)
    }

    /// Notifies who waits longest, if anybody does; tells whether that is so. He goes on once he gets the
    /// lock.
    ///
    /// # Errors
    ///
    /// Where the guard is of another lock; and nothing was done.
    pub fn notify_one(&self, guard: &LockGuard) -> Result<bool, WrongLock> {
        self.notify(guard, 1).map(|notified| notified == 1)
    }

    /// Notifies so many, those first who wait longest; tells how many there were.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify(&self, guard: &LockGuard, most: usize) -> Result<usize, WrongLock> {
        if !self.is_locked_by(guard) {
            return Err(WrongLock);
        }
        let me = Incarnation::own().ok();
        // Where it cannot be known it is taken to live: then the others find out.
        let lives = |process: Incarnation| {
            Some(process) == me || process.open().map_or(true, |pidfd| pidfd.is_some())
        };
        let table = self.table();
        let notified = table.notify(most, lives);
        if notified > 0 && table.has_sleepers() {
            self.cell.ring(0);
        }
        Ok(notified)
    }

    /// Notifies all who wait; tells how many there were.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify_all(&self, guard: &LockGuard) -> Result<usize, WrongLock> {
        self.notify(guard, usize::MAX)
    }

    /// Whether it is of that lock, here.
    fn is_locked_by(&self, guard: &LockGuard) -> bool {
        guard.is_own() && guard.lock().number() == self.lock.number()
    }

    fn table(&self) -> Table<'_, Cell> {
        Table {
            words: &*self.cell,
            count: self.cell.words().saturating_sub(HEAD) / WORDS,
        }
    }
}

/// A guard is not of the lock of the condition that it was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guard is not of the condition's lock")]
pub struct WrongLock;

/// Tells how many wait, and about the lock; never waits.
impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("lock", &self.lock)
            .field("waiting", &self.table().waiting().count())
            .finish_non_exhaustive()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.cell, &self.lock).serialize(serializer)
    }
}

/// What arrives.
struct Arrived(Cell);

impl<'de> Deserialize<'de> for Arrived {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (HEAD, 1), deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Arrived(cell), lock) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            cell: Arc::new(cell),
            lock,
        })
    }
}
