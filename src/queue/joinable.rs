//! A queue that knows when everything is done that was put into it.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::error::{Fault, JoinError};
use super::handle::Handle;
use super::plain::{BYTES, Queue, within};

/// A [`Queue`] that counts what was put into it and is not done yet, as Python's
/// `multiprocessing.JoinableQueue`: whoever has got an item says [`task_done`](Self::task_done) when he
/// has done with it, and [`join`](Self::join) waits until that was said of all.
///
/// Everything that a [`Queue`] does, it does too.
///
/// # When a process dies
///
/// What it had got, and not said to be done, is lost. Whoever is in `join` learns of it at once, and of
/// their [number](JoinError::lost) when the others are done: nobody waits for them. An item that cannot be
/// decoded is lost as well.
///
/// It is counted where items are got: where one process gets an item and another says that it is done,
/// and the first dies later, an item that somebody else has in hand may be taken for lost. Items that a
/// process drops and does not speak of stay unfinished as long as it lives. At most 1,024 processes can
/// have items in hand at a time; a get in one more is an error.
///
/// ```
/// use procpool::{JoinableQueue, ProcessPool};
///
/// fn work(queue: JoinableQueue<String>) {
///     while let Ok(text) = queue.blocking_get(None) {
///         assert!(!text.is_empty());
///         queue.task_done().expect("it was put");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// let queue = JoinableQueue::new()?;
/// let workers = [(); 2].map(|()| pool.submit(work, queue.clone()));
/// for text in ["so", "it", "goes"] {
///     queue.put(text.to_owned()).await?;
/// }
/// queue.join().await?;
/// assert_eq!(queue.unfinished(), 0);
/// queue.finish()?;
/// futures::future::try_join_all(workers).await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct JoinableQueue<T>(Queue<T>);

impl<T> JoinableQueue<T> {
    /// Makes a queue for any number of items, as [`Queue::new`] does.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, and where there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        Self::with_bounds(usize::MAX, BYTES)
    }

    /// Makes a queue for at most so many items, as [`Queue::bounded`] does.
    ///
    /// # Errors
    ///
    /// For no item at all; and as [`new`](Self::new).
    pub fn bounded(items: usize) -> io::Result<Self> {
        Self::with_bounds(items, BYTES)
    }

    /// Makes a queue for at most so many items, which take at most so many bytes, as
    /// [`Queue::with_bounds`] does.
    ///
    /// # Errors
    ///
    /// As [`Queue::with_bounds`].
    pub fn with_bounds(items: usize, bytes: usize) -> io::Result<Self> {
        Queue::made(items, bytes, true).map(Self)
    }

    /// Says that an item is done that was got.
    ///
    /// It holds up its thread for as long as another process is just putting or getting an item; where that
    /// has been stopped, until it goes on.
    ///
    /// # Errors
    ///
    /// Where it was said of all that were put ([`is_too_often`](JoinError::is_too_often)), where the
    /// queue is [closed](JoinError::is_closed) here, and where the system has no room for one who waits a
    /// moment.
    pub fn task_done(&self) -> Result<(), JoinError> {
        Ok(self.0.handle.task_done()?)
    }

    /// Returns how many items were put and are neither done nor known to be lost; zero where it is
    /// closed.
    pub fn unfinished(&self) -> usize {
        let core = self.0.handle.core();
        core.map_or(0, |core| core.glance().unfinished as usize)
    }

    /// Waits until everything is done that was put.
    ///
    /// # Errors
    ///
    /// Where some of it [is lost](JoinError::lost), and everything else is done; where the queue is
    /// [closed](JoinError::is_closed) here; and where the system has no room for one who sleeps.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn join(&self) -> Result<(), JoinError> {
        Ok(self.0.handle.join().await?)
    }

    /// The same, at most for that long.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](JoinError::is_timeout)), and as
    /// [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn join_timeout(&self, limit: Duration) -> Result<(), JoinError> {
        let joined = within(limit, self.0.handle.join()).await;
        Ok(joined.unwrap_or(Err(Fault::Unfinished))?)
    }

    /// Waits on a thread that may block, at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`join`](Self::join).
    #[track_caller]
    pub fn blocking_join(&self, limit: Option<Duration>) -> Result<(), JoinError> {
        Ok(self.0.handle.blocking_join(limit)?)
    }
}

/// What a [`Queue`] does. A clone of that is another handle on the same queue, and counts as well.
impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("unfinished", &self.unfinished())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer)?;
        match handle.core().is_ok_and(|core| core.counts) {
            true => Ok(Self(Queue::of(handle))),
            false => Err(de::Error::custom("it is no queue that can be joined")),
        }
    }
}
