//! A slice that several processes read in place and nobody can change.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sys::frozen::{Frozen, frozen_file};
use crate::task::attached;

/// A table in memory that every process reads in place that it was sent to, and that nobody can change
/// once it is made.
///
/// It is a slice: `table[7]`, `table.iter()`, `&table[..]`. A clone is the same memory, and so is what
/// arrives where one was sent: as a part of a task's argument or result, or of a message on a
/// [`Connection`](crate::Connection). Sending one costs some microseconds, whatever its size. Serialised
/// anywhere else it is an error.
///
/// Elements are plain old data, for which the compiler asks by [`bytemuck::Pod`]: numbers, arrays of
/// them, and structs that derive it. That the memory cannot be changed is the kernel's promise (seals),
/// so it holds against whoever else has the descriptor, too.
///
/// ```compile_fail
/// // A text is a pointer to somewhere else, and does not compile.
/// procpool::SharedSlice::new(&["text".to_owned()]);
/// ```
///
/// # Drop
///
/// Unmaps it here. The memory is given back when nobody has it any more.
///
/// ```
/// use procpool::{ProcessPool, SharedSlice};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let squares = SharedSlice::from_fn(1_000_000, |n| (n * n) as u64)?; // 8 MB, once
/// let sum = |(table, to): (SharedSlice<u64>, usize)| table[..to].iter().sum::<u64>();
/// assert_eq!(pool.submit(sum, (squares.clone(), 4)).await?, 14);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct SharedSlice<T> {
    table: Arc<Table>,
    element: PhantomData<fn() -> T>,
}

struct Table {
    file: OwnedFd,
    bytes: Frozen,
}

impl<T: Pod> SharedSlice<T> {
    /// Makes a slice of these elements.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, or has no addresses left for so much.
    pub fn new(elements: &[T]) -> io::Result<Self> {
        Self::fill(elements.len(), |room| {
            room.copy_from_slice(elements);
            Ok(())
        })
    }

    /// Makes a slice whose elements are what `element` says of their indices.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_fn(length: usize, mut element: impl FnMut(usize) -> T) -> io::Result<Self> {
        Self::fill(length, |room| {
            let places = room.iter_mut().enumerate();
            places.for_each(|(index, place)| *place = element(index));
            Ok(())
        })
    }

    /// Makes a slice of `length` elements that `fill` writes in place: they are all zero bits at first.
    /// So what comes from a file or a computation need not be in memory twice.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and what `fill` says.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::Read;
    /// use procpool::SharedSlice;
    ///
    /// let mut file = &b"as if this were a file"[..];
    /// let bytes = SharedSlice::<u8>::fill(5, |room| file.read_exact(room))?;
    /// assert_eq!(&*bytes, b"as if");
    /// # Ok(()) }
    /// ```
    pub fn fill(length: usize, fill: impl FnOnce(&mut [T]) -> io::Result<()>) -> io::Result<Self> {
        let bytes = size::<T>(length)?;
        let fill = |room: &mut [u8]| fill(&mut bytemuck::cast_slice_mut(room)[..length]);
        Self::open(frozen_file("procpool-slice", bytes, fill)?, length)
    }

    fn open(file: OwnedFd, length: usize) -> io::Result<Self> {
        let bytes = Frozen::new(&file, size::<T>(length)?)?;
        Ok(Self {
            table: Arc::new(Table { file, bytes }),
            element: PhantomData,
        })
    }
}

/// How many bytes so many elements take.
pub(super) fn size<T>(length: usize) -> io::Result<usize> {
    const {
        assert!(size_of::<T>() > 0, "elements of no size need no memory");
        assert!(align_of::<T>() <= 4096, "memory is mapped at a page");
    }
    let bytes = length.checked_mul(size_of::<T>());
    let most = |bytes: &usize| isize::try_from(*bytes).is_ok();
    bytes.filter(most).ok_or(io::ErrorKind::OutOfMemory.into())
}

impl<T: Pod> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.table.bytes)
    }
}

impl<T: Pod> AsRef<[T]> for SharedSlice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self {
            table: self.table.clone(),
            element: PhantomData,
        }
    }
}

/// By what is in them.
impl<T: Pod + PartialEq> PartialEq for SharedSlice<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + Eq> Eq for SharedSlice<T> {}

impl<T: Pod> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSlice<{}>({})", type_name::<T>(), self.len())
    }
}

/// Its descriptor: of an anonymous file with just the elements in it, which cannot be written.
impl<T> AsFd for SharedSlice<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.file.as_fd()
    }
}

impl<T: Pod> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (attached::attach(self)?, self.len() as u64).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (place, length) = <(u32, u64)>::deserialize(deserializer)?;
        let file = attached::take(place)?;
        let length = usize::try_from(length).map_err(de::Error::custom)?;
        Self::open(file, length)
            .map_err(|error| de::Error::custom(format_args!("no shared slice came: {error}")))
    }
}
