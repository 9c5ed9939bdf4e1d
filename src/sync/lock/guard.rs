//! What it is to have a lock.

use std::fmt;

use super::Lock;
use crate::sys::incarnation::Incarnation;

/// Has a [`Lock`]; dropping it releases that. May be moved to any task or thread of its process.
#[must_use = "dropped at once it protects nothing"]
pub struct LockGuard {
    lock: Lock,
    /// The process that has it: a copy that is forked meanwhile does not.
    owner: Incarnation,
}

impl LockGuard {
    pub(super) fn new(lock: &Lock, owner: Incarnation) -> Self {
        Self {
            lock: lock.clone(),
            owner,
        }
    }

    /// Says that what the lock protects is in order, although a process has died that had it: from now
    /// on it is acquired without an error.
    pub fn mark_sound(&self) {
        self.lock.words().mark_sound();
    }

    /// Whether it is this process that has the lock, and not the one that it was forked from.
    pub(crate) fn is_own(&self) -> bool {
        Incarnation::own().is_ok_and(|own| own == self.owner)
    }

    /// The lock.
    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.lock.release(self.owner);
    }
}

/// The same for a moment, within which the lock is known to be there.
#[must_use = "dropped at once it protects nothing"]
#[derive(Debug)]
pub(crate) struct Held<'a> {
    lock: &'a Lock,
    owner: Incarnation,
}

impl<'a> Held<'a> {
    pub(super) fn new(lock: &'a Lock, owner: Incarnation) -> Self {
        Self { lock, owner }
    }

    /// Says that what the lock protects is in order.
    pub(crate) fn mark_sound(&self) {
        self.lock.words().mark_sound();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.release(self.owner);
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}
