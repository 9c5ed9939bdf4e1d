//! Permits, of which there are only so many.

mod bounded;
#[cfg(test)]
mod model;
mod permit;
mod slots;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::bounded::BoundedSemaphore;
pub use self::permit::Permit;
use self::slots::{Acquired, HEAD, Slots};
use super::cell::Cell;
use super::error::{Fault, LockError};
use super::lock::{COURTESY, PATIENCE, now};
use super::vigil::Vigil;
use super::waiting::{self, Look, Waiter};
use crate::sys::blocking;
use crate::sys::incarnation::Incarnation;

/// Why no permit was acquired, or not as it should be.
pub type AcquireError = LockError<Permit>;

/// Lets so many go on at once, in this process and in all that it was sent to, as Python's
/// `multiprocessing.Semaphore`.
///
/// A clone is the same semaphore, and so is what arrives where one was sent. What is acquired is a
/// [`Permit`], which may be held across awaits and handed to other tasks and threads of its process;
/// dropping it gives it back.
///
/// ```
/// use std::time::Duration;
/// use procpool::{ProcessPool, Semaphore};
///
/// fn fetch((licences, number): (Semaphore, u32)) -> u32 {
///     let _permit = licences.blocking_acquire(None).expect("nobody dies here");
///     number * number // by a library that two at a time may use
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// let licences = Semaphore::new(2)?;
/// let tasks = [1, 2, 3].map(|number| pool.submit(fetch, (licences.clone(), number)));
/// assert_eq!(futures::future::try_join_all(tasks).await?, [1, 4, 9]);
/// assert_eq!(licences.value(), 2);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # Signals
///
/// A semaphore can count what has happened instead: who makes something [releases](Self::release) a
/// permit that nobody had before, and who waits for that [forgets](Permit::forget) the one he gets. So
/// Python's `acquire` in one process and `release` in another are written, too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let made = procpool::Semaphore::new(0)?;
/// made.release()?;
/// made.try_acquire()?.forget();
/// assert_eq!(made.value(), 0);
/// # Ok(()) }
/// ```
///
/// # When a holder dies
///
/// The permits of a process that dies come back. Whoever gets one of them is told so, once for each and
/// within a second if he waits, by an error that [says so](LockError::is_owner_died) and has the
/// [permit](LockError::into_guard): what that stood for may be in disorder. The semaphore itself never
/// is, so there is nothing else to be said sound.
///
/// # Fairness
///
/// Who comes first mostly is first. A waiter that was woken in vain and has waited for a millisecond is
/// handed the next permit, so nobody starves.
///
/// # Costs
///
/// Without contention no system call; a word is looked at for each permit that there ever was, so some
/// thousands of them take microseconds. Who has to wait needs two descriptors meanwhile, and one more for
/// each process that has a permit.
#[derive(Clone)]
pub struct Semaphore(Arc<Cell>);

const KIND: &str = "semaphore";

impl Semaphore {
    /// The most permits that there can be.
    pub const MAX_PERMITS: usize = 65_536;

    /// Makes a semaphore with so many permits; [`release`](Self::release) can add others.
    ///
    /// # Errors
    ///
    /// When these are more than [`MAX_PERMITS`](Self::MAX_PERMITS), or this process may have no more
    /// descriptors or mappings; and where there is no `/proc`.
    pub fn new(permits: usize) -> io::Result<Self> {
        Self::with_slots(permits, Self::MAX_PERMITS)
    }

