//! A value that several processes read and write without a lock.

use std::fmt;
use std::io;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::AtomicPrimitive;
use super::plain::{Plain, RAW_VALUE};

/// A value in memory that every process sees that it was sent to, without a lock; as Python's `RawValue`.
///
/// A clone is the same value, and so is what arrives where one was sent, as a part of a task's argument
/// or result, or of a message on a [`Connection`](crate::Connection). Nothing has a name, and nothing is
/// left when the last process that has it ends.
///
/// It is plain old data, for which the compiler asks by [`bytemuck::Pod`]: a number, an array of them, or a
/// struct that derives it. A number of up to eight bytes is never torn: who reads it gets what somebody
/// has written, whole. Of something larger he may get a part of what one has written, and a part of what
/// another has. There is no order between several values. Who reads, adds and writes may undo what
/// others have done meanwhile; to count there is [`as_atomic`](Self::as_atomic), or a
/// [`Value`](crate::Value) with a lock.
///
/// ```compile_fail
/// // A text is a pointer to somewhere else, and does not compile.
/// procpool::RawValue::new("text".to_owned());
/// ```
///
/// # Drop
///
/// Unmaps it here. It takes a page of memory, which is given back when nobody has it any more.
///
/// ```
/// use std::sync::atomic::Ordering;
/// use procpool::{ProcessPool, RawValue};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// fn count(counter: RawValue<u64>) {
///     for _ in 0..100 {
///         counter.as_atomic().fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let counter = RawValue::new(0)?;
/// let tasks = [(); 2].map(|()| pool.submit(count, counter.clone()));
/// futures::future::try_join_all(tasks).await?;
/// assert_eq!(counter.get(), 200);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct RawValue<T>(Plain<T>);

impl<T: Pod> RawValue<T> {
    /// Makes a value.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings.
    pub fn new(value: T) -> io::Result<Self> {
        Plain::copy_of(RAW_VALUE, &[value], 0).map(Self)
    }

    /// Returns a copy of what it is at this moment.
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        self.0.read(0, std::slice::from_mut(&mut value));
        value
    }

    /// Changes it.
    pub fn set(&self, value: T) {
        self.0.write(0, &[value]);
    }
}

impl<T: AtomicPrimitive> RawValue<T> {
    /// Returns the value as an atomic, which all processes may change at once. With
    /// [`Release`](std::sync::atomic::Ordering::Release) and
    /// [`Acquire`](std::sync::atomic::Ordering::Acquire) it also tells others that something else
    /// in shared memory has been written, as among threads.
    pub fn as_atomic(&self) -> &T::Atomic {
        &self.0.atomics()[0]
    }
}

impl<T> Clone for RawValue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for RawValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawValue").field(&self.get()).finish()
    }
}

impl<T: Pod> Serialize for RawValue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for RawValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Deserialize::deserialize(deserializer)?;
        Plain::arrive(RAW_VALUE, 0, parts).map(Self)
    }
}
