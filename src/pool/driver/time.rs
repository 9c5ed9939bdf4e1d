//! The passing of time, and the end of the pool's runtime.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Driver;
use crate::pool::scheduler::Event;
use crate::process::Sleep;
use crate::sys::clock::Moment;
use crate::task::slabs::{self, Slabs};

impl Driver {
    /// Sleeps by the crate's own clockwork: the caller's runtime may have none.
    pub(crate) fn sleep(&self, limit: Duration) -> Sleep {
        self.keeper.sleep(limit)
    }

    /// Does something at that moment, on the crate's thread, or as soon as nothing waits any more.
    pub(crate) fn at(&self, moment: Moment, then: impl FnOnce() + Send + 'static) {
        let mut lifetime = self.watch();
        let due = async move {
            let due = tokio::time::sleep(Moment::now().until(moment));
            let hurried = lifetime.wait_for(|lifetime| lifetime.dropping || lifetime.finished);
            futures::future::select(pin!(due), pin!(hurried)).await;
        };
        match self.keeper.get() {
            Some(keeper) => after(&keeper, due, then),
            None => then(),
        }
    }

    /// Whether what waits is let finish no more.
    pub(crate) fn is_dropping(&self) -> bool {
        let lifetime = self.progress.borrow();
        lifetime.dropping || lifetime.finished
    }

    /// Ticks when the scheduler wants it. Runs on the crate's thread, so that limits are kept
    /// however busy the pool's runtime is.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let wake = {
                let mut state = self.lock();
                state.armed = state.wake_at().unwrap_or(Moment(u64::MAX));
                state.armed
            };
            if self.progress.borrow().finished {
                return;
            }
            let now = Moment::now();
            if wake > now {
                let rearmed = pin!(self.timer.notified());
                if wake == Moment(u64::MAX) {
                    rearmed.await;
                } else {
                    let due = pin!(tokio::time::sleep_until(Instant::now() + now.until(wake)));
                    futures::future::select(rearmed, due).await;
                }
                continue;
            }
            // What has come is taken in first: a response that is only waiting to be read must not
            // look like a worker that is late.
            let slots: Vec<_> = self.lock().slots.iter().flatten().cloned().collect();
            for slot in &slots {
                slot.pump(&*self);
            }
            self.tell(Event::Tick);
        }
    }

    /// Ends everything after a time, unless it is over by then.
    pub(crate) fn terminate_after(&self, limit: Duration) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        self.keeper.spawn(async move {
            let mut lifetime = driver.watch();
            let over = lifetime.wait_for(|lifetime| lifetime.finished);
            if tokio::time::timeout(limit, over).await.is_err() {
                driver.tell(Event::Terminate);
            }
        });
    }

    /// The pool's runtime has ended: what is unresolved is resolved, and the workers end.
    fn lost_home(&self) {
        self.help();
        self.tell(Event::Terminate);
    }
}

/// A task on the pool's runtime that does nothing but notice the runtime's end.
pub(super) struct Anchor(pub(super) Arc<Driver>);

impl Anchor {
    pub(super) async fn hold(self) {
        let mut lifetime = self.0.watch();
        // The sender lives in the driver, which this holds.
        let _ = lifetime.wait_for(|lifetime| lifetime.finished).await;
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if !self.0.progress.borrow().finished {
            self.0.lost_home();
        }
    }
}
/// Who has what large payloads have used given back when it was not used for a while: a task on the
/// crate's thread, as long as there is anything.
pub(super) fn watch_slabs(keeper: &Handle) -> impl Fn(Weak<Slabs>) + Send + Sync + 'static {
    let keeper = keeper.clone();
    move |slabs| {
        keeper.spawn(async move {
            loop {
                tokio::time::sleep(slabs::IDLE).await;
                if !slabs.upgrade().is_some_and(|slabs| slabs.trim()) {
                    return;
                }
            }
        });
    }
}

/// Does something after something else, on that runtime; or when the runtime ends before that, which
/// the crate's own does as soon as the last pool is over.
fn after(
    runtime: &Handle,
    first: impl Future<Output = ()> + Send + 'static,
    then: impl FnOnce() + Send + 'static,
) {
    let then = WhenDropped(Some(then));
    runtime.spawn(async move {
        first.await;
        drop(then);
    });
}

/// Something that is done in any case.
struct WhenDropped<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for WhenDropped<F> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|then| then());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Else a map whose item pauses would never hear that its pool is over.
    #[test]
    fn what_is_to_be_done_later_is_done_once_even_if_the_runtime_ends_first() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        let done = Arc::new(AtomicUsize::new(0));
        let count = || {
            let done = done.clone();
            move || _ = done.fetch_add(1, Ordering::Relaxed)
        };

        let ends = runtime();
        let dead = ends.handle().clone();
        after(&dead, std::future::pending(), count());
        assert_eq!(done.load(Ordering::Relaxed), 0);
        drop(ends);
        assert_eq!(done.load(Ordering::Relaxed), 1);
        after(&dead, std::future::ready(()), count());
        assert_eq!(done.load(Ordering::Relaxed), 2);

        let goes_on = runtime();
        after(goes_on.handle(), std::future::ready(()), count());
        goes_on.block_on(tokio::task::yield_now());
        assert_eq!(done.load(Ordering::Relaxed), 3);
        drop(goes_on);
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }
}
