//! A place where parties wait for each other.

mod error;
#[cfg(test)]
mod model;
mod phase;
mod room;
mod wait;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::BarrierError;
use self::phase::{Phase, Stage, Why};
use self::room::{HEAD, LIMIT, Room};
use self::wait::{Entered, Wait};
use super::cell::Cell;
use super::lock::Lock;
use super::waiting;
use crate::sys::blocking;
use crate::sys::incarnation::Incarnation;

/// Lets a number of parties, in any processes, wait until all of them are there, round after round, as
/// Python's `multiprocessing.Barrier`.
///
/// A clone is the same barrier, and so is what arrives where one was sent. A party is who waits: any task
/// or thread.
///
/// ```
/// use procpool::{Barrier, ProcessPool, SharedMemory};
///
/// fn work((all_are_there, done): (Barrier, SharedMemory)) -> u8 {
///     let index = all_are_there.blocking_wait(None).expect("nobody dies here").index();
///     done.write_at(index, &[1]);
///     all_are_there.blocking_wait(None).expect("nobody dies here");
///     done.to_vec().iter().sum() // what all of them have done
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(3).build()?;
/// let (barrier, done) = (Barrier::new(3)?, SharedMemory::new(3)?);
/// let parties = [(); 3].map(|()| pool.submit(work, (barrier.clone(), done.clone())));
/// assert_eq!(futures::future::try_join_all(parties).await?, [3, 3, 3]);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # When it is broken
///
/// If a party that is in does not stay, those that wait with it can never pass. So all of them fail, within
/// a second, with the [reason](BarrierError): its process has died, its limit has passed, its wait was
/// dropped, or somebody has called [`abort`](Self::abort). Whoever comes then fails as well, until somebody
/// calls [`reset`](Self::reset). A party that dies before it has come is missed by nobody: give a limit
/// where that can be.
///
/// # Costs
///
/// Who waits needs two descriptors, and one more for each other process of which parties are in. A process
/// that comes in wakes those that are in for a moment, so that they attend to it.
#[derive(Clone)]
pub struct Barrier(Arc<Cell>);

const KIND: &str = "barrier";

/// That of the door's lock.
const DOOR_BELL: usize = 0;

/// That of those who wait.
const BELL: usize = 1;

impl Barrier {
    /// The most parties that there can be.
    pub const MAX_PARTIES: usize = 4_096;

