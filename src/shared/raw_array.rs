//! An array that several processes read and write without a lock.

use std::any::type_name;
use std::fmt;
use std::io;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::AtomicPrimitive;
use super::plain::{Plain, RAW_ARRAY};

/// An array in memory that every process sees that it was sent to, without a lock; as Python's
/// `RawArray`.
///
/// What is said of a [`RawValue`](crate::RawValue) holds for each of its elements: plain old data, of
/// which a number is never torn. Several elements are copied one after the other, so who reads while
/// another writes may get some of the old and some of the new. For a table that does not change there is
/// [`SharedSlice`](crate::SharedSlice), which is read in place; for an array that one process at a time
/// may have, in place as well, [`Array`](crate::Array).
///
/// # Drop
///
/// Unmaps it here. The memory is given back when nobody has it any more.
///
/// ```
/// use procpool::{ProcessPool, RawArray};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// let squares = RawArray::<u64>::zeroed(100)?;
/// // Each task writes a part of its own, and no lock is needed.
/// let fill = |(squares, from): (RawArray<u64>, usize)| {
///     for n in from..from + 50 {
///         squares.set(n, (n * n) as u64);
///     }
/// };
/// let tasks = [0, 50].map(|from| pool.submit(fill, (squares.clone(), from)));
/// futures::future::try_join_all(tasks).await?;
/// assert_eq!((squares.get(3), squares.to_vec().iter().sum::<u64>()), (9, 328_350));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct RawArray<T>(Plain<T>);

impl<T: Pod> RawArray<T> {
    /// Makes an array of these elements.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, or has no addresses left for so much.
    pub fn new(elements: &[T]) -> io::Result<Self> {
        Plain::copy_of(RAW_ARRAY, elements, 0).map(Self)
    }

    /// Makes an array of so many elements, whose bits are all zero. The system gives the memory for it
    /// page by page, as it is first touched.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn zeroed(length: usize) -> io::Result<Self> {
        Plain::new(RAW_ARRAY, length, 0).map(Self)
    }

    /// Returns how many elements it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a copy of an element.
    ///
    /// # Panics
    ///
    /// When there is no such element.
    #[track_caller]
    pub fn get(&self, index: usize) -> T {
        let mut element = T::zeroed();
        self.read_at(index, std::slice::from_mut(&mut element));
        element
    }

    /// Changes an element.
    ///
    /// # Panics
    ///
    /// When there is no such element.
    #[track_caller]
    pub fn set(&self, index: usize, element: T) {
        self.write_at(index, &[element]);
    }

    /// Copies the elements from `index` on into `target`, as many as that holds.
    ///
    /// # Panics
    ///
    /// When the array has not so many.
    #[track_caller]
    pub fn read_at(&self, index: usize, target: &mut [T]) {
        self.check("read", index, target.len());
        self.0.read(index, target);
    }

    /// Copies `elements` to `index` and the places behind it.
    ///
    /// # Panics
    ///
    /// When the array ends before they do.
    #[track_caller]
    pub fn write_at(&self, index: usize, elements: &[T]) {
        self.check("write", index, elements.len());
        self.0.write(index, elements);
    }

    /// Returns a copy of all elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::zeroed(); self.len()];
        self.0.read(0, &mut elements);
        elements
    }

    #[track_caller]
    fn check(&self, what: &str, index: usize, count: usize) {
        let length = self.len();
        assert!(
            index.checked_add(count).is_some_and(|end| end <= length),
            "{what} of {count} elements at {index} in an array of {length}"
        );
    }
}

impl<T: AtomicPrimitive> RawArray<T> {
    /// Returns the elements as atomics, which all processes may change at once.
    ///
    /// ```
    /// use std::sync::atomic::Ordering;
    /// # fn main() -> std::io::Result<()> {
    /// let hits = procpool::RawArray::<u32>::zeroed(10)?;
    /// hits.as_atomics()[7].fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(hits.get(7), 1);
    /// # Ok(()) }
    /// ```
    pub fn as_atomics(&self) -> &[T::Atomic] {
        self.0.atomics()
    }
}

impl<T> Clone for RawArray<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Pod> fmt::Debug for RawArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawArray<{}>({})", type_name::<T>(), self.len())
    }
}

impl<T: Pod> Serialize for RawArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for RawArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Deserialize::deserialize(deserializer)?;
        Plain::arrive(RAW_ARRAY, 0, parts).map(Self)
    }
}
