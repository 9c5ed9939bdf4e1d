//! An array that one process at a time has.

use std::any::type_name;
use std::fmt;
use std::io;
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::guard::{ValueGuard, under};
use super::locked::Locked;
use super::plain::ARRAY;
use crate::sync::{Lock, LockError, LockGuard};

/// An array in memory that every process sees that it was sent to, and that who wants to read or change
/// it has to lock; as Python's `Array`.
///
/// What is said of a [`Value`](crate::Value) holds here too: clones, how it travels, what it is made of, the
/// lock, and what becomes of it when a process dies that has it. The guard is a slice of the elements in
/// their place, so ranges, iterators and whatever else slices can do are there, and nothing is copied.
///
/// Where each process writes a part of its own, or a look without a lock is enough, there is
/// [`RawArray`](crate::RawArray); for a table that does not change,
/// [`SharedSlice`](crate::SharedSlice).
///
/// # Drop
///
/// Unmaps it here. The memory is given back when nobody has it any more.
///
/// ```
/// use procpool::{Array, ProcessPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let numbers = Array::new(&[3, 1, 2])?;
/// let sort = |numbers: Array<i32>| {
///     numbers.blocking_lock(None).expect("nobody dies here").sort();
/// };
/// pool.submit(sort, numbers.clone()).await?;
/// assert_eq!(numbers.lock().await?[..], [1, 2, 3]);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Array<T>(Locked<T>);

impl<T: Pod> Array<T> {
    /// Makes an array of these elements, with a lock of its own.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, or has no addresses left for so much;
    /// and where there is no `/proc`.
    pub fn new(elements: &[T]) -> io::Result<Self> {
        Self::with_lock(elements, Lock::new()?)
    }

    /// Makes an array of so many elements, whose bits are all zero, with a lock of its own. The system
    /// gives the memory for it page by page, as it is first touched.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn zeroed(length: usize) -> io::Result<Self> {
        Self::zeroed_with_lock(length, Lock::new()?)
    }

    /// Makes an array of these elements that is under this lock, with whatever else that protects.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_lock(elements: &[T], lock: Lock) -> io::Result<Self> {
        Locked::copy_of(ARRAY, elements, lock).map(Self)
    }

    /// [`zeroed`](Self::zeroed) under this lock, with whatever else that protects.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn zeroed_with_lock(length: usize, lock: Lock) -> io::Result<Self> {
        Locked::zeroed(ARRAY, length, lock).map(Self)
    }

    /// Returns how many elements it has, which never changes.
    pub fn len(&self) -> usize {
        self.0.elements().len()
    }

    /// Tells whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Locks the array, once nobody else has it.
    ///
    /// # Errors
    ///
    /// - [`is_owner_died`](LockError::is_owner_died): it is locked, but may be half changed.
    /// - The system has no room for one who sleeps: it is short of descriptors or memory.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has not locked it, and keeps nobody waiting.
    pub async fn lock(&self) -> Result<ValueGuard<[T]>, LockError<ValueGuard<[T]>>> {
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
    ) -> Result<ValueGuard<[T]>, LockError<ValueGuard<[T]>>> {
        self.acquired(self.as_lock().lock_timeout(limit).await)
    }

    /// Locks the array on a thread that may block, waiting at most for `limit`.
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
    ) -> Result<ValueGuard<[T]>, LockError<ValueGuard<[T]>>> {
        self.acquired(self.as_lock().blocking_lock(limit))
    }

    /// Locks the array if nobody has it at this moment.
    ///
    /// # Errors
    ///
    /// Where somebody has it ([`is_would_block`](LockError::is_would_block)), and as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<[T]>, LockError<ValueGuard<[T]>>> {
        self.acquired(self.as_lock().try_lock())
    }

    fn acquired(
        &self,
        acquired: Result<LockGuard, LockError>,
    ) -> Result<ValueGuard<[T]>, LockError<ValueGuard<[T]>>> {
        self.0.acquired(acquired, ValueGuard::of_all)
    }

    /// Returns the elements, in place, for who has their lock already: of several things under one
    /// lock, each is reached so (as with a [`Value`](crate::Value::under)).
    ///
    /// # Panics
    ///
    /// When the guard is of another lock.
    #[track_caller]
    pub fn under<'a>(&'a self, guard: &'a mut LockGuard) -> &'a mut [T] {
        under(&self.0, guard)
    }

    /// Returns the lock it is under: the one it was [made with](Self::with_lock), or its own.
    #[doc(alias = "get_lock")]
    pub fn as_lock(&self) -> &Lock {
        self.0.lock()
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Tells how many elements it has, whether it is locked, and by which process; never waits.
impl<T: Pod> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (element, length) = (type_name::<T>(), self.len());
        write!(f, "Array<{element}>({length}, {:?})", self.as_lock())
    }
}

impl<T: Pod> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Locked::arrive(ARRAY, deserializer).map(Self)
    }
}
