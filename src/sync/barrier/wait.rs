//! One party that waits at a barrier: it comes in, waits for the others, and leaves.

use std::io;

use super::error::{BarrierError, Fault};
use super::phase::{Phase, Stage, Why};
use super::room::Door;
use super::{BELL, Barrier, BarrierWaitResult};
use crate::sync::error::LockError;
use crate::sync::lock::LockGuard;
use crate::sync::vigil::Vigil;
use crate::sync::waiting::{Look, Waiter};
use crate::sys::incarnation::Incarnation;

/// One party.
pub(super) struct Wait<'a> {
    barrier: &'a Barrier,
    vigil: Vigil,
    me: Incarnation,
    /// Where it is in.
    place: Option<usize>,
    /// Why the others fail, if it leaves them now.
    leaves: Why,
}

/// Whether it came in.
pub(super) enum Entered {
    In,
    /// As the last one: it is its turn.
    Last,
    /// Others have to leave first.
    Not,
}

impl<'a> Wait<'a> {
    pub(super) fn begin(barrier: &'a Barrier) -> Result<Self, BarrierError> {
        Ok(Self {
            barrier,
            vigil: Vigil::at(&barrier.0, BELL).map_err(Fault::System)?,
            me: Incarnation::own().map_err(Fault::System)?,
            place: None,
            leaves: Why::LeftEarly,
        })
    }

    /// Comes in, if that can be, with the lock of the door. One who has died with that left nothing half
    /// done.
    pub(super) fn enter(
        &mut self,
        door: Result<LockGuard, LockError>,
    ) -> Result<Entered, BarrierError> {
        let _door = match door.or_else(LockError::into_guard) {
            Ok(door) => door,
            Err(error) if error.is_timeout() => {
                self.give_up()?;
                return Ok(Entered::Not);
            }
            Err(error) => return Err(Fault::System(io::Error::other(error)).into()),
        };
        let room = self.barrier.room();
        loop {
            let coming = match room.come(self.me) {
                Door::Open(coming) => coming,
                Door::Shut => return Ok(Entered::Not),
                Door::Broken(why) => return Err(Fault::from(why).into()),
            };
            if coming.is_new {
                // So that they attend to this process, too.
                self.barrier.ring_if(room.may_sleep());
            }
            if let Some(all) = room.step_in(coming, self.me) {
                self.place = Some(coming.place);
                return Ok(if all { Entered::Last } else { Entered::In });
            }
        }
    }

    /// As the last one: runs the action, and lets all pass.
    pub(super) fn open(mut self, action: impl FnOnce()) -> Result<BarrierWaitResult, BarrierError> {
        // Who has died meanwhile is found out here.
        if let Look::Over(failed) = self.look().map_err(Fault::System)? {
            return self.end(Ok(Some(failed)));
        }
        self.leaves = Why::Panicked;
        action();
        self.leaves = Why::LeftEarly;
        self.barrier.change(Phase::pass);
        let outcome = self.outcome();
        self.end(Ok(outcome))
    }

    /// What has become of the round that it is in, or of the barrier; `None` while it has to wait.
    fn outcome(&self) -> Option<Result<(), Fault>> {
        let room = self.barrier.room();
        let is_in = self.place.is_some();
        match room.phase().stage {
            Stage::Broken(why) => Some(Err(why.into())),
            Stage::Filling if is_in => None,
            Stage::Filling => (room.inside().count() < room.parties).then_some(Ok(())),
            Stage::Passed | Stage::PassedBreaks(_) if is_in => Some(Ok(())),
            Stage::Resetting if is_in => Some(Err(Fault::Reset)),
            Stage::Passed | Stage::PassedBreaks(_) | Stage::Resetting => {
                room.settle().then_some(Ok(()))
            }
        }
    }

    /// Goes on after a sleep: it has passed, or may come in, or has failed.
    pub(super) fn woken(
        &self,
        waited: io::Result<Option<Result<(), Fault>>>,
    ) -> Result<(), BarrierError> {
        let outcome = waited.map_err(Fault::System)?;
        Ok(outcome.unwrap_or_else(|| self.give_up())?)
    }

    /// Ends, in where it was in.
    pub(super) fn end(
        self,
        waited: io::Result<Option<Result<(), Fault>>>,
    ) -> Result<BarrierWaitResult, BarrierError> {
        self.woken(waited)?;
        let index = self.place.unwrap_or_default();
        Ok(BarrierWaitResult { index })
    }

    /// Its limit has passed: so the others cannot pass either, unless all have at the last moment.
    fn give_up(&self) -> Result<(), Fault> {
        if self.place.is_none() {
            let breaks = |phase: Phase| phase.break_up(Why::TimedOut);
            self.barrier.change_from_outside(breaks);
            return Err(Fault::TimedOut);
        }
        let breaks = |phase: Phase| phase.break_round(Why::TimedOut);
        self.barrier.change(breaks);
        self.outcome().unwrap_or(Err(Fault::TimedOut))
    }
}

impl Waiter for Wait<'_> {
    /// That it has passed, or may try to come in; or why neither.
    type End = Result<(), Fault>;

    fn look(&mut self) -> io::Result<Look<Self::End>> {
        let room = self.barrier.room();
        loop {
            room.about_to_sleep();
            if let Some(outcome) = self.outcome() {
                return Ok(Look::Over(outcome));
            }
            let Some(dead) = self.vigil.attend_to(&room.others(self.me))? else {
                return Ok(Look::Sleep(None));
            };
            room.bury(dead);
            self.barrier.ring_if(room.has_sleepers());
        }
    }

    fn vigil(&self) -> &Vigil {
        &self.vigil
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else {
            return;
        };
        let why = self.leaves;
        self.barrier.change(|phase| phase.break_round(why));
        let room = self.barrier.room();
        let is_empty = room.leave(place, self.me);
        self.barrier.ring_if(is_empty && room.has_sleepers());
    }
}
