//! Keeping workers: starting them, noticing that one is stuck or late, letting them go; and what
//! the passing of time brings about.

use std::time::Duration;

use super::event::{Action, Outcome, Progress, Request, Restart, StartFailure, Ticket, WorkerId};
use super::place::{Phase, Recall, STALL_CHECK, STALL_LIMIT, Worker};
use super::stop::LATEST;
use super::{End, Mode, Scheduler};
use crate::supervisor::policy::Verdict;
use crate::sys::clock::Moment;

/// Calls that wait this long behind another are given to whoever is free: they were sent ahead
/// because all of them were expected to be short.
const LATE: Duration = Duration::from_millis(2);
/// A call that waits in a worker is not asked about more often than this, however short its limit.
pub(super) const LIMIT_CHECK: Duration = Duration::from_millis(1);

/// How long a request of that size may be on its way: 8 MiB in a second is slow on any machine.
fn transit(bytes: usize) -> Duration {
    Duration::from_millis((bytes >> 20) as u64 * 125)
}

/// A first call that has been the first since before this moment is running late.
pub(super) fn late(now: Moment) -> Moment {
    Moment(now.0.saturating_sub(LATE.as_nanos() as u64))
}

/// How a job ends that waited for its start until its limit on that or until its deadline.
fn waited_too_long(until: Option<Moment>, deadline: Option<Moment>) -> Outcome {
    if until == deadline {
        Outcome::Expired(false)
    } else {
        Outcome::WaitedTooLong
    }
}

impl<T> Scheduler<T> {
    /// Starts the workers that waiting jobs need, and those that are to be replaced.
    pub(super) fn start_workers(&mut self, now: Moment) {
        if self.vacant == 0 || matches!(self.mode, Mode::Stranded | Mode::Ending(_)) {
            return;
        }
        let open = self.mode == Mode::Open;
        let mut starting = self.count(Phase::Starting);
        for place in 0..self.rules.workers {
            let needed = self.line.open_len() > starting || self.line.is_awaited(place);
            let state = &self.places[place];
            if state.worker.is_some() || !(needed || (open && state.wanted)) {
                continue;
            }
            if self.policy.not_before() > now {
                return self.wake_by(self.policy.not_before());
            }
            if starting >= self.policy.at_once(self.rules.starts_at_once) {
                return;
            }
            starting += 1;
            self.start(now, place);
        }
    }

    fn start(&mut self, now: Moment, place: usize) {
        self.workers_started += 1;
        let id = WorkerId {
            place,
            number: self.workers_started,
        };
        self.places[place].wanted = true;
        let stay = self.rules.renewal.stay(id.number);
        self.places[place].worker = Some(Worker::new(id, now, stay));
        self.vacant -= 1;
        self.actions.push_back(Action::Start(id));
    }

    pub(super) fn count(&self, phase: Phase) -> usize {
        let workers = self.places.iter().filter_map(|place| place.worker.as_ref());
        workers.filter(|worker| worker.phase == phase).count()
    }

    pub(super) fn ready(&mut self, now: Moment, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.phase != Phase::Starting {
            return;
        }
        state.phase = if state.orphaned {
            Phase::Finishing
        } else {
            Phase::Ready
        };
        state.ready = Some(now);
        state.stay.begin(now);
        let look_at = state.stay.look_at;
        if let Some(look_at) = look_at {
            self.wake_by(look_at);
        }
        self.policy.succeeded();
        self.rest(now, worker);
        self.joined(now, worker);
        self.next_renewal(now);
    }

