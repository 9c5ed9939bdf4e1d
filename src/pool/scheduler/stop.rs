//! Ending a call, and ending everything.
//!
//! Ending one call in a worker's hands takes the same steps whoever asks (abort, time limit,
//! shutdown): what waits behind it is taken back first, then the call itself is swapped from
//! *running* to *ended*. Only if that swap wins is the caller told so and the worker killed. If it
//! loses, the call was over, its response is on the way, and nobody is killed.

use super::event::{Action, JobKey, Outcome, Refusal, Ticket, WorkerId};
use super::place::{Phase, Recall};
use super::{End, Mode, Scheduler, waits};
use crate::sys::clock::Moment;

/// Whatever runs was begun before this.
pub(super) const LATEST: Moment = Moment(u64::MAX);

impl<T> Scheduler<T> {
    /// Takes a job back if it has not been started.
    pub(super) fn cancel(&mut self, key: JobKey) {
        self.withdraw(key, Recall::Answer(Outcome::Cancelled), Outcome::Cancelled);
    }

    /// Ends a job, whether or not it has been started.
    pub(super) fn abort(&mut self, key: JobKey) {
        // It may run in a worker that is dying already, and end with that.
        self.forbid_repeating(key);
        self.withdraw(key, Recall::Abort, Outcome::Aborted(false));
    }

    /// Answers a waiting job, or asks its worker's page for it.
    pub(super) fn withdraw(&mut self, key: JobKey, recall: Recall, outcome: Outcome) {
        let Some(job) = self.job(key) else { return };
        match job.sent {
            None => self.leave_line(key, outcome),
            Some((worker, ticket)) => self.take_back(worker, ticket, recall),
        }
    }

    /// Answers a job that waits in the line, or to be run again.
    pub(super) fn leave_line(&mut self, key: JobKey, outcome: Outcome) {
        let job = &self.jobs[key.index];
        if job.rare().pause.is_some() {
            return self.resolve(key, outcome);
        }
        let waiter = job.waiter(key);
        self.resolve(key, outcome);
        let jobs = &self.jobs;
        self.line.remove(waiter, |key| waits(jobs, key));
    }

    /// Asks the page for a call that may not have been started.
    pub(super) fn take_back(&mut self, worker: WorkerId, ticket: Ticket, recall: Recall) {
        let Some(sent) = self.worker(worker).and_then(|worker| worker.find(ticket)) else {
            return;
        };
        if sent.recall.is_some() && recall == Recall::Move {
            // It is being asked for already, and whoever asks for it may not be forgotten.
            return;
        }
        sent.recall = Some(recall);
        self.actions.push_back(Action::TakeBack(worker, ticket));
    }

