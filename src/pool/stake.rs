//! Who keeps a pool open: its clones, and the maps that may still take something from their sources.
//! Tasks and handles do not. A pool of threads counts in the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::driver::Driver;
use super::scheduler::Event;

/// A pool, as those know it who keep it open.
pub(crate) trait Open {
    /// How many there are.
    fn stakes(&self) -> &AtomicUsize;

    /// Tells whether it takes no more work.
    fn is_closed(&self) -> bool;

    /// Takes no new work.
    fn close(&self);
}

/// A share in a pool's being open: when the last one is dropped, the pool is closed.
pub(crate) struct Stake<D: Open>(Arc<D>);

impl<D: Open> Stake<D> {
    /// Takes a share. In a pool that is closed, for whatever reason, it changes nothing.
    pub(crate) fn new(driver: Arc<D>) -> Self {
        driver.stakes().fetch_add(1, Ordering::Relaxed);
        Self(driver)
    }

    pub(crate) fn driver(&self) -> &Arc<D> {
        &self.0
    }
}

impl<D: Open> Clone for Stake<D> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<D: Open> Drop for Stake<D> {
    fn drop(&mut self) {
        if self.0.stakes().fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if !self.0.is_closed() {
            tracing::debug!(target: "procpool", "a pool was dropped without being closed");
        }
        self.0.close();
    }
}

impl Open for Driver {
    fn stakes(&self) -> &AtomicUsize {
        &self.stakes
    }

    fn is_closed(&self) -> bool {
        self.watch().borrow().closed
    }

    fn close(&self) {
        self.tell(Event::Close);
    }
}
