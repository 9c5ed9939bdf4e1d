//! Why two ends do not come together.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::ConnectionError;
use super::handshake::Distrust;
use super::peer::Peer;
use crate::task::write_sources;

/// Why the other end of a new connection was turned away, or has turned away.
///
/// ```
/// use procpool::{AuthKey, Client, Listener};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = AuthKey::random()?;
/// let listener: Listener<(), ()> = Listener::builder().authkey(key).bind("127.0.0.1:0")?;
///
/// let client = Client::builder().authkey(AuthKey::new("a guess")?);
/// let error = client.connect::<(), (), _>(listener.address()).await.unwrap_err();
/// assert!(error.handshake().is_some_and(|why| why.is_authentication()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct HandshakeError(Fault);

#[derive(Clone, Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Distrust(Distrust),
    #[error("the other end is of another user, {0}")]
    Foreign(u32),
    #[error("the other end has not proved its authkey within {0:?}")]
    TimedOut(Duration),
    #[error("the other end had proved nothing when its place was needed")]
    Displaced,
    #[error("the other end has left in the middle of the handshake")]
    Left,
    #[error("the other end sent what is no part of a handshake")]
    Noise(#[source] Arc<ConnectionError>),
    #[error("handshake failed")]
    System(#[source] Arc<io::Error>),
}

impl HandshakeError {
    /// Tells whether one end has not proved that it has the other's key: another key, another
    /// [mode](super::AuthMode), no key at all, or something that is no handshake.
    pub fn is_authentication(&self) -> bool {
        matches!(self.0, Fault::Distrust(_) | Fault::Noise(_))
    }

    /// Tells whether the other end belongs to another user.
    pub fn is_foreign_user(&self) -> bool {
        matches!(self.0, Fault::Foreign(_))
    }

    /// Tells whether the other end has taken too long to prove itself.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut(_))
    }

    /// Tells whether so many others came that this one, which had waited for the longest without
    /// proving itself, had to make room.
    pub fn is_displaced(&self) -> bool {
        matches!(self.0, Fault::Displaced)
    }

    /// Tells whether the other end has left before either knew the other: it has closed, or its
    /// process or its machine is gone.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Fault::Left)
    }

    pub(super) fn foreign(peer: &Peer) -> Self {
        Self(Fault::Foreign(peer.uid().unwrap_or(u32::MAX)))
    }

    pub(super) fn timed_out(limit: Duration) -> Self {
        Self(Fault::TimedOut(limit))
    }

    pub(super) fn displaced() -> Self {
        Self(Fault::Displaced)
    }

    pub(super) fn system(error: io::Error) -> Self {
        Self(Fault::System(Arc::new(error)))
    }

    /// Of what has happened on the connection meanwhile.
    pub(super) fn of_connection(error: ConnectionError) -> Self {
        Self(if error.is_gone() {
            Fault::Left
        } else if error.is_broken() {
            Fault::Noise(Arc::new(error))
        } else {
            Fault::System(Arc::new(error.into()))
        })
    }

    /// The kind that it has elsewhere.
    pub(super) fn kind(&self) -> io::ErrorKind {
        match &self.0 {
            Fault::Distrust(_) | Fault::Noise(_) | Fault::Foreign(_) => {
                io::ErrorKind::PermissionDenied
            }
            Fault::TimedOut(_) => io::ErrorKind::TimedOut,
            Fault::Displaced | Fault::Left => io::ErrorKind::ConnectionAborted,
            Fault::System(error) => error.kind(),
        }
    }
}

impl From<Distrust> for HandshakeError {
    fn from(why: Distrust) -> Self {
        Self(Fault::Distrust(why))
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A client that a [`Listener`](crate::Listener) has not let in.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(super) peer: Peer,
    pub(super) reason: HandshakeError,
}

impl Refusal {
    /// Returns who it was.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns why.
    pub fn reason(&self) -> &HandshakeError {
        &self.reason
    }
}
