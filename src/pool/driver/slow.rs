//! A run that takes longer than is usual: told to who listens to events, and logged.

use std::sync::Arc;
use std::time::Duration;

use super::state::State;
use crate::pool::events::PoolEvent;
use crate::pool::scheduler::{JobKey, Ticket, WorkerId};
use crate::pool::trace::CallTrace;

/// Such a run.
pub(super) struct SlowCall {
    task: u64,
    name: Option<Arc<str>>,
    worker: String,
    pid: u32,
    ran_for: Duration,
    trace: CallTrace,
}

impl State {
    /// Finds out which run it is, and notes the event.
    pub(super) fn slow(
        &self,
        (worker, ticket): (WorkerId, Ticket),
        key: JobKey,
        ran_for: Duration,
    ) -> Option<SlowCall> {
        let (slot, job) = (self.slot(worker)?, self.scheduler.attachment(key)?);
        // Of a chunk the item that was begun last. Its worker may be at the next one by now; who
        // counts on such short items has set the bound too low.
        let begun = slot.page.begun(ticket).min(job.client.items());
        let slow = SlowCall {
            task: key.number() + u64::from(begun.saturating_sub(1)),
            name: job.name(),
            worker: slot.name.clone(),
            pid: slot.child.pid(),
            ran_for,
            trace: job.trace.clone(),
        };
        self.hub.note(|| PoolEvent::SlowCall {
            task: slow.task,
            name: slow.name.clone(),
            pid: slow.pid,
            ran_for,
        });
        Some(slow)
    }
}

impl SlowCall {
    /// Logs it. A subscriber may do anything, so no lock may be held.
    pub(super) fn log(&self) {
        tracing::warn!(
            target: "procpool",
            parent: self.trace.id(),
            call = self.task,
            name = self.name.as_deref(),
            worker = self.worker,
            pid = self.pid,
            ran_for = ?self.ran_for,
            "a call is slow",
        );
    }
}
