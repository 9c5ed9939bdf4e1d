//! How connecting fails.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection::{Address, AddressError, HandshakeError};
use crate::task::write_sources;

/// Why a [`Client`](crate::Client) has no connection.
#[derive(Debug)]
pub struct ConnectError(Cause);

#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Handshake(HandshakeError),
    #[error("could not connect to {address}")]
    System { address: Address, source: io::Error },
    #[error("could not connect to {address} within {limit:?}")]
    TimedOut { address: Address, limit: Duration },
    #[error(transparent)]
    Address(AddressError),
}

impl Cause {
    pub(super) fn system(address: &Address, source: io::Error) -> Self {
        Self::System {
            address: address.clone(),
            source,
        }
    }
}

impl ConnectError {
    /// Returns what went wrong between the two ends, where a listener was found.
    pub fn handshake(&self) -> Option<&HandshakeError> {
        match &self.0 {
            Cause::Handshake(error) => Some(error),
            _ => None,
        }
    }

    /// Tells whether one end has not proved its key to the other. See
    /// [`HandshakeError::is_authentication`].
    pub fn is_authentication(&self) -> bool {
        self.handshake()
            .is_some_and(HandshakeError::is_authentication)
    }

    /// Tells whether nobody listens at the address: there is no such path, or the connection was
    /// refused.
    pub fn is_nobody_there(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(&self.0, Cause::System { source, .. }
            if matches!(source.kind(), ConnectionRefused | NotFound))
    }

    /// Tells whether it took too long, be it to get there or to be let in.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Cause::TimedOut { .. })
    }
}

impl From<ConnectError> for io::Error {
    /// Keeps the error as its source, and gives it the kind that it has elsewhere.
    fn from(error: ConnectError) -> Self {
        let kind = match &error.0 {
            Cause::Handshake(error) => error.kind(),
            Cause::System { source, .. } => source.kind(),
            Cause::TimedOut { .. } => io::ErrorKind::TimedOut,
            Cause::Address(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<Cause> for ConnectError {
    fn from(cause: Cause) -> Self {
        Self(cause)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
