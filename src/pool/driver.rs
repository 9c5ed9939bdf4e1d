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

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::{Breakage, Kind, RESULT, TaskError, WorkerExit};
use super::reply::{Answer, Raw};
use super::scheduler::{
    Action, Event, JobKey, JobSpec, Outcome, Progress, Refusal, Restart, Rules, Scheduler,
    StartFailure, WorkerId,
};
use super::stats::Counts;
use crate::process::{Exit, Keeper, Launcher, StartError};
use crate::supervisor::slot::{Server, Slot};
use crate::supervisor::start::{Recipe, start};
use crate::supervisor::{Owner, oom};
use crate::sys::clock::Moment;
use crate::sys::pidfd;
use crate::wire::codec::Frame;
use crate::wire::frame::{Header, Kind as FrameKind};
use crate::wire::{Ticket, page};

/// How long a worker that has closed its response pipe may take to be dead: a process that ends
/// does the one just before the other.
const HANG_UP: Duration = Duration::from_millis(500);

/// A job's attachment: what the worker gets, and who gets the answer.
pub(crate) struct Job {
    /// The call's particulars, encoded.
    pub(crate) head: Vec<u8>,
    /// Its argument, encoded.
    pub(crate) argument: Bytes,
    /// Which function it calls.
    pub(crate) kind: u64,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it may wait.
    pub(crate) queue_timeout: Option<Duration>,
    /// Who is to be told.
    pub(crate) reply: Arc<dyn Answer>,
    /// Its part of the room in the queue, given back with it.
    #[expect(dead_code, reason = "it is held for what its drop does")]
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// What a pool is, once its options are settled.
pub(crate) struct Plan {
    pub(crate) rules: Rules,
    pub(crate) recipe: Recipe,
    pub(crate) max_pending: Option<usize>,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) home: Handle,
}

/// A pool at work. Lives until the last of its handles, tasks and workers is gone.
pub(crate) struct Driver {
    pub(crate) plan: Plan,
    /// Room in the queue, where that is bounded.
    pub(crate) room: Option<Arc<Semaphore>>,
    /// The crate's thread, to run things on; a handle to it does not keep it.
    keeper: Handle,
    state: Mutex<State>,
    /// Tells the timer that it has to wake up earlier.
    timer: Notify,
    /// Changes whenever a worker starts or fails to, and when the pool closes or is finished.
    progress: watch::Sender<Lifetime>,
    this: Weak<Driver>,
}

/// How far the pool is in its life, as those who wait for it see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) closed: bool,
    pub(crate) finished: bool,
}

struct State {
    scheduler: Scheduler<Job>,
    /// The ready workers, by place.
    slots: Vec<Option<Arc<Slot>>>,
    /// The starts under way, by place.
    starts: Vec<Option<(u64, AbortHandle)>>,
    /// How a worker that is being sorted out has ended, by place.
    exits: Vec<Option<WorkerExit>>,
    /// Why a worker is being killed that broke the protocol, by place.
    violations: Vec<Option<String>>,
    /// Workers that we have killed or told to leave, by place.
    dismissed: Vec<Option<u64>>,
    /// Why the last start failed that did.
    start_error: Option<StartError>,
    /// The worker whose loss broke the pool.
    breaking: Option<WorkerExit>,
    /// When the timer is set to.
    armed: Moment,
    /// The keeper serves all workers, too.
    helping: bool,
    oom_kills: u64,
    counts: Counts,
    /// What keeps the crate's thread and starts processes; gone when the pool is finished.
    launcher: Option<Arc<Launcher>>,
    _keeper: Option<Arc<Keeper>>,
}

/// What is left to be done when the lock is released.
#[derive(Default)]
pub(crate) struct Done {
    /// Who is to be told what, with the number of the call.
    replies: Vec<(u64, Arc<dyn Answer>, Raw)>,
    flush: Vec<Arc<Slot>>,
    flush_soon: Vec<Arc<Slot>>,
    /// Dropped without the lock.
    jobs: Vec<Job>,
    rearm: bool,
}

