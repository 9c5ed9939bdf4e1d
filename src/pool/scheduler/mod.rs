//! What the pool decides: which call goes where, when a worker is started or ended, and how each
//! call ends. Pure: no I/O, no clock, no thread.
//!
//! Events go in ([`Scheduler::submit`], [`Scheduler::complete`], [`Scheduler::handle`]), actions
//! come out ([`Scheduler::next_action`]), and [`Scheduler::wake_at`] tells when the next
//! [`Event::Tick`] is due. Actions must be performed in their order, and the answer to one must be
//! handed in before the next is taken: then at every moment exactly one side holds each call.
//!
//! ```text
//!            submit                  Assign                  complete
//!    caller ───────▶ line (waiting) ───────▶ worker's hands ─────────▶ caller
//!                      ▲    │                     │
//!                      └────┼── taken back ───────┤
//!                      ▲    │                     │
//!                      └─ pause ◀── run again ────┤
//!                           ▼                     ▼
//!                        Resolve               Resolve
//!                  (cancelled, waited     (ran too long, aborted,
//!                   too long, shut         lost with its worker,
//!                   down, broken)          shut down, broken)
//! ```
//!
//! A call that a worker holds has two owners in turn, and the swap in the control page says which:
//! until *waiting* becomes *running* the parent can take it back; from then on it can only end it.
//! The scheduler never guesses: it asks (`TakeBack`, `End`) and goes by the answer. That is why no
//! order of result, cancel, limit, death and shutdown gives a call two outcomes or none.
//!
//! - [`event`]: the vocabulary. [`job`]: what is known of each job. [`mod@line`], [`queue`]: who waits.
//!   [`place`]: what each worker holds.
//! - [`dispatch`]: which worker gets a job. [`room`]: which of them are asked for room. [`home`]: the
//!   place to which calls of one key go.
//! - [`again`], [`retry`]: which is run again, and when. [`cost`]: how long calls take.
//! - [`ask`]: asking calls to come to their ends. [`stop`]: ending them, and the pool.
//! - [`upkeep`]: workers and time.
//! - [`view`]: what can be asked.
//! - [`renewal`]: workers that have served long enough. [`size`]: how many there are.

mod again;
mod ask;
mod cost;
mod dispatch;
mod event;
mod home;
mod job;
mod line;
mod place;
mod queue;
mod renewal;
mod retry;
mod room;
#[cfg(test)]
mod simulator;
mod size;
mod stop;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use slab::Slab;

use self::cost::Costs;
use self::job::Job;
use self::line::{Line, Waiter};
use self::place::{Place, Worker};
use self::room::Candidates;
use crate::supervisor::policy::StartPolicy;
use crate::sys::clock::{Moment, nanos};

pub use self::event::Restart;
pub(crate) use self::event::{
    Action, Event, JobKey, JobSpec, Outcome, Progress, Refusal, Request, StartFailure, Ticket,
    WorkerId,
};
pub(crate) use self::renewal::Renewal;
pub(crate) use self::retry::Failure;
pub use self::retry::Retry;
#[cfg(test)]
use crate::wire::page::LANES;

/// What does not change while a pool lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// How many workers there may be.
    pub(crate) workers: usize,
    /// How many may be starting at once.
    pub(crate) starts_at_once: usize,
    /// What happens when a worker is lost.
    pub(crate) restart: Restart,
    /// How long an ended call may take to come to its end before its worker is killed.
    pub(crate) abort_grace: Duration,
    /// How long a worker that has been told to leave may take.
    pub(crate) leave_limit: Duration,
    /// How many are kept even if they have nothing to do.
    pub(crate) min_workers: usize,
    /// After how long the others leave that have nothing to do; `None` if they stay.
    pub(crate) idle_timeout: Option<Duration>,
    /// When workers are replaced with which nothing is wrong.
    pub(crate) renewal: Renewal,
    /// A run that takes longer than this is told of.
    pub(crate) slow_call: Option<Duration>,
}