    /// Makes a barrier for so many parties.
    ///
    /// # Errors
    ///
    /// When they are none, or more than [`MAX_PARTIES`](Self::MAX_PARTIES), or this process may have no
    /// more descriptors or mappings; and where there is no `/proc`.
    pub fn new(parties: usize) -> io::Result<Self> {
        if parties == 0 || parties > Self::MAX_PARTIES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a barrier is for one party at least, and no more than 4096",
            ));
        }
        let cell = Cell::new(KIND, HEAD + parties, 2)?;
        Ok(Self(Arc::new(cell)))
    }

    /// The same, with a limit for each wait that is given none.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_timeout(parties: usize, limit: Duration) -> io::Result<Self> {
        let barrier = Self::new(parties)?;
        // No limit at all is what is beyond centuries.
        let nanoseconds = u64::try_from(limit.as_nanos()).map_or(0, |limit| limit.max(1));
        barrier.0.word(LIMIT).store(nanoseconds, Relaxed);
        Ok(barrier)
    }

    /// Waits until all are there.
    ///
    /// # Errors
    ///
    /// Where it [is broken](BarrierError::is_broken) or breaks; and where the system has no room for one
    /// who sleeps, which breaks it for the others.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped once it is in breaks the barrier, unless all are there already.
    pub async fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_with(|| {}).await
    }

    /// The same, at most for that long: then the barrier is broken.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_within(Some(limit), || {}).await
    }

    /// Waits until all are there. Whoever comes last runs his action before anybody goes on; those of the
    /// others are dropped. One that panics breaks the barrier.
    ///
    /// Python's barrier is given its action when it is made. A closure that is given here may use whatever
    /// this process has.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_with(
        &self,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_within(None, action).await
    }

    async fn wait_within(
        &self,
        limit: Option<Duration>,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, BarrierError> {
        let deadline = waiting::deadline(limit.or_else(|| self.limit()));
        let mut wait = Wait::begin(self)?;
        loop {
            match wait.enter(self.door().lock_until(deadline).await)? {
                Entered::In => break,
                Entered::Last => return wait.open(action),
                Entered::Not => {}
            }
            let woken = waiting::in_future(&mut wait, deadline).await;
            wait.woken(woken)?;
        }
        let waited = waiting::in_future(&mut wait, deadline).await;
        wait.end(waited)
    }

    /// Waits on a thread that may block, as [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// On a thread that drives async tasks: those need [`wait`](Self::wait).
    #[track_caller]
    pub fn blocking_wait(
        &self,
        limit: Option<Duration>,
    ) -> Result<BarrierWaitResult, BarrierError> {
        self.blocking_wait_with(limit, || {})
    }

    /// Waits on a thread that may block, with an action, as [`wait_with`](Self::wait_with).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`blocking_wait`](Self::blocking_wait), and as the action.
    #[track_caller]
    pub fn blocking_wait_with(
        &self,
        limit: Option<Duration>,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, BarrierError> {
        blocking::must_be_allowed();
        let deadline = waiting::deadline(limit.or_else(|| self.limit()));
        let mut wait = Wait::begin(self)?;
        loop {
            match wait.enter(self.door().lock_here(deadline))? {
                Entered::In => break,
                Entered::Last => return wait.open(action),
                Entered::Not => {}
            }
            let woken = waiting::on_thread(&mut wait, deadline);
            wait.woken(woken)?;
        }
        let waited = waiting::on_thread(&mut wait, deadline);
        wait.end(waited)
    }

    /// Breaks it: whoever is in and cannot pass any more fails, and so does whoever comes. Where it is
    /// broken already nothing changes.
    pub fn abort(&self) {
        self.change_from_outside(|phase| phase.break_up(Why::Aborted));
    }

    /// Makes it as new: whoever is in and cannot pass any more fails, and the next round begins.
    pub fn reset(&self) {
        self.change_from_outside(Phase::reset);
        let room = self.room();
        self.ring_if(room.settle() && room.has_sleepers());
    }

    /// Tells whether it is broken.
    pub fn is_broken(&self) -> bool {
        matches!(
            self.room().phase().stage,
            Stage::Broken(_) | Stage::PassedBreaks(_)
        )
    }

    /// Tells how many are in and wait for others.
    pub fn n_waiting(&self) -> usize {
        let room = self.room();
        match room.phase().stage {
            Stage::Filling => room.inside().count(),
            _ => 0,
        }
    }

    /// Tells for how many parties it is.
    pub fn parties(&self) -> usize {
        self.room().parties
    }

    fn limit(&self) -> Option<Duration> {
        match self.0.word(LIMIT).load(Relaxed) {
            0 => None,
            limit => Some(Duration::from_nanos(limit)),
        }
    }

    fn door(&self) -> Lock {
        Lock::within(&self.0, 0, DOOR_BELL)
    }

    fn room(&self) -> Room<'_, Cell> {
        Room {
            words: &*self.0,
            parties: self.0.words().saturating_sub(HEAD),
        }
    }

    /// For one who is in, to whom the others attend; tells whether it could be.
    fn change(&self, to: impl Fn(Phase) -> Option<Phase>) -> bool {
        let room = self.room();
        let changed = room.change(to);
        self.ring_if(changed && room.has_sleepers());
        changed
    }

    /// For anybody else.
    fn change_from_outside(&self, to: impl Fn(Phase) -> Option<Phase>) {
        let room = self.room();
        // Without a `/proc` there would be no barrier here.
        let me = Incarnation::own().ok();
        if let Some(me) = me {
            self.ring_if(room.announce(me));
        }
        self.change(to);
        if let Some(me) = me {
            room.announced(me);
        }
    }

    fn ring_if(&self, ring: bool) {
        if ring {
            self.0.ring(BELL);
        }
    }
}

/// What a party knows that has passed a [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
}

impl BarrierWaitResult {
    /// Tells its number in this round: each from zero to the number of parties is had by one.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Tells whether it is the one of this round that has the number zero.
    pub fn is_leader(&self) -> bool {
        self.index == 0
    }
}

/// Tells what it is at; never waits.
impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.n_waiting())
            .field("is_broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (HEAD + 1, 2), deserializer).map(|cell| Self(Arc::new(cell)))
    }
}
