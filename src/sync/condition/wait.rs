//! Somebody who waits for a condition.

use std::io;
use std::time::{Duration, Instant};

use super::Condition;
use super::table::Entry;
use crate::sync::error::{Fault, LockError};
use crate::sync::lock::LockGuard;
use crate::sync::vigil::Vigil;
use crate::sync::waiting::{Look, Waiter};
use crate::sys::incarnation::Incarnation;

/// So often that he looks who has died. Nobody rings who acquires the lock, and so nobody knows to whose
/// end he should attend.
const ROUND: Duration = Duration::from_millis(250);

/// Somebody who waits, and has not the lock.
pub(super) struct Wait<'a> {
    condition: &'a Condition,
    vigil: Vigil,
    /// What is left when he is notified, until he has the lock again; and what he gives up otherwise.
    entry: Option<Entry>,
    me: Incarnation,
    /// The lock was tainted before: that is no news.
    was_tainted: bool,
    looked_around: Instant,
}

impl<'a> Wait<'a> {
    /// Begins, and releases the lock.
    pub(super) fn begin(condition: &'a Condition, guard: LockGuard) -> Result<Self, LockError> {
        if !condition.is_locked_by(&guard) {
            return Err(Fault::WrongLock(guard).into());
        }
        let me = Incarnation::own().map_err(Fault::System)?;
        let vigil = Vigil::at(&condition.cell, 0).map_err(Fault::System)?;
        let full = || Fault::System(io::Error::other("no more can wait for the condition"));
        let entry = condition.table().enter(me).ok_or_else(full)?;
        let wait = Self {
            condition,
            vigil,
            entry: Some(entry),
            me,
            was_tainted: condition.lock.is_tainted(),
            looked_around: Instant::now(),
        };
        drop(guard);
        Ok(wait)
    }

    /// Ends with the lock, however that was acquired; tells whether he was notified.
    pub(super) fn end(
        mut self,
        locked: Result<LockGuard, LockError>,
    ) -> Result<(LockGuard, bool), LockError> {
        let has_it = locked.as_ref().err().is_none_or(LockError::is_owner_died);
        let entry = self.entry.take_if(|_| has_it);
        let notified = entry.is_some_and(|entry| self.condition.table().leave(&entry));
        Ok((locked?, notified))
    }

    /// Looks who has died: takes over from those that were notified; tells whether it was one who had the
    /// lock.
    fn look_around(&mut self) -> io::Result<bool> {
        self.looked_around = Instant::now();
        let Some(entry) = &mut self.entry else {
            return Ok(false);
        };
        let table = self.condition.table();
        for process in table.notified() {
            if process != self.me && process.open()?.is_none() {
                ring_if(self.condition, table.inherit(process, entry).is_err());
            }
        }
        match self.condition.lock.holder() {
            Some(process) if process != self.me => Ok(process.open()?.is_none()),
            _ => Ok(false),
        }
    }
}

impl Waiter for Wait<'_> {
    type End = ();

    fn look(&mut self) -> io::Result<Look<()>> {
        let is_late = self.looked_around.elapsed() >= ROUND;
        if is_late && self.look_around()? {
            return Ok(Look::Over(()));
        }
        if self.condition.lock.is_tainted() && !self.was_tainted {
            return Ok(Look::Over(()));
        }
        let entry = self.entry.as_mut().expect("only the end takes it");
        let is_notified = loop {
            match self.condition.table().look(entry) {
                Ok(is_notified) => break is_notified,
                Err(()) => ring_if(self.condition, true),
            }
        };
        if is_notified {
            return Ok(Look::Over(()));
        }
        let left = ROUND.saturating_sub(self.looked_around.elapsed());
        Ok(Look::Sleep(Some(left)))
    }

    fn vigil(&self) -> &Vigil {
        &self.vigil
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            ring_if(self.condition, self.condition.table().abandon(entry));
        }
    }
}

fn ring_if(condition: &Condition, ring: bool) {
    if ring {
        condition.cell.ring(0);
    }
}
