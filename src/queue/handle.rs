//! What all clones of a queue in this process have: the queue, until it is closed here.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use tokio::task::coop::consume_budget;

use super::books::Bounds;
use super::core::{Core, GETTERS, JOINERS, PUTTERS, Side};
use super::encoded::Encoded;
use super::error::Fault;
use super::turn::Turn;

/// Where so many items in a queue have descriptors, no more slabs go into it: the system takes a few hundred
/// parcels, and no put shall wait for that whose bytes the ring has room for.
const CROWD: u64 = 64;

/// A queue of items as bytes. A clone is closed with it.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    core: RwLock<Option<Arc<Core>>>,
    /// Whether it is closed here, for those who have the queue still.
    closed: AtomicBool,
}

impl Handle {
    pub(super) fn new(bounds: Bounds, counts: bool) -> io::Result<Self> {
        Ok(Self::of(Core::new(bounds, counts)?))
    }

    fn of(core: Core) -> Self {
        Self(Arc::new(Shared {
            core: RwLock::new(Some(Arc::new(core))),
            closed: AtomicBool::new(false),
        }))
    }

    /// The queue, unless it is closed here.
    pub(super) fn core(&self) -> Result<Arc<Core>, Fault> {
        // Nothing panics under it.
        let core = self.0.core.read().unwrap_or_else(PoisonError::into_inner);
        core.clone().ok_or(Fault::Closed)
    }

    /// Does it if there is nothing to wait for, nor anything wrong.
    #[inline]
    fn quickly<R>(
        &self,
        side: Side,
        attempt: &mut impl FnMut(&mut Turn<'_>) -> Tried<R>,
    ) -> Option<Result<R, Fault>> {
        let core = self.0.core.read().unwrap_or_else(PoisonError::into_inner);
        let done = core.as_ref()?.quickly(side, attempt).transpose()?;
        Some(done.unwrap_or_else(|error| Err(error.into())))
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(SeqCst)
    }

    /// Closes it here, and has those notice who wait in this process.
    pub(super) fn close(&self) {
        self.0.closed.store(true, SeqCst);
        let core = self
            .0
            .core
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(core) = core {
            // Who sleeps in other processes looks, and sleeps on.
            for side in core.sides() {
                core.cell.ring(side.bell);
            }
        }
    }

    /// Says to everybody that nothing more comes in.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        self.core()?.turn()?.finish();
        Ok(())
    }

    /// An item as bytes, with what is large in it in slabs, where those find room.
    pub(super) fn encode<T: Serialize>(&self, item: &T) -> Result<Encoded, Fault> {
        let encoded = Encoded::of(item).map_err(Fault::Encode)?;
        if encoded.slabs == 0 || self.core().is_ok_and(|core| takes_slabs(&core, &encoded)) {
            return Ok(encoded);
        }
        Encoded::without_slabs(item).map_err(Fault::Encode)
    }

    /// Puts an item, when there is room.
    pub(super) async fn put(&self, item: &Encoded) -> Result<(), Fault> {
        // Who always finds what he wants leaves some of the time to others on his runtime.
        consume_budget().await;
        let mut attempt = self.to_put(item);
        if let Some(put) = self.quickly(PUTTERS, &mut attempt) {
            return put;
        }
        self.core_for(item)?.in_future(PUTTERS, attempt).await?
    }

    /// Puts an item on this thread, when there is room.
    #[track_caller]
    pub(super) fn blocking_put(
        &self,
        item: &Encoded,
        limit: Option<Duration>,
    ) -> Result<(), Fault> {
        let mut attempt = self.to_put(item);
        if let Some(put) = self.quickly(PUTTERS, &mut attempt) {
            return put;
        }
        let put = self.core_for(item)?.on_thread(PUTTERS, limit, attempt)?;
        put.unwrap_or(Err(Fault::StillFull))
    }

    /// Puts an item, if there is room.
    pub(super) fn try_put(&self, item: &Encoded) -> Result<(), Fault> {
        let mut attempt = self.to_put(item);
        if let Some(put) = self.quickly(PUTTERS, &mut attempt) {
            return put;
        }
        let put = self.core_for(item)?.at_once(attempt)?;
        put.unwrap_or(Err(Fault::Full))
    }

