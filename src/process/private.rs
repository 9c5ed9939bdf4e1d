//! Descriptors that a forked copy of this process must not have: without an `exec` it gets them all.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::descriptors;

/// The numbers of all that are open. Nobody holds the lock while this process is forked by the
/// crate, which it is only while it has one thread.
static OPEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A descriptor that a copy of this process closes.
#[derive(Debug)]
pub(crate) struct Private(OwnedFd);

impl Private {
    /// Keeps it from copies, as long as it is open.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        keep_for_life(&descriptor);
        Self(descriptor)
    }
}

impl Deref for Private {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Before it is closed, and the number another's.
        open().remove(&self.0.as_raw_fd());
    }
}

/// Keeps from copies what stays open to the end of this process.
pub(crate) fn keep_for_life(descriptor: &OwnedFd) {
    open().insert(descriptor.as_raw_fd());
}

/// Closes those of the parent, in a copy that has just been forked and goes its own way.
pub(super) fn close_in_copy() {
    let numbers = std::mem::take(&mut *open());
    numbers.into_iter().for_each(descriptors::close_forsaken);
}

fn open() -> MutexGuard<'static, BTreeSet<RawFd>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
