//! The pool's moving part: performs what the scheduler decides, and tells it what happened.
//!
//! All state is behind one lock, which is never held while user code runs, while bytes are written
//! to a pipe, or across an await. Whoever brings an event (a submitting thread, a worker's serving
//! task, the timer) performs the actions that follow from it, under that lock; what is left over
//! (answers to give, pipes to flush) is done after it.
//!
//! ```text
//!   submit ─┐                      ┌─▶ page: offer, take back, end
//!   cancel ─┼─▶ Scheduler ─▶ perform ─▶ slot: push … flush
//!   frames ─┤      ▲               ├─▶ keeper: start a worker
//!   deaths ─┘      └── answers ────┘─▶ reply: resolve
//! ```
//!
//! - [`state`]: what the lock protects, and what is done under it alone.
//! - [`chunks`]: jobs of many items; [`parts`]: how far each has come.
//! - [`rooms`]: async calls, many in one worker.
//! - [`updates`]: what tasks say while they run.
//! - [`owner`]: what the workers' slots report. [`workers`]: starting, serving, killing them.
//! - [`traces`]: the spans of calls. [`slow`]: runs that take longer than is usual.
//! - [`in_place`]: jobs of a pool without workers. [`lone`]: calls whose answers are awaited awake.
//! - [`roll`]: who is still at something when the pool ends.
//! - [`memory`]: how much of it the workers use. [`time`]: the timer, and the end of the pool's
//!   runtime.

mod chunks;
mod in_place;
mod lone;
mod memory;
mod owner;
pub(super) mod parts;
mod roll;
pub(super) mod rooms;
mod slow;
mod state;
mod time;
mod traces;
mod updates;
mod workers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use self::lone::{Lone, Patience};
use self::parts::Trails;
use self::roll::{Present, Roll};
use self::rooms::rooms_of;
use self::slow::SlowCall;
use self::state::State;
pub(super) use self::state::{id_of, look};
use self::time::{Anchor, watch_slabs};
use super::admission;
use super::error::{ResizeError, ResizeFault, TaskError};
use super::events::Hub;
use super::in_place::InPlace;
use super::job::{ChunkOwner, Client, Job, News};
use super::meter::{Levels, Meters, Unsaid};
use super::reply::Raw;
use super::rooms::{RoomRules, Rooms};
use super::scheduler::{
    Action, Event, JobKey, JobSpec, Progress, Refusal, Retry, Rules, Scheduler,
};
use super::stats::Counts;
use super::trace::{CallTrace, Tales, Teller};
use crate::process::{Keeper, Launcher, Lent, StartError};
use crate::supervisor::slot::{Server, Slot};
use crate::supervisor::start::Recipe;
use crate::supervisor::{Owner, oom};
use crate::sys::clock::Moment;
use crate::task::slabs;

/// What a pool is, once its options are settled.
pub(crate) struct Plan {
    pub(crate) rules: Rules,
    pub(crate) recipe: Recipe,
    pub(crate) max_pending: Option<usize>,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) rooms: RoomRules,
    pub(crate) task_soft_timeout: Option<Duration>,
    /// For how long answers are awaited awake, if that was said.
    pub(crate) busy_poll: Option<Duration>,
    pub(crate) home: Handle,
    /// What it is called, if it was given a name.
    pub(crate) label: Option<String>,
}

/// Where a pool's calls are run.
pub(crate) enum Venue {
    /// In processes that this starts.
    Workers(Launcher),
    /// Where they are made.
    InPlace(InPlace),
}

