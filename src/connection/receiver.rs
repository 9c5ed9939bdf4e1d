//! The receiving half.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::error::{ConnectionError, Fault};
use super::inbox::Inbox;
use super::link::Link;
use super::message;

/// The longest message that can be, where nothing else is said.
const ANY: usize = isize::MAX as usize;

/// Receives messages: one end of a [`one_way`](super::one_way) pipe, or half of a
/// [`Connection`](super::Connection).
///
/// A message is received as a `T`, or as bytes; what a message is was the sender's decision. All
/// receiving needs the half for itself, so that two threads never have parts of one message.
///
/// A [`Stream`](futures::Stream) of values, which ends where the other end is closed and after an
/// error that leaves nothing to read.
///
/// # Cancel safety
///
/// Whatever is given up here, nothing is lost: what has come of a message waits in this half.
pub struct Receiver<T> {
    pub(super) link: Arc<Link>,
    pub(super) inbox: Inbox,
    limit: usize,
    /// Whether the stream has told of its end.
    pub(super) ended: bool,
    value: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(super) fn new(link: Arc<Link>, inbox: Inbox) -> Self {
        Self {
            link,
            inbox,
            limit: ANY,
            ended: false,
            value: PhantomData,
        }
    }

    /// Refuses messages of more bytes than `limit` from now on, in all forms of receiving. A value
    /// counts with its encoding. There is no limit until one is set; memory grows as bytes arrive,
    /// never because a length was announced.
    pub fn set_max_length(&mut self, limit: usize) {
        self.limit = limit.min(ANY);
    }

    /// Receives a message as bytes. Descriptors that came beside it are closed.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but nothing is decoded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        self.recv_bytes_max(self.limit).await
    }

    /// Receives a message of at most `limit` bytes, as CPython's `recv_bytes(maxlength)` does.
    ///
    /// # Errors
    ///
    /// Where the message is longer ([`is_too_long`](ConnectionError::is_too_long)). It is not read,
    /// and so nothing more can be received. Else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_bytes_max(&mut self, limit: usize) -> Result<Vec<u8>, ConnectionError> {
        self.arrival(limit.min(self.limit)).await?;
        Ok(self.take_bytes())
    }

    /// Receives a message into the beginning of a buffer, and returns its length. For another place
    /// in a buffer, give that slice of it.
    ///
    /// # Errors
    ///
    /// Where the buffer is too short
    /// ([`is_buffer_too_short`](ConnectionError::is_buffer_too_short)): the message stays, and can be
    /// received into a longer one. Else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, ConnectionError> {
        let length = self.arrival(self.limit).await?;
        let Some(place) = buffer.get_mut(..length) else {
            let buffer = buffer.len();
            return Err(Fault::BufferTooShort { length, buffer }.into());
        };
        self.inbox.take(|bytes, _| place.copy_from_slice(bytes));
        self.inbox.shrink();
        Ok(length)
    }

    /// Receives bytes if a whole message is there. See [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// Where none is ([`is_empty`](ConnectionError::is_empty)), else as
    /// [`recv_bytes`](Self::recv_bytes).
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        self.look()?;
        Ok(self.take_bytes())
    }

    /// Receives bytes on a thread that may block. See [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Errors
    ///
    /// As [`blocking_recv`](Self::blocking_recv), but nothing is decoded.
    pub fn blocking_recv_bytes(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Vec<u8>, ConnectionError> {
        self.block(limit)?;
        Ok(self.take_bytes())
    }

    async fn arrival(&mut self, limit: usize) -> Result<usize, ConnectionError> {
        poll_fn(|context| self.poll_arrival(context, limit)).await
    }

    /// Reads until a message is there whole; its length.
    fn poll_arrival(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<usize, ConnectionError>> {
        loop {
            if let Some(length) = self.inbox.next(limit)? {
                return Poll::Ready(Ok(length));
            }
            ready!(self.link.poll_read(context, &mut self.inbox))?;
        }
    }

    /// Reads what is there.
    fn look(&mut self) -> Result<usize, ConnectionError> {
        self.block(Some(Duration::ZERO))
            .map_err(|error| match error {
                ConnectionError(Fault::TimedOut) => Fault::Empty.into(),
                error => error,
            })
    }

    /// Reads until a message is there whole, asleep between.
    fn block(&mut self, limit: Option<Duration>) -> Result<usize, ConnectionError> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if let Some(length) = self.inbox.next(self.limit)? {
                return Ok(length);
            }
            match self.link.read(&mut self.inbox) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let more = limit != Some(Duration::ZERO)
                        && self
                            .link
                            .wait_to_read(deadline)
                            .map_err(ConnectionError::receiving)?;
                    if !more {
                        return Err(Fault::TimedOut.into());
                    }
                }
                Err(error) => return Err(ConnectionError::receiving(error)),
            }
        }
    }

    /// Reads what is there until a message is there whole. Tells whether more is to be read for that.
    pub(super) fn take_in(&mut self) -> bool {
        while self.lacks_a_message() {
            match self.link.read(&mut self.inbox) {
                Ok(()) => {}
                // Any other error is told to whoever receives.
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// The same in a future, which is woken when there is more to be read.
    pub(super) fn poll_take_in(&mut self, context: &mut Context<'_>) {
        while self.lacks_a_message() {
            let read = self.link.poll_read(context, &mut self.inbox);
            if !matches!(read, Poll::Ready(Ok(()))) {
                return;
            }
        }
    }

    fn lacks_a_message(&mut self) -> bool {
        matches!(self.inbox.next(self.limit), Ok(None))
    }

    fn take_bytes(&mut self) -> Vec<u8> {
        let bytes = self.inbox.take_bytes();
        self.inbox.shrink();
        bytes
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a value. Waits for one where none is there.
    ///
    /// # Errors
    ///
    /// - The other end is closed, with all of its copies, and everything that was sent has been
    ///   received ([`is_closed`](ConnectionError::is_closed)).
    /// - The message is no `T` ([`is_decode`](ConnectionError::is_decode)). It is gone, and the next
    ///   one can be received.
    /// - Nothing more can be read ([`is_broken`](ConnectionError::is_broken)).
    ///
    /// # Panics
    ///
    /// Where the value's `Deserialize` does; then the message is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what has come of a message waits for the next who
    /// receives.
    pub async fn recv(&mut self) -> Result<T, ConnectionError> {
        self.arrival(self.limit).await?;
        self.take_value()
    }

    /// Receives a value if a whole message is there, and never waits.
    ///
    /// # Errors
    ///
    /// Where none is ([`is_empty`](ConnectionError::is_empty)), which is not the end
    /// ([`is_closed`](ConnectionError::is_closed)). Else as [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<T, ConnectionError> {
        self.look()?;
        self.take_value()
    }

    /// Receives a value on a thread that may block, which no runtime's may.
    ///
    /// # Errors
    ///
    /// Where `limit` passes before a message is there whole
    /// ([`is_timeout`](ConnectionError::is_timeout)); nothing is lost. Else as [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self, limit: Option<Duration>) -> Result<T, ConnectionError> {
        self.block(limit)?;
        self.take_value()
    }

    /// The future of [`recv`](Self::recv) as a poll.
    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, ConnectionError>> {
        ready!(self.poll_arrival(context, self.limit))?;
        Poll::Ready(self.take_value())
    }

    fn take_value(&mut self) -> Result<T, ConnectionError> {
        let value = self.inbox.take(message::decode);
        self.inbox.shrink();
        value
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.link.let_go();
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.as_fd()).finish()
    }
}
