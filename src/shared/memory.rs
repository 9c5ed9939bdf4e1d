//! A block of bytes that several processes read and write.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::granules;
use crate::sys::mapping::{Mapping, sealed_file};
use crate::task::attached;

/// A block of memory that every process sees that it was sent to: what one writes, all read.
///
/// A clone is the same block, and so is what arrives where one was sent: as a part of a task's argument
/// or result, or of a message on a [`Connection`](crate::Connection). Serialised anywhere else it is
/// an error. As Python's `SharedMemory`, but without a name, so that nothing is left of it when the last
/// process that has it ends, however that ends. Its length is sealed: no process can cut it short under
/// another.
///
/// Reading and writing copy, and take no lock: who reads while another process, or thread, writes may see
/// some of the old bytes and some of the new. What two write to bytes beside each other is both there.
/// What is written before a task is submitted, or a message sent, is seen by whoever receives that. For
/// values that are changed by many there are [`Value`](crate::Value) and [`Array`](crate::Array); for a table that does
/// not change [`SharedSlice`](crate::SharedSlice), which is read in place.
///
/// # Drop
///
/// Unmaps it here. The memory is given back when nobody has it any more.
///
/// ```
/// use procpool::{ProcessPool, SharedMemory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let block = SharedMemory::new(1 << 20)?;
/// pool.submit(|block: SharedMemory| block.write_at(7, b"hello"), block.clone()).await?;
///
/// let mut read = [0; 5];
/// block.read_at(7, &mut read);
/// assert_eq!(&read, b"hello");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedMemory(Arc<Block>);

struct Block {
    file: OwnedFd,
    mapping: Mapping,
    length: usize,
}

impl SharedMemory {
    /// Makes a block of `length` bytes, all zero. The system gives the memory for it page by page, as
    /// it is first touched.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, or the length is more than there are
    /// addresses for.
    pub fn new(length: usize) -> io::Result<Self> {
        let file = sealed_file("procpool-shared", mapped(length))?;
        Self::open(file, length)
    }

    /// Makes a block with these bytes in it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let block = Self::new(bytes.len())?;
        block.write_at(0, bytes);
        Ok(block)
    }

    fn open(file: OwnedFd, length: usize) -> io::Result<Self> {
        let mapping = Mapping::new(&file, mapped(length))?;
        Ok(Self(Arc::new(Block {
            file,
            mapping,
            length,
        })))
    }

    /// Returns how many bytes it has.
    pub fn len(&self) -> usize {
        self.0.length
    }

    /// Tells whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `target`, as many as that holds.
    ///
    /// # Panics
    ///
    /// When the block has not so many.
    #[track_caller]
    pub fn read_at(&self, offset: usize, target: &mut [u8]) {
        self.check("read", offset, target.len());
        granules::read::<AtomicU64>(&self.0.mapping, offset, target);
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    ///
    /// When the block ends before they do.
    #[track_caller]
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        self.check("write", offset, bytes.len());
        granules::write::<AtomicU64>(&self.0.mapping, offset, bytes);
    }

    /// Returns a copy of all of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read_at(0, &mut bytes);
        bytes
    }

    /// Returns where it begins in this process, a page's address, for code that has its own ways to
    /// share memory. It is good as long as this block, or a clone in this process, lives. Other
    /// processes may write there at any time, which is as if another thread did.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.mapping.start()
    }

    /// Tells whether both are the same block, as seen from this process. Two that arrived one by one are
    /// told apart although they show the same bytes.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[track_caller]
    fn check(&self, what: &str, offset: usize, count: usize) {
        let length = self.len();
        assert!(
            offset.checked_add(count).is_some_and(|end| end <= length),
            "{what} of {count} bytes at {offset} in a block of {length}"
        );
    }
}

/// How much is mapped for so many bytes: whole words, and never nothing.
fn mapped(length: usize) -> usize {
    length.max(1).saturating_add(7) & !7
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SharedMemory");
        shown.field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Its descriptor: of an anonymous file as long as the block, rounded up to eight bytes, whose length is
/// sealed.
impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (attached::attach(self)?, self.len() as u64).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (place, length) = <(u32, u64)>::deserialize(deserializer)?;
        let file = attached::take(place)?;
        let length = usize::try_from(length).map_err(de::Error::custom)?;
        // What is longer is no block, and may be memory that others have references to.
        let exact =
            rustix::fs::fstat(&file).is_ok_and(|file| file.st_size as u64 == mapped(length) as u64);
        if !exact {
            return Err(de::Error::custom(
                "no shared memory came: it has another size",
            ));
        }
        Self::open(file, length)
            .map_err(|error| de::Error::custom(format_args!("no shared memory came: {error}")))
    }
}
