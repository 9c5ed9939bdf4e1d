//! How putting and getting fail.

use std::error::Error;
use std::fmt;
use std::io;

use crate::task::{DecodeError, EncodeError, write_sources};

/// Why an item was not put, and the item.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let queue = procpool::Queue::bounded(1)?;
/// queue.try_put("first".to_owned()).unwrap();
/// let error = queue.try_put("second".to_owned()).unwrap_err();
/// assert!(error.is_full());
/// assert_eq!(error.into_item(), "second");
/// # Ok(()) }
/// ```
pub struct PutError<T> {
    item: T,
    fault: Fault,
}

/// Why no item was got.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let queue = procpool::Queue::<String>::new()?;
/// assert!(queue.try_get().unwrap_err().is_empty());
/// queue.close();
/// assert!(queue.try_get().unwrap_err().is_closed());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct GetError(Fault);

/// Why not everything is done that was put into a [`JoinableQueue`](crate::JoinableQueue), or why it
/// could not be said that an item is done.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let queue = procpool::JoinableQueue::<u32>::new()?;
/// assert!(queue.task_done().unwrap_err().is_too_often());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct JoinError(Fault);

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("queue is closed in this process")]
    Closed,
    #[error("queue is finished: nothing more comes in")]
    Finished,
    #[error("queue is full")]
    Full,
    #[error("queue is still full after the limit of time")]
    StillFull,
    #[error("queue is empty")]
    Empty,
    #[error("queue is still empty after the limit of time")]
    StillEmpty,
    #[error("item takes {needed} bytes, and the whole queue has {capacity}")]
    TooLarge { needed: u64, capacity: u64 },
    #[error("item could not be encoded")]
    Encode(#[source] EncodeError),
    #[error("item could not be decoded")]
    Decode(#[source] DecodeError),
    #[error(
        "items were lost: {0}, with processes that have died, or because they could not be decoded"
    )]
    Lost(u64),
    #[error("items are still unfinished after the limit of time")]
    Unfinished,
    #[error("no item is unfinished that could be done")]
    TooOften,
    #[error("queue could not be used")]
    System(#[source] io::Error),
}

impl<T> PutError<T> {
    pub(super) fn new(item: T, fault: Fault) -> Self {
        Self { item, fault }
    }

    /// Tells whether there was no room: at once for a `try_` form, else until the limit had passed.
    pub fn is_full(&self) -> bool {
        matches!(self.fault, Fault::Full | Fault::StillFull)
    }

    /// Tells whether a limit has passed, before there was [room](Self::is_full).
    pub fn is_timeout(&self) -> bool {
        matches!(self.fault, Fault::StillFull)
    }

    /// Tells whether the queue was [closed](crate::Queue::close) in this process.
    pub fn is_closed(&self) -> bool {
        matches!(self.fault, Fault::Closed)
    }

    /// Tells whether somebody has said that [no more comes in](crate::Queue::finish).
    pub fn is_finished(&self) -> bool {
        matches!(self.fault, Fault::Finished)
    }

    /// Tells whether the item takes more than the whole queue has room for.
    pub fn is_too_large(&self) -> bool {
        matches!(self.fault, Fault::TooLarge { .. })
    }

    /// Tells whether the item could not be turned into bytes; the source says why.
    pub fn is_encode(&self) -> bool {
        matches!(self.fault, Fault::Encode(_))
    }

    /// Returns the item.
    pub fn into_item(self) -> T {
        self.item
    }
}

impl GetError {
    /// Tells whether there was no item: at once for a `try_` form, else until the limit had passed.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Fault::Empty | Fault::StillEmpty)
    }

    /// Tells whether a limit has passed, before there was an [item](Self::is_empty).
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::StillEmpty)
    }

    /// Tells whether the queue was [closed](crate::Queue::close) in this process.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Fault::Closed)
    }

    /// Tells whether nothing is in the queue, and [nothing more comes in](crate::Queue::finish).
    pub fn is_finished(&self) -> bool {
        matches!(self.0, Fault::Finished)
    }

    /// Tells whether an item could not be turned into a value; the source says why. It is not in the
    /// queue any more, and the next can be got.
    pub fn is_decode(&self) -> bool {
        matches!(self.0, Fault::Decode(_))
    }
}

impl JoinError {
    /// Returns how many items will never be done, because processes have died that had taken them, or
    /// they could not be decoded: of those that were put since everything was done the last time. Zero where this is another
    /// error.
    pub fn lost(&self) -> usize {
        match self.0 {
            Fault::Lost(count) => count as usize,
            _ => 0,
        }
    }

    /// Tells whether a limit has passed before everything was done.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::Unfinished)
    }

    /// Tells whether it was said of more items that they are done than were put.
    pub fn is_too_often(&self) -> bool {
        matches!(self.0, Fault::TooOften)
    }

    /// Tells whether the queue was [closed](crate::Queue::close) in this process.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Fault::Closed)
    }
}

impl From<Fault> for JoinError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<Fault> for GetError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::System(error) => error,
            fault => Self::other(fault),
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PutError").field(&self.fault).finish()
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        write_sources(f, &self.fault)
    }
}

impl<T> Error for PutError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, &self.0)
    }
}

impl Error for GetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, &self.0)
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
