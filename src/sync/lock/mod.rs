//! A lock that one process at a time has, and in it one task or thread.

mod guard;
#[cfg(test)]
mod model;
mod word;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::guard::Held;
pub use self::guard::LockGuard;
use self::word::{Acquired, Words};
use super::cell::Cell;
use super::error::{Fault, LockError};
use super::holder::STALE;
use super::vigil::Vigil;
use super::waiting::{self, Look, Waiter};
use crate::sys::blocking;
use crate::sys::clock::Moment;
use crate::sys::incarnation::Incarnation;

/// After so long a wait, and having been woken in vain, somebody asks for his turn.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// How long what was handed to another process is left to that.
pub(super) const COURTESY: Duration = Duration::from_millis(STALE + 1);

/// Excludes all others, in this process and in all that it was sent to, as Python's
/// `multiprocessing.Lock`.
///
/// A clone is the same lock, and so is what arrives where one was sent. What has it is a
/// [`LockGuard`], which may be held across awaits and handed to other tasks and threads of its process;
/// dropping it releases the lock. It is not re-entrant: who has it and waits for it again waits for ever.
///
/// # When a holder dies
///
/// A process that dies with the lock has left what it protects in some state. Whoever is next gets the
/// lock within a second, in an error that [says so](LockError::is_owner_died) and has the
/// [guard](LockError::into_guard); so does everybody after that, until one has looked after things
/// and [said](LockGuard::mark_sound) that all is well. A guard that a panic drops releases
/// the lock, and no more: the process lives, and knows.
///
/// # Fairness
///
/// Who comes first mostly is first. A waiter that was woken in vain and has waited for a millisecond is
/// handed the lock next, so nobody starves.
///
/// # Costs
///
/// Without contention no system call. Who has to wait needs two descriptors meanwhile.
///
/// ```
/// use procpool::{Lock, ProcessPool, SharedMemory};
///
/// fn count((lock, number): (Lock, SharedMemory)) {
///     for _ in 0..100 {
///         let _guard = lock.blocking_lock(None).expect("nobody dies here");
///         let mut byte = [0];
///         number.read_at(0, &mut byte);
///         number.write_at(0, &[byte[0] + 1]);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(2).build()?;
/// let (lock, number) = (Lock::new()?, SharedMemory::new(1)?);
/// let tasks = [(); 2].map(|()| pool.submit(count, (lock.clone(), number.clone())));
/// futures::future::try_join_all(tasks).await?;
/// assert_eq!(number.to_vec(), [200]);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Lock {
    cell: Arc<Cell>,
    /// Where its words begin.
    first: usize,
    bell: usize,
}

const KIND: &str = "lock";

/// How many words of a cell a lock needs.
pub(crate) const WORDS: usize = 5;

