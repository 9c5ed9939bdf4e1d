//! Elements in shared memory, and the lock they are under: what a value and an array consist of.

use std::io;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plain::{Kind, Plain};
use crate::sync::{Lock, LockError, LockGuard};

/// Elements that nobody reaches who has not their lock.
#[derive(Debug)]
pub(super) struct Locked<T> {
    elements: Plain<T>,
    lock: Lock,
}

impl<T: Pod> Locked<T> {
    /// Elements of their own, with this in them.
    pub(super) fn copy_of(kind: Kind, elements: &[T], lock: Lock) -> io::Result<Self> {
        let elements = Plain::copy_of(kind, elements, lock.number())?;
        Ok(Self { elements, lock })
    }

    /// So many elements of their own, whose bytes are all zero.
    pub(super) fn zeroed(kind: Kind, length: usize, lock: Lock) -> io::Result<Self> {
        let elements = Plain::new(kind, length, lock.number())?;
        Ok(Self { elements, lock })
    }

    pub(super) fn arrive<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (elements, lock) = <((u32, u64), Lock)>::deserialize(deserializer)?;
        let elements = Plain::arrive(kind, lock.number(), elements)?;
        Ok(Self { elements, lock })
    }

    pub(super) fn elements(&self) -> &Plain<T> {
        &self.elements
    }

    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What came of acquiring the lock, as it came of acquiring the whole.
    pub(super) fn acquired<G>(
        &self,
        acquired: Result<LockGuard, LockError>,
        guard: fn(&Plain<T>, LockGuard) -> G,
    ) -> Result<G, LockError<G>> {
        match acquired {
            Ok(lock) => Ok(guard(&self.elements, lock)),
            Err(error) => Err(error.map(|lock| guard(&self.elements, lock))),
        }
    }

    /// Sees to it that whoever has `guard` has the lock.
    #[track_caller]
    pub(super) fn must_be_under(&self, guard: &LockGuard) {
        let same = guard.lock().number() == self.lock.number();
        assert!(same, "the guard is of another lock");
    }
}

impl<T> Clone for Locked<T> {
    fn clone(&self) -> Self {
        Self {
            elements: self.elements.clone(),
            lock: self.lock.clone(),
        }
    }
}

impl<T> Serialize for Locked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.elements, &self.lock).serialize(serializer)
    }
}