impl Driver {
    /// Puts a pool to work.
    pub(crate) fn start(plan: Plan, launcher: Launcher, keeper: Arc<Keeper>) -> Arc<Self> {
        let workers = plan.rules.workers;
        let room = plan.max_pending.map(|max| {
            Arc::new(Semaphore::new(
                max.saturating_add(workers).min(Semaphore::MAX_PERMITS),
            ))
        });
        let driver = Arc::new_cyclic(|this| Self {
            room,
            keeper: keeper.handle().clone(),
            state: Mutex::new(State {
                scheduler: Scheduler::new(plan.rules),
                slots: vec![None; workers],
                starts: vec![None; workers],
                exits: vec![None; workers],
                violations: vec![None; workers],
                dismissed: vec![None; workers],
                start_error: None,
                breaking: None,
                armed: Moment(u64::MAX),
                helping: false,
                oom_kills: oom::kills(),
                counts: Counts::default(),
                launcher: Some(Arc::new(launcher)),
                _keeper: Some(keeper),
            }),
            timer: Notify::new(),
            progress: watch::Sender::new(Lifetime::default()),
            this: this.clone(),
            plan,
        });
        driver.keeper.spawn(driver.clone().keep_time());
        driver.plan.home.spawn(Anchor(driver.clone()).hold());
        driver
    }

    /// Accepts a job, or says why not.
    pub(crate) fn submit(&self, job: Job) -> Result<JobKey, TaskError> {
        let spec = JobSpec {
            kind: job.kind,
            bytes: job.head.len() + job.argument.len(),
            timeout: job.timeout,
            queue_timeout: job.queue_timeout,
        };
        let now = Moment::now();
        let mut state = self.lock();
        match state.scheduler.submit(now, spec, job) {
            Ok(key) => {
                state.counts.submitted += 1;
                self.perform(state, now);
                Ok(key)
            }
            Err((refusal, job)) => {
                let error = state.refused(refusal);
                drop(state);
                drop(job);
                Err(error)
            }
        }
    }

    /// Cancels or aborts a job; tells whether that is now its outcome.
    pub(crate) fn withdraw(&self, key: JobKey, event: Event) -> bool {
        let now = Moment::now();
        let mut state = self.lock();
        if !state.scheduler.is_open(key) {
            return false;
        }
        state.scheduler.handle(now, event);
        let (open, done) =
            self.perform_locked(&mut state, now, |state| state.scheduler.is_open(key));
        drop(state);
        self.deliver(done);
        !open
    }

    /// Tells the scheduler of something that happened to the pool as a whole.
    pub(crate) fn tell(&self, event: Event) {
        let now = Moment::now();
        let mut state = self.lock();
        state.scheduler.handle(now, event);
        self.perform(state, now);
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
            Some(Refusal::Closed) => Err(StartError::shutting_down()),
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
        read: impl FnOnce(&Scheduler<Job>, &Counts, &[Option<Arc<Slot>>]) -> T,
    ) -> T {
        let state = self.lock();
        read(&state.scheduler, &state.counts, &state.slots)
    }

