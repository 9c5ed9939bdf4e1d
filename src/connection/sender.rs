//! The sending half.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::{ConnectionError, Fault};
use super::link::Link;
use super::outgoing::Frame;

/// Sends messages: one end of a [`one_way`](super::one_way) pipe, or half of a
/// [`Connection`](super::Connection).
///
/// Messages are values of `T`, or bytes for a receiver that takes bytes; both keep their order.
///
/// # Sent and not sent
///
/// A message is sent whole or not at all. Until its first byte is written it can be given up: by
/// dropping the future, by a limit of time, by a `try_` form that finds no room. From then on it is
/// sent, whatever happens here. Its rest waits in this half, and is written by the crate's thread as
/// the other side makes room, also when this half or the runtime has been dropped. So `Ok` says of any
/// message that it is on its way, not that it was received.
///
/// A process that ends in order waits for that: a worker that is let go, a [`Process`](crate::Process)
/// whose function has returned, a program that returns from `main` or calls [`exit`](std::process::exit).
/// Nobody is waited for who has taken nothing for five seconds, and no message is begun any more by then:
/// to send is an [error](ConnectionError::is_broken_pipe). To kill a process is to tear what it has begun.
///
/// # Drop
///
/// Closes this half, without waiting. The other side is told of the end when there is no copy of
/// this end any more, its other half included, and has then received all that was sent.
pub struct Sender<T> {
    pub(super) link: Arc<Link>,
    value: PhantomData<fn(&T)>,
}

impl<T> Sender<T> {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            value: PhantomData,
        }
    }

    /// Sends bytes as one message, as CPython's `send_bytes` does.
    ///
    /// # Errors
    ///
    /// Where nobody is there to receive it ([`is_broken_pipe`](ConnectionError::is_broken_pipe)).
    ///
    /// # Cancel safety
    ///
    /// As with [`send`](Self::send).
    pub fn send_bytes(
        &mut self,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, T> {
        self.transmit(Ok(Frame::of_bytes(bytes)))
    }

    /// Sends bytes if there is room for their beginning. See [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// Where there is none ([`is_full`](ConnectionError::is_full)), and as
    /// [`send_bytes`](Self::send_bytes).
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.attempt(Frame::of_bytes(bytes))
    }

    /// Sends bytes from a thread that may block. See [`blocking_send`](Self::blocking_send).
    ///
    /// # Errors
    ///
    /// As [`blocking_send`](Self::blocking_send).
    pub fn blocking_send_bytes(
        &mut self,
        bytes: &[u8],
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.block(Frame::of_bytes(bytes), limit)
    }

    pub(super) fn transmit(
        &mut self,
        frame: Result<Frame, ConnectionError>,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, T> {
        self.transmit_while(frame, |_| {})
    }

    /// Sends a message, and does something else at each turn that finds no room.
    pub(super) async fn transmit_while(
        &mut self,
        frame: Result<Frame, ConnectionError>,
        mut meanwhile: impl FnMut(&mut Context<'_>),
    ) -> Result<(), ConnectionError> {
        let link = &self.link;
        let mut frame = Some(frame?);
        let _rest = Rest(link);
        poll_fn(|context| {
            let sent = link.poll_write(context, &mut frame);
            if sent.is_pending() {
                meanwhile(context);
            }
            sent
        })
        .await
    }

    pub(super) fn attempt(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        let _rest = Rest(&self.link);
        let mut frame = Some(frame);
        loop {
            match self.link.write(&mut frame) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return frame.map_or(Ok(()), |_| Err(Fault::Full.into()));
                }
                Err(error) => return Err(ConnectionError::sending(error)),
            }
        }
    }

    pub(super) fn block(
        &mut self,
        frame: Frame,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.block_while(frame, limit, || false)
    }

    /// Sends a message, and does something else whenever there is no room; which tells whether it is
    /// to be done again when there is something to read.
    pub(super) fn block_while(
        &mut self,
        frame: Frame,
        limit: Option<Duration>,
        mut meanwhile: impl FnMut() -> bool,
    ) -> Result<(), ConnectionError> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let _rest = Rest(&self.link);
        let mut frame = Some(frame);
        loop {
            match self.link.write(&mut frame) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let room = match meanwhile() {
                        true => self.link.wait_to_write_or_read(deadline),
                        false => self.link.wait_to_write(deadline),
                    };
                    if !room.map_err(ConnectionError::sending)? {
                        return frame.map_or(Ok(()), |_| Err(Fault::TimedOut.into()));
                    }
                }
                Err(error) => return Err(ConnectionError::sending(error)),
            }
        }
    }

    /// Writes on what was begun.
    pub(super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        if self.link.outgoing().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.link.poll_write(context, &mut None)
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a value. Waits for room where there is none; a message may be of any size.
    ///
    /// The value is encoded at once, in the crate's encoding, and what it has of descriptors
    /// ([`Fd`](crate::Fd), connections) goes beside it.
    ///
    /// # Errors
    ///
    /// Where the value cannot be encoded ([`is_encode`](ConnectionError::is_encode)), and nothing is
    /// sent; where nobody is there to receive it
    /// ([`is_broken_pipe`](ConnectionError::is_broken_pipe)). There is no SIGPIPE.
    ///
    /// # Panics
    ///
    /// Where the value's `Serialize` does; then nothing is sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the first byte of the message is written sends nothing. After
    /// that the message is sent all the same. See [`Sender`].
    pub fn send(
        &mut self,
        value: &T,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, T> {
        self.transmit(self.frame(value))
    }

    /// Sends a value if there is room for the beginning of it, and never waits. The rest of a large
    /// one is written behind the caller's back.
    ///
    /// # Errors
    ///
    /// Where there is no room ([`is_full`](ConnectionError::is_full)), and as [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn try_send(&mut self, value: &T) -> Result<(), ConnectionError> {
        self.attempt(self.frame(value)?)
    }

    /// Sends a value from a thread that may block, which no runtime's may.
    ///
    /// # Errors
    ///
    /// Where `limit` passes before the first byte is written
    /// ([`is_timeout`](ConnectionError::is_timeout)), and as [`send`](Self::send). If it passes
    /// later, the rest is written behind the caller's back.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn blocking_send(
        &mut self,
        value: &T,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.block(self.frame(value)?, limit)
    }

    pub(super) fn frame(&self, value: &T) -> Result<Frame, ConnectionError> {
        Frame::of_value(value, self.link.carries_descriptors())
    }
}

/// Whatever happens, what was begun is sent.
struct Rest<'a>(&'a Arc<Link>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.tend();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.link.let_go();
        self.link.tend();
    }
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.as_fd()).finish()
    }
}