/// A pool at work. Lives until the last of its handles, tasks and workers is gone.
pub(crate) struct Driver {
    pub(crate) plan: Plan,
    /// Room in the queue, where that is bounded.
    pub(crate) room: Option<Arc<Semaphore>>,
    /// How many workers there may be.
    workers: AtomicUsize,
    /// How many there are who keep the pool open.
    pub(super) stakes: AtomicUsize,
    /// What there is instead of workers, if there are none.
    pub(crate) in_place: Option<InPlace>,
    /// The crate's thread, to run things on, until the pool is finished.
    keeper: Lent,
    state: Mutex<State>,
    /// Tells whoever looks at the workers' memory that they have something to do.
    busy: Notify,
    /// Tells the timer that it has to wake up earlier.
    timer: Notify,
    /// The call whose answer is awaited awake.
    lone: Lone,
    /// Where events are told.
    pub(crate) hub: Arc<Hub>,
    /// Tells of calls that have a span.
    teller: Teller,
    /// The instruments of the `metrics` facade.
    meters: Meters,
    /// Those who tell answers just now.
    tellers: Arc<Roll>,
    /// Those who serve workers on the pool's runtime.
    servers: Arc<Roll>,
    /// Changes whenever a worker starts or fails to, and when the pool closes or is finished.
    progress: watch::Sender<Lifetime>,
    this: Weak<Driver>,
}

/// How far the pool is in its life, as those who wait for it see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) closed: bool,
    /// What waits is not let finish.
    pub(crate) dropping: bool,
    pub(crate) finished: bool,
}

/// What is left to be done when the lock is released.
#[derive(Default)]
pub(crate) struct Done {
    /// Who is to be told what.
    replies: Vec<Answered>,
    /// What is to be told to whom of a chunk.
    news: Vec<(Arc<dyn ChunkOwner>, Vec<News>)>,
    /// What there is to tell to the `metrics` facade.
    unsaid: Unsaid,
    /// What there is to tell of calls that have a span.
    tales: Tales,
    /// Which jobs are run again, with their spans and how they have failed.
    again: Vec<(u64, CallTrace, TaskError)>,
    /// Which runs take longer than is usual.
    slow: Vec<SlowCall>,
    /// Who waits for updates that have come.
    readers: Vec<Waker>,
    /// Whose queued calls are to be written now.
    flush: Vec<Arc<Slot>>,
    /// Whose serving task is to write them, and does not know it yet.
    ring: Vec<Arc<Slot>>,
    /// The timer is set too late.
    rearm: bool,
    /// Held until all this is done, where anybody is to be told anything of calls.
    telling: Option<Present>,
}

/// A call that is over.
struct Answered {
    number: u64,
    /// Its part of the room in the queue.
    permit: Option<OwnedSemaphorePermit>,
    trace: CallTrace,
    client: Client,
    raw: Raw,
}

impl Answered {
    /// That job has ended like this.
    fn new(number: u64, job: Job, raw: Raw) -> Self {
        Self {
            number,
            permit: job.permit,
            trace: job.trace,
            client: job.client,
            raw,
        }
    }
}

impl Driver {
    /// Puts a pool to work.
    pub(crate) fn start(plan: Plan, venue: Venue, keeper: Arc<Keeper>) -> Arc<Self> {
        let workers = plan.rules.workers;
        let room = plan
            .max_pending
            .map(|max| Arc::new(Semaphore::new(admission::room_for(max, workers))));
        let hub = Arc::new(Hub::new());
        let (launcher, in_place) = match venue {
            Venue::Workers(launcher) => (Some(Arc::new(launcher)), None),
            Venue::InPlace(in_place) => (None, Some(in_place)),
        };
        let slabs = launcher
            .is_some()
            .then(|| slabs::hold(plan.recipe.large_payloads, watch_slabs(keeper.handle())))
            .flatten();
        let driver = Arc::new_cyclic(|this| Self {
            room,
            workers: AtomicUsize::new(workers),
            stakes: AtomicUsize::new(0),
            in_place,
            keeper: keeper.lend(),
            state: Mutex::new(State {
                scheduler: Scheduler::new(plan.rules),
                rooms: Rooms::new(plan.rooms),
                slots: vec![None; workers],
                starts: vec![None; workers],
                exits: vec![None; workers],
                faults: vec![None; workers],
                trails: Trails::new(),
                dismissed: vec![None; workers],
                start_error: None,
                breaking: None,
                armed: Moment(u64::MAX),
                helping: false,
                patience: Patience::new(plan.busy_poll),
                oom_kills: oom::kills(),
                counts: Counts::new(Moment::now()),
                hub: hub.clone(),
                traces: HashMap::new(),
                turns: 0,
                ended: HashMap::new(),
                launcher,
                _slabs: slabs,
                _keeper: Some(keeper),
            }),
            busy: Notify::new(),
            timer: Notify::new(),
            lone: Lone::default(),
            hub: hub.clone(),
            teller: Teller::default(),
            meters: Meters::new("process", plan.label.as_deref()),
            tellers: Arc::default(),
            servers: Arc::default(),
            progress: watch::Sender::new(Lifetime::default()),
            this: this.clone(),
            plan,
        });
        driver.keeper.spawn(driver.clone().keep_time());
        if driver.watches_memory() {
            driver.keeper.spawn(driver.clone().watch_memory());
        }
        driver.plan.home.spawn(Anchor(driver.clone()).hold());
        if driver.plan.rules.min_workers > 0 {
            // Any event has those started that are kept warm.
            driver.tell(Event::Tick);
        }
        driver
    }

