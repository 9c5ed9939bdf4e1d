//! A queue with nothing but what is needed most.

use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{GetError, PutError};
use super::plain::Queue;

/// A [`Queue`] that one puts into and gets from, as Python's `multiprocessing.SimpleQueue`. It has room
/// for as much as [`Queue::new`]; what that says of items, of ends and of processes that die holds here
/// as well.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// use procpool::SimpleQueue;
///
/// let queue = SimpleQueue::new()?;
/// let task = pool.submit(|queue: SimpleQueue<u32>| queue.blocking_put(7).is_ok(), queue.clone());
/// assert_eq!(queue.get().await?, 7);
/// assert!(queue.is_empty()?);
/// task.await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// Makes a queue.
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> io::Result<Self> {
        Queue::new().map(Self)
    }

    /// Tells whether nothing is in it at this moment.
    ///
    /// # Errors
    ///
    /// Where it is [closed](GetError::is_closed) in this process.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool, GetError> {
        Ok(self.0.handle.core()?.glance().items == 0)
    }

    /// Closes it in this process, as [`Queue::close`] does: its descriptors are closed, and putting,
    /// getting and asking whether it is empty are errors. Closing it again does nothing.
    pub fn close(&self) {
        self.0.close();
    }
}

impl<T: Serialize> SimpleQueue<T> {
    /// Puts an item.
    ///
    /// # Errors
    ///
    /// As [`Queue::put`].
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has put nothing.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.0.put(item).await
    }

    /// Puts an item from a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`Queue::put`].
    ///
    /// # Panics
    ///
    /// As [`Queue::blocking_put`].
    #[track_caller]
    pub fn blocking_put(&self, item: T) -> Result<(), PutError<T>> {
        self.0.blocking_put(item, None)
    }
}

impl<T: DeserializeOwned> SimpleQueue<T> {
    /// Gets the oldest item, when there is one.
    ///
    /// # Errors
    ///
    /// As [`Queue::get`].
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has got nothing, and no item is lost.
    pub async fn get(&self) -> Result<T, GetError> {
        self.0.get().await
    }

    /// Gets the oldest item on a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`Queue::get`].
    ///
    /// # Panics
    ///
    /// As [`Queue::blocking_get`].
    #[track_caller]
    pub fn blocking_get(&self) -> Result<T, GetError> {
        self.0.blocking_get(None)
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleQueue")
            .field("len", &self.0.len())
            .finish_non_exhaustive()
    }
}