    pub(super) fn start_failed(&mut self, now: Moment, worker: WorkerId, failure: StartFailure) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let (begun, deliberate) = (state.begun, state.is_leaving());
        self.vacate(worker);
        if deliberate {
            return;
        }
        let alive = self.count(Phase::Ready) > 0;
        let verdict = match failure {
            StartFailure::Worker => self.policy.failed(begun, now),
            StartFailure::System => self.policy.refused(now, alive),
            StartFailure::Permanent => Verdict::Break,
        };
        match verdict {
            Verdict::RetryAt(at) => self.wake_by(at),
            Verdict::Break => self.give_up(),
        }
    }

    /// A ready worker is dead. What it had not started goes back to the line; what it was running
    /// is lost with it.
    pub(super) fn exited(&mut self, now: Moment, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let deliberate = state.is_leaving();
        state.phase = Phase::Gone { deliberate };
        for sent in &mut state.ahead {
            sent.recall = None;
        }
        self.take_back_all(worker, None, Recall::Move);
        self.vacate_if_settled(now, worker);
    }

    /// Lets go of a dead worker once nothing in its page is left to be asked for.
    pub(super) fn vacate_if_settled(&mut self, now: Moment, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let Phase::Gone { deliberate } = state.phase else {
            return;
        };
        if !state.ahead.is_empty() {
            return;
        }
        if !deliberate && !state.served {
            // Who was condemned before it was ready has not lived at all.
            let (begun, ready) = (state.begun, state.ready.unwrap_or(now));
            self.policy.died_unused(begun, ready, now);
        }
        if self.breaks_at(deliberate) {
            // Before its release: who is answered with that is told that all is over.
            self.end_everything(End::Broken(Some(worker)));
        }
        self.vacate(worker);
    }

    /// Whether a worker's death breaks the pool.
    pub(super) fn breaks_at(&self, deliberate: bool) -> bool {
        self.rules.restart == Restart::Never && !deliberate
    }

    /// A call was begun in a worker, however it has ended or will.
    pub(super) fn has_served(&mut self, worker: WorkerId) {
        if let Some(state) = self.worker(worker) {
            state.served = true;
            self.policy.served();
        }
    }

    fn vacate(&mut self, worker: WorkerId) {
        let place = &mut self.places[worker.place];
        let gone = place.worker.take();
        let was_ready = gone.as_ref().is_some_and(|gone| gone.ready.is_some());
        place.served += u64::from(was_ready);
        if let Some((_, key)) = gone.and_then(|gone| gone.follower) {
            self.unblock(key);
        }
        self.vacant += 1;
        self.give_up_places();
        self.actions.push_back(Action::Release(worker));
    }

    /// The worker's fork server is gone: it finishes what it runs and is replaced.
    pub(super) fn orphaned(&mut self, now: Moment, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        state.orphaned = true;
        self.finish(worker);
        self.rest(now, worker);
    }

    /// Nothing that the worker says can be believed: what it has not started goes elsewhere, what
    /// it runs is lost when it is gone.
    pub(super) fn condemn(&mut self, worker: WorkerId, why: &'static str) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        // Even if it is dying already: what it has finished will not be believed either.
        state.condemned.get_or_insert(why);
        if state.is_dying() {
            return;
        }
        self.take_back_all(worker, None, Recall::Move);
        self.kill(worker);
    }

    pub(super) fn kill(&mut self, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.is_dying() {
            return;
        }
        state.phase = Phase::Killed;
        state.grace = None;
        state.look_at = None;
        self.actions.push_back(Action::Kill(worker));
    }

    pub(super) fn retire(&mut self, now: Moment, worker: WorkerId) {
        let limit = self.rules.leave_limit;
        let Some(state) = self.worker(worker) else {
            return;
        };
        state.phase = Phase::Retiring;
        state.look_at = Some(now + limit);
        self.actions.push_back(Action::Retire(worker));
        self.wake_by(now + limit);
    }

    /// When no more jobs will come and none is left: lets the workers go, and says when all went.
    pub(super) fn wind_up(&mut self, now: Moment) {
        let held = self.held > 0 && self.mode == Mode::Closing;
        let elsewhere = self.async_calls || self.in_place > 0;
        let busy = held || elsewhere || !self.jobs.is_empty();
        if self.mode == Mode::Open || busy || self.finished {
            return;
        }
        if self.vacant == self.places.len() {
            self.finished = true;
            self.actions.push_back(Action::Finished);
            return;
        }
        for place in 0..self.places.len() {
            let Some(worker) = self.places[place].worker.as_ref() else {
                continue;
            };
            match worker.phase {
                Phase::Starting => self.kill(worker.id),
                Phase::Ready | Phase::Finishing => self.retire(now, worker.id),
                Phase::Retiring | Phase::Killed | Phase::Gone { .. } => {}
            }
        }
    }

    /// Calls were sent ahead because they were all expected to be short. Where that was wrong, the
    /// ones that wait behind a long one are taken back, if anyone else could run them; and so are
    /// the items of a chunk behind a long one, if anyone has nothing to do.
    pub(super) fn relieve(&mut self, now: Moment) {
        if self.places.len() < 2 || now < self.next_relief {
            return;
        }
        let vacancy = self.has_vacancy();
        let others = self.count(Phase::Ready) > 1 || (vacancy && self.mode != Mode::Stranded);
        if !others {
            return;
        }
        // Who has nothing to do would run the rest of a chunk.
        let hungry = self.line.open_len() == 0
            && (vacancy || self.places.iter().any(|place| place.is_idle()));
        let mut next: Option<Moment> = None;
        for place in 0..self.places.len() {
            let Some(worker) = self.places[place].worker.as_mut() else {
                continue;
            };
            let Some(first) = worker.ahead.front() else {
                continue;
            };
            // What has a key is not for others.
            let bound = self.jobs[first.job.index].rare().key.is_some();
            if worker.phase != Phase::Ready || worker.stopping {
                continue;
            }
            let (id, late, ticket) = (worker.id, worker.head_since + LATE, first.ticket);
            // Once for each: what does not come back has been started, and to ask again after
            // every answer would never end.
            let behind = (worker.ahead.len() > 1 && !worker.relieved).then_some(late);
            let within = hungry && first.items > 0 && !first.cut && !bound;
            let within = within.then_some(late.max(first.uncut + LATE));
            if behind.is_some_and(|due| due <= now) {
                worker.relieved = true;
                self.take_back_all(id, Some(ticket), Recall::Move);
            } else if within.is_some_and(|due| due <= now) {
                self.cut(id, ticket);
            }
            let later = behind.into_iter().chain(within).filter(|due| *due > now);
            next = next.into_iter().chain(later).min();
        }
        if let Some(next) = next {
            self.next_relief = next;
            self.wake_by(next);
        }
    }

    /// Time has passed: whatever is due is done.
    pub(super) fn tick(&mut self, now: Moment) {
        self.wake = None;
        while let Some(key) = self.line.overdue(now) {
            let rare = self.jobs[key.index].rare();
            let outcome = waited_too_long(rare.until, rare.deadline);
            self.leave_line(key, outcome);
        }
        self.end_pauses(now);
        for place in 0..self.places.len() {
            self.look_after(now, place);
        }
        let workers = self.places.iter().filter_map(|place| place.worker.as_ref());
        let first = workers
            .filter_map(Worker::wake_at)
            .chain(self.line.first_until())
            .chain(self.next_pause())
            .min();
        if let Some(first) = first {
            self.wake_by(first);
        }
        if self.next_relief > now {
            self.wake_by(self.next_relief);
        }
    }

    fn look_after(&mut self, now: Moment, place: usize) {
        let Some(worker) = self.places[place].worker.as_mut() else {
            return;
        };
        let id = worker.id;
        if worker.is_dying() {
            return;
        }
        if worker.grace.is_some_and(|(_, until)| until <= now) {
            return self.kill(id);
        }
        let (old, idle) = (worker.stay.is_time(now), worker.has_idled(now));
        if worker.look_at.is_some_and(|at| at <= now) {
            worker.look_at = None;
            match worker.phase {
                Phase::Retiring => return self.kill(id),
                Phase::Ready | Phase::Finishing => {
                    if worker.stalled.is_some() {
                        return self.kill(id);
                    }
                    self.look_at_head(now, place);
                }
                Phase::Starting | Phase::Killed | Phase::Gone { .. } => {}
            }
        }
        if old {
            self.rest(now, id);
        }
        if idle {
            self.leave_idle(now, id);
        }
        self.check_limits(now, place);
    }

    /// Asks the page whether the first call has been started.
    fn look_at_head(&mut self, now: Moment, place: usize) {
        let Some(worker) = self.places[place].worker.as_mut() else {
            return;
        };
        let Some(first) = worker.ahead.front() else {
            return;
        };
        if worker.head_since + STALL_CHECK > now {
            worker.look_at = Some(worker.head_since + STALL_CHECK);
            return;
        }
        self.actions
            .push_back(Action::Probe(worker.id, first.ticket));
    }

    /// Asks the page about calls whose limit may have passed, and for those that may not wait any
    /// longer.
    fn check_limits(&mut self, now: Moment, place: usize) {
        let Some(worker) = self.places[place].worker.as_mut() else {
            return;
        };
        let (id, mut overdue) = (worker.id, Vec::new());
        for sent in &mut worker.ahead {
            if sent.check_at.take_if(|at| *at <= now).is_some() {
                self.actions.push_back(Action::Probe(id, sent.ticket));
            }
            let until = sent.until.take_if(|at| *at <= now);
            if until.is_some() {
                overdue.push((sent.ticket, waited_too_long(until, sent.limits.deadline())));
            }
        }
        for (ticket, outcome) in overdue {
            self.take_back(id, ticket, Recall::Answer(outcome));
        }
    }

    /// The page has said how far a call has come.
    pub(super) fn probed(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
        progress: Progress,
    ) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let (head, since) = (state.position(ticket) == Some(0), state.head_since);
        let Some(sent) = state.find(ticket) else {
            return;
        };
        let bytes = sent.bytes;
        match progress {
            Progress::Running(at) => {
                // What the page says is believed only between the two moments that we know.
                let begun = at.clamp(sent.sent_at, now.max(sent.sent_at));
                let up = sent.time_is_up(begun);
                if let Some((_, outcome)) = up.filter(|(due, _)| *due <= now) {
                    // By the time of the swap another item of a chunk may run. It has a limit of
                    // its own, and the same deadline.
                    let own = sent.items > 0 && outcome == Outcome::RanTooLong;
                    let begun_by = if own { at } else { LATEST };
                    return self.stop(worker, ticket, outcome, begun_by);
                }
                let slow = sent.slow_call.is_some_and(|bound| begun + bound <= now)
                    && sent.told.replace(begun) != Some(begun);
                let key = sent.job;
                let (ask, soft) = sent.ask_if_late(begun, at, now);
                let limits = soft.into_iter().chain(up.map(|(due, _)| due));
                sent.check_at = limits.chain(sent.slow_from(begun, now)).min();
                if let Some(again) = sent.check_at {
                    self.wake_by(again);
                }
                if slow {
                    let action = Action::Slow(worker, ticket, key, begun);
                    self.actions.push_back(action);
                }
                if ask {
                    let ask = Action::Ask(worker, ticket, at, Request::SoftLimit);
                    self.actions.push_back(ask);
                }
            }
            Progress::Waiting => {
                // It has not begun, so none of its limits can pass before this. Behind another it is
                // looked at the more seldom the longer it waits, and when it is the first; and so is
                // whether it is slow.
                let waited = sent.sent_at.until(now);
                let slow = sent.slow_call.map(|bound| now + bound.max(waited));
                if let Some(due) = sent.first_limit(now).into_iter().chain(slow).min() {
                    let pause = if head {
                        LIMIT_CHECK
                    } else {
                        waited.max(LIMIT_CHECK)
                    };
                    let again = due.max(now + pause);
                    sent.check_at = Some(again);
                    self.wake_by(again);
                }
                if !head {
                    return;
                }
                let due = since + STALL_CHECK + transit(bytes);
                if due <= now {
                    self.take_back_all(worker, Some(ticket), Recall::Move);
                    self.take_back(worker, ticket, Recall::Stalled);
                } else if let Some(state) = self.worker(worker) {
                    state.look_at = Some(due);
                    self.wake_by(due);
                }
            }
            Progress::Between(begun) => {
                // The next item has limits of its own, and the same deadline: past that it is not
                // to be begun, and is looked at if it was meanwhile.
                let slow = sent.slow_call.map(|bound| now + bound);
                let expired = sent.limits.deadline().is_some_and(|at| at <= now);
                if let Some(due) = sent.first_limit(now).into_iter().chain(slow).min() {
                    let again = due.max(now + LIMIT_CHECK);
                    sent.check_at = Some(again);
                    self.wake_by(again);
                }
                if expired {
                    self.cut(worker, ticket);
                }
                if head {
                    self.look_for_response(now, worker, Some(begun));
                }
            }
            // What comes after a call that is over is looked at when that one is first.
            Progress::Over => self.look_for_response(now, worker, None),
        }
    }

    /// A call is over, or the item of it that was begun at that moment: its response, or the next
    /// item, must come soon, or the worker is stopped. What it has finished is found when it is
    /// dead.
    fn look_for_response(&mut self, now: Moment, worker: WorkerId, item: Option<Moment>) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if !matches!(state.phase, Phase::Ready | Phase::Finishing) {
            return;
        }
        // Not since it became the first: it may have run until a moment ago.
        let silent = state.silent.filter(|(_, known)| *known == item);
        let (since, _) = *state.silent.insert(silent.unwrap_or((now, item)));
        let limit = since + STALL_LIMIT;
        if limit <= now {
            return self.condemn(worker, "the response to a finished call did not come");
        }
        let again = limit.min(now + STALL_CHECK);
        state.look_at = Some(again);
        self.wake_by(again);
    }
}
