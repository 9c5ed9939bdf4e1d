//! Connections that come about by an address: the end that is found there.
//!
//! ```text
//!   client ──▶ system's queue ──▶ door ──▶ handshakes, beside each other ──▶ lobby ──▶ accept
//! ```

// - `builder`: what is asked of clients; `door`: takes them in; `lobby`: where they wait for `accept`
// - `error`: how accepting fails
mod builder;
mod door;
mod error;
mod lobby;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::task::JoinHandle;

pub use self::builder::ListenerBuilder;
pub use self::error::AcceptError;
use self::error::Fault;
use self::lobby::{End, Lobby, Visitor};
use super::Connection;
use super::address::{Address, AddressError};
use super::peer::Peer;
use super::refusal::Refusal;
use crate::process::Keeper;
use crate::sys::blocking;
use crate::sys::network::{self, Inode};

/// Waits at an [`Address`] for clients, as Python's `multiprocessing.connection.Listener` does: each
/// that comes is a [`Connection`], which sends `S` and receives `R`.
///
/// The other end is a [`Client`](crate::Client), or a Python program. Both can be asked to prove that
/// they have the same [`AuthKey`](crate::AuthKey), and over TCP they have to be, unless
/// [`without_authkey`](ListenerBuilder::without_authkey) says otherwise. At a Unix path, only this
/// process's user and root are let in, unless [`any_user`](ListenerBuilder::any_user) is said.
///
/// Clients are taken in and prove themselves on the crate's thread, each beside the others, whether
/// anybody is accepting or not; so one that says nothing keeps no other waiting. Who has not proved
/// itself within [a limit](ListenerBuilder::handshake_limit), or by the time so many others
/// [have come](ListenerBuilder::max_pending) that its place is needed, is turned away. That is no
/// error of the listener's, and [`accept`](Self::accept) says nothing of it;
/// [`accept_or_refusal`](Self::accept_or_refusal) does.
///
/// A [`Stream`] of connections, which ends when the listener is closed or has failed.
///
/// # Drop
///
/// As [`close`](Self::close).
///
/// ```
/// use procpool::{AuthKey, Client, Connection, Listener};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = AuthKey::random()?;
/// let mut listener = Listener::builder().authkey(key.clone()).bind("127.0.0.1:0")?;
///
/// let address = listener.address().clone(); // with the port that the system has chosen
/// let client = tokio::spawn(async move {
///     let mut connection: Connection<String, usize> =
///         Client::builder().authkey(key).connect(address).await?;
///     connection.send(&"seven".to_owned()).await?;
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(connection.recv().await?)
/// });
///
/// let mut connection: Connection<usize, String> = listener.accept().await?;
/// let text = connection.recv().await?;
/// connection.send(&text.len()).await?;
/// assert_eq!(client.await?.unwrap(), 5);
/// # Ok(()) }
/// ```
pub struct Listener<S, R> {
    address: Address,
    socket: Arc<OwnedFd>,
    path: Option<OwnPath>,
    lobby: Arc<Lobby>,
    door: JoinHandle<()>,
    last_accepted: Option<Peer>,
    /// Whether the stream has told of its end.
    ended: bool,
    /// Drives the door.
    _keeper: Arc<Keeper>,
    connections: PhantomData<fn() -> Connection<S, R>>,
}

/// What [`Listener::accept_or_refusal`] tells of a client.
#[derive(Debug)]
pub enum Arrival<S, R> {
    /// It was let in.
    Accepted(Connection<S, R>, Peer),
    /// It was turned away.
    Refused(Refusal),
}

impl Listener<(), ()> {
    /// Begins to describe a listener; [`bind`](ListenerBuilder::bind) makes it, of any type.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder::default()
    }
}

