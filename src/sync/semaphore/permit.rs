//! What it is to have one of a semaphore's permits.

use std::fmt;

use super::Semaphore;
use crate::sync::lock::now;
use crate::sys::incarnation::Incarnation;

/// One of the permits of a [`Semaphore`]; dropping it gives that back. May be moved to any task or thread
/// of its process.
#[must_use = "dropped at once it is given back"]
pub struct Permit {
    semaphore: Semaphore,
    slot: usize,
    /// The process that has it: a copy that is forked meanwhile does not. Nobody, once it is forgotten.
    owner: Option<Incarnation>,
}

impl Permit {
    pub(super) fn new(semaphore: Semaphore, slot: usize, owner: Incarnation) -> Self {
        Self {
            semaphore,
            slot,
            owner: Some(owner),
        }
    }

    /// Keeps the permit from coming back: the semaphore has one less, until somebody
    /// [releases](Semaphore::release) one, here or in another process.
    pub fn forget(mut self) {
        if let Some(me) = self.take() {
            self.semaphore.slots().forget(self.slot, me);
        }
    }

    /// Its owner, if that is this process; from then on nobody.
    fn take(&mut self) -> Option<Incarnation> {
        let own = Incarnation::own().ok();
        self.owner.take().filter(|owner| Some(*owner) == own)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(me) = self.take() {
            let ring = self.semaphore.slots().release(self.slot, me, now);
            self.semaphore.ring_if(ring);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
