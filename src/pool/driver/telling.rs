//! Who is still telling answers. They are told without the pool's lock, so the pool may come to its end
//! meanwhile; whoever waits for that end is to find every call answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many tell answers just now.
#[derive(Debug, Default)]
pub(super) struct Tellers {
    count: AtomicUsize,
    over: Notify,
}

/// Answers have been taken out of the pool and are told; over when this is dropped.
#[derive(Debug)]
pub(super) struct Telling(Arc<Tellers>);

impl Tellers {
    /// One begins. Under the pool's lock, so that who finds the pool at its end finds this as well.
    pub(super) fn begin(self: &Arc<Self>) -> Telling {
        self.count.fetch_add(1, Ordering::Relaxed);
        Telling(self.clone())
    }

    /// Waits until nobody tells anything, when nobody begins any more. For one who waits.
    pub(super) async fn all_over(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            self.over.notified().await;
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.over.notify_one();
        }
    }
}
