//! Requests to come to an end: who may be asked, when and how often, who must be; and what becomes
//! of those that take notice.

use super::life::STOPPING;
use super::process::Hands;
use super::rules::require;
use super::world::{Office, World};
use crate::pool::scheduler::{Event, Request, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// The longest that a call takes to come to its end once it has noticed that it is to.
pub(super) const NOTICING: u64 = 3_000_000;

impl World<'_> {
    /// The core wants a call, or the item of a chunk, to come to its end.
    pub(super) fn ask(&mut self, worker: WorkerId, ticket: Ticket, begun_by: Moment, why: Request) {
        self.touch(worker);
        let reached = self.asked(worker).page.ask(ticket, begun_by);
        let job = self.ledger.check_may_ask(worker, ticket, why);
        let spec = self.ledger.planned(job).spec;
        if why == Request::SoftLimit {
            let limit = spec.soft_timeout;
            require(
                limit.is_some_and(|limit| begun_by + limit <= self.now),
                "nothing is asked to end before its soft limit",
                || format!("job {job} since {begun_by:?} at {:?}: {spec:?}", self.now),
            );
        }
        let Some(item) = reached else {
            // It is over, or the next one has begun: nobody hears of this.
            let due = why == Request::SoftLimit || self.chunks.contains_key(&job);
            let over = !self.asked(worker).page.is_running(ticket);
            return require(due || over, "a caller's request reaches what runs", || {
                format!("job {job} in {worker:?}")
            });
        };
        let first = match self.chunks.get(&job) {
            Some(chunk) => {
                let index = chunk.items[item as usize];
                self.maps[chunk.map].items[index].ask(why)
            }
            None => self.ledger.was_asked(job, why),
        };
        require(
            first || why == Request::Caller,
            "a run is asked once for its soft limit",
            || format!("job {job} item {item}"),
        );
        self.take_notice(worker, ticket);
    }

    /// What was asked to end may do so.
    fn take_notice(&mut self, worker: WorkerId, ticket: Ticket) {
        let index = self.index(worker);
        let process = &self.processes[index];
        let runs = matches!(process.hands, Hands::Running(frame) if frame.ticket == ticket);
        if !runs || process.dead || !self.rng.percent(self.plan.terms.heeds) {
            return;
        }
        let pause = self.rng.up_to(NOTICING);
        let at = self.now + pause;
        if self.processes[index].step.is_some_and(|step| step > at) {
            self.step_after(index, pause);
        }
    }

    /// A caller would like a call to end.
    pub(super) fn request(&mut self, job: usize) {
        if self.has_no_caller(job) {
            return;
        }
        if let Some(key) = self.ledger.request(job) {
            self.tell(Event::Request(key));
            self.ledger.check_requested(job, &self.processes);
        }
    }

    /// A run begins: when its soft limit is over it is to be asked.
    pub(super) fn set_soft_limit(&mut self, job: usize, item: u32) {
        if let Some(limit) = self.ledger.planned(job).spec.soft_timeout {
            let due = self.now + limit + STOPPING;
            self.office.enter(due, Office::MustBeAsked(job, item));
        }
    }

    /// A run that was begun long enough ago has been asked, if it goes on.
    pub(super) fn check_was_asked(&self, job: usize, item: u32) {
        let Some((worker, ticket)) = self.ledger.holder(job) else {
            return;
        };
        let process = &self.processes[worker.number as usize - 1];
        let gone = process.killed || process.dead || process.condemned;
        // Who is stopped notices nothing, and does not say that another item has been begun.
        let still = process.stopped.is_some() || process.has_just_woken(self.now);
        let running = process.page.running(ticket);
        let spec = self.ledger.planned(job).spec;
        let limit = spec.soft_timeout.unwrap_or_default() + STOPPING;
        // It may be another run, which was begun since.
        let due = running.is_some_and(|(which, since)| which == item && since + limit <= self.now);
        let asked = match self.chunks.get(&job) {
            Some(chunk) => {
                let index = chunk.items[item as usize];
                self.maps[chunk.map].items[index].was_asked()
            }
            None => self.ledger.has_been_asked(job),
        };
        require(
            gone || still || !due || asked,
            "what runs longer than it should is asked to end",
            || format!("{:?} job {job} item {item} {process:?}", self.now),
        );
    }
}
