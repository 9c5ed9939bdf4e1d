//! How accepting fails.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::lobby::End;
use crate::task::write_sources;

/// Why a [`Listener`](super::Listener) has accepted nobody. A client that does not prove itself is no
/// reason.
#[derive(Clone, Debug)]
pub struct AcceptError(pub(super) Fault);

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("listener is closed")]
    Closed,
    #[error("limit of time has passed")]
    TimedOut,
    #[error("listener has failed")]
    Failed(#[source] Arc<io::Error>),
}

impl AcceptError {
    /// Tells whether the listener was closed here.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Fault::Closed)
    }

    /// Tells whether the limit of a `blocking_` form has passed. Nobody is lost by that.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut)
    }
}

impl From<End> for AcceptError {
    fn from(end: End) -> Self {
        Self(match end {
            End::Closed => Fault::Closed,
            End::Failed(error) => Fault::Failed(error),
        })
    }
}

impl From<AcceptError> for io::Error {
    /// Keeps the error as its source, and gives it the kind that it has elsewhere.
    fn from(error: AcceptError) -> Self {
        let kind = match &error.0 {
            Fault::Closed => io::ErrorKind::NotConnected,
            Fault::TimedOut => io::ErrorKind::TimedOut,
            Fault::Failed(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

impl From<Fault> for AcceptError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