    /// From now on the crate's own thread serves the workers as well: somebody waits, and it is not
    /// sure that anybody drives the pool's runtime.
    pub(crate) fn help(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.helping, true) {
            return;
        }
        for slot in state.slots.iter().flatten() {
            self.serve(slot, Server::Keeper);
        }
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
        let ((), done) = self.perform_locked(&mut state, now, |_| ());
        drop(state);
        self.deliver(done);
    }

    fn perform_locked<T>(
        &self,
        state: &mut State,
        now: Moment,
        then: impl FnOnce(&State) -> T,
    ) -> (T, Done) {
        let mut done = Done::default();
        while let Some(action) = state.scheduler.next_action() {
            self.perform_one(state, now, action, &mut done);
        }
        if let Some(wake) = state.scheduler.wake_at().filter(|wake| *wake < state.armed) {
            state.armed = wake;
            done.rearm = true;
        }
        (then(state), done)
    }

    fn perform_one(&self, state: &mut State, now: Moment, action: Action<Job>, done: &mut Done) {
        match action {
            Action::Start(worker) => self.start_worker(state, worker),
            Action::Assign(worker, ticket, key) => state.assign(worker, ticket, key, done),
            Action::TakeBack(worker, ticket) => {
                let won = state
                    .slot(worker)
                    .is_some_and(|slot| slot.page.take_back(ticket));
                state
                    .scheduler
                    .handle(now, Event::TakenBack(worker, ticket, won));
            }
            Action::End(worker, ticket) => {
                let won = state.slot(worker).is_some_and(|slot| slot.page.end(ticket));
                state
                    .scheduler
                    .handle(now, Event::Ended(worker, ticket, won));
            }
            Action::Probe(worker, ticket) => {
                let page = state.slot(worker).map(|slot| &slot.page);
                let progress = page.map_or(Progress::Over, |page| look(page, ticket));
                state
                    .scheduler
                    .handle(now, Event::Probed(worker, ticket, progress));
            }
            Action::Retire(worker) => {
                state.dismissed[worker.place] = Some(worker.number);
                if let Some(slot) = state.slot(worker) {
                    slot.retire();
                    self.serve(slot, Server::Keeper);
                }
            }
            Action::Kill(worker) => self.kill(state, now, worker),
            Action::Release(worker) => state.release(worker),
            Action::Resolve(job, key, outcome) => {
                let error = state.error_of(&job, outcome);
                state.counts.failed(&error);
                done.replies
                    .push((key.number(), job.reply.clone(), Raw::Failed(error)));
                done.jobs.push(job);
            }
            Action::Closed => {
                if let Some(room) = &self.room {
                    room.close();
                }
                self.progress.send_modify(|lifetime| lifetime.closed = true);
            }
            Action::Finished => self.finish(state),
        }
    }

    fn start_worker(&self, state: &mut State, worker: WorkerId) {
        let Some(launcher) = state.launcher.clone() else {
            return;
        };
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        state.counts.started += 1;
        let task = self.keeper.spawn(async move {
            let started = start(&launcher, &driver.plan.recipe, worker.place, worker.number).await;
            drop(launcher);
            driver.started(worker, started);
        });
        state.starts[worker.place] = Some((worker.number, task.abort_handle()));
    }

    /// A start is over. One that was given up meanwhile leaves nothing: its worker is killed.
    fn started(&self, worker: WorkerId, started: Result<Slot, StartError>) {
        // Logged without the lock: a subscriber may do anything.
        if let Err(error) = &started {
            tracing::warn!(target: "procpool", %error, "a worker could not be started");
        }
        let now = Moment::now();
        let mut state = self.lock();
        let known = state.starts[worker.place]
            .as_ref()
            .is_some_and(|(number, _)| *number == worker.number);
        if !known {
            drop(state);
            return started.iter().for_each(|slot| slot.child.kill_group());
        }
        state.starts[worker.place] = None;
        match started {
            Ok(slot) => {
                let slot = Arc::new(slot);
                self.serve(&slot, Server::Home);
                if state.helping {
                    self.serve(&slot, Server::Keeper);
                }
                state.slots[worker.place] = Some(slot);
                if state.scheduler.refusal().is_none() {
                    state.start_error = None;
                }
                state.scheduler.handle(now, Event::Ready(worker));
            }
            Err(error) => {
                let failure = if error.is_mismatch() {
                    StartFailure::Permanent
                } else if error.is_resource() {
                    StartFailure::System
                } else {
                    StartFailure::Worker
                };
                state.start_error = Some(error);
                state
                    .scheduler
                    .handle(now, Event::StartFailed(worker, failure));
            }
        }
        self.perform(state, now);
        self.progress.send_modify(|_| ());
    }

    fn serve(&self, slot: &Arc<Slot>, server: Server) {
        // A pool that the crate's own thread drives has one server for each worker, for a runtime
        // takes a descriptor only once.
        let server = if self.plan.home.id() == self.keeper.id() {
            Server::Home
        } else {
            server
        };
        let Some(driver) = self.this.upgrade().filter(|_| slot.claim(server)) else {
            return;
        };
        let runtime = match server {
            Server::Home => &self.plan.home,
            Server::Keeper => &self.keeper,
        };
        runtime.spawn(slot.clone().serve(driver, server));
    }

    fn kill(&self, state: &mut State, now: Moment, worker: WorkerId) {
        state.dismissed[worker.place] = Some(worker.number);
        if let Some(slot) = state.slot(worker) {
            slot.child.kill_group();
            // Somebody has to see it off even if nobody drives the pool's runtime.
            self.serve(slot, Server::Keeper);
            return;
        }
        if let Some((_, start)) = state.starts[worker.place].take() {
            start.abort();
            state
                .scheduler
                .handle(now, Event::StartFailed(worker, StartFailure::Worker));
        }
    }

    /// No job and no worker is left: lets go of the fork server and of the crate's thread.
    fn finish(&self, state: &mut State) {
        let launcher = state.launcher.take();
        let keeper = state._keeper.take();
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        self.keeper.spawn(async move {
            if let Some(launcher) = launcher {
                launcher.close().await;
            }
            driver
                .progress
                .send_modify(|lifetime| lifetime.finished = true);
            driver.timer.notify_one();
            drop(keeper);
        });
    }

    /// Ticks when the scheduler wants it. Runs on the crate's thread, so that limits are kept
    /// however busy the pool's runtime is.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let wake = {
                let mut state = self.lock();
                state.armed = state.scheduler.wake_at().unwrap_or(Moment(u64::MAX));
                state.armed
            };
            if self.progress.borrow().finished {
                return;
            }
            let now = Moment::now();
            if wake > now {
                let rearmed = std::pin::pin!(self.timer.notified());
                if wake == Moment(u64::MAX) {
                    rearmed.await;
                } else {
                    let due =
                        std::pin::pin!(tokio::time::sleep_until(Instant::now() + now.until(wake)));
                    futures::future::select(rearmed, due).await;
                }
                continue;
            }
            // What has come is taken in first: a response that is only waiting to be read must not
            // look like a worker that is late.
            let slots: Vec<_> = self.lock().slots.iter().flatten().cloned().collect();
            for slot in &slots {
                slot.pump(&*self);
            }
            self.tell(Event::Tick);
        }
    }

    /// Ends everything after a time, unless it is over by then.
    pub(crate) fn terminate_after(&self, limit: Duration) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        self.keeper.spawn(async move {
            let mut lifetime = driver.watch();
            let over = lifetime.wait_for(|lifetime| lifetime.finished);
            if tokio::time::timeout(limit, over).await.is_err() {
                driver.tell(Event::Terminate);
            }
        });
    }

    /// The pool's runtime has ended: what is unresolved is resolved, and the workers end.
    fn lost_home(&self) {
        self.help();
        self.tell(Event::Terminate);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock; should the crate itself panic under it, answers are
        // still given as far as they can.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for Driver {
    type Done = Done;

    fn received(&self, slot: &Arc<Slot>, frames: &mut Vec<Frame>) -> (Done, Result<(), String>) {
        let worker = id_of(slot);
        let now = Moment::now();
        let mut state = self.lock();
        let mut answered = Vec::with_capacity(frames.len());
        let mut verdict = Ok(());
        for frame in frames.drain(..) {
            verdict = state.take_in(
                worker,
                now,
                frame,
                self.plan.recipe.max_frame,
                &mut answered,
            );
            if verdict.is_err() {
                break;
            }
        }
        let ((), mut done) = self.perform_locked(&mut state, now, |_| ());
        drop(state);
        for (number, job, raw) in answered {
            done.replies.push((number, job.reply.clone(), raw));
            done.jobs.push(job);
        }
        (done, verdict)
    }

    fn deliver(&self, done: Done) {
        let Done {
            replies,
            flush,
            flush_soon,
            jobs,
            rearm,
        } = done;
        flush.iter().for_each(|slot| slot.flush());
        flush_soon.iter().for_each(|slot| slot.flush_soon());
        // Room is given back before the answer is, so that who has the answer finds the room.
        drop(jobs);
        for (number, reply, raw) in replies {
            if let Raw::Failed(error) = &raw {
                tracing::debug!(target: "procpool", call = number, %error, "a call has failed");
            }
            reply.resolve(raw);
        }
        if rearm {
            self.timer.notify_one();
        }
    }

    fn condemned(&self, slot: &Arc<Slot>, reason: String) {
        let worker = id_of(slot);
        tracing::error!(target: "procpool", worker = slot.name, reason, "a worker broke the protocol");
        let mut state = self.lock();
        // The place may be another's by now, and what is said first says why.
        if state.slot(worker).is_some() {
            state.violations[slot.place].get_or_insert(reason);
        }
        drop(state);
        self.tell(Event::Condemned(worker));
    }

    fn hung_up(&self, slot: &Arc<Slot>) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        let slot = slot.clone();
        self.keeper.spawn(async move {
            let dead = tokio::time::timeout(HANG_UP, slot.child.exited()).await;
            // How it has ended may take longer to be known than that it has.
            let ended = pidfd::has_ended(slot.child.pidfd().as_fd());
            if dead.is_err() && matches!(ended, Ok(false)) {
                driver.condemned(&slot, "it closed its response pipe".to_owned());
            }
        });
    }

    fn orphaned(&self, slot: &Arc<Slot>) {
        self.tell(Event::Orphaned(id_of(slot)));
    }

    fn gone(&self, slot: &Arc<Slot>, exit: Exit) {
        let worker = id_of(slot);
        if let Some(tail) = &slot.tail {
            while tail.pump() == Some(true) {}
        }
        let oom_kills = oom::kills();
        let now = Moment::now();
        let mut state = self.lock();
        if state.slot(worker).is_none() {
            return;
        }
        let mut lost = None;
        let ours = state.dismissed[worker.place] == Some(worker.number);
        let oom_suspected = !ours && exit.signal() == Some(9) && oom_kills > state.oom_kills;
        state.oom_kills = oom_kills;
        let running = state
            .scheduler
            .running(worker)
            .map(|(_, ticket)| look(&slot.page, ticket));
        let ran_for = match running {
            Some(Progress::Running(since)) => Some(since.until(now)),
            _ => None,
        };
        let reproach = state.scheduler.reproach(worker);
        let violation = state.violations[worker.place].take();
        let violation = violation.or_else(|| reproach.map(str::to_owned));
        let exit = WorkerExit {
            pid: slot.child.pid(),
            name: slot.name.clone(),
            exit,
            ran_for,
            stderr_tail: slot.tail.as_ref().map(|tail| tail.text()),
            oom_suspected,
            violation,
        };
        if !ours || exit.violation.is_some() {
            lost = Some(exit.clone());
            if self.plan.rules.restart == Restart::Never {
                state.breaking.get_or_insert(exit.clone());
            }
        }
        state.exits[worker.place] = Some(exit);
        state.counts.ended += 1;
        state.scheduler.handle(now, Event::Exited(worker));
        self.perform(state, now);
        if let Some(exit) = lost {
            tracing::warn!(target: "procpool", %exit, "a worker was lost");
        }
    }
}