impl<S, R> Listener<S, R> {
    /// Listens at a Unix path, for clients of this process's user, of whom no key is asked. For all
    /// else there is a [`builder`](Listener::builder).
    ///
    /// # Errors
    ///
    /// As [`ListenerBuilder::bind`].
    pub fn bind<A>(address: A) -> io::Result<Self>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        ListenerBuilder::default().bind(address)
    }

    /// Waits for the next client that was let in.
    ///
    /// # Errors
    ///
    /// Where nobody can come any more, since the listener [is closed](AcceptError::is_closed) or has
    /// failed for good. Nothing that a client does is an error of this, and neither is a shortage of
    /// descriptors or memory: then clients wait in the system's queue.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nobody.
    pub async fn accept(&mut self) -> Result<Connection<S, R>, AcceptError> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// Waits for the next client, and tells also of those that were turned away: of the last 64 that
    /// nobody has asked about. [`accept`](Self::accept) passes over them.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nobody.
    pub async fn accept_or_refusal(&mut self) -> Result<Arrival<S, R>, AcceptError> {
        match poll_fn(|context| self.lobby.poll_next(context)).await? {
            Ok(visitor) => {
                let peer = visitor.peer.clone();
                Ok(Arrival::Accepted(self.take(visitor), peer))
            }
            Err(refusal) => Ok(Arrival::Refused(refusal)),
        }
    }

    /// The same as [`accept`](Self::accept) on a thread that may block, which no runtime's may.
    ///
    /// # Errors
    ///
    /// Where `limit` passes first ([`is_timeout`](AcceptError::is_timeout)), and as
    /// [`accept`](Self::accept).
    pub fn blocking_accept(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Connection<S, R>, AcceptError> {
        let accepted = blocking::wait(limit, |context| self.poll_accept(context), || {});
        accepted.unwrap_or_else(|| Err(Fault::TimedOut.into()))
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Connection<S, R>, AcceptError>> {
        loop {
            if let Ok(visitor) = ready!(self.lobby.poll_next(context))? {
                return Poll::Ready(Ok(self.take(visitor)));
            }
        }
    }

    fn take(&mut self, visitor: Visitor) -> Connection<S, R> {
        self.last_accepted = Some(visitor.peer);
        visitor.greeted.into_connection()
    }

    /// Returns who it was that was accepted last.
    pub fn last_accepted(&self) -> Option<&Peer> {
        self.last_accepted.as_ref()
    }

    /// Returns where this listens. A port that was zero is the one that the system has chosen.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Listens no more, at once: the address is free for another listener, and its path is removed,
    /// if it is still the one that this has made. Clients that were not accepted yet are told that
    /// they are not by the end of their connection; those that were are not touched. Closing again
    /// does nothing.
    pub fn close(&mut self) {
        // First the path, so that nobody finds it who would be turned away.
        if let Some(path) = self.path.take() {
            path.remove();
        }
        // Before the door can find that nobody comes any more.
        self.lobby.end(End::Closed);
        network::end_listening(&self.socket);
        self.door.abort();
    }
}

impl<S, R> Drop for Listener<S, R> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<S, R> Stream for Listener<S, R> {
    type Item = Result<Connection<S, R>, AcceptError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.poll_accept(context));
        this.ended = next.is_err();
        match next {
            Err(error) if error.is_closed() => Poll::Ready(None),
            next => Poll::Ready(Some(next)),
        }
    }
}

impl<S, R> AsFd for Listener<S, R> {
    /// The listening socket. It has something to be read while clients are in the system's queue,
    /// which is not long: they are taken in here before they are accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S, R> fmt::Debug for Listener<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A path that this process has put a socket at.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    inode: Inode,
    pid: u32,
}

impl OwnPath {
    /// Of a socket that was just made.
    fn new(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self {
            // Wherever the process goes meanwhile.
            path: std::path::absolute(path)?,
            inode: Inode::of_socket(path)?,
            pid: std::process::id(),
        })
    }

    /// Removes it, unless it is somebody else's by now, or this is a copy in a forked process.
    fn remove(&self) {
        let is_own = self.pid == std::process::id()
            && Inode::of_socket(&self.path).is_ok_and(|inode| inode == self.inode);
        if is_own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
