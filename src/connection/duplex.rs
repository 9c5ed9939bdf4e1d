//! Both halves as one.

use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ConnectionError;
use super::inbox::Inbox;
use super::link::Link;
use super::outgoing::Frame;
use super::{Receiver, Sender};

/// One end of a [`pipe`](super::pipe): sends `S`, receives `R`.
///
/// It can be a part of a task's argument or result, and of messages on other connections, at any
/// depth. What goes is a copy that continues where this one is: what had come in and was not taken
/// goes along. The original is to be dropped then. Two processes that read one end get parts of each
/// other's messages, and the other side is told of the end only when both are gone. An end on which
/// a message was begun and is not sent whole, or which holds descriptors that nobody took, is not
/// serialised; nor is one anywhere else, with an error that says so.
///
/// Messages are framed as those of CPython's `multiprocessing.connection`, so that the bytes forms
/// can speak with a Python program. Values are in the crate's own encoding.
///
/// Two ends may both send a message of any size first, and then receive: while one waits for room, it takes
/// in what comes, until a message is there whole, and keeps it until that is received.
/// [`set_max_length`](Self::set_max_length) limits how long it may be. The halves and the `Sink` do not do
/// that: with them, receive beside sending.
///
/// Errors, panics, and what becomes of an operation that is given up are those of the two halves,
/// [`Sender`] and [`Receiver`]. All forms wait on tokio's reactor where there is one, and else on the
/// crate's thread; the first that waits registers the socket.
///
/// ```
/// use procpool::{Connection, ProcessPool, pipe};
///
/// fn differences(mut connection: Connection<i32, (i32, i32)>) {
///     while let Ok((a, b)) = connection.blocking_recv(None) {
///         connection.blocking_send(&(a - b), None).expect("somebody waits for it");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let (mut here, there) = pipe()?;
/// let task = pool.submit(differences, there);
/// for (pair, difference) in [((5, 7), -2), ((100, -1), 101), ((53, 2354), -2301)] {
///     here.send(&pair).await?;
///     assert_eq!(here.recv().await?, difference);
/// }
/// drop(here); // ends the task's loop
/// task.await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Connection<S, R> {
    pub(super) sender: Sender<S>,
    pub(super) receiver: Receiver<R>,
}

impl<S, R> Connection<S, R> {
    pub(super) fn new(link: Arc<Link>, inbox: Inbox) -> Self {
        link.is_whole();
        Self {
            sender: Sender::new(Arc::clone(&link)),
            receiver: Receiver::new(link, inbox),
        }
    }

    /// Sends, and takes in what comes while there is no room.
    pub(super) fn exchange(
        &mut self,
        frame: Result<Frame, ConnectionError>,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, S, R> {
        let Self { sender, receiver } = self;
        sender.transmit_while(frame, |context| receiver.poll_take_in(context))
    }

    /// The same on a thread that may block.
    pub(super) fn blocking_exchange(
        &mut self,
        frame: Frame,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        let Self { sender, receiver } = self;
        sender.block_while(frame, limit, || receiver.take_in())
    }

    /// Takes the halves apart, for two tasks or threads. The end is closed when both are dropped.
    pub fn into_split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Borrows the halves, for sending and receiving at once.
    ///
    /// Where `futures::StreamExt` is in scope, `connection.split()` is that trait's, which takes the
    /// connection apart as a `Sink` and a `Stream` instead. This one is `Connection::split(&mut connection)`
    /// there.
    pub fn split(&mut self) -> (&mut Sender<S>, &mut Receiver<R>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Refuses longer messages. See [`Receiver::set_max_length`].
    pub fn set_max_length(&mut self, limit: usize) {
        self.receiver.set_max_length(limit);
    }

    /// Sends bytes as one message. See [`Sender::send_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_bytes(
        &mut self,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, S, R> {
        self.exchange(Ok(Frame::of_bytes(bytes)))
    }

    /// Sends bytes and never waits. See [`Sender::try_send_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.sender.try_send_bytes(bytes)
    }

    /// Sends bytes from a thread that may block. See [`Sender::blocking_send_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_send_bytes(
        &mut self,
        bytes: &[u8],
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.blocking_exchange(Frame::of_bytes(bytes), limit)
    }

    /// Receives a message as bytes. See [`Receiver::recv_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        self.receiver.recv_bytes().await
    }

    /// Receives at most so many bytes. See [`Receiver::recv_bytes_max`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_bytes_max(&mut self, limit: usize) -> Result<Vec<u8>, ConnectionError> {
        self.receiver.recv_bytes_max(limit).await
    }

    /// Receives into a buffer. See [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, ConnectionError> {
        self.receiver.recv_bytes_into(buffer).await
    }

    /// Receives bytes and never waits. See [`Receiver::try_recv_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        self.receiver.try_recv_bytes()
    }

    /// Receives bytes on a thread that may block. See [`Receiver::blocking_recv_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_recv_bytes(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Vec<u8>, ConnectionError> {
        self.receiver.blocking_recv_bytes(limit)
    }

    /// Waits until there is something to receive. See [`Receiver::readable`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn readable(&mut self) -> Result<(), ConnectionError> {
        self.receiver.readable().await
    }

    /// Tells whether there is something to receive. See [`Receiver::poll`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn poll(&mut self, limit: Duration) -> Result<bool, ConnectionError> {
        self.receiver.poll(limit).await
    }

    /// The same on a thread that may block. See [`Receiver::blocking_poll`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_poll(&mut self, limit: Option<Duration>) -> Result<bool, ConnectionError> {
        self.receiver.blocking_poll(limit)
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a value. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(
        &mut self,
        value: &S,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, S, R> {
        let frame = self.sender.frame(value);
        self.exchange(frame)
    }

    /// Sends a value and never waits. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&mut self, value: &S) -> Result<(), ConnectionError> {
        self.sender.try_send(value)
    }

    /// Sends a value from a thread that may block. See [`Sender::blocking_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_send(
        &mut self,
        value: &S,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        let frame = self.sender.frame(value)?;
        self.blocking_exchange(frame, limit)
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Receives a value. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv(&mut self) -> Result<R, ConnectionError> {
        self.receiver.recv().await
    }

    /// Receives a value and never waits. See [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv(&mut self) -> Result<R, ConnectionError> {
        self.receiver.try_recv()
    }

    /// Receives a value on a thread that may block. See [`Receiver::blocking_recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_recv(&mut self, limit: Option<Duration>) -> Result<R, ConnectionError> {
        self.receiver.blocking_recv(limit)
    }
}

impl<S, R> AsFd for Connection<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.as_fd()).finish()
    }
}