impl Lock {
    /// Makes a lock that nobody has.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors or mappings; and where there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        let cell = Arc::new(Cell::new(KIND, WORDS, 1)?);
        Ok(Self::within(&cell, 0, 0))
    }

    /// The lock that another primitive has in its cell: five words of it, and a bell. It travels as a
    /// part of that alone. Where all that it protects changes by one store, the
    /// [guard](LockError::into_guard) of one who has died is as good as any.
    pub(crate) fn within(cell: &Arc<Cell>, first: usize, bell: usize) -> Self {
        Self {
            cell: Arc::clone(cell),
            first,
            bell,
        }
    }

    /// Acquires the lock, once nobody else has it.
    ///
    /// # Errors
    ///
    /// - [`is_owner_died`](LockError::is_owner_died): it is acquired, but what it protects may be in
    ///   disorder.
    /// - The system has no room for one who sleeps: it is short of descriptors or memory.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has not acquired it, and keeps nobody waiting.
    pub async fn lock(&self) -> Result<LockGuard, LockError> {
        self.lock_until(None).await
    }

    /// The same, at most for that long.
    ///
    /// # Errors
    ///
    /// Where the limit passes first ([`is_timeout`](LockError::is_timeout)), and as
    /// [`lock`](Self::lock).
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub async fn lock_timeout(&self, limit: Duration) -> Result<LockGuard, LockError> {
        self.lock_until(waiting::deadline(Some(limit))).await
    }

    /// The same, at most until then.
    pub(crate) async fn lock_until(
        &self,
        deadline: Option<Instant>,
    ) -> Result<LockGuard, LockError> {
        let acquired = self.acquire(deadline).await;
        self.have(acquired, LockGuard::new)
    }

    /// The same, for as long as nobody is to have it but who waits here.
    pub(crate) async fn hold(&self) -> Result<Held<'_>, LockError<Held<'_>>> {
        let acquired = self.acquire(None).await;
        self.have(acquired, Held::new)
    }

    /// Acquires the lock on a thread that may block, waiting at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Panics
    ///
    /// When it would have to wait on a thread that drives async tasks: those need [`lock`](Self::lock).
    #[track_caller]
    pub fn blocking_lock(&self, limit: Option<Duration>) -> Result<LockGuard, LockError> {
        match self.try_lock() {
            Err(error) if error.is_would_block() => {}
            locked => return locked,
        }
        if limit != Some(Duration::ZERO) {
            blocking::must_be_allowed();
        }
        self.lock_here(waiting::deadline(limit))
    }

    /// The same, at most until `deadline`, on any thread: for what is never had for longer than a moment.
    pub(crate) fn lock_here(&self, deadline: Option<Instant>) -> Result<LockGuard, LockError> {
        self.have(self.acquire_here(deadline), LockGuard::new)
    }

    /// The same, for as long as nobody is to have it but who waits here.
    pub(crate) fn hold_here(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Held<'_>, LockError<Held<'_>>> {
        self.have(self.acquire_here(deadline), Held::new)
    }

    /// Acquires the lock if nobody has it at this moment.
    ///
    /// # Errors
    ///
    /// Where somebody has it ([`is_would_block`](LockError::is_would_block)), be it a process that is
    /// dead: only those who wait find that out. And as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<LockGuard, LockError> {
        self.have(self.acquire_at_once(), LockGuard::new)
    }

    /// The same, for as long as nobody is to have it but who tries here.
    pub(crate) fn try_hold(&self) -> Result<Held<'_>, LockError<Held<'_>>> {
        self.have(self.acquire_at_once(), Held::new)
    }

    /// Tells whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.words().holder().is_some()
    }

    /// The process that has it.
    pub(super) fn holder(&self) -> Option<Incarnation> {
        self.words().holder().map(|holder| holder.process)
    }

    /// Whether a process has died with it, and nobody has said since that all is well.
    pub(super) fn is_tainted(&self) -> bool {
        self.words().is_tainted()
    }

    /// Who has it, as text.
    pub(super) fn state(&self) -> &'static str {
        let own = Incarnation::own().ok();
        match self.holder() {
            None => "unlocked",
            holder @ Some(_) if holder == own => "locked by this process",
            Some(_) => "locked by another process",
        }
    }

    /// A number that every handle of this lock has, in all processes, and none of another.
    pub(crate) fn number(&self) -> u64 {
        self.cell.number()
    }

    fn word(&self, number: usize) -> &AtomicU64 {
        self.cell.word(self.first + number)
    }

    fn words(&self) -> Words<'_, AtomicU64> {
        Words {
            owner: self.word(0),
            sleepers: self.word(1),
            tainted: self.word(2),
            starving: self.word(3),
            handed_at: self.word(4),
        }
    }

    fn acquire_at_once(&self) -> Result<(Incarnation, Acquired), Fault<Infallible>> {
        let me = Incarnation::own().map_err(Fault::System)?;
        let acquired = self.words().try_acquire(me, now).ok_or(Fault::Held)?;
        Ok((me, acquired))
    }

    async fn acquire(
        &self,
        deadline: Option<Instant>,
    ) -> Result<(Incarnation, Acquired), Fault<Infallible>> {
        let mut wait = match self.acquire_at_once() {
            Err(Fault::Held) => Wait::begin(self).map_err(Fault::System)?,
            done => return done,
        };
        let waited = waiting::in_future(&mut wait, deadline).await;
        wait.ended(waited)
    }

    fn acquire_here(
        &self,
        deadline: Option<Instant>,
    ) -> Result<(Incarnation, Acquired), Fault<Infallible>> {
        let mut wait = match self.acquire_at_once() {
            Err(Fault::Held) => Wait::begin(self).map_err(Fault::System)?,
            done => return done,
        };
        let waited = waiting::on_thread(&mut wait, deadline);
        wait.ended(waited)
    }

    /// What it is to have it, when it is acquired.
    fn have<'a, G>(
        &'a self,
        acquired: Result<(Incarnation, Acquired), Fault<Infallible>>,
        guard: impl FnOnce(&'a Self, Incarnation) -> G,
    ) -> Result<G, LockError<G>> {
        match acquired {
            Ok((me, Acquired { tainted: false })) => Ok(guard(self, me)),
            Ok((me, Acquired { tainted: true })) => Err(Fault::OwnerDied(guard(self, me)).into()),
            Err(fault) => Err(LockError::from(fault).map(|never| match never {})),
        }
    }

    /// Lets go of it, in the process that has it.
    fn release(&self, owner: Incarnation) {
        // Not in a copy of that process which was forked meanwhile.
        if Incarnation::own().is_ok_and(|own| own == owner) {
            self.ring_if(self.words().release(owner, now));
        }
    }

    /// Has the next of those who wait look.
    fn ring_if(&self, ring: bool) {
        if ring {
            self.cell.ring(self.bell);
        }
    }
}

