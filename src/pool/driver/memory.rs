//! Looking at how much memory the workers use, where that is bounded.

use std::sync::Arc;
use std::time::Duration;

use super::{Driver, id_of};
use crate::pool::scheduler::Event;
use crate::sys::clock::Moment;

/// How often. Each look costs a system call for each worker; a task that grows quickly goes on
/// for up to this long.
const PERIOD: Duration = Duration::from_millis(250);

impl Driver {
    /// Looks at the workers as long as any of them has something to do, and once more after that.
    /// Runs on the crate's thread.
    pub(super) async fn watch_memory(self: Arc<Self>) {
        while !self.progress.borrow().finished {
            self.busy.notified().await;
            loop {
                tokio::time::sleep(PERIOD).await;
                let busy = self.lock().scheduler.unfinished() > 0;
                self.measure();
                if !busy {
                    break;
                }
            }
        }
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
