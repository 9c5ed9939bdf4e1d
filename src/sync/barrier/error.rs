//! How waiting at a barrier fails.

use std::error::Error;
use std::fmt;
use std::io;

use super::phase::Why;
use crate::task::write_sources;

/// Why a party did not pass a [`Barrier`](crate::Barrier).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let barrier = procpool::Barrier::new(2)?;
/// barrier.abort();
/// let error = barrier.blocking_wait(None).unwrap_err();
/// assert!(error.is_broken() && error.is_aborted());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BarrierError(Fault);

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("barrier was aborted")]
    Aborted,
    #[error("limit of time of a party has passed")]
    TimedOut,
    #[error("a party has given up")]
    LeftEarly,
    #[error("a party's process has died")]
    OwnerDied,
    #[error("action of the barrier has panicked")]
    Panicked,
    #[error("barrier was reset")]
    Reset,
    #[error("barrier could not be waited at")]
    System(#[source] io::Error),
}

impl BarrierError {
    /// Tells whether the barrier is broken, or was when this party waited: all but what the system refuses.
    pub fn is_broken(&self) -> bool {
        !matches!(self.0, Fault::System(_))
    }

    /// Tells whether that was because somebody has [aborted](crate::Barrier::abort) it. What has broken it
    /// first counts: a barrier that is broken already is not aborted.
    pub fn is_aborted(&self) -> bool {
        matches!(self.0, Fault::Aborted)
    }

    /// Tells whether somebody has [reset](crate::Barrier::reset) it while this party was in.
    pub fn is_reset(&self) -> bool {
        matches!(self.0, Fault::Reset)
    }

    /// Tells whether a limit has passed: of this party, or of another.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut)
    }

    /// Tells whether a process has died of which a party was in.
    pub fn is_owner_died(&self) -> bool {
        matches!(self.0, Fault::OwnerDied)
    }
}

impl From<Fault> for BarrierError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl From<Why> for Fault {
    fn from(why: Why) -> Self {
        match why {
            Why::Aborted => Self::Aborted,
            Why::TimedOut => Self::TimedOut,
            Why::LeftEarly => Self::LeftEarly,
            Why::Died => Self::OwnerDied,
            Why::Panicked => Self::Panicked,
        }
    }
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for BarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
