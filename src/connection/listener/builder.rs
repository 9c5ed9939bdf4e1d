//! What a listener asks of its clients, and how many it lets wait.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::Semaphore;

use super::door::Door;
use super::lobby::Lobby;
use super::{Listener, OwnPath};
use crate::connection::address::{Address, AddressError, Place};
use crate::connection::authkey::{AuthKey, AuthMode};
use crate::connection::greet::Terms;
use crate::process::Keeper;
use crate::sys::{network, reactor};

/// So many may wait for `accept` in the listener, each with a descriptor of this process.
const READY: usize = 128;

/// Describes a [`Listener`]. Begun by [`Listener::builder`].
#[derive(Clone, Debug)]
#[must_use = "nobody listens before `bind`"]
pub struct ListenerBuilder {
    terms: Terms,
    without_authkey: bool,
    backlog: u32,
    mode: u32,
    handshake_limit: Duration,
    max_pending: usize,
}

impl Default for ListenerBuilder {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            without_authkey: false,
            backlog: 1_024,
            mode: 0o600,
            handshake_limit: Duration::from_secs(5),
            max_pending: 64,
        }
    }
}

impl ListenerBuilder {
    /// Lets in only who has the same key.
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

    /// Lets in whoever reaches the port, where no key was given. Without this it is an error to
    /// listen on TCP without a key, for a port can be reached by all users of a machine at least.
    pub fn without_authkey(mut self) -> Self {
        self.without_authkey = true;
        self
    }

    /// Lets in also other users than this process's own and root, at a Unix path. They need a
    /// [`mode`](Self::mode) that lets them write to it, too.
    pub fn any_user(mut self) -> Self {
        self.terms.any_user = true;
        self
    }

    /// The mode of the socket at a Unix path, whatever the umask: who may write to it may connect.
    /// The default is `0o600`. Who may make and remove files in its directory may put another socket
    /// in its place.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// How many clients may wait in the system's queue until they are taken in; 1,024 unless it is
    /// set, and never more than the system's own limit. They have no descriptor of this process
    /// there. It is full only if nobody accepts, or a great many come at once; then others wait, over
    /// TCP for a second at least.
    ///
    /// 128 that have been let in wait for [`accept`](Listener::accept) in the listener itself.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn backlog(mut self, clients: u32) -> Self {
        assert!(clients > 0, "a backlog of zero would let nobody in");
        self.backlog = clients;
        self
    }

    /// How long a client may take to prove that it has the key; 5 s unless it is set.
    pub fn handshake_limit(mut self, limit: Duration) -> Self {
        self.handshake_limit = limit;
        self
    }

    /// How many clients may be proving themselves at once; 64 unless it is set. For one more, the one
    /// that has been at it for the longest is turned away, once it has had 40 ms. A client that has
    /// the key needs a millisecond, so it is the silent ones that go.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_pending(mut self, clients: usize) -> Self {
        assert!(clients > 0, "no client could prove itself");
        self.max_pending = clients;
        self
    }

    /// Has the system find out whether the other end of a TCP connection is still there, after
    /// nothing has come from it for so long, in whole seconds: at the latest after twice that,
    /// receiving says that it is [lost](crate::ConnectionError::is_reset). Without this, an end whose
    /// machine was switched off is never missed.
    pub fn keepalive(mut self, idle: Duration) -> Self {
        self.terms.keepalive = Some(idle);
        self
    }

    /// Begins to listen. This needs no runtime.
    ///
    /// # Errors
    ///
    /// - [`AddrInUse`](io::ErrorKind::AddrInUse): somebody listens there, or a file is at that path,
    ///   be it what a killed process has left.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): it is no address; or it is a port, and neither
    ///   was a key given nor [`without_authkey`](Self::without_authkey) said.
    /// - Whatever else the system has against it.
    pub fn bind<S, R, A>(self, address: A) -> io::Result<Listener<S, R>>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into().map_err(AddressError::from)?;
        if address.is_tcp() && self.terms.authkey.is_none() && !self.without_authkey {
            let why = "listening on TCP needs an authkey, or to be told to do without";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let keeper = Keeper::get()?;
        let (address, socket, path) = match address.0 {
            Place::Path(path) => {
                let socket = network::listen_at_path(&path, self.mode, self.backlog)?;
                let own = OwnPath::new(&path)?;
                (Address(Place::Path(path)), socket, Some(own))
            }
            Place::Port(port) => {
                let socket = network::listen_at_port(port, self.backlog)?;
                (network::port_of(&socket)?.into(), socket, None)
            }
        };
        let socket = Arc::new(socket);
        let lobby = Arc::<Lobby>::default();
        let _inside = keeper.handle().enter();
        let door = Door {
            socket: reactor::register(Arc::clone(&socket), Interest::READABLE)?,
            terms: self.terms,
            limit: self.handshake_limit,
            max_pending: self.max_pending,
            places: Arc::new(Semaphore::new(READY + self.max_pending)),
            lobby: Arc::clone(&lobby),
        };
        Ok(Listener {
            address,
            socket,
            path,
            lobby,
            door: tokio::spawn(door.run()),
            last_accepted: None,
            ended: false,
            _keeper: Arc::clone(&keeper),
            connections: PhantomData,
        })
    }
}