/// Whether jobs are still accepted, and what becomes of those that are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Accepting.
    Open,
    /// Not accepting; what is in is finished.
    Closing,
    /// Not accepting, and no worker can be started: the living ones finish what they can.
    Stranded,
    /// Everything is being ended, with this as the answer for a call that was (not) started.
    Ending(End),
}

/// Why everything is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ShutDown,
    Broken(Option<WorkerId>),
}

impl End {
    fn outcome(self, started: bool) -> Outcome {
        match self {
            Self::ShutDown => Outcome::ShutDown(started),
            Self::Broken(worker) => Outcome::Broken(worker, started),
        }
    }
}

/// The state machine. `T` is what the pool attaches to a job: its bytes and the duty to answer.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    rules: Rules,
    mode: Mode,
    refusal: Option<Refusal>,
    jobs: Slab<Job<T>>,
    submitted: u64,
    /// How many rooms there have been.
    rooms: u64,
    /// How many hold work that will be submitted even if the pool is closed by then.
    held: usize,
    /// There are async calls, in rooms or outside.
    async_calls: bool,
    /// How many jobs are run by who submitted them.
    in_place: usize,
    /// What comes in late is dropped like everything that had not been started.
    dropping: bool,
    line: Line,
    /// The jobs that wait to be run again, by when that is looked at.
    pausing: BTreeSet<(Moment, JobKey)>,
    places: Vec<Place>,
    /// Places whose worker was idle when it was put here, the latest on top, each at most once.
    idle: Vec<usize>,
    /// How many places have no worker.
    vacant: usize,
    /// Places whose worker may have room for one more.
    roomy: Candidates,
    /// The priority of the first of those in line who may go anywhere, when it could go nowhere and
    /// nothing has happened since but that others have joined it.
    stuck: Option<i32>,
    /// A worker that has answered, so that it has less to do than before, and when it did so last: what
    /// comes of that is seen to once for all its answers, as of then.
    answered: Option<(WorkerId, Moment)>,
    workers_started: u64,
    /// The place whose worker is being renewed by plan, or was last.
    renewing: Option<usize>,
    costs: Costs,
    policy: StartPolicy,
    actions: VecDeque<Action<T>>,
    wake: Option<Moment>,
    next_relief: Moment,
    finished: bool,
}

impl<T> Scheduler<T> {
    /// A scheduler with no job and no worker yet. Those that are kept warm are started by the first
    /// event, whatever it is.
    pub(crate) fn new(rules: Rules) -> Self {
        let mut scheduler = Self {
            rules,
            mode: Mode::Open,
            refusal: None,
            jobs: Slab::new(),
            submitted: 0,
            rooms: 0,
            held: 0,
            async_calls: false,
            in_place: 0,
            dropping: false,
            line: Line::default(),
            pausing: BTreeSet::new(),
            places: (0..rules.workers).map(|_| Place::default()).collect(),
            idle: Vec::new(),
            vacant: rules.workers,
            roomy: Candidates::default(),
            stuck: None,
            answered: None,
            workers_started: 0,
            renewing: None,
            costs: Costs::default(),
            policy: StartPolicy::default(),
            actions: VecDeque::new(),
            wake: None,
            next_relief: Moment::default(),
            finished: false,
        };
        scheduler.keep_warm();
        scheduler
    }

    /// Accepts a job, or hands its attachment back.
    pub(crate) fn submit(
        &mut self,
        now: Moment,
        spec: JobSpec,
        attachment: T,
    ) -> Result<JobKey, (Refusal, T)> {
        // What was accepted before the pool was closed may still come in, but not after its end.
        let held = spec.items > 0 && self.mode == Mode::Closing && !self.finished;
        if let Some(refusal) = self.refusal.filter(|_| !held) {
            return Err((refusal, attachment));
        }
        if self.dropping {
            return Err((Refusal::Dropped, attachment));
        }
        Ok(self.take_in(now, spec, attachment))
    }

