//! The driver's part in the spans of calls: what is to be told of them is noted here, and told when
//! the lock is released.

use std::time::Duration;

use super::state::State;
use super::{Done, Driver};
use crate::pool::error::TaskError;
use crate::pool::job::Job;
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Ticket, WorkerId};
use crate::pool::trace::{CallTrace, End};
use crate::sys::clock::Moment;
use crate::wire::codec::Frame;
use crate::wire::page::LANES;

impl Driver {
    /// Gives a call that has a span its number, or a chunk those of its items, and tells the span: before
    /// anything can be logged inside of it, and without the lock, as a subscriber may do anything.
    pub(super) fn number(&self, trace: &CallTrace, items: u32) -> Option<u64> {
        if !trace.is_live() {
            return None;
        }
        let number = {
            let mut state = self.lock();
            let open = state.scheduler.refusal().is_none();
            open.then(|| state.scheduler.take_numbers(items))?
        };
        trace.numbered(number);
        Some(number)
    }
}

impl State {
    /// Takes in what a worker has logged, in that call if it is one.
    pub(super) fn take_in_record(
        &self,
        worker: WorkerId,
        frame: Frame,
        done: &mut Done,
    ) -> Result<(), String> {
        let Frame { header, payload } = frame;
        let of = (worker, header.ticket);
        let Some(slot) = self.slot(worker) else {
            return Ok(());
        };
        let job = if usize::from(header.ticket.lane) < LANES {
            self.scheduler.job_of(worker, header.ticket)
        } else {
            let held = self.rooms.holder(header.call) == Some(of);
            self.rooms.attachment(header.call).filter(|_| held)
        };
        let trace = job.map(|job| &job.trace).or_else(|| self.traces.get(&of));
        done.tales.logged(trace, slot, payload, header.time)
    }

    /// A call has been answered by its worker.
    pub(super) fn trace_answer(
        &self,
        worker: WorkerId,
        job: &Job,
        raw: &Raw,
        (now, took): (Moment, Duration),
        done: &mut Done,
    ) {
        if !job.trace.is_live() {
            return;
        }
        let outcome = raw.error().map_or("returned", TaskError::reason);
        let end = End {
            slot: self.slot(worker),
            outcome,
            attempt: job.attempt(),
            waited: Some(job.since.until(now).saturating_sub(took)),
            ran: Some(took),
        };
        done.tales.ended(&job.trace, end);
    }

    /// A call has ended without an answer. If a worker has it still, what is logged there until
    /// that is over belongs to it.
    pub(super) fn trace_failure(
        &mut self,
        job: &Job,
        error: &TaskError,
        sent: Option<(WorkerId, Ticket)>,
        done: &mut Done,
    ) {
        if !job.trace.is_live() {
            return;
        }
        let slot = sent.and_then(|(worker, _)| self.slot(worker));
        let started = error.maybe_executed();
        let end = End {
            slot,
            outcome: error.reason(),
            attempt: job.attempt() - u32::from(!started),
            waited: (!started).then(|| job.since.until(Moment::now())),
            ran: error.worker_exit().and_then(|exit| exit.ran_for()),
        };
        done.tales.ended(&job.trace, end);
        if let (Some(sent), true) = (sent, slot.is_some()) {
            self.traces.insert(sent, job.trace.clone());
        }
    }
}
