//! The pool's moving part: the lock around the books, the threads, and what ends a call's waiting.
//!
//! No code of the user's runs under the lock: jobs are run, answered and dropped without it.

use std::io;
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::job::{Job, Timer};
use super::roster::{Roster, Stand, Step};
use crate::pool::error::{Breakage, Kind, TaskError};
use crate::pool::events::{Hub, PoolEvent};
use crate::pool::holder::{Holder, JobKey, Progress};
use crate::pool::stats::{Counts, Stats, WorkerState, WorkerStats};
use crate::process::{Keeper, StartError};
use crate::sys::clock::Moment;
use crate::task::cancel::Asked;
use crate::task::{context, panic};
use crate::wire::page::Request;

/// What a pool is, once its options are settled.
#[derive(Debug)]
pub(super) struct Plan {
    /// How many threads there may be.
    pub(super) workers: usize,
    pub(super) name: String,
    pub(super) max_pending: Option<usize>,
}

/// A pool at work. Lives until the last of its handles, tasks and threads is gone.
pub(super) struct Driver {
    pub(super) plan: Plan,
    /// Room in the queue, where that is bounded.
    pub(super) room: Option<Arc<Semaphore>>,
    /// The crate's thread, for what is to happen after a time.
    keeper: Handle,
    state: Mutex<State>,
    /// Tells threads that a call waits, or that the pool was closed.
    changed: Condvar,
    lifetime: watch::Sender<Lifetime>,
    /// Where events are told.
    pub(super) hub: Hub,
    this: Weak<Driver>,
}

struct State {
    roster: Roster<Job>,
    counts: Counts,
    /// For each place the number of the call that was last asked to end there.
    asked: Vec<Arc<Asked>>,
    /// What keeps the crate's thread, until everything is over.
    keeper: Option<Arc<Keeper>>,
}

/// How far the pool is in its life, as those who wait for it see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) closed: bool,
    pub(super) finished: bool,
    /// A limit that was set to its ending has passed.
    pub(super) expired: bool,
}

impl Driver {
    /// Puts a pool to work.
    pub(super) fn start(plan: Plan, keeper: Arc<Keeper>) -> Arc<Self> {
        let room = plan.max_pending.map(|max| {
            let permits = max.saturating_add(plan.workers);
            Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
        });
        Arc::new_cyclic(|this| Self {
            room,
            keeper: keeper.handle().clone(),
            state: Mutex::new(State {
                roster: Roster::new(plan.workers),
                counts: Counts::new(Moment::now()),
                asked: Vec::new(),
                keeper: Some(keeper),
            }),
            changed: Condvar::new(),
            lifetime: watch::Sender::new(Lifetime::default()),
            hub: Hub::new(),
            this: this.clone(),
            plan,
        })
    }

    /// Accepts a job, which may wait for so long, or answers it at once.
    pub(super) fn submit(
        &self,
        mut job: Job,
        limit: Option<Duration>,
        priority: i32,
    ) -> Option<JobKey> {
        let mut state = self.lock();
        // The timer finds the lock held until the job is where it looks for it.
        let next = state.roster.next_number();
        job.timer = limit.map(|limit| self.expire_after(limit, next));
        match state.roster.submit(job, priority) {
            Ok((number, start)) => {
                state.counts.submitted += 1;
                drop(state);
                match start {
                    // Without a thread the call waits for another, or fails.
                    Some(place) => drop(self.start_thread(place)),
                    None => self.changed.notify_one(),
                }
                Some(JobKey::of_number(number))
            }
            Err(job) => {
                drop(state);
                answer(job, TaskError::new(Kind::ShutDown { started: false }));
                None
            }
        }
    }

    /// Starts all threads that there may be.
    pub(super) fn start_all(&self) -> Result<(), StartError> {
        loop {
            let mut state = self.lock();
            if state.roster.is_closed() {
                return Err(StartError::shutting_down());
            }
            let place = state.roster.sit_down();
            drop(state);
            match place {
                Some(place) => self.start_thread(place)?,
                None => return Ok(()),
            }
        }
    }

