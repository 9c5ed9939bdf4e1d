//! Connections that come about by an address: the end that goes there.

mod error;

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::error::Cause;
pub use self::error::ConnectError;
use super::Connection;
use super::address::{Address, AddressError, Place};
use super::authkey::{AuthKey, AuthMode};
use super::greet::{Greeted, Terms};
use super::handshake::Role;
use super::peer::Peer;
use crate::process::Keeper;
use crate::sys::{blocking, network, reactor};

/// Connects to where a [`Listener`](crate::Listener) is, as Python's
/// `multiprocessing.connection.Client` does. The listener may be in a Python program.
///
/// See [`Listener`](crate::Listener) for an example of both ends.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Connects to a listener that asks for no key, within 10 s. See [`ClientBuilder::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn connect<S, R, A>(address: A) -> Result<Connection<S, R>, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        Self::builder().connect(address).await
    }

    /// The same on a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub fn blocking_connect<S, R, A>(address: A) -> Result<Connection<S, R>, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        Self::builder().blocking_connect(address)
    }

    /// Begins to describe how to connect.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

/// Describes how to connect. Begun by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is connected before `connect`"]
pub struct ClientBuilder {
    terms: Terms,
    limit: Duration,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            limit: Duration::from_secs(10),
        }
    }
}

impl ClientBuilder {
    /// Proves to the listener that this end has the key, and has it prove the same. Needed if, and
    /// only if, the listener has one.
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.terms.authkey = Some(key);
        self
    }

    /// How the key is proved. The default, [`AuthMode::Python`], is for Python 3.12 and later and for
    /// this crate.
    pub fn auth_mode(mut self, mode: AuthMode) -> Self {
        self.terms.mode = mode;
        self
    }

    /// Speaks also to a listener of another user than this process's own and root, at a Unix path.
    pub fn any_user(mut self) -> Self {
        self.terms.any_user = true;
        self
    }

    /// How long connecting and the handshake may take together; 10 s unless it is set.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Has the system find out whether the other end of a TCP connection is still there. See
    /// [`ListenerBuilder::keepalive`](super::ListenerBuilder::keepalive).
    pub fn keepalive(mut self, idle: Duration) -> Self {
        self.terms.keepalive = Some(idle);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// - Nobody listens there ([`is_nobody_there`](ConnectError::is_nobody_there)).
    /// - One end has not proved its key ([`is_authentication`](ConnectError::is_authentication)), or
    ///   another reason against the [`handshake`](ConnectError::handshake).
    /// - It takes too long ([`is_timeout`](ConnectError::is_timeout)): the listener is stuck, or asks
    ///   for no key and waits for this end to speak.
    /// - It is no address, or the system has something else against it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it, and the listener is told of that by the end of the connection.
    pub async fn connect<S, R, A>(self, address: A) -> Result<Connection<S, R>, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let mut meeting = self.begin(resolve(address)?)?;
        let met = poll_fn(|context| meeting.poll(context)).await?;
        Ok(met.into_connection())
    }

    /// The same on a thread that may block, which no runtime's may.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn blocking_connect<S, R, A>(self, address: A) -> Result<Connection<S, R>, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let mut meeting = self.begin(resolve(address)?)?;
        let met = blocking::wait(None, |context| meeting.poll(context), || {});
        let met = met.expect("without a limit it comes to something")?;
        Ok(met.into_connection())
    }

    /// Has it done on the crate's thread, whose clock and reactor are always there.
    fn begin(self, address: Address) -> Result<Meeting, ConnectError> {
        let keeper = Keeper::get().map_err(|error| Cause::system(&address, error))?;
        let Self { terms, limit } = self;
        let task = keeper.handle().spawn(async move {
            let met = timeout(limit, meet(&address, &terms)).await;
            met.unwrap_or_else(|_| Err(Cause::TimedOut { address, limit }.into()))
        });
        Ok(Meeting {
            task,
            _keeper: keeper,
        })
    }
}

/// What goes on until there is a connection; ended when nobody waits for it any more.
struct Meeting {
    task: JoinHandle<Result<Greeted, ConnectError>>,
    _keeper: Arc<Keeper>,
}

impl Meeting {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Greeted, ConnectError>> {
        let met = Pin::new(&mut self.task).poll(context);
        met.map(|met| met.expect("the crate's thread goes on while it is kept"))
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn resolve<A>(address: A) -> Result<Address, ConnectError>
where
    A: TryInto<Address>,
    AddressError: From<A::Error>,
{
    let address = address.try_into().map_err(AddressError::from);
    Ok(address.map_err(Cause::Address)?)
}

async fn meet(address: &Address, terms: &Terms) -> Result<Greeted, ConnectError> {
    let socket = go_to(&address.0).await;
    let socket = socket.map_err(|error| Cause::system(address, error))?;
    let peer = Peer::of(&socket, address.socket_addr());
    let peer = peer.map_err(|error| Cause::system(address, error))?;
    let met = terms.inspect(socket, &peer).map_err(Cause::Handshake)?;
    let greeted = terms.greet(met, Role::Client, &AtomicBool::default()).await;
    Ok(greeted.map_err(Cause::Handshake)?)
}

async fn go_to(place: &Place) -> io::Result<OwnedFd> {
    let socket = match place {
        Place::Path(path) => loop {
            match network::go_to_path(path) {
                // Nothing tells when there is room in the listener's queue.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
                socket => break socket?,
            }
        },
        Place::Port(port) => {
            let socket = Arc::new(network::go_to_port(*port)?);
            let waiting = reactor::register(Arc::clone(&socket), Interest::WRITABLE)?;
            drop(waiting.writable().await?);
            drop(waiting);
            Arc::into_inner(socket).expect("the reactor has given it back")
        }
    };
    network::arrive(&socket)?;
    Ok(socket)
}

/// How long after it was full a queue is tried again.
const RETRY: Duration = Duration::from_millis(2);
