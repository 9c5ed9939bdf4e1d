//! Looking at how much memory the workers use, where that is bounded.

use std::sync::Arc;
use std::time::Duration;

use super::{Driver, id_of};
use crate::pool::scheduler::Event;
use crate::sys::clock::Moment;

/// How often. Each look costs a system call for each worker; a task that grows quickly goes on
/// for up to this long.
const PERIOD: Duration = Duration::from_millis(250);

/// The longest pause between two looks at workers that have nothing to do.
const LAST_PAUSE: Duration = Duration::from_secs(8);

impl Driver {
    /// Looks at the workers as long as any of them has something to do, and a few times after that.
    /// Runs on the crate's thread.
    pub(super) async fn watch_memory(self: Arc<Self>) {
        loop {
            self.busy.notified().await;
            loop {
                if self.progress.borrow().finished {
                    return;
                }
                tokio::time::sleep(PERIOD).await;
                let busy = self.lock().scheduler.unfinished() > 0;
                self.measure();
                if !busy && !self.watch_idle_memory().await {
                    break;
                }
            }
        }
    }

    /// Looks ever more rarely: what tasks have left running in their workers may still grow. Tells
    /// whether there is news meanwhile.
    async fn watch_idle_memory(&self) -> bool {
        let mut pause = PERIOD;
        while pause < LAST_PAUSE {
            pause *= 2;
            let news = self.busy.notified();
            if tokio::time::timeout(pause, news).await.is_ok() {
                return true;
            }
            self.measure();
        }
        false
    }

    pub(super) fn watches_memory(&self) -> bool {
        self.plan.rules.renewal.max_memory.is_some()
    }

    fn measure(&self) {
        let now = Moment::now();
        let slots: Vec<_> = self.lock().slots.iter().flatten().cloned().collect();
        // A worker that has just ended has none.
        let used = slots.iter().filter_map(|slot| {
            let used = slot.memory.as_ref()?.used().ok()?;
            Some((id_of(slot), used))
        });
        let used: Vec<_> = used.collect();
        let mut state = self.lock();
        for (worker, used) in used {
            let event = Event::Measured(worker, used);
            state.scheduler.handle(now, event);
        }
        self.perform(state, now);
    }
}
