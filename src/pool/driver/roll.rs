//! Who is still at something, where the end of the pool waits for that: those who tell answers, without the
//! pool's lock, so that whoever waits for the end finds every call answered; and those who serve its workers
//! on its runtime, so that he finds their descriptors closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How many are there.
#[derive(Debug, Default)]
pub(super) struct Roll {
    count: AtomicUsize,
    over: Notify,
    /// How many are just saying that they have gone. A thread that wakes a task has a share in its runtime
    /// meanwhile, and with that its descriptors.
    leaving: AtomicUsize,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct Present(Arc<Roll>);

impl Roll {
    /// One more. Under the pool's lock, so that who finds the pool at its end finds this as well.
    pub(super) fn enter(self: &Arc<Self>) -> Present {
        self.count.fetch_add(1, Ordering::Relaxed);
        Present(self.clone())
    }

    /// Waits until nobody is there, when nobody comes any more. For one who waits, on a runtime with a clock.
    pub(super) async fn all_gone(&self) {
        while self.count.load(Ordering::SeqCst) > 0 {
            self.over.notified().await;
        }
        // To be woken for this would be no better. They have next to nothing left to do.
        while self.leaving.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        // Before: whoever finds nobody there finds who is leaving.
        self.0.leaving.fetch_add(1, Ordering::SeqCst);
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.over.notify_one();
        }
        self.0.leaving.fetch_sub(1, Ordering::SeqCst);
    }
}
