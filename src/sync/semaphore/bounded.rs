//! A semaphore that never has more permits than it began with.

use std::fmt;
use std::io;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Semaphore;

/// A [`Semaphore`] that never has more permits than it began with, as Python's
/// `multiprocessing.BoundedSemaphore`: [`release`](Semaphore::release) is an error where nobody has
/// [forgotten](super::Permit::forget) one before. In all else it is a semaphore, and can be given where a
/// `&Semaphore` is asked for.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seats = procpool::BoundedSemaphore::new(1)?;
/// seats.try_acquire()?.forget();
/// seats.release()?;
/// assert!(seats.release().is_err());
/// assert_eq!(seats.value(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct BoundedSemaphore(Semaphore);

impl BoundedSemaphore {
    /// Makes a semaphore with so many permits.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::new`].
    pub fn new(permits: usize) -> io::Result<Self> {
        Semaphore::with_slots(permits, permits).map(Self)
    }

    /// Tells with how many permits it began.
    pub fn bound(&self) -> usize {
        self.0.slots().count
    }
}

impl Deref for BoundedSemaphore {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore")
            .field("value", &self.value())
            .field("bound", &self.bound())
            .finish_non_exhaustive()
    }
}
