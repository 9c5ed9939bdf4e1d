//! Running a job again: the pause after a failed run, and the way back into the line.
//!
//! A job is only ever repeated when its caller has said that this does no harm, and never while the
//! run before may still be going on: a run that was ended for its limit may have time to come to
//! its end, and a worker that is killed takes a moment to die.
//!
//! ```text
//!            ┌── repeated, attempts left ──┐
//!            ▼                             │
//!     over for certain ──▶ pause ──▶ line ──▶ worker ──▶ any other end: the caller is told
//! ```

use super::event::{Action, JobKey, Outcome, Ticket, WorkerId};
use super::retry::{Failure, Retry};
use super::{Mode, Scheduler};
use crate::sys::clock::Moment;

/// When what waits for no moment is looked at.
const NEVER: Moment = Moment(u64::MAX);

/// A job between two runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// When it may go back into the line.
    until: Moment,
    /// The run before is not over for certain.
    blocked: bool,
    /// When it is to be looked at: its place among those that pause.
    pub(super) listed: Moment,
}

impl<T> Scheduler<T> {
    /// A worker says that the call which it is to answer next has panicked. Where it is to be run
    /// again for that, it goes where it waits for that, and this is its name; else nothing is done,
    /// and [`complete`](Self::complete) takes the answer.
    pub(crate) fn panicked(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Option<JobKey> {
        let (key, first) = self.running(worker)?;
        if first != ticket || !self.is_repeated(key, Failure::Panicked) {
            return None;
        }
        self.worker(worker)?.finish_first(now)?;
        self.has_served(worker);
        self.pause(now, key, false);
        self.rest(now, worker);
        Some(key)
    }

    /// A run has ended without a response: the job is run again, or this is its end. The run is
    /// over for certain when the worker of `sent` has passed by it or is gone; now if there is none.
    pub(super) fn failed(
        &mut self,
        now: Moment,
        key: JobKey,
        outcome: Outcome,
        sent: Option<(WorkerId, Ticket)>,
    ) {
        let failure = match outcome {
            Outcome::Lost(_) => Some(Failure::Lost),
            Outcome::RanTooLong => Some(Failure::RanTooLong),
            _ => None,
        };
        if !failure.is_some_and(|failure| self.is_repeated(key, failure)) {
            return self.resolve(key, outcome);
        }
        self.actions.push_back(Action::Repeat(key, outcome));
        let blocked = match sent.and_then(|(worker, ticket)| Some((self.worker(worker)?, ticket))) {
            Some((state, ticket)) => {
                state.follower = Some((ticket, key));
                true
            }
            None => false,
        };
        self.pause(now, key, blocked);
    }

    /// Nobody wants another run of it, however this one ends.
    pub(super) fn forbid_repeating(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(key.index) {
            if job.is(key) && job.rare().retry.is_any() {
                job.rare_mut().retry = Retry::NEVER;
            }
        }
    }

    /// Whether anything is run again: nothing is where what waits is dropped, or nobody is left to run
    /// it.
    pub(crate) fn may_repeat(&self) -> bool {
        !self.dropping && !matches!(self.mode, Mode::Ending(_)) && !self.is_deserted()
    }

    fn is_repeated(&self, key: JobKey, failure: Failure) -> bool {
        let job = &self.jobs[key.index];
        let rare = job.rare();
        self.may_repeat() && rare.retry.allows(failure, rare.failures)
    }

    fn pause(&mut self, now: Moment, key: JobKey, blocked: bool) {
        let job = &mut self.jobs[key.index];
        job.sent = None;
        let rare = job.rare_mut();
        rare.failures += 1;
        let until = now + rare.retry.pause(rare.failures);
        self.list(key, until, blocked);
    }

    fn list(&mut self, key: JobKey, until: Moment, blocked: bool) {
        let rare = self.jobs[key.index].rare_mut();
        let deadline = rare.deadline.unwrap_or(NEVER);
        let listed = if blocked {
            deadline
        } else {
            until.min(deadline)
        };
        rare.pause = Some(Pause {
            until,
            blocked,
            listed,
        });
        self.pausing.insert((listed, key));
        if listed < NEVER {
            self.wake_by(listed);
        }
    }

    /// A worker has passed by the call that was ended there.
    pub(super) fn over_for_certain(&mut self, worker: WorkerId, ticket: Ticket) {
        let follower = self.worker(worker).map(|state| &mut state.follower);
        let follower =
            follower.and_then(|follower| follower.take_if(|(ended, _)| *ended == ticket));
        if let Some((_, key)) = follower {
            self.unblock(key);
        }
    }

    /// The run before is over for certain.
    pub(super) fn unblock(&mut self, key: JobKey) {
        let Some(pause) = self.job(key).and_then(|job| job.rare().pause) else {
            return;
        };
        if pause.blocked {
            self.pausing.remove(&(pause.listed, key));
            self.list(key, pause.until, false);
        }
    }

    /// Lets those back into the line whose pause is over.
    pub(super) fn end_pauses(&mut self, now: Moment) {
        while let Some((_, key)) = self.pausing.first().filter(|(at, _)| *at <= now).copied() {
            let deadline = self.jobs[key.index].rare().deadline;
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.resolve(key, Outcome::Expired(false));
                continue;
            }
            self.pausing.pop_first();
            let home = self.home_of(self.jobs[key.index].rare().key);
            let job = &mut self.jobs[key.index];
            let rare = job.rare_mut();
            rare.pause = None;
            // It has been started in time once; only the deadline is left of its limits on waiting.
            (rare.until, rare.home) = (deadline, home);
            self.line.push_back(job.waiter(key));
        }
    }

    /// When the next pause is over.
    pub(super) fn next_pause(&self) -> Option<Moment> {
        let first = self.pausing.first().map(|(at, _)| *at);
        first.filter(|at| *at < NEVER)
    }

    /// Ends all jobs that pause.
    pub(super) fn end_pausing(&mut self, outcome: Outcome) {
        while let Some((_, key)) = self.pausing.first().copied() {
            self.resolve(key, outcome);
        }
    }
}