impl State {
    fn slot(&self, worker: WorkerId) -> Option<&Arc<Slot>> {
        self.slots
            .get(worker.place)?
            .as_ref()
            .filter(|slot| slot.number == worker.number)
    }

    /// Sends a call to its worker.
    fn assign(&mut self, worker: WorkerId, ticket: Ticket, key: JobKey, done: &mut Done) {
        let Some(slot) = self.slot(worker).cloned() else {
            return;
        };
        let Some(job) = self.scheduler.attachment(key) else {
            return;
        };
        slot.page.offer(ticket);
        let header = Header {
            kind: FrameKind::Call,
            ticket,
            length: job.head.len() + job.argument.len(),
            call: key.number(),
            time: job.timeout.map_or(0, |limit| limit.as_nanos() as u64),
            short: self.scheduler.is_short(key),
        };
        slot.push(&[&header.to_bytes(), &job.head], &job.argument);
        // The only call of an idle worker is written at once. What is sent ahead waits for more
        // of its kind.
        let first = self
            .scheduler
            .running(worker)
            .is_some_and(|(_, first)| first == ticket);
        let list = if first {
            &mut done.flush
        } else {
            &mut done.flush_soon
        };
        if list.last().is_none_or(|last| !Arc::ptr_eq(last, &slot)) {
            list.push(slot);
        }
    }

