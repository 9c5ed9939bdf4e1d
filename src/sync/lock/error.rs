//! How acquiring a lock fails.

use std::error::Error;
use std::fmt;
use std::io;

use super::LockGuard;
use crate::task::write_sources;

/// Why a lock was not acquired, or not as it should be.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let lock = procpool::Lock::new()?;
/// let guard = lock.try_lock().expect("it is new");
/// assert!(lock.try_lock().unwrap_err().is_would_block());
/// drop(guard);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LockError(Fault);

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("a process has died that had the lock")]
    OwnerDied(LockGuard),
    #[error("somebody else has the lock")]
    Held,
    #[error("limit of time has passed")]
    TimedOut,
    #[error("lock could not be waited for")]
    System(#[source] io::Error),
}

impl LockError {
    /// Tells whether the lock is acquired, but a process has died that had it, and nobody has
    /// [said](LockGuard::mark_sound) since that all is well. The guard is in the error: dropping that
    /// releases the lock.
    pub fn is_owner_died(&self) -> bool {
        matches!(self.0, Fault::OwnerDied(_))
    }

    /// Tells whether somebody has the lock, of which only a `try_` form complains.
    pub fn is_would_block(&self) -> bool {
        matches!(self.0, Fault::Held)
    }

    /// Tells whether a limit has passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut)
    }

    /// Returns the guard, where a [holder has died](Self::is_owner_died).
    ///
    /// # Errors
    ///
    /// With the error itself, where the lock is not acquired.
    pub fn into_guard(self) -> Result<LockGuard, Self> {
        match self.0 {
            Fault::OwnerDied(guard) => Ok(guard),
            fault => Err(Self(fault)),
        }
    }
}

impl From<Fault> for LockError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for LockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
