//! Plain references into shared memory, for who has the lock it is under; a home of unsafe code.
//!
//! A reference promises that nobody changes what it shows, or, if it is mutable, that nobody else even
//! looks there. What makes the promise good:
//!
//! 1. The elements of a [`Locked`] are reached through this file alone. It gives out no descriptor, and no
//!    copies without the lock; and what travels is taken for nothing else on arrival, nor as under another
//!    lock (`plain.rs`).
//! 2. Whoever comes here has a [`LockGuard`] of their lock. Of those there is one at a time in all
//!    processes: the words of the lock are played in all orders (`src/sync/lock/model.rs`). A process
//!    that has died with it reads and writes no more. What was written before the lock was released is
//!    seen by who acquires it, because its words are swapped with that order.
//! 3. A guard that was copied by a fork has nothing: it is looked at each time, and refused.
//! 4. The references borrow the guard, mutably if they are mutable, so that among those who share it in
//!    this process the compiler sees to the rest.
//! 5. The elements are [`Pod`]: whatever bytes are there are a value. They are mapped, aligned and in
//!    bounds as long as the [`Plain`] lives, which is kept or borrowed.
//!
//! A program that opens its own or others' memory by way of `/proc` can break this, as it can break any
//! reference.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::Pod;

use super::locked::Locked;
use super::plain::{Block, Plain};
use crate::sync::LockGuard;

/// Has the lock of a [`Value`](crate::Value) or an [`Array`](crate::Array), and is a reference to what is
/// in shared memory, in place. Dropping it releases the lock.
///
/// May be moved to any task or thread of its process, if that is good for `T`.
///
/// # Panics
///
/// To look into it panics in a process that was [forked](crate::StartMethod::Fork) while it was there: the
/// lock is the parent's.
#[must_use = "dropped at once it protects nothing"]
pub struct ValueGuard<T: ?Sized> {
    elements: NonNull<T>,
    lock: LockGuard,
    /// Keeps them mapped.
    _block: Arc<Block>,
}

// SAFETY: it is a mutable reference with a lock guard and a share of the mapping, which are `Send`.
unsafe impl<T: ?Sized + Send> Send for ValueGuard<T> {}
// SAFETY: through a shared reference to it there is a shared reference to the elements, no more.
unsafe impl<T: ?Sized + Sync> Sync for ValueGuard<T> {}

impl<T: Pod> ValueGuard<T> {
    /// For the only element of a value.
    pub(super) fn of_one(value: &Plain<T>, lock: LockGuard) -> Self {
        Self::new(value, value.start(), lock)
    }
}

impl<T: Pod> ValueGuard<[T]> {
    /// For all of an array.
    pub(super) fn of_all(array: &Plain<T>, lock: LockGuard) -> Self {
        let all = std::ptr::slice_from_raw_parts_mut(array.start(), array.len());
        Self::new(array, all, lock)
    }
}

impl<T: ?Sized> ValueGuard<T> {
    /// `lock` is a guard of the lock that the elements are under.
    fn new<E: Pod>(memory: &Plain<E>, elements: *mut T, lock: LockGuard) -> Self {
        Self {
            elements: NonNull::new(elements).expect("nothing is mapped at address zero"),
            lock,
            _block: Arc::clone(memory.block()),
        }
    }

    /// Says that what is there is in order, although a process has died that had the lock: from now on it
    /// is acquired without an error.
    pub fn mark_sound(&self) {
        self.lock.mark_sound();
    }
}

impl<T: ?Sized> Deref for ValueGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        must_be_own(&self.lock);
        // SAFETY: see the top of this file. The guard is borrowed for as long as the reference lives.
        unsafe { self.elements.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for ValueGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        must_be_own(&self.lock);
        // SAFETY: see the top of this file. The guard is borrowed mutably for as long as the reference lives.
        unsafe { self.elements.as_mut() }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ValueGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The elements, for who has a guard of their lock, and lends it for as long as he uses them.
///
/// # Panics
///
/// When the guard is of another lock.
#[track_caller]
pub(super) fn under<'a, T: Pod>(elements: &'a Locked<T>, guard: &'a mut LockGuard) -> &'a mut [T] {
    elements.must_be_under(guard);
    must_be_own(guard);
    let (start, length) = (elements.elements().start(), elements.elements().len());
    // SAFETY: see the top of this file. Both are borrowed for as long as the reference lives, the guard
    // mutably, and there is no other.
    unsafe { std::slice::from_raw_parts_mut(start, length) }
}

#[track_caller]
fn must_be_own(lock: &LockGuard) {
    assert!(
        lock.is_own(),
        "the lock is had by the process that this one was forked from"
    );
}

#[cfg(test)]
mod tests {
    use crate::shared::Value;
    use crate::sync::Lock;
    use crate::sys::{fork, wait};

    #[test]
    fn a_copy_of_the_process_has_no_part_in_its_guards() {
        let (value, lock) = (Value::new(7).unwrap(), Lock::new().unwrap());
        let other = Value::with_lock(8, lock.clone()).unwrap();
        let (guard, mut outer) = (value.try_lock().unwrap(), lock.try_lock().unwrap());
        let refused = |look: &mut dyn FnMut() -> i32| {
            let look = std::panic::AssertUnwindSafe(look);
            std::panic::catch_unwind(look).is_err()
        };
        let copy = fork::copy(|| {
            std::panic::set_hook(Box::new(|_| {}));
            let refused = refused(&mut || *guard) && refused(&mut || *other.under(&mut outer));
            fork::exit_now(i32::from(!refused));
        });
        let copy = copy.unwrap();
        let status = loop {
            if let Some(status) = wait::reap_pid(copy).unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!((*guard, *other.under(&mut outer)), (7, 8));
    }
}