    /// Takes in one frame from a worker.
    fn take_in(
        &mut self,
        worker: WorkerId,
        now: Moment,
        frame: Frame,
        max_frame: usize,
        answered: &mut Vec<(u64, Job, Raw)>,
    ) -> Result<(), String> {
        let Frame { header, payload } = frame;
        let raw = match header.kind {
            FrameKind::Passed => {
                self.scheduler
                    .handle(now, Event::Acknowledged(worker, header.ticket));
                return Ok(());
            }
            FrameKind::Returned => Raw::Returned(payload),
            kind => Raw::Failed(failure(kind, &payload, max_frame)?),
        };
        let ticket = header.ticket;
        let next = self.scheduler.running(worker);
        if next.is_some_and(|(key, next)| next == ticket && key.number() != header.call) {
            return Err(format!(
                "an answer to call {} under another's ticket",
                header.call
            ));
        }
        let took = Duration::from_nanos(header.time);
        let completed = self.scheduler.complete(now, worker, ticket, took);
        let unknown = |_| format!("an answer to a call that it does not have: {ticket:?}");
        if let Some((job, _)) = completed.map_err(unknown)? {
            self.counts.answered(&raw, took);
            answered.push((header.call, job, raw));
        }
        Ok(())
    }

    fn release(&mut self, worker: WorkerId) {
        let place = worker.place;
        if self.slots[place]
            .as_ref()
            .is_some_and(|slot| slot.number == worker.number)
        {
            self.slots[place] = None;
        }
        self.exits[place] = None;
        self.violations[place] = None;
    }