    /// Accepts a job, or says why not. Without workers the job is over after this.
    pub(crate) fn submit(&self, mut job: Job) -> Result<JobKey, TaskError> {
        if let Some(place) = &self.in_place {
            return self.run_in_place(place, job);
        }
        let now = Moment::now();
        job.since = now;
        if job.is_async {
            return self.submit_async(job, now);
        }
        let terms = job.terms();
        let spec = JobSpec {
            kind: job.kind,
            bytes: job.head.len() + job.argument.len(),
            timeout: terms.timeout,
            soft_timeout: terms.soft_timeout,
            queue_timeout: terms.queue_timeout,
            deadline: terms.deadline.map(|deadline| deadline.at),
            retry: match job.client {
                Client::Call(_) => terms.retry,
                Client::Chunk { .. } | Client::Room => Retry::default(),
            },
            priority: terms.priority,
            key: terms.key,
            items: job.client.items(),
            room: None,
            number: self.number(&job.trace, job.client.items().max(1)),
        };
        let trace = job.trace.clone();
        let mut state = self.lock();
        match state.scheduler.submit(now, spec, job) {
            Ok(key) => {
                state.counts.submitted(spec.items.max(1).into());
                self.perform(state, now);
                Ok(key)
            }
            Err((refusal, job)) => {
                let error = state.refused(refusal);
                drop(state);
                trace.refused(error.reason());
                drop(job);
                Err(error)
            }
        }
    }

    /// Cancels or aborts a job; tells whether that is now its outcome.
    pub(crate) fn withdraw(&self, key: JobKey, event: Event) -> bool {
        self.intervene(key, event, |state| !state.scheduler.is_open(key))
    }

    /// Asks a job to come to its end; tells whether it was asked, or was cancelled by that.
    pub(crate) fn request(&self, key: JobKey) -> bool {
        self.intervene(key, Event::Request(key), |state| {
            let Some((worker, ticket)) = state.scheduler.holder(key) else {
                return !state.scheduler.is_open(key);
            };
            let slot = state.slot(worker);
            slot.is_some_and(|slot| slot.page.was_asked(ticket))
        })
    }

    /// Does something about an unfinished job, and looks what has come of it before anybody else
    /// can do anything; `false` if it is finished.
    fn intervene(&self, key: JobKey, event: Event, outcome: impl FnOnce(&State) -> bool) -> bool {
        let now = Moment::now();
        let mut state = self.lock();
        if !state.scheduler.is_open(key) {
            return false;
        }
        state.scheduler.handle(now, event);
        let mut done = Done::default();
        self.perform_all(&mut state, now, &mut done);
        let outcome = outcome(&state);
        drop(state);
        self.deliver(done);
        outcome
    }

