//! A value that one process at a time has.

use std::any::type_name;
use std::fmt;
use std::io;
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::guard::{ValueGuard, under};
use super::locked::Locked;
use super::plain::VALUE;
use crate::sync::{Lock, LockError, LockGuard};

/// A value in memory that every process sees that it was sent to, and that who wants to read or change it
/// has to lock; as Python's `Value`.
///
/// A clone is the same value, and so is what arrives where one was sent, as a part of a task's argument
/// or result, or of a message on a [`Connection`](crate::Connection). Nothing has a name, and nothing is
/// left when the last process that has it ends, however that ends.
///
/// It is plain old data, for which the compiler asks by [`bytemuck::Pod`]: a number, an array of them, or a
/// struct that derives it. What has the lock is a [`ValueGuard`], a reference to what is in the
/// memory, so nothing is copied. It may be held across awaits. Who has it and locks the value again waits
/// for ever: the lock is not re-entrant, unlike Python's.
///
/// A counter needs no lock: [`RawValue`](crate::RawValue) has atomics.
///
/// ```compile_fail
/// // A text is a pointer to somewhere else, and does not compile.
/// procpool::Value::new("text".to_owned());
/// ```
///
/// # When a holder dies
///
/// A process that dies with the lock may have left the value half changed. Whoever is next gets it
/// within a second, in an error that [says so](LockError::is_owner_died) and has the
/// [guard](LockError::into_guard), until one has [said](ValueGuard::mark_sound) that all is well.
///
/// # Costs
///
/// Without contention no system call. It takes a page of memory and three descriptors, two of them its
/// lock's, which several [may share](Self::with_lock); what belongs together is better one struct.
///
/// # Drop
///
/// Unmaps it here. The memory is given back when nobody has it any more.
///
/// ```
/// use procpool::{ProcessPool, Value};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// fn add(balance: Value<f64>) {
///     for _ in 0..100 {
///         let mut balance = balance.blocking_lock(None).expect("nobody dies here");
///         *balance += 0.5;
///     }
/// }
///
/// let balance = Value::new(1.0)?;
/// let tasks = [(); 2].map(|()| pool.submit(add, balance.clone()));
/// futures::future::try_join_all(tasks).await?;
/// assert_eq!(balance.get().await?, 101.0);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Value<T>(Locked<T>);

impl<T: Pod> Value<T> {
    /// Makes a value with a lock of its own.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings; and where there is no `/proc`.
    pub fn new(value: T) -> io::Result<Self> {
        Self::with_lock(value, Lock::new()?)
    }

    /// Makes a value that is under this lock, with whatever else that protects.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// ```compile_fail
    /// // Whatever is no lock does not compile.
    /// procpool::Value::with_lock(7, "lock");
    /// ```
    pub fn with_lock(value: T, lock: Lock) -> io::Result<Self> {
        Locked::copy_of(VALUE, &[value], lock).map(Self)
    }

    /// Locks the value, once nobody else has it.
    ///
    /// # Errors
    ///
    /// - [`is_owner_died`](LockError::is_owner_died): it is locked, but may be half changed.
    /// - The system has no room for one who sleeps: it is short of descriptors or memory.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has not locked it, and keeps nobody waiting.
    pub async fn lock(&self) -> Result<ValueGuard<T>, LockError<ValueGuard<T>>> {
        self.acquired(self.as_lock().lock().await)
    }

    /// The same, waiting at most for that long.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](LockError::is_timeout)), and as [`lock`](Self::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub async fn lock_timeout(
        &self,
        limit: Duration,
    ) -> Result<ValueGuard<T>, LockError<ValueGuard<T>>> {
        self.acquired(self.as_lock().lock_timeout(limit).await)
    }

    /// Locks the value on a thread that may block, waiting at most for `limit`.
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
    ) -> Result<ValueGuard<T>, LockError<ValueGuard<T>>> {
        self.acquired(self.as_lock().blocking_lock(limit))
    }

    /// Locks the value if nobody has it at this moment.
    ///
    /// # Errors
    ///
    /// Where somebody has it ([`is_would_block`](LockError::is_would_block)), and as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<T>, LockError<ValueGuard<T>>> {
        self.acquired(self.as_lock().try_lock())
    }

    fn acquired(
        &self,
        acquired: Result<LockGuard, LockError>,
    ) -> Result<ValueGuard<T>, LockError<ValueGuard<T>>> {
        self.0.acquired(acquired, ValueGuard::of_one)
    }

    /// Locks it, and returns a copy of what it is.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub async fn get(&self) -> Result<T, LockError<ValueGuard<T>>> {
        Ok(*self.lock().await?)
    }

    /// Locks it, and changes it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); then it is not changed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it is ready has not changed it.
    pub async fn set(&self, value: T) -> Result<(), LockError<ValueGuard<T>>> {
        *self.lock().await? = value;
        Ok(())
    }

    /// [`get`](Self::get) on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Panics
    ///
    /// As [`blocking_lock`](Self::blocking_lock).
    #[track_caller]
    pub fn blocking_get(&self, limit: Option<Duration>) -> Result<T, LockError<ValueGuard<T>>> {
        Ok(*self.blocking_lock(limit)?)
    }

    /// [`set`](Self::set) on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout); then it is not changed.
    ///
    /// # Panics
    ///
    /// As [`blocking_lock`](Self::blocking_lock).
    #[track_caller]
    pub fn blocking_set(
        &self,
        value: T,
        limit: Option<Duration>,
    ) -> Result<(), LockError<ValueGuard<T>>> {
        *self.blocking_lock(limit)? = value;
        Ok(())
    }

    /// Returns what it is, in place, for who has its lock already: of several values under one lock, each
    /// is reached so.
    ///
    /// # Panics
    ///
    /// When the guard is of another lock.
    ///
    /// ```
    /// use procpool::{Lock, Value};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let lock = Lock::new()?;
    /// let (from, to) = (Value::with_lock(100, lock.clone())?, Value::with_lock(0, lock.clone())?);
    ///
    /// let mut guard = lock.blocking_lock(None)?;
    /// *from.under(&mut guard) -= 30;
    /// *to.under(&mut guard) += 30; // nobody has seen that they were missing
    /// assert!(from.try_lock().unwrap_err().is_would_block());
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn under<'a>(&'a self, guard: &'a mut LockGuard) -> &'a mut T {
        &mut under(&self.0, guard)[0]
    }

    /// Returns the lock it is under: the one it was [made with](Self::with_lock), or its own.
    #[doc(alias = "get_lock")]
    pub fn as_lock(&self) -> &Lock {
        self.0.lock()
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Tells whether it is locked, and by which process; never waits.
impl<T: Pod> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value<{}>({:?})", type_name::<T>(), self.as_lock())
    }
}

impl<T: Pod> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Locked::arrive(VALUE, deserializer).map(Self)
    }
}