    /// Takes back everything a worker holds but `keep`, last first, so that what goes back to the
    /// front of its priority's line goes there in its old order.
    pub(super) fn take_back_all(&mut self, worker: WorkerId, keep: Option<Ticket>, recall: Recall) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let tickets: Vec<_> = state.ahead.iter().map(|sent| sent.ticket).rev().collect();
        for ticket in tickets.into_iter().filter(|ticket| Some(*ticket) != keep) {
            self.take_back(worker, ticket, recall);
        }
    }

    /// The page has answered: the call is ours again, or it had been started.
    pub(super) fn taken_back(&mut self, now: Moment, worker: WorkerId, ticket: Ticket, won: bool) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let phase = state.phase;
        let Some(sent) = state.find(ticket) else {
            return;
        };
        let Some(recall) = sent.recall.take() else {
            return;
        };
        let key = sent.job;
        if won {
            state.withdraw(ticket, now);
            if recall == Recall::Stalled {
                state.stall(now);
            }
            self.came_back(key, recall);
        } else if let Phase::Gone { deliberate } = phase {
            state.withdraw(ticket, now);
            let outcome = self.outcome_of_loss(worker, deliberate);
            self.failed(now, key, outcome, None);
        } else if recall == Recall::Abort {
            // Even in a worker that is dying: until it is dead it goes on.
            self.cut(worker, ticket);
            self.stop(worker, ticket, Outcome::Aborted(true), LATEST);
        } else if let Recall::Answer(Outcome::Cancelled) = recall {
            self.cut(worker, ticket);
        } else if recall == Recall::Request {
            self.ask(worker, ticket);
        }
        if !won {
            self.has_served(worker);
        }
        self.after_withdrawal(now, worker);
    }

    /// A call came back unstarted.
    fn came_back(&mut self, key: JobKey, recall: Recall) {
        match (recall, self.mode) {
            (Recall::Answer(outcome), _) => self.resolve(key, outcome),
            (Recall::Abort, _) => self.resolve(key, Outcome::Aborted(false)),
            (Recall::Request, _) => self.resolve(key, Outcome::Cancelled),
            (Recall::Move | Recall::Stalled, Mode::Ending(end)) => {
                self.resolve(key, end.outcome(false));
            }
            (Recall::Move | Recall::Stalled, _) => {
                let home = self.home_of(self.jobs[key.index].rare().key);
                let job = &mut self.jobs[key.index];
                job.sent = None;
                job.wait_at(home);
                self.line.push_front(job.waiter(key));
                if let Some(until) = job.rare().until {
                    self.wake_by(until);
                }
            }
        }
    }

    /// What the caller of a call is told whose worker died while it ran.
    fn outcome_of_loss(&self, worker: WorkerId, deliberate: bool) -> Outcome {
        match self.mode {
            Mode::Ending(end) => end.outcome(true),
            _ if self.breaks_at(deliberate) => Outcome::Broken(Some(worker), true),
            _ => Outcome::Lost(worker),
        }
    }

    /// Cuts a chunk short behind the item that runs; a call that is no chunk runs to its end.
    pub(super) fn cut(&mut self, worker: WorkerId, ticket: Ticket) {
        let sent = self.worker(worker).and_then(|worker| worker.find(ticket));
        if let Some(sent) = sent.filter(|sent| sent.items > 0 && !sent.cut) {
            sent.cut = true;
            let key = sent.job;
            self.actions.push_back(Action::Cut(worker, ticket, key));
        }
    }

    /// There was nothing to cut, since the chunk has not been started. It may be cut later.
    pub(super) fn uncut(&mut self, now: Moment, worker: WorkerId, ticket: Ticket) {
        let sent = self.worker(worker).and_then(|worker| worker.find(ticket));
        if let Some(sent) = sent {
            sent.cut = false;
            sent.uncut = now;
        }
    }

    /// Stops the call that a worker is running; of a chunk, the item that was begun at `begun_by`
    /// or before.
    pub(super) fn stop(
        &mut self,
        worker: WorkerId,
        victim: Ticket,
        outcome: Outcome,
        begun_by: Moment,
    ) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.phase != Phase::Ready && state.phase != Phase::Finishing {
            return;
        }
        let Some(sent) = state.find(victim) else {
            return;
        };
        if sent.ending.replace(outcome).is_some() {
            return;
        }
        state.stopping = true;
        self.take_back_all(worker, Some(victim), Recall::Move);
        self.actions
            .push_back(Action::End(worker, victim, begun_by));
    }

    /// The page has answered: the call is ended, or it was over.
    pub(super) fn ended(&mut self, now: Moment, worker: WorkerId, ticket: Ticket, won: bool) {
        let grace = self.rules.abort_grace;
        let ending_all = matches!(self.mode, Mode::Ending(_));
        let Some(state) = self.worker(worker) else {
            return;
        };
        let stopped = state
            .find(ticket)
            .map(|sent| (sent.job, sent.ending.take()));
        // Two calls may be asked for, if the first came to its end while it was.
        state.stopping = state.ahead.iter().any(|sent| sent.ending.is_some());
        if let (true, Some((key, Some(outcome)))) = (won, stopped) {
            state.withdraw(ticket, now);
            state.stay.spend();
            // What grows goes on growing in a grace.
            let grows = matches!(outcome, Outcome::GrewTooLarge(..));
            if !ending_all && !grows && !grace.is_zero() {
                state.grace = Some((ticket, now + grace));
                self.wake_by(now + grace);
            } else {
                self.kill(worker);
            }
            self.failed(now, key, outcome, Some((worker, ticket)));
            self.has_served(worker);
        } else if stopped.is_some() {
            // It was over, and its caller waits for a response that must come soon; or the next
            // item of a chunk has been begun.
            self.actions.push_back(Action::Probe(worker, ticket));
        }
        self.after_withdrawal(now, worker);
    }

    /// The worker has passed by a call that it must not run or answer.
    pub(super) fn acknowledged(&mut self, now: Moment, worker: WorkerId, ticket: Ticket) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.acknowledge(ticket) {
            self.over_for_certain(worker, ticket);
            self.after_withdrawal(now, worker);
        } else {
            self.condemn(
                worker,
                "it passed by a call that it was not asked to give back",
            );
        }
    }

    /// A worker may have nothing left to do, or a dead one nothing left to be asked about.
    fn after_withdrawal(&mut self, now: Moment, worker: WorkerId) {
        self.vacate_if_settled(now, worker);
        self.rest(now, worker);
    }

    /// Accepts no more jobs.
    pub(super) fn close(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Closing;
            self.refuse(Refusal::Closed);
        }
    }

    /// Accepts no more jobs, and answers those that have not been started.
    pub(super) fn cancel_pending(&mut self) {
        self.close();
        self.dropping = true;
        if !matches!(self.mode, Mode::Ending(_)) {
            self.nothing_more_begins(Outcome::Cancelled);
        }
        for worker in self.living() {
            self.take_back_all(worker, None, Recall::Answer(Outcome::Cancelled));
        }
    }

    /// No worker can be started: answers what waits for one. Living workers finish what they hold.
    pub(super) fn give_up(&mut self) {
        if matches!(self.mode, Mode::Ending(_)) {
            return;
        }
        self.mode = Mode::Stranded;
        self.refuse(Refusal::Broken(None));
        self.nothing_more_begins(Outcome::Broken(None, false));
    }

    /// A call may come back unstarted when no worker can be started any more; without a living one
    /// to wait for, it ends like those that waited before.
    pub(super) fn strand(&mut self) {
        if self.is_deserted() && !self.line.is_empty() {
            self.empty_line(Outcome::Broken(None, false));
        }
    }

    /// Whether there is no worker for a call, and will be none.
    pub(super) fn is_deserted(&self) -> bool {
        self.mode == Mode::Stranded && self.count(Phase::Ready) + self.count(Phase::Starting) == 0
    }

    /// Ends everything there is, at once.
    pub(super) fn end_everything(&mut self, end: End) {
        if matches!(self.mode, Mode::Ending(_)) {
            return;
        }
        self.mode = Mode::Ending(end);
        self.refuse(match end {
            End::ShutDown => Refusal::Closed,
            End::Broken(worker) => Refusal::Broken(worker),
        });
        self.nothing_more_begins(end.outcome(false));
        for worker in self.living() {
            self.end_worker(worker, end);
        }
    }

    /// Ends what a worker holds and kills it. The actions are performed in order, so the kill comes
    /// when every swap has been decided; the results of calls that won survive in the outbox.
    fn end_worker(&mut self, worker: WorkerId, end: End) {
        self.take_back_all(worker, None, Recall::Answer(end.outcome(false)));
        let Some(state) = self.worker(worker) else {
            return;
        };
        state.stopping = true;
        let mut tickets = Vec::new();
        for sent in &mut state.ahead {
            sent.ending.get_or_insert(end.outcome(true));
            tickets.push(sent.ticket);
        }
        for ticket in tickets {
            // Between two items there is nothing to be ended: no other may be begun.
            self.cut(worker, ticket);
            self.actions.push_back(Action::End(worker, ticket, LATEST));
        }
        self.kill(worker);
    }

    /// What waits ends like this, here and in the rooms.
    fn nothing_more_begins(&mut self, outcome: Outcome) {
        if !self.finished {
            self.actions.push_back(Action::Over(outcome));
        }
        self.empty_line(outcome);
    }

    fn empty_line(&mut self, outcome: Outcome) {
        self.forget_homes();
        while let Some(key) = {
            let jobs = &self.jobs;
            self.line.first(|key| waits(jobs, key))
        } {
            self.line.take_first(self.jobs[key.index].waiter(key));
            self.resolve(key, outcome);
        }
        self.end_pausing(outcome);
    }

    /// From now on jobs are refused, for this reason unless there was one before.
    fn refuse(&mut self, refusal: Refusal) {
        if self.refusal.is_none() {
            self.actions.push_back(Action::Closed);
        }
        self.refusal.get_or_insert(refusal);
    }

    fn living(&self) -> Vec<WorkerId> {
        self.places
            .iter()
            .filter_map(|place| place.worker.as_ref())
            .map(|worker| worker.id)
            .collect()
    }
}