    /// Takes in a job as it is. A room is asked for like this, because who wants to go there has been
    /// accepted; nobody waits outside of rooms when all is [`over`](Self::over).
    pub(crate) fn take_in(&mut self, now: Moment, spec: JobSpec, attachment: T) -> JobKey {
        let known = spec.room.or(spec.number);
        let number = known.unwrap_or_else(|| self.take_numbers(spec.items.max(1)));
        self.rooms += u64::from(spec.room.is_some());
        let room = spec.room.map_or(0, |_| self.rooms);
        let home = self.home_of(spec.key);
        let entry = self.jobs.vacant_entry();
        let key = JobKey {
            number,
            room,
            index: entry.key(),
        };
        let job = entry.insert(Job::new((number, room), now, &spec, home, attachment));
        let waiter = job.waiter(key);
        self.line.push_back(waiter);
        if let Some(until) = waiter.until {
            self.wake_by(until);
        }
        if !self.merely_joins(waiter) {
            self.settle(now);
        }
        key
    }

    /// Whether nothing can go on because of a job that has just joined the line: it stands behind one
    /// that could go nowhere, and no worker can be started for it.
    fn merely_joins(&self, waiter: Waiter) -> bool {
        let behind = self.stuck.is_some_and(|first| waiter.priority <= first);
        behind && waiter.home.is_none() && self.vacant == 0 && self.mode == Mode::Open
    }

    /// Takes numbers for so many calls; the first of them.
    pub(crate) fn take_numbers(&mut self, calls: u32) -> u64 {
        let first = self.submitted + 1;
        self.submitted += u64::from(calls);
        first
    }