    fn start_thread(&self, place: usize) -> Result<(), StartError> {
        let Some(driver) = self.this.upgrade() else {
            return Err(StartError::shutting_down());
        };
        let asked = Arc::new(Asked::default());
        let mut state = self.lock();
        state.counts.started += 1;
        if state.asked.len() <= place {
            state.asked.resize_with(place + 1, Arc::default);
        }
        state.asked[place] = asked.clone();
        drop(state);
        let thread = std::thread::Builder::new().name(self.thread_name(place));
        match thread.spawn(move || driver.work(place, &asked)) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.not_started(place, &error)),
        }
    }

    fn thread_name(&self, place: usize) -> String {
        format!("{}-{}", self.plan.name, place + 1)
    }

    /// What waits waits for the other threads; where there are none, it fails.
    fn not_started(&self, place: usize, error: &io::Error) -> StartError {
        tracing::warn!(target: "procpool", %error, "a thread could not be started");
        let error = StartError::system("start a thread", error);
        let unrun = self.lock().roster.unstarted(place);
        self.hub.note(|| PoolEvent::StartFailed(error.clone()));
        self.answer_all(unrun, &Kind::Broken(Breakage::Start(error.clone())));
        self.tell();
        self.finish_if_over();
        error
    }

    /// A thread's life.
    fn work(&self, place: usize, asked: &Arc<Asked>) {
        while let Some((number, mut job)) = self.next(place) {
            job.timer = None;
            self.tell();
            let started = Moment::now();
            let told = {
                let name = job.name.take();
                let soft = job.soft_timeout.map(|limit| {
                    let timer = self.ask_after(limit, number, asked.clone());
                    (timer, started + limit)
                });
                let soft_deadline = soft.as_ref().map(|(_, deadline)| *deadline);
                let _current = context::enter_on_thread(number, name, asked.clone(), soft_deadline);
                job.work.run()
            };
            let (waited, ran) = (job.since.until(started), started.until(Moment::now()));
            self.done(place, number, &told, waited, ran);
            if let Err(error) = told {
                panic::contain(|| log(number, &error));
            }
            self.tell();
            // Room is given back before the answer is, so that who has the answer finds the room.
            job.permit = None;
            job.work.answer(None);
        }
        self.finish_if_over();
    }

    /// Waits for the next job of a thread; `None` when it is to end.
    fn next(&self, place: usize) -> Option<(u64, Job)> {
        let mut state = self.lock();
        loop {
            match state.roster.take(place, Moment::now()) {
                Step::Run(number, job) => {
                    self.hub.note(|| PoolEvent::TaskStarted {
                        task: number,
                        items: 1,
                        pid: std::process::id(),
                    });
                    return Some((number, job));
                }
                Step::Wait => {
                    let woken = self.changed.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
                Step::Leave => {
                    state.counts.ended += 1;
                    return None;
                }
            }
        }
    }

    /// A thread has run a call: after so long, for so long.
    fn done(
        &self,
        place: usize,
        number: u64,
        told: &Result<(), TaskError>,
        waited: Duration,
        ran: Duration,
    ) {
        let now = Moment::now();
        let mut state = self.lock();
        state.roster.done(place);
        state.counts.rate.count(now);
        state.counts.waited.record(waited);
        state.counts.ran.record(ran);
        match told {
            Ok(()) => {
                state.counts.completed += 1;
                self.hub.note_return(number, ran);
            }
            Err(error) => {
                state.counts.failed += 1;
                self.hub.note_failure(number, error);
            }
        }
    }

    /// Takes a job out that has not been started, and answers it.
    fn withdraw(&self, number: u64, reason: &Kind) -> bool {
        let Some(job) = self.lock().roster.withdraw(number) else {
            return false;
        };
        self.answer_all([(number, job)], reason);
        true
    }

    /// Takes no new work.
    pub(super) fn close(&self) {
        self.lock().roster.close();
        self.closed();
    }

    /// Takes no new work, and answers all that has not been started with this.
    pub(super) fn close_and_drop(&self, reason: &Kind) {
        let mut state = self.lock();
        state.roster.close();
        let dropped = state.roster.drain();
        drop(state);
        self.answer_all(dropped, reason);
        self.closed();
    }

    /// Tells everybody that no new work is taken: who waits for room, for calls, for the end.
    fn closed(&self) {
        if let Some(room) = &self.room {
            room.close();
        }
        self.lifetime.send_modify(|lifetime| lifetime.closed = true);
        self.changed.notify_all();
        self.finish_if_over();
    }

    /// Does the same after a time, unless everything is over by then.
    pub(super) fn close_and_drop_after(&self, limit: Duration, reason: Kind) {
        let Some(driver) = self.this.upgrade() else {
            return;
        };
        let mut lifetime = self.watch();
        self.keeper.spawn(async move {
            let over = lifetime.wait_for(|lifetime| lifetime.finished);
            if tokio::time::timeout(limit, over).await.is_err() {
                driver.close_and_drop(&reason);
                driver
                    .lifetime
                    .send_modify(|lifetime| lifetime.expired = true);
            }
        });
    }

    fn expire_after(&self, limit: Duration, number: u64) -> Timer {
        let driver = self.this.clone();
        let timer = self.keeper.spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(driver) = driver.upgrade() {
                driver.withdraw(number, &Kind::WaitedTooLong(limit));
            }
        });
        Timer(timer.abort_handle())
    }

    /// Asks a running call to come to its end after a time.
    fn ask_after(&self, limit: Duration, number: u64, asked: Arc<Asked>) -> Timer {
        let timer = self.keeper.spawn(async move {
            tokio::time::sleep(limit).await;
            asked.ask(number, Request::SoftLimit);
        });
        Timer(timer.abort_handle())
    }

    /// Asks a call to come to its end; tells whether it runs.
    fn ask(&self, number: u64) -> bool {
        let state = self.lock();
        let Some(Stand::Running(place, _)) = state.roster.stand(number) else {
            return false;
        };
        let asked = state.asked[place].clone();
        drop(state);
        // The thread may have gone on to another call by now, which has another number.
        asked.ask(number, Request::Caller);
        true
    }

    fn answer_all(&self, jobs: impl IntoIterator<Item = (u64, Job)>, reason: &Kind) {
        for (number, job) in jobs {
            let error = TaskError::new(reason.clone());
            let mut state = self.lock();
            state.counts.failed(&error, 1);
            self.hub.note_failure(number, &error);
            drop(state);
            answer(job, error);
        }
        self.tell();
    }

    /// Tells listeners what has been noted.
    pub(super) fn tell(&self) {
        if self.hub.is_heard() {
            panic::contain(|| self.hub.tell());
        }
    }

    fn finish_if_over(&self) {
        let mut state = self.lock();
        if !state.roster.is_over() {
            return;
        }
        let keeper = state.keeper.take();
        drop(state);
        self.lifetime
            .send_modify(|lifetime| lifetime.finished = true);
        if keeper.is_some() {
            self.hub.close();
        }
        drop(keeper);
    }

    /// Tells whether anything runs now.
    pub(super) fn is_running(&self) -> bool {
        self.lock().roster.running() > 0
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        *self.lifetime.borrow()
    }

    /// Watches the pool's life.
    pub(super) fn watch(&self) -> watch::Receiver<Lifetime> {
        self.lifetime.subscribe()
    }

    pub(super) fn stats(&self) -> Stats {
        let now = Moment::now();
        let state = self.lock();
        let (roster, counts) = (&state.roster, &state.counts);
        let workers = roster.seats().map(|(place, seat)| WorkerStats {
            name: self.thread_name(place),
            pid: std::process::id(),
            state: match seat.running {
                Some(_) => WorkerState::Running,
                None => WorkerState::Idle,
            },
            running: seat.running.map(|(number, _)| number),
            running_for: seat.running.map(|(_, since)| since.until(now)),
            held: usize::from(seat.running.is_some()),
            done: seat.done,
            ..WorkerStats::default()
        });
        Stats {
            max_workers: self.plan.workers,
            workers: workers.collect(),
            queued: roster.waiting(),
            unfinished: roster.waiting() + roster.running(),
            submitted: counts.submitted,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            timed_out: counts.timed_out,
            lost: counts.lost,
            workers_started: counts.started,
            workers_ended: counts.ended,
            waited: counts.waited.clone(),
            ran: counts.ran.clone(),
            throughput: counts.rate.lately(now),
            mean_throughput: counts.rate.mean(now),
            ..Stats::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what nobody else may: the handle may be gone.
fn log(number: u64, error: &TaskError) {
    tracing::debug!(target: "procpool", call = number, error = format_args!("{error:#}"), "a call has failed");
}

/// Answers a job that was never run. Room is given back before the answer is.
fn answer(mut job: Job, error: TaskError) {
    job.permit = None;
    job.work.answer(Some(error));
}

/// As the pool of processes' driver is, and for the same reason.
impl RefUnwindSafe for Driver {}

impl Holder for Driver {
    fn cancel(&self, key: JobKey) -> bool {
        self.withdraw(key.number(), &Kind::Cancelled)
    }

    /// What runs cannot be ended, and is asked to.
    fn abort(&self, key: JobKey) -> bool {
        if self.withdraw(key.number(), &Kind::Aborted { started: false }) {
            return true;
        }
        self.ask(key.number());
        false
    }

    fn request(&self, key: JobKey) -> bool {
        self.withdraw(key.number(), &Kind::Cancelled) || self.ask(key.number())
    }

    fn progress(&self, key: JobKey) -> Option<(Option<u32>, Progress)> {
        match self.lock().roster.stand(key.number())? {
            Stand::Waiting => Some((None, Progress::Waiting)),
            Stand::Running(_, since) => Some((None, Progress::Running(since))),
        }
    }

    /// The threads need nobody to drive them.
    fn awaited_here(&self) {}

    fn help(&self) {}
}
