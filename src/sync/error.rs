//! How acquiring fails: a lock, or anything else of which there is not enough for everybody.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;

use super::lock::LockGuard;
use crate::task::write_sources;

/// Why a lock was not acquired, or not as it should be; with `G`, what it is to have it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let lock = procpool::Lock::new()?;
/// let guard = lock.try_lock().expect("it is new");
/// assert!(lock.try_lock().unwrap_err().is_would_block());
/// drop(guard);
/// # Ok(()) }
/// ```
pub struct LockError<G = LockGuard>(Fault<G>);

#[derive(thiserror::Error)]
pub(crate) enum Fault<G = LockGuard> {
    #[error("lock or permit is acquired from a process that has died with it")]
    OwnerDied(G),
    #[error("guard is not of the condition's lock")]
    WrongLock(G),
    #[error("lock or permit is held by others")]
    Held,
    #[error("lock or permit was not acquired within the limit of time")]
    TimedOut,
    #[error("lock or permit could not be waited for")]
    System(#[source] io::Error),
}

impl<G> LockError<G> {
    /// Tells whether it is acquired, but a process has died that had it, and nobody has
    /// [said](LockGuard::mark_sound) since that all is well. The guard is in the error: dropping that
    /// releases it.
    pub fn is_owner_died(&self) -> bool {
        matches!(self.0, Fault::OwnerDied(_))
    }

    /// Tells whether others have it, of which only a `try_` form complains.
    pub fn is_would_block(&self) -> bool {
        matches!(self.0, Fault::Held)
    }

    /// Tells whether a limit has passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut)
    }

    /// Tells whether a guard was given to a [`Condition`](crate::Condition) that is not of its lock.
    pub fn is_wrong_lock(&self) -> bool {
        matches!(self.0, Fault::WrongLock(_))
    }

    /// Returns the guard, where a [holder has died](Self::is_owner_died), or it was
    /// [of another lock](Self::is_wrong_lock).
    ///
    /// # Errors
    ///
    /// With the error itself, where it is not acquired.
    pub fn into_guard(self) -> Result<G, Self> {
        match self.0 {
            Fault::OwnerDied(guard) | Fault::WrongLock(guard) => Ok(guard),
            fault => Err(Self(fault)),
        }
    }

    /// The guard, or an error that has none.
    pub(crate) fn split(self) -> Result<G, LockError<Infallible>> {
        match self.0 {
            Fault::OwnerDied(guard) | Fault::WrongLock(guard) => Ok(guard),
            Fault::Held => Err(Fault::Held.into()),
            Fault::TimedOut => Err(Fault::TimedOut.into()),
            Fault::System(error) => Err(Fault::System(error).into()),
        }
    }

    /// The same error, with something else for the guard.
    pub(crate) fn map<T>(self, to: impl FnOnce(G) -> T) -> LockError<T> {
        LockError(match self.0 {
            Fault::OwnerDied(guard) => Fault::OwnerDied(to(guard)),
            Fault::WrongLock(guard) => Fault::WrongLock(to(guard)),
            Fault::Held => Fault::Held,
            Fault::TimedOut => Fault::TimedOut,
            Fault::System(error) => Fault::System(error),
        })
    }
}

impl<G> From<Fault<G>> for LockError<G> {
    fn from(fault: Fault<G>) -> Self {
        Self(fault)
    }
}

/// Whatever the guard is, which is not shown.
impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockError").field(&self.0).finish()
    }
}

impl<G> fmt::Debug for Fault<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            Self::WrongLock(_) => f.write_str("WrongLock(..)"),
            Self::Held => f.write_str("Held"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::System(error) => f.debug_tuple("System").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl<G> Error for LockError<G> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