    fn with_slots(permits: usize, slots: usize) -> io::Result<Self> {
        if permits > Self::MAX_PERMITS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more permits than a semaphore can have",
            ));
        }
        let semaphore = Self(Arc::new(Cell::new(KIND, HEAD + slots, 1)?));
        semaphore.slots().fill(permits);
        Ok(semaphore)
    }

    /// Acquires a permit, once there is one.
    ///
    /// # Errors
    ///
    /// - [`is_owner_died`](LockError::is_owner_died): it is acquired, but a process has died that had it.
    /// - The system has no room for one who sleeps: it is short of descriptors or memory.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no permit, and keeps nobody waiting.
    pub async fn acquire(&self) -> Result<Permit, AcquireError> {
        self.acquire_until(None).await
    }

    /// The same, at most for that long.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](LockError::is_timeout)), and as
    /// [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Permit, AcquireError> {
        self.acquire_until(waiting::deadline(Some(limit))).await
    }

    async fn acquire_until(&self, deadline: Option<Instant>) -> Result<Permit, AcquireError> {
        let me = Incarnation::own().map_err(Fault::System)?;
        if let Some(acquired) = self.slots().try_acquire(me, now) {
            return self.acquired(me, acquired);
        }
        let mut wait = Wait::begin(self, me).map_err(Fault::System)?;
        let waited = waiting::in_future(&mut wait, deadline).await;
        let acquired = waited.map_err(Fault::System)?.ok_or(Fault::TimedOut)?;
        self.acquired(me, acquired)
    }

    /// Acquires a permit on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need
    /// [`acquire`](Self::acquire).
    #[track_caller]
    pub fn blocking_acquire(&self, limit: Option<Duration>) -> Result<Permit, AcquireError> {
        let me = Incarnation::own().map_err(Fault::System)?;
        if let Some(acquired) = self.slots().try_acquire(me, now) {
            return self.acquired(me, acquired);
        }
        if limit != Some(Duration::ZERO) {
            blocking::must_be_allowed();
        }
        let mut wait = Wait::begin(self, me).map_err(Fault::System)?;
        let waited = waiting::on_thread(&mut wait, waiting::deadline(limit));
        let acquired = waited.map_err(Fault::System)?.ok_or(Fault::TimedOut)?;
        self.acquired(me, acquired)
    }

    /// Acquires a permit if there is one at this moment.
    ///
    /// # Errors
    ///
    /// Where there is none ([`is_would_block`](LockError::is_would_block)), be it that a process has it
    /// which is dead: only those who wait find that out. And as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Permit, AcquireError> {
        let me = Incarnation::own().map_err(Fault::System)?;
        match self.slots().try_acquire(me, now) {
            Some(acquired) => self.acquired(me, acquired),
            None => Err(Fault::Held.into()),
        }
    }

    /// Adds a permit that nobody had, or that somebody has [forgotten](Permit::forget). It never waits.
    ///
    /// # Errors
    ///
    /// Where there are as many as there may be already, those included that are acquired: of a
    /// [`BoundedSemaphore`] what it began with, of others [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn release(&self) -> Result<(), ReleaseError> {
        // Without a `/proc` there would be no semaphore here.
        let me = Incarnation::own().map_err(|_| ReleaseError)?;
        let slots = self.slots();
        let slot = slots.place(me).ok_or(ReleaseError)?;
        // So that they attend to this process until they are rung again.
        self.ring_if(slots.may_sleep());
        self.ring_if(slots.settle(slot, me, now));
        Ok(())
    }

    /// Tells how many permits are to be had at this moment.
    pub fn value(&self) -> usize {
        self.slots().value(now)
    }

    fn slots(&self) -> Slots<'_, Cell> {
        Slots {
            words: &*self.0,
            count: self.0.words().saturating_sub(HEAD),
        }
    }

    fn acquired(&self, me: Incarnation, acquired: Acquired) -> Result<Permit, AcquireError> {
        let permit = Permit::new(self.clone(), acquired.slot, me);
        match acquired.orphaned {
            true => Err(Fault::OwnerDied(permit).into()),
            false => Ok(permit),
        }
    }

    fn ring_if(&self, ring: bool) {
        if ring {
            self.0.ring(0);
        }
    }
}

/// A semaphore has as many permits as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("semaphore has as many permits as it may have")]
pub struct ReleaseError;

/// Somebody who waits.
struct Wait<'a> {
    semaphore: &'a Semaphore,
    me: Incarnation,
    vigil: Vigil,
    begun: Instant,
    /// How often that has looked.
    looks: u32,
    /// It has asked for the next.
    asked: bool,
}

impl<'a> Wait<'a> {
    fn begin(semaphore: &'a Semaphore, me: Incarnation) -> io::Result<Self> {
        Ok(Self {
            semaphore,
            me,
            vigil: Vigil::at(&semaphore.0, 0)?,
            begun: Instant::now(),
            looks: 0,
            asked: false,
        })
    }
}

impl Waiter for Wait<'_> {
    type End = Acquired;

    fn look(&mut self) -> io::Result<Look<Acquired>> {
        let slots = self.semaphore.slots();
        self.looks += 1;
        loop {
            let acquired = match slots.claim(self.me, now) {
                Ok(acquired) => Some(acquired),
                Err(holders) => {
                    let others = holders.iter().map(|holder| holder.process);
                    let others: Vec<_> = others.filter(|process| *process != self.me).collect();
                    let Some(dead) = self.vigil.attend_to(&others)? else {
                        if self.looks > 2 && self.begun.elapsed() > PATIENCE {
                            slots.starve(self.me);
                            self.asked = true;
                        }
                        let handed = holders.iter().any(|holder| holder.handed);
                        return Ok(Look::Sleep(handed.then_some(COURTESY)));
                    };
                    slots.inherit(self.me, dead)
                }
            };
            if let Some(acquired) = acquired {
                return Ok(Look::Over(acquired));
            }
        }
    }

    fn vigil(&self) -> &Vigil {
        &self.vigil
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.asked {
            let ring = self.semaphore.slots().decline(self.me);
            self.semaphore.ring_if(ring);
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (HEAD, 1), deserializer).map(|cell| Self(Arc::new(cell)))
    }
}