    /// Takes an item, when there is one.
    pub(super) async fn take(&self) -> Result<Encoded, Fault> {
        consume_budget().await;
        let mut attempt = self.to_take();
        if let Some(taken) = self.quickly(GETTERS, &mut attempt) {
            return taken;
        }
        self.core()?.in_future(GETTERS, attempt).await?
    }

    /// Takes an item on this thread, when there is one.
    #[track_caller]
    pub(super) fn blocking_take(&self, limit: Option<Duration>) -> Result<Encoded, Fault> {
        let mut attempt = self.to_take();
        if let Some(taken) = self.quickly(GETTERS, &mut attempt) {
            return taken;
        }
        let taken = self.core()?.on_thread(GETTERS, limit, attempt)?;
        taken.unwrap_or(Err(Fault::StillEmpty))
    }

    /// Takes an item, if there is one.
    pub(super) fn try_take(&self) -> Result<Encoded, Fault> {
        let mut attempt = self.to_take();
        if let Some(taken) = self.quickly(GETTERS, &mut attempt) {
            return taken;
        }
        let taken = self.core()?.at_once(attempt)?;
        taken.unwrap_or(Err(Fault::Empty))
    }

    /// Says that an item is done.
    pub(super) fn task_done(&self) -> Result<(), Fault> {
        match self.core()?.turn()?.give_up_one(true)? {
            true => Ok(()),
            false => Err(Fault::TooOften),
        }
    }

    /// Says that an item will never be done that this process has taken, where that is counted.
    pub(super) fn lose_one(&self) {
        if let Some(core) = self.core().ok().filter(|core| core.counts) {
            // Where it cannot be said it is lost when this process ends.
            let _ = core.turn().and_then(|mut turn| turn.give_up_one(false));
        }
    }

    /// Waits until all is done that was put.
    pub(super) async fn join(&self) -> Result<(), Fault> {
        consume_budget().await;
        let core = self.core()?;
        core.in_future(JOINERS, self.to_join()).await?
    }

    /// Waits on this thread until all is done that was put.
    #[track_caller]
    pub(super) fn blocking_join(&self, limit: Option<Duration>) -> Result<(), Fault> {
        let core = self.core()?;
        let joined = core.on_thread(JOINERS, limit, self.to_join())?;
        joined.unwrap_or(Err(Fault::Unfinished))
    }

    /// The queue, if it can ever have room for this.
    fn core_for(&self, item: &Encoded) -> Result<Arc<Core>, Fault> {
        let core = self.core()?;
        let words = item.extent().total();
        match words > core.bounds.words {
            true => Err(Fault::TooLarge {
                needed: words * 8,
                capacity: core.bounds.words * 8,
            }),
            false => Ok(core),
        }
    }

    /// What is tried each time.
    fn to_put(&self, item: &Encoded) -> impl FnMut(&mut Turn<'_>) -> Tried<()> {
        move |turn| {
            if self.is_closed() {
                return Ok(Some(Err(Fault::Closed)));
            }
            if turn.is_finished() {
                return Ok(Some(Err(Fault::Finished)));
            }
            Ok(turn.put(item)?.then_some(Ok(())))
        }
    }

    /// What is tried each time.
    fn to_take(&self) -> impl FnMut(&mut Turn<'_>) -> Tried<Encoded> {
        move |turn| {
            if self.is_closed() {
                return Ok(Some(Err(Fault::Closed)));
            }
            let taken = turn.take()?.map(Ok);
            Ok(taken.or_else(|| turn.is_finished().then_some(Err(Fault::Finished))))
        }
    }

    /// What is tried each time.
    fn to_join(&self) -> impl FnMut(&mut Turn<'_>) -> Tried<()> {
        move |turn| {
            if self.is_closed() {
                return Ok(Some(Err(Fault::Closed)));
            }
            Ok(match turn.unfinished_and_lost() {
                (0, 0) => Some(Ok(())),
                (0, lost) => Some(Err(Fault::Lost(lost))),
                _ => None,
            })
        }
    }
}

/// Whether an item may be put as it is, with its slabs. The words for these may be just those that it is
/// too large by.
fn takes_slabs(core: &Core, item: &Encoded) -> bool {
    core.glance().parcels < CROWD && item.extent().total() <= core.bounds.words
}

/// What came of one try: nothing yet, or the end of it.
type Tried<T> = io::Result<Option<Result<T, Fault>>>;

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let core = self.core().map_err(ser::Error::custom)?;
        core.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Core::deserialize(deserializer).map(Self::of)
    }
}