    fn refused(&self, refusal: Refusal) -> TaskError {
        TaskError::new(match refusal {
            Refusal::Closed => Kind::ShutDown { started: false },
            Refusal::Broken(worker) => Kind::Broken(self.breakage(worker)),
        })
    }

    fn breakage(&self, worker: Option<WorkerId>) -> Breakage {
        match worker.and(self.breaking.clone()) {
            Some(exit) => Breakage::Loss(exit),
            None => Breakage::Start(
                self.start_error
                    .clone()
                    .unwrap_or_else(StartError::shutting_down),
            ),
        }
    }

    /// What a caller is told whose call got no response.
    fn error_of(&self, job: &Job, outcome: Outcome) -> TaskError {
        TaskError::new(match outcome {
            Outcome::Lost(worker) => match self.exits[worker.place].clone() {
                Some(exit) => Kind::WorkerLost(exit),
                None => Kind::ShutDown { started: true },
            },
            Outcome::Cancelled => Kind::Cancelled,
            Outcome::Aborted(started) => Kind::Aborted { started },
            Outcome::RanTooLong => Kind::RanTooLong(job.timeout.unwrap_or_default()),
            Outcome::WaitedTooLong => Kind::WaitedTooLong(job.queue_timeout.unwrap_or_default()),
            Outcome::ShutDown(started) => Kind::ShutDown { started },
            Outcome::Broken(worker) => Kind::Broken(self.breakage(worker)),
        })
    }
}

/// What a response says that is no result.
fn failure(kind: FrameKind, payload: &[u8], max_frame: usize) -> Result<TaskError, String> {
    let nonsense = |_| format!("a response that says nothing: {kind:?}");
    Ok(TaskError::new(match kind {
        FrameKind::Panicked => Kind::Panicked(postcard::from_bytes(payload).map_err(nonsense)?),
        FrameKind::Undecodable => {
            Kind::DecodeArgument(postcard::from_bytes(payload).map_err(nonsense)?)
        }
        FrameKind::Unencodable => {
            Kind::EncodeResult(postcard::from_bytes(payload).map_err(nonsense)?)
        }
        FrameKind::TooLarge => {
            let size = payload.try_into().map(u64::from_le_bytes);
            let size = size.map_err(|_| format!("a response that says nothing: {kind:?}"))?;
            Kind::TooLarge {
                what: RESULT,
                size: size as usize,
                limit: max_frame,
            }
        }
        FrameKind::Unknown => return Err(String::from_utf8_lossy(payload).into_owned()),
        FrameKind::Call
        | FrameKind::Leave
        | FrameKind::Hello
        | FrameKind::Ready
        | FrameKind::Returned
        | FrameKind::Passed => return Err(format!("a frame out of turn: {kind:?}")),
    }))
}

/// How far a call has come, as the page says.
pub(super) fn look(page: &page::ControlPage, ticket: Ticket) -> Progress {
    match page.progress(ticket) {
        page::Progress::Waiting => Progress::Waiting,
        page::Progress::Running(since) => Progress::Running(since),
        page::Progress::Over => Progress::Over,
    }
}

/// What the scheduler calls the worker in a slot.
pub(super) fn id_of(slot: &Slot) -> WorkerId {
    WorkerId {
        place: slot.place,
        number: slot.number,
    }
}

/// A task on the pool's runtime that does nothing but notice the runtime's end.
struct Anchor(Arc<Driver>);

impl Anchor {
    async fn hold(self) {
        let mut lifetime = self.0.watch();
        // The sender lives in the driver, which this holds.
        let _ = lifetime.wait_for(|lifetime| lifetime.finished).await;
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if !self.0.progress.borrow().finished {
            self.0.lost_home();
        }
    }
}