    /// Tells the scheduler of something that happened to the pool as a whole.
    pub(crate) fn tell(&self, event: Event) {
        if let (Some(place), Event::Terminate) = (&self.in_place, event) {
            place.end();
        }
        let now = Moment::now();
        let mut state = self.lock();
        let mut done = Done::default();
        if let Event::Tick = event {
            let (rooms, around) = rooms_of!(&mut *state);
            rooms.tick(now, &around);
            // Before the scheduler, which may find that nothing is left to wait for.
            self.act_for_rooms(&mut state, now, &mut done);
        }
        state.scheduler.handle(now, event);
        self.perform_all(&mut state, now, &mut done);
        drop(state);
        self.deliver(done);
        if matches!(event, Event::CancelPending | Event::Terminate) {
            self.progress
                .send_modify(|lifetime| lifetime.dropping = true);
        }
    }

    /// How many workers there may be.
    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Changes how many workers there may be, and with it the room in the queue.
    pub(crate) fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        let now = Moment::now();
        let mut state = self.lock();
        if state.scheduler.refusal().is_some() {
            return Err(ResizeFault::Closed.into());
        }
        let before = state.scheduler.workers();
        state.make_places(workers);
        self.workers.store(workers, Ordering::Relaxed);
        state.scheduler.handle(now, Event::Resize(workers));
        self.perform(state, now);
        // Fewer may be all that somebody waits for.
        self.progress.send_modify(|_| ());
        if let Some((room, max)) = self.room.as_ref().zip(self.plan.max_pending) {
            self.keeper
                .run(|keeper| admission::resize(room, max, (before, workers), keeper));
        }
        Ok(())
    }

    /// The worker that has the job, and how far it has come there.
    pub(crate) fn progress(&self, key: JobKey) -> Option<(u32, Progress)> {
        let state = self.lock();
        let (worker, ticket) = state.scheduler.holder(key)?;
        let slot = state.slot(worker)?;
        Some((slot.child.pid(), look(&slot.page, ticket)))
    }

    /// Why jobs are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<TaskError> {
        let state = self.lock();
        state
            .scheduler
            .refusal()
            .map(|refusal| state.refused(refusal))
    }

    /// Watches the pool's life.
    pub(crate) fn watch(&self) -> watch::Receiver<Lifetime> {
        self.progress.subscribe()
    }

    /// Whether every worker is ready, or why that cannot be.
    pub(crate) fn completeness(&self) -> Result<bool, StartError> {
        let state = self.lock();
        match state.scheduler.refusal() {
            None => Ok(state.scheduler.is_complete()),
            Some(Refusal::Closed | Refusal::Dropped) => Err(StartError::shutting_down()),
            Some(Refusal::Broken(_)) => Err(state
                .start_error
                .clone()
                .unwrap_or_else(StartError::shutting_down)),
        }
    }

    /// The last reason for which a worker could not be started.
    pub(crate) fn start_error(&self) -> Option<StartError> {
        self.lock().start_error.clone()
    }

    /// Reads the state for a snapshot.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Scheduler<Job>, &Rooms<Job>, &Counts, &[Option<Arc<Slot>>]) -> T,
    ) -> T {
        let state = self.lock();
        read(&state.scheduler, &state.rooms, &state.counts, &state.slots)
    }

    /// Somebody awaits something of this pool, here. On the pool's own runtime, or while that runs
    /// by itself, all is well; else nobody may be driving it.
    pub(crate) fn awaited_here(&self) {
        let home = &self.plan.home;
        if home.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return;
        }
        if !Handle::try_current().is_ok_and(|here| here.id() == home.id()) {
            self.help();
        }
    }

    /// Performs everything that is to be done, then does what is left without the lock.
    fn perform(&self, mut state: MutexGuard<'_, State>, now: Moment) {
        // A call that has to wait in line is in it already.
        if state.is_settled() {
            return;
        }
        let mut done = Done::default();
        self.perform_all(&mut state, now, &mut done);
        drop(state);
        self.deliver(done);
    }

    fn perform_all(&self, state: &mut State, now: Moment, done: &mut Done) {
        loop {
            while let Some(action) = state.scheduler.next_action() {
                self.perform_one(state, now, action, done);
            }
            if !self.turn_of_rooms(state, now, done) {
                break;
            }
        }
        if let Some(wake) = state.wake_at().filter(|wake| *wake < state.armed) {
            state.armed = wake;
            done.rearm = true;
        }
        let State {
            counts,
            scheduler,
            rooms,
            turns,
            ..
        } = state;
        counts.unsaid.stand(|| {
            let levels = scheduler.levels();
            let queued = levels.queued + rooms.in_line();
            Levels { queued, ..levels }
        });
        done.unsaid = counts.unsaid.take();
        done.again = std::mem::take(&mut counts.again);
        done.tales.take_turn(turns);
        if !(done.replies.is_empty() && done.news.is_empty()) {
            done.telling = Some(self.tellers.enter());
        }
    }

    fn perform_one(&self, state: &mut State, now: Moment, action: Action<Job>, done: &mut Done) {
        match action {
            Action::Start(worker) => self.start_worker(state, worker),
            Action::Assign(worker, ticket, key) => {
                if state.assign(now, (worker, ticket), key, done) {
                    self.sent_alone(state, now, worker, key);
                }
                if self.watches_memory() {
                    self.busy.notify_one();
                }
            }
            Action::TakeBack(worker, ticket) => {
                let won = state
                    .slot(worker)
                    .is_some_and(|slot| slot.page.take_back(ticket));
                state
                    .scheduler
                    .handle(now, Event::TakenBack(worker, ticket, won));
            }
            Action::End(worker, ticket, begun_by) => {
                let slot = state.slot(worker);
                let won = slot.is_some_and(|slot| slot.page.end(ticket, begun_by));
                state
                    .scheduler
                    .handle(now, Event::Ended(worker, ticket, won));
            }
            Action::Ask(worker, ticket, begun_by, why) => {
                if let Some(slot) = state.slot(worker) {
                    slot.page.ask(ticket, begun_by, why);
                }
            }
            Action::Probe(worker, ticket) => {
                let page = state.slot(worker).map(|slot| &slot.page);
                let progress = page.map_or(Progress::Over, |page| look(page, ticket));
                state
                    .scheduler
                    .handle(now, Event::Probed(worker, ticket, progress));
            }
            Action::Slow(worker, ticket, key, begun) => {
                let slow = state.slow((worker, ticket), key, begun.until(now));
                done.slow.extend(slow);
            }
            Action::Retire(worker) => {
                state.dismissed[worker.place] = Some(worker.number);
                if let Some(slot) = state.slot(worker) {
                    slot.retire();
                    self.serve(slot, Server::Keeper);
                }
            }
            Action::Kill(worker) => self.kill(state, now, worker),
            Action::Release(worker) => {
                state.rooms.released(now, worker);
                // What is known of the worker is forgotten with its release.
                self.act_for_rooms(state, now, done);
                state.release(worker, done);
            }
            Action::Cut(worker, ticket, key) => state.cut(now, (worker, ticket), key, done),
            Action::Repeat(key, outcome) => state.repeat(key, outcome),
            Action::Resolve(job, key, outcome, sent) => {
                state.resolve(now, *job, key, outcome, sent, done);
                // Before the worker is released, as above.
                self.act_for_rooms(state, now, done);
            }
            Action::Closed => {
                if let Some(room) = &self.room {
                    room.close();
                }
                let broken = matches!(state.scheduler.refusal(), Some(Refusal::Broken(_)));
                self.progress.send_modify(|lifetime| {
                    lifetime.closed = true;
                    lifetime.dropping |= broken;
                });
            }
            Action::Over(outcome) => {
                let (rooms, around) = rooms_of!(state);
                rooms.over(now, &around, outcome);
                self.act_for_rooms(state, now, done);
            }
            Action::Finished => self.finish(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock; should the crate itself panic under it, answers are
        // still given as far as they can.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
