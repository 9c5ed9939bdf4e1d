//! The pool's moving part: the lock around the books, and what ends a call's waiting. The threads are
//! in [`threads`](super::threads), what happens after a time in [`timers`](super::timers).
//!
//! No code of the user's runs under the lock: jobs are run, answered and dropped without it.

use std::collections::HashMap;
use std::panic::RefUnwindSafe;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

use super::host::Stop;
use super::initializer::{Initializer, Starts};
use super::job::Job;
use super::roster::{Roster, Seat, Stand, Summons};
use super::task::Options;
use crate::pool::admission;
use crate::pool::error::{Kind, ResizeError, ResizeFault, TaskError};
use crate::pool::events::Hub;
use crate::pool::holder::{Holder, JobKey, Progress};
use crate::pool::meter::Meters;
use crate::pool::stake::Open;
use crate::pool::stats::{Counts, Stats, WorkerState, WorkerStats};
use crate::pool::trace::{CallTrace, End};
use crate::process::{Keeper, Sleep};
use crate::sys::clock::Moment;
use crate::task::cancel::Asked;
use crate::task::panic;
use crate::wire::page::Request;

/// What a pool is, once its options are settled.
#[derive(Debug)]
pub(super) struct Plan {
    /// How many threads there may be at first.
    pub(super) workers: usize,
    /// How many of them stay when they have nothing to do.
    pub(super) min_workers: usize,
    /// After how long without a call the others leave.
    pub(super) idle_timeout: Option<Duration>,
    /// How many async calls a thread may run at once.
    pub(super) max_async: usize,
    pub(super) name: String,
    /// The name that it was given.
    pub(super) label: Option<String>,
    pub(super) max_pending: Option<usize>,
    pub(super) task_soft_timeout: Option<Duration>,
    /// Runs that take longer are told of.
    pub(super) slow_call: Option<Duration>,
    /// What each thread runs before its first call.
    pub(super) initializer: Option<Initializer>,
}

/// A pool at work. Lives until the last of its handles, tasks and threads is gone.
pub(super) struct Driver {
    pub(super) plan: Plan,
    /// Room in the queue, where that is bounded.
    pub(super) room: Option<Arc<Semaphore>>,
    /// How many there are who keep the pool open.
    stakes: AtomicUsize,
    pub(super) starts: Starts,
    /// The crate's thread, for what is to happen after a time.
    pub(super) keeper: Handle,
    state: Mutex<State>,
    pub(super) lifetime: watch::Sender<Lifetime>,
    /// Where events are told.
    pub(super) hub: Hub,
    /// Where it is told what is counted.
    meters: Meters,
    pub(super) this: Weak<Driver>,
}

/// What is behind the lock.
pub(super) struct State {
    pub(super) roster: Roster<Job>,
    pub(super) counts: Counts,
    /// One for each place that ever had a thread.
    pub(super) places: Vec<Place>,
    /// The async calls that run.
    pub(super) guests: HashMap<u64, Arc<Stop>>,
    /// What keeps the crate's thread, until everything is over.
    keeper: Option<Arc<Keeper>>,
}

/// What a thread and the pool have in common.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Which call was asked to end there.
    pub(super) asked: Arc<Asked>,
    /// Tells the thread that there may be something to do for it.
    pub(super) woken: Condvar,
    /// Tells the thread, while it is host, that there may be a guest, or one less.
    pub(super) guests: Notify,
}

/// What the pool knows of a thread beside its books.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) desk: Arc<Desk>,
    /// The name of the call that runs there.
    pub(super) call: Option<Arc<str>>,
    pub(super) trace: CallTrace,
}