/// What all processes agree on, in milliseconds.
pub(super) fn now() -> u64 {
    Moment::now().0 / 1_000_000
}

/// Somebody who waits.
struct Wait<'a> {
    lock: &'a Lock,
    me: Incarnation,
    vigil: Vigil,
    begun: Instant,
    /// How often that has looked.
    looks: u32,
    /// It has asked to be the next.
    asked: bool,
}

impl<'a> Wait<'a> {
    fn begin(lock: &'a Lock) -> io::Result<Self> {
        Ok(Self {
            lock,
            me: Incarnation::own()?,
            vigil: Vigil::at(&lock.cell, lock.bell)?,
            begun: Instant::now(),
            looks: 0,
            asked: false,
        })
    }

    /// What has come of it.
    fn ended(
        &self,
        waited: io::Result<Option<Acquired>>,
    ) -> Result<(Incarnation, Acquired), Fault<Infallible>> {
        let acquired = waited.map_err(Fault::System)?.ok_or(Fault::TimedOut)?;
        Ok((self.me, acquired))
    }
}

impl Waiter for Wait<'_> {
    type End = Acquired;

    fn look(&mut self) -> io::Result<Look<Acquired>> {
        let words = self.lock.words();
        self.looks += 1;
        loop {
            let acquired = match words.claim(self.me, now) {
                Ok(acquired) => Some(acquired),
                Err(holder) => {
                    if holder.process == self.me || self.vigil.attend(holder.process)? {
                        if self.looks > 2 && self.begun.elapsed() > PATIENCE {
                            words.starve(self.me);
                            self.asked = true;
                        }
                        return Ok(Look::Sleep(holder.handed.then_some(COURTESY)));
                    }
                    words.inherit(self.me, holder)
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
            self.lock.ring_if(self.lock.words().decline(self.me));
        }
    }
}

/// Tells whether it is locked, and by which process; never waits.
impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({})", self.state())
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.cell.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (WORDS, 1), deserializer).map(|cell| Self::within(&Arc::new(cell), 0, 0))
    }
}