    /// Accepts a job that whoever submits it runs there and then: its number. The pool does not end
    /// before it is told [`Event::RanInPlace`].
    pub(crate) fn admit_in_place(&mut self) -> Result<u64, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        self.submitted += 1;
        self.in_place += 1;
        Ok(self.submitted)
    }

    /// A worker has answered the call it was to answer next: gives back what is attached to the
    /// job, to be answered with that response. `None` for a call that has been answered already
    /// (ended while its response was being written); an error if the worker has no such call.
    ///
    /// Responses come in batches: [`settle`](Self::settle) follows the last of them.
    pub(crate) fn complete(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
        took: Duration,
    ) -> Result<Option<T>, UnknownCall> {
        if self.answered.is_some_and(|(before, _)| before != worker) {
            self.see_to_answered();
        }
        let Some(state) = self.worker(worker) else {
            return Err(UnknownCall);
        };
        if state
            .ahead
            .front()
            .is_none_or(|first| first.ticket != ticket)
        {
            return if state.acknowledge(ticket) {
                self.over_for_certain(worker, ticket);
                self.rest(now, worker);
                Ok(None)
            } else {
                Err(UnknownCall)
            };
        }
        let Some(done) = state.finish_first(now) else {
            return Err(UnknownCall);
        };
        state.served = true;
        self.policy.served();
        if !done.room {
            let each = match done.items {
                0 | 1 => nanos(took),
                items => nanos(took) / u64::from(items),
            };
            self.costs.learn(done.kind, each);
        }
        self.stuck = None;
        self.answered = Some((worker, now));
        let job = self.jobs.remove(done.job.index);
        Ok(Some(job.attachment))
    }

    fn see_to_answered(&mut self) {
        if let Some((worker, at)) = self.answered.take() {
            self.rest(at, worker);
        }
    }

    /// Tells the scheduler what happened.
    pub(crate) fn handle(&mut self, now: Moment, event: Event) {
        self.see_to_answered();
        match event {
            Event::Ready(worker) => self.ready(now, worker),
            Event::StartFailed(worker, failure) => self.start_failed(now, worker, failure),
            Event::TakenBack(worker, ticket, won) => self.taken_back(now, worker, ticket, won),
            Event::Ended(worker, ticket, won) => self.ended(now, worker, ticket, won),
            Event::Probed(worker, ticket, progress) => self.probed(now, worker, ticket, progress),
            Event::Uncut(worker, ticket) => self.uncut(now, worker, ticket),
            Event::Acknowledged(worker, ticket) => self.acknowledged(now, worker, ticket),
            Event::Exited(worker) => self.exited(now, worker),
            Event::Orphaned(worker) => self.orphaned(now, worker),
            Event::Resigned(worker) => self.resigned(now, worker),
            Event::Measured(worker, used) => self.measured(now, worker, used),
            Event::Condemned(worker) => self.condemn(worker, "it broke the protocol"),
            Event::Cancel(job) => self.cancel(job),
            Event::Abort(job) => self.abort(job),
            Event::Request(job) => self.request(job),
            Event::Hold => self.held += 1,
            Event::Unhold => self.held -= 1,
            Event::AsyncCalls(any) => self.async_calls = any,
            Event::RanInPlace => self.in_place -= 1,
            Event::Unfit => self.give_up(),
            Event::StartAll => self.want_all(),
            Event::Resize(workers) => self.resize(now, workers),
            Event::Close => self.close(),
            Event::CancelPending => self.cancel_pending(),
            Event::Terminate => self.end_everything(End::ShutDown),
            Event::Tick => self.tick(now),
        }
        self.settle(now);
    }

    /// The next thing to be done.
    pub(crate) fn next_action(&mut self) -> Option<Action<T>> {
        self.actions.pop_front()
    }

    /// Whether there is anything to be done.
    pub(crate) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When `Tick` is due next.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        self.wake
    }

    /// After every change: whatever can go on goes on.
    pub(crate) fn settle(&mut self, now: Moment) {
        self.see_to_answered();
        self.dispatch(now);
        self.relieve(now);
        self.start_workers(now);
        self.strand();
        self.wind_up(now);
    }

    /// A worker has less to do than before. Puts one that has nothing to do where the next job will find it.
    fn rest(&mut self, now: Moment, worker: WorkerId) {
        self.stuck = None;
        self.renew(now, worker);
        if self.worker(worker).is_none() {
            return;
        }
        self.roomy.add(worker.place);
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.is_idle() {
            state.look_at = None;
            if !self.idle.contains(&worker.place) {
                self.idle.push(worker.place);
            }
            self.idles(now, worker);
        } else if state.has_finished() {
            self.retire(now, worker);
        } else {
            if state.is_choked() {
                state.stall(now);
            }
            // The limits of a call that has become the first; what is due already is being seen to.
            let first = state.ahead.front();
            let check_at = first.and_then(|first| first.check_at.filter(|at| *at > now));
            if let Some(look_at) = state.look_at.into_iter().chain(check_at).min() {
                self.wake_by(look_at);
            }
        }
    }

    fn job(&self, key: JobKey) -> Option<&Job<T>> {
        self.jobs.get(key.index).filter(|job| job.is(key))
    }

    /// The worker of that name, if it has not been released.
    fn worker(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.places
            .get_mut(id.place)?
            .worker
            .as_mut()
            .filter(|worker| worker.id == id)
    }

    /// Asks for a `Tick` at `moment` or before.
    fn wake_by(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }

    /// Takes an unfinished job out and answers it.
    fn resolve(&mut self, key: JobKey, outcome: Outcome) {
        let job = self.jobs.remove(key.index);
        if let Some(pause) = job.rare().pause {
            self.pausing.remove(&(pause.listed, key));
        }
        let action = Action::Resolve(Box::new(job.attachment), key, outcome, job.sent);
        self.actions.push_back(action);
    }
}

/// A worker spoke of a call that it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCall;

/// Whether a key in the line is a waiting job and not the gap that one left.
fn waits<T>(jobs: &Slab<Job<T>>, key: JobKey) -> bool {
    jobs.get(key.index)
        .is_some_and(|job| job.is(key) && job.sent.is_none())
}