impl State {
    /// The name of the first call that a thread runs, if it has one.
    fn name_of(&self, place: usize, seat: &Seat) -> Option<Arc<str>> {
        let (number, _) = seat.running.first()?;
        match self.guests.get(number) {
            Some(guest) => guest.name.clone(),
            None => self.places.get(place)?.call.clone(),
        }
    }
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
            let permits = admission::room_for(max, plan.workers);
            Arc::new(Semaphore::new(permits))
        });
        Arc::new_cyclic(|this| Self {
            room,
            stakes: AtomicUsize::new(0),
            starts: Starts::default(),
            keeper: keeper.handle().clone(),
            state: Mutex::new(State {
                roster: Roster::new(plan.workers, plan.min_workers, plan.max_async),
                counts: Counts::new(Moment::now()),
                places: Vec::new(),
                guests: HashMap::new(),
                keeper: Some(keeper),
            }),
            lifetime: watch::Sender::new(Lifetime::default()),
            hub: Hub::new(),
            meters: Meters::new("thread", plan.label.as_deref()),
            this: this.clone(),
            plan,
        })
    }

    /// Accepts a job, which may wait for so long, or answers it at once.
    pub(super) fn submit(&self, mut job: Job, options: &Options) -> Option<JobKey> {
        let mut state = self.lock();
        let number = state.roster.take_number();
        if job.trace.is_live() {
            // Before anything can be logged inside of it. A subscriber may do anything.
            drop(state);
            job.trace.numbered(number);
            state = self.lock();
        }
        // The timer finds the lock held until the job is where it looks for it.
        let limit = options.queue_timeout;
        job.timer = limit.map(|limit| self.expire_after(limit, number));
        job.deadline = options.deadline.map(|limit| {
            let until = job.asked_for + limit;
            let left = Moment::now().until(until);
            (until, self.expire_in(left, limit, number))
        });
        let is_async = job.is_async();
        let submitted = state
            .roster
            .submit(number, job, is_async, options.priority, Moment::now());
        match submitted {
            Ok(summons) => {
                state.counts.submitted(1);
                self.summon(state, summons);
                Some(JobKey::of_number(number))
            }
            Err(job) => {
                drop(state);
                let error = TaskError::new(Kind::ShutDown { started: false });
                job.trace.refused(error.reason());
                answer(job, error);
                None
            }
        }
    }

    /// From now on there may be so many threads.
    pub(super) fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        let mut state = self.lock();
        if state.roster.is_closed() {
            return Err(ResizeFault::Closed.into());
        }
        let before = state.roster.limit();
        state.roster.resize(workers);
        // Those that are too many leave, the others sleep on.
        wake_all(&mut state);
        let now = Moment::now();
        let mut places = Vec::new();
        while let Summons::Start(place) = state.roster.summon(now) {
            places.push(place);
        }
        while let Some(place) = state.roster.sit_down_to_stay(now) {
            places.push(place);
        }
        if let Some((room, max)) = self.room.as_ref().zip(self.plan.max_pending) {
            admission::resize(room, max, (before, workers), &self.keeper);
        }
        self.unlock(state);
        for place in places {
            // Without a thread its call waits for another, or fails.
            let _ = self.start_thread(place);
        }
        Ok(())
    }

    /// How many threads there may be.
    pub(super) fn workers(&self) -> usize {
        self.lock().roster.limit()
    }

    /// Takes a job out that has not been started, and answers it.
    pub(super) fn withdraw(&self, number: u64, reason: &Kind) -> bool {
        let mut state = self.lock();
        let Some(job) = state.roster.withdraw(number) else {
            return false;
        };
        // A guest may have waited behind it.
        if let Some(host) = state.roster.host() {
            state.places[host].desk.guests.notify_one();
        }
        drop(state);
        self.answer_all([(number, job)], reason);
        true
    }

    /// Takes no new work.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.roster.close();
        wake_all(&mut state);
        drop(state);
        self.closed();
    }

    /// Takes no new work, and answers all that has not been started with this.
    pub(super) fn close_and_drop(&self, reason: &Kind) {
        let mut state = self.lock();
        state.roster.close();
        let dropped = state.roster.drain();
        wake_all(&mut state);
        drop(state);
        self.answer_all(dropped, reason);
        self.closed();
    }

    /// Tells everybody that no new work is taken: who waits for room, and for the end.
    fn closed(&self) {
        if let Some(room) = &self.room {
            room.close();
        }
        self.lifetime.send_modify(|lifetime| lifetime.closed = true);
        self.finish_if_over();
    }

    /// Asks a call to come to its end; tells whether it runs.
    fn ask(&self, number: u64) -> bool {
        let state = self.lock();
        let Some(Stand::Running(place, _)) = state.roster.stand(number) else {
            return false;
        };
        let guest = state.guests.get(&number).map(|guest| guest.asked.clone());
        let asked = guest.unwrap_or_else(|| state.places[place].desk.asked.clone());
        drop(state);
        // The thread may have gone on to another call by now, which has another number.
        asked.ask(number, Request::Caller);
        true
    }

    /// Ends an async call that runs; tells whether that is now its outcome.
    pub(super) fn end(&self, number: u64, reason: &Kind) -> bool {
        let mut state = self.lock();
        let guest = state.guests.get(&number).cloned();
        let Some(guest) = guest.filter(|guest| guest.claim()) else {
            return false;
        };
        let error = TaskError::new(reason.clone());
        state.counts.failed(&error, 1);
        self.hub.note_failure(number, &error);
        self.unlock(state);
        self.tell();
        guest.end(number, error);
        true
    }

    /// Ends all async calls that run, and asks the others to come to their ends.
    pub(super) fn end_all(&self, reason: &Kind) {
        let running: Vec<_> = self.lock().roster.running_numbers().collect();
        for number in running {
            if !self.end(number, reason) {
                self.ask(number);
            }
        }
    }

    pub(super) fn answer_all(&self, jobs: impl IntoIterator<Item = (u64, Job)>, reason: &Kind) {
        for (number, job) in jobs {
            let error = TaskError::new(reason.clone());
            let mut state = self.lock();
            state.counts.failed(&error, 1);
            self.hub.note_failure(number, &error);
            self.unlock(state);
            let waited = job.since.until(Moment::now());
            tell_end(&job.trace, number, Some(&error), (Some(waited), None));
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

    pub(super) fn finish_if_over(&self) {
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

    /// Tells whether anything runs now that cannot be ended.
    pub(super) fn is_running(&self) -> bool {
        self.lock().roster.is_blocked() || self.starts.is_any_under_way()
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
            state: match seat.running.first() {
                Some(_) => WorkerState::Running,
                None => WorkerState::Idle,
            },
            age: seat.since.until(now),
            running: seat.running.first().map(|(number, _)| *number),
            running_name: state.name_of(place, seat),
            running_for: seat.running.first().map(|(_, since)| since.until(now)),
            held: seat.running.len(),
            async_tasks: if seat.is_host { seat.running.len() } else { 0 },
            done: seat.done,
            ..WorkerStats::default()
        });
        Stats {
            max_workers: roster.limit(),
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back, and then tells what was counted under it, to code of the program's.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let State { roster, counts, .. } = &mut *state;
        counts.unsaid.stand(|| roster.levels());
        let unsaid = counts.unsaid.take();
        drop(state);
        panic::contain(|| self.meters.tell(unsaid));
    }
}

/// Wakes all threads that sleep.
fn wake_all(state: &mut State) {
    for place in state.roster.wake_all() {
        state.places[place].desk.woken.notify_one();
    }
}

/// Answers a job that was never run. Room is given back before the answer is.
fn answer(mut job: Job, error: TaskError) {
    job.permit = None;
    panic::contain(|| job.listener = None);
    job.deadline = None;
    panic::contain(|| job.trace.end());
    job.work.refuse(error);
}

/// Tells, of a call that is over, its span and who may be told nowhere else, for the handle may be
/// gone: after so long it was begun, and ran for so long, if it was. A subscriber may do anything,
/// and no thread is lost for it.
pub(super) fn tell_end(
    trace: &CallTrace,
    number: u64,
    error: Option<&TaskError>,
    (waited, ran): (Option<Duration>, Option<Duration>),
) {
    let end = End {
        slot: None,
        outcome: error.map_or("returned", TaskError::reason),
        attempt: ran.is_some().into(),
        waited,
        ran,
    };
    panic::contain(|| trace.ended(&end));
    if let Some(error) = error {
        panic::contain(|| {
            tracing::debug!(target: "procpool", parent: trace.id(), call = number, error = format_args!("{error:#}"), "a call has failed");
        });
    }
}

impl Open for Driver {
    fn stakes(&self) -> &AtomicUsize {
        &self.stakes
    }

    fn is_closed(&self) -> bool {
        self.lifetime().closed
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// As the pool of processes' driver is, and for the same reason.
impl RefUnwindSafe for Driver {}

impl Holder for Driver {
    fn cancel(&self, key: JobKey) -> bool {
        self.withdraw(key.number(), &Kind::Cancelled)
    }

    /// A blocking call that runs cannot be ended, and is asked to.
    fn abort(&self, key: JobKey) -> bool {
        if self.withdraw(key.number(), &Kind::Aborted { started: false }) {
            return true;
        }
        if self.end(key.number(), &Kind::Aborted { started: true }) {
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
    fn sleep(&self, limit: Duration) -> Sleep {
        self.sleep(limit)
    }

    fn awaited_here(&self) {}

    fn help(&self) {}
}
