//! A block of bytes that several processes read and write.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
/// Reading and writing copy, and take no lock: who reads while another process writes may see some of
/// the old bytes and some of the new. What is written before a task is submitted, or a message sent, is
/// seen by whoever receives that. For a table that does not change there is
/// [`SharedSlice`](crate::SharedSlice), which is read in place.
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
        self.0.mapping.copy_to(offset, target);
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    ///
    /// When the block ends before they do.
    #[track_caller]
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        self.check("write", offset, bytes.len());
        self.0.mapping.copy_in(offset, bytes);
    }

    /// Returns a copy of all of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.mapping.copy_out(0, self.len(), &mut bytes);
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

/// No mapping is of nothing.
fn mapped(length: usize) -> usize {
    length.max(1)
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SharedMemory");
        shown.field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Its descriptor: of an anonymous file that is as long as the block, and whose length is sealed.
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
        Self::open(file, length)
            .map_err(|error| de::Error::custom(format_args!("no shared memory came: {error}")))
    }
}
