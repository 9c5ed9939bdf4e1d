//! A queue that processes put items into and get them from.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::books::Bounds;
use super::encoded::Encoded;
use super::error::{Fault, GetError, PutError};
use super::handle::Handle;
use super::streams::{QueueSink, QueueStream};
use crate::process::{Keeper, Sleep};

/// How many bytes a queue has that was not told how many: a gibibyte, as long as there are addresses for
/// it. It takes memory as there is something in it, and no more.
pub(super) const BYTES: usize = 1 << (usize::BITS / 2 - 2);

/// Items on their way from any number of processes to any number of others, first in, first out, as
/// Python's `multiprocessing.Queue`.
///
/// A clone is the same queue, and so is what arrives where one was sent: as a part of a task's argument
/// or result, of a message on a [`Connection`](crate::Connection), or of an item of a queue. An item is
/// whatever serde encodes, up to what the queue can hold; what travels with descriptors, such as a
/// [`Fd`](crate::Fd), a connection, a [`Lock`](crate::Lock) or another queue, may be a part of it. Each
/// item is got by one process.
///
/// Items are encoded by whoever puts them, before `put` returns: there is no thread behind it, nothing
/// is lost at the end of a process, and what cannot be encoded is an error of the call that has it.
///
/// # Bounds
///
/// [`new`](Self::new) has room for any number of items, up to 1 GiB of them; what is put then waits, and
/// a single item that is larger is an error. The memory is taken as it is needed, and what is beyond 4 MiB
/// given back when it is not any more. [`bounded`](Self::bounded) limits the number of items,
/// [`with_bounds`](Self::with_bounds) also their size. Both are exact. Of items with descriptors some
/// hundreds can be in a queue at a time, which is the system's limit; a put beyond that waits.
///
/// What a [`Payload`](crate::Payload) has in shared memory counts as if it were in the queue. If many items
/// are in it that have descriptors, or the system has no room for more of these, a payload goes with the
/// other bytes of its item, so that none has to wait for that.
///
/// # When a process dies
///
/// What it has put is there, and what it had got is gone with it. Killed in the middle of either, it has
/// done it or not: nothing is torn, nobody is blocked, no item is there twice. One that is stopped
/// (`SIGSTOP`) in the middle of either holds up the others until it goes on.
///
/// # The end
///
/// [`finish`](Self::finish) says to everybody that nothing more comes: what is in the queue can be got,
/// and then there is an [end](GetError::is_finished). [`close`](Self::close) says that this process
/// has done with it. When nobody has it any more, it is gone with all that is in it.
///
/// # Fairness
///
/// Items come out in the order in which they went in. Which of those who wait gets the next is not said,
/// but one that has waited for a millisecond, and was woken in vain, goes before those that come.
///
/// # Costs
///
/// Where there is an item, or room, no system call, unless somebody sleeps who is to be woken. A queue
/// has six descriptors in every process that has it.
///
/// Bytes are copied twice on each side, once of these times while nobody else can put or get. A
/// [`Payload`](crate::Payload) in an item, or a field marked with [`payload`](crate::payload), is copied once
/// on each side from 64 KiB on, and while others go on. It takes some microseconds, and two descriptors while
/// it is got. What it takes of memory is kept for a second or two after its last use, as for calls, but with a
/// limit of its own: 1 GiB in each process that puts. As long as it is kept, the crate's thread is there.
///
/// ```
/// use procpool::{ProcessPool, Queue};
///
/// fn square((numbers, squares): (Queue<u64>, Queue<u64>)) {
///     while let Ok(number) = numbers.blocking_get(None) {
///         squares.blocking_put(number * number, None).expect("it is open");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// let (numbers, squares) = (Queue::new()?, Queue::new()?);
/// let tasks = [(); 2].map(|()| pool.submit(square, (numbers.clone(), squares.clone())));
/// for number in 1..=4 {
///     numbers.put(number).await?;
/// }
/// let mut sum = 0;
/// for _ in 1..=4 {
///     sum += squares.get().await?;
/// }
/// assert_eq!(sum, 30);
/// numbers.finish()?;
/// futures::future::try_join_all(tasks).await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Queue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// Makes a queue for any number of items. See [bounds](Self#bounds).
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings, and where there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        Self::with_bounds(usize::MAX, BYTES)
    }

    /// Makes a queue for at most so many items, as Python's `Queue(maxsize)`.
    ///
    /// # Errors
    ///
    /// For no item at all; and as [`new`](Self::new).
    pub fn bounded(items: usize) -> io::Result<Self> {
        Self::with_bounds(items, BYTES)
    }

    /// Makes a queue for at most so many items, which take at most so many bytes. An item takes as many
    /// as it is encoded to, rounded up to eight, and eight more; one with descriptors, sixteen more. One with
    /// large [payloads](crate::Payload) in shared memory takes their bytes, too, rounded up to eight, and
    /// twenty-four more than the rest of it.
    ///
    /// # Errors
    ///
    /// For no item or no byte at all, or more bytes than there are addresses for; and as
    /// [`new`](Self::new).
    pub fn with_bounds(items: usize, bytes: usize) -> io::Result<Self> {
        Self::made(items, bytes, false)
    }

    /// One that can be joined, or cannot.
    pub(super) fn made(items: usize, bytes: usize, joinable: bool) -> io::Result<Self> {
        let bounds = Bounds {
            items: items as u64,
            words: bytes as u64 / 8,
        };
        Handle::new(bounds, joinable).map(Self::of)
    }

    pub(super) fn of(handle: Handle) -> Self {
        Self {
            handle,
            item: PhantomData,
        }
    }

    /// Returns how many items are in it at this moment, without waiting for anybody; zero where it is
    /// closed. As Python's `qsize`.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        let core = self.handle.core();
        core.map_or(0, |core| core.glance().items as usize)
    }

    /// Tells whether nothing is in it at this moment. As Python's `empty`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether as many items are in it at this moment as it is [bounded](Self::bounded) to. As
    /// Python's `full`.
    pub fn is_full(&self) -> bool {
        let core = self.handle.core();
        core.is_ok_and(|core| core.glance().items >= core.bounds.items)
    }

    /// Returns how many items can be in it, where that is bounded.
    pub fn capacity(&self) -> Option<usize> {
        let items = self.handle.core().ok()?.bounds.items as usize;
        (items != usize::MAX).then_some(items)
    }

    /// Closes it in this process, with all its clones here: from now on every put and get is an
    /// [error](GetError::is_closed), also those that wait; asked for its length it says zero. Other
    /// processes notice nothing. Closing it again does nothing. As Python's `close`.
    ///
    /// A handle that arrives in this process is open, whatever was closed before.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Says to all who have it, in all processes, that nothing more comes in. Puts are refused from now
    /// on, also those that wait; gets are given what is in it, and then told of the
    /// [end](GetError::is_finished). Saying so again does nothing.
    ///
    /// As the `shutdown` of Python's `queue.Queue`, which its queues between processes have not.
    ///
    /// It holds up its thread for as long as another process is just putting or getting an item; where that
    /// has been stopped, until it goes on.
    ///
    /// # Errors
    ///
    /// Where it is closed in this process, or the system has no room for one who waits a moment.
    #[doc(alias = "shutdown")]
    pub fn finish(&self) -> io::Result<()> {
        Ok(self.handle.finish()?)
    }

    /// Returns its items as a `Stream`, which ends when the queue is [finished](Self::finish) and empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::{SinkExt, TryStreamExt, stream};
    ///
    /// let queue = procpool::Queue::new()?;
    /// queue.sink().send_all(&mut stream::iter([1, 2, 3].map(Ok))).await?;
    /// queue.finish()?;
    /// assert_eq!(queue.stream().try_collect::<Vec<u32>>().await?, [1, 2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn stream(&self) -> QueueStream<T> {
        QueueStream::new(self.clone())
    }

    /// Returns a `Sink` that puts into it.
    pub fn sink(&self) -> QueueSink<T> {
        QueueSink::new(self.clone())
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts an item, when there is room.
    ///
    /// # Errors
    ///
    /// With the item, where it [cannot be encoded](PutError::is_encode) or is
    /// [too large](PutError::is_too_large), where the queue is [closed](PutError::is_closed) here or
    /// [finished](PutError::is_finished) everywhere; and where the system has no room for one who
    /// sleeps.
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has put nothing.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        let put = match self.handle.encode(&item) {
            Ok(encoded) => self.handle.put(&encoded).await,
            Err(fault) => Err(fault),
        };
        put.map_err(|fault| PutError::new(item, fault))
    }

    /// The same, waiting at most so long for room.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](PutError::is_timeout), which is also
    /// [`is_full`](PutError::is_full)), and as [`put`](Self::put).
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has put nothing.
    pub async fn put_timeout(&self, item: T, limit: Duration) -> Result<(), PutError<T>> {
        let put = match self.handle.encode(&item) {
            Ok(encoded) if limit.is_zero() => self.handle.try_put(&encoded),
            Ok(encoded) => {
                let put = within(limit, self.handle.put(&encoded)).await;
                put.unwrap_or(Err(Fault::Full))
            }
            Err(fault) => Err(fault),
        };
        put.map_err(|fault| match fault {
            Fault::Full => PutError::new(item, Fault::StillFull),
            fault => PutError::new(item, fault),
        })
    }

    /// Puts an item if there is room at this moment. As Python's `put_nowait`. Where a process that has
    /// been stopped is at the queue, it takes that for full after 20 ms.
    ///
    /// # Errors
    ///
    /// Where there is none ([`is_full`](PutError::is_full)), and as [`put`](Self::put).
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let encoded = self.handle.encode(&item);
        let put = encoded.and_then(|encoded| self.handle.try_put(&encoded));
        put.map_err(|fault| PutError::new(item, fault))
    }

    /// Puts an item from a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Self::put_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`put`](Self::put).
    /// And when the item's own code does.
    #[track_caller]
    pub fn blocking_put(&self, item: T, limit: Option<Duration>) -> Result<(), PutError<T>> {
        let put = match self.handle.encode(&item) {
            Ok(encoded) => self.handle.blocking_put(&encoded, limit),
            Err(fault) => Err(fault),
        };
        put.map_err(|fault| PutError::new(item, fault))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the oldest item, when there is one.
    ///
    /// # Errors
    ///
    /// Where the queue is [closed](GetError::is_closed) here, or [finished](GetError::is_finished)
    /// and empty; where an item [cannot be decoded](GetError::is_decode), which is gone then; and where
    /// the system has no room for one who sleeps. Where this process may have no more descriptors, and the
    /// item brings some, it stays in the queue.
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has got nothing, and no item is lost.
    pub async fn get(&self) -> Result<T, GetError> {
        self.decoded(self.handle.take().await)
    }

    /// The same, waiting at most so long for an item.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](GetError::is_timeout), which is also
    /// [`is_empty`](GetError::is_empty)), and as [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has got nothing, and no item is lost.
    pub async fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        let taken = match limit.is_zero() {
            true => self.handle.try_take(),
            false => within(limit, self.handle.take())
                .await
                .unwrap_or(Err(Fault::Empty)),
        };
        self.decoded(taken.map_err(|fault| match fault {
            Fault::Empty => Fault::StillEmpty,
            fault => fault,
        }))
    }

    /// Gets the oldest item if there is one at this moment. As Python's `get_nowait`. Where a process that
    /// has been stopped is at the queue, it takes that for empty after 20 ms.
    ///
    /// # Errors
    ///
    /// Where there is none ([`is_empty`](GetError::is_empty)), and as [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// When the item's own code does.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.decoded(self.handle.try_take())
    }

    /// Gets the oldest item on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Self::get_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`get`](Self::get).
    /// And when the item's own code does.
    #[track_caller]
    pub fn blocking_get(&self, limit: Option<Duration>) -> Result<T, GetError> {
        self.decoded(self.handle.blocking_take(limit))
    }

    /// The item in what was taken. One that cannot be decoded will never be done.
    pub(super) fn decoded(&self, taken: Result<Encoded, Fault>) -> Result<T, GetError> {
        let decoded = taken?.decode();
        if decoded.is_err() {
            self.handle.lose_one();
        }
        Ok(decoded.map_err(Fault::Decode)?)
    }
}

/// Waits at most so long, by the crate's own clock: the runtime may have none.
pub(super) async fn within<T>(
    limit: Duration,
    waits: impl Future<Output = Result<T, Fault>>,
) -> Option<Result<T, Fault>> {
    let keeper = match Keeper::get() {
        Ok(keeper) => keeper,
        Err(error) => return Some(Err(Fault::System(error))),
    };
    match select(pin!(waits), Sleep::on(keeper.handle(), limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self::of(self.handle.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Handle::deserialize(deserializer).map(Self::of)
    }
}
