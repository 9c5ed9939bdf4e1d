//! What a pool has done so far and is doing now.
//!
//! [`rate`]: how many calls are answered in a second. [`table`]: all of it as text.

mod rate;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::rate::Rate;

use super::driver::{Driver, id_of, look};
use super::error::TaskError;
use super::histogram::Histogram;
use super::job::Job;
use super::meter::Unsaid;
use super::scheduler::{Progress, Scheduler};
use super::trace::CallTrace;
use crate::supervisor::slot::Slot;
use crate::sys::clock::{Moment, nanos};

/// Counters that only grow; kept by the driver.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) timed_out: u64,
    pub(crate) lost: u64,
    pub(crate) retried: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) waited: Histogram,
    pub(crate) ran: Histogram,
    pub(crate) rate: Rate,
    /// Which calls are run again, with their spans and how they have failed; not logged yet.
    pub(crate) again: Vec<(u64, CallTrace, TaskError)>,
    /// What of it was not told to the `metrics` facade yet.
    pub(crate) unsaid: Unsaid,
}

impl Counts {
    /// Counts from now on.
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            submitted: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            timed_out: 0,
            lost: 0,
            retried: 0,
            started: 0,
            ended: 0,
            waited: Histogram::default(),
            ran: Histogram::default(),
            rate: Rate::new(now),
            again: Vec::new(),
            unsaid: Unsaid::default(),
        }
    }

    /// A call that was accepted at `since` has run for so long, and returned or failed.
    pub(crate) fn answered(
        &mut self,
        error: Option<&TaskError>,
        now: Moment,
        since: Moment,
        took: Duration,
    ) {
        // Counted for every call: in numbers.
        let (ago, took) = (now.0.saturating_sub(since.0), nanos(took));
        let (waited, ran) = (ago.saturating_sub(took), took.min(ago));
        self.rate.count(now);
        self.waited.record_nanos(waited);
        self.ran.record_nanos(ran);
        self.unsaid
            .took(Duration::from_nanos(waited), Duration::from_nanos(ran));
        match error {
            None => {
                self.completed += 1;
                self.unsaid.done();
            }
            Some(error) => {
                self.failed += 1;
                self.unsaid.failed(error.reason(), 1);
            }
        }
    }

    /// Whether nothing is left to be told of what was counted.
    pub(super) fn is_told(&self) -> bool {
        self.again.is_empty() && self.unsaid.is_nothing()
    }

    /// So many calls were accepted.
    pub(crate) fn submitted(&mut self, calls: u64) {
        self.submitted += calls;
        self.unsaid.submitted(calls);
    }

    /// So many calls ended without an answer from their worker.
    pub(crate) fn failed(&mut self, error: &TaskError, calls: u64) {
        let count = if error.is_cancelled() {
            &mut self.cancelled
        } else if error.is_timeout() {
            &mut self.timed_out
        } else if error.is_worker_lost() || error.is_broken() {
            &mut self.lost
        } else {
            &mut self.failed
        };
        *count += calls;
        self.unsaid.failed(error.reason(), calls);
    }

    /// A call has failed like this and is run again.
    pub(crate) fn repeated(&mut self, number: u64, error: &TaskError, trace: &CallTrace) {
        self.retried += 1;
        self.unsaid.retried();
        self.again.push((number, trace.clone(), error.clone()));
    }

    /// So many calls are back where they were before they were submitted.
    pub(crate) fn taken_back(&mut self, calls: u64) {
        self.submitted -= calls;
        self.unsaid.taken_back(calls);
    }
}

/// A snapshot of a pool, from [`ProcessPool::stats`](crate::ProcessPool::stats).
///
/// As text it is a few lines and a table:
///
/// ```text
/// 2 of 4 workers, 1 running, 0 waiting; workers started 2, ended 0
/// submitted 12, completed 10, failed 1, cancelled 0, timed out 0, lost 0, retried 0
/// 81.2 a second lately, 40.0 on the whole
/// waited: median 11.3µs, 90 % 17.4µs, 99 % 20.5µs, longest 20.1µs
/// ran: median 2.0ms, 90 % 2.3ms, 99 % 2.3ms, longest 2.2ms
///   worker     pid  state    call             for   memory  done  restarts
///   resize-1  4121  running  12 thumbnail  31.0ms  6.7 MiB     8         0
///   resize-2  4122  idle     -                  -  1.9 MiB     3         0
/// ```
///
/// Taking one costs a lock, a look at each worker's page, and then, without the lock, the reading of
/// a small file in `/proc` for each worker: some microseconds a worker. The counters never go back.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// pool.submit(|n: u64| n + 1, 1).await?;
/// let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
/// assert!(crash.await.is_err());
///
/// let stats = pool.stats();
/// assert_eq!((stats.submitted, stats.completed, stats.lost), (2, 1, 1));
/// assert_eq!((stats.unfinished, stats.running()), (0, 0));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// How many workers there may be.
    pub max_workers: usize,
    /// The workers that are ready.
    pub workers: Vec<WorkerStats>,
    /// How many calls wait and have not been given to a worker.
    pub queued: usize,
    /// How many calls are not done: queued, sent ahead, or running.
    pub unfinished: usize,
    /// How many calls were ever accepted.
    pub submitted: u64,
    /// How many calls returned.
    pub completed: u64,
    /// How many calls failed by a panic, an encoding, or the end of the pool.
    pub failed: u64,
    /// How many calls were cancelled or aborted.
    pub cancelled: u64,
    /// How many calls ran or waited longer than they might.
    pub timed_out: u64,
    /// How many calls were lost with their worker.
    pub lost: u64,
    /// How many runs failed and were repeated ([`Task::retry`](crate::Task::retry)). A call counts
    /// once above, by how it ended at last.
    pub retried: u64,
    /// How many starts of workers were begun. More than `max_workers` means that some were
    /// replaced.
    pub workers_started: u64,
    /// How many workers have ended after they had been ready.
    pub workers_ended: u64,
    /// How long tasks that were answered had waited, from when they were accepted to their start.
    pub waited: Histogram,
    /// How long tasks that were answered ran.
    pub ran: Histogram,
    /// How many tasks were answered in a second, in the last eight seconds or so.
    pub throughput: f64,
    /// How many tasks were answered in a second, since the pool was built.
    pub mean_throughput: f64,
}

/// One worker in a [`Stats`] snapshot.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// # pool.submit(|n: u64| n + 1, 1).await?;
/// for worker in &pool.stats().workers {
///     if worker.running_for.is_some_and(|length| length > Duration::from_secs(60)) {
///         println!("{} (pid {}) has been busy for a minute", worker.name, worker.pid);
///     }
/// }
/// # assert_eq!(pool.stats().workers[0].done, 1);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its name, as `ps` shows it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// Since how long it has been ready.
    pub age: Duration,
    /// The number of the call it is running, if it is; of a map, that of the item.
    pub running: Option<u64>,
    /// The name of that call, if it [was given one](crate::Task::name).
    pub running_name: Option<Arc<str>>,
    /// Since how long it has been running that.
    pub running_for: Option<Duration>,
    /// How many calls it holds, the running one included.
    pub held: usize,
    /// How many async calls are in it. While there are any, what it is
    /// [`running`](Self::running) is the one for which it began with them.
    pub async_tasks: usize,
    /// How many calls it has answered.
    pub done: u64,
    /// How many bytes of memory its process uses: resident and not shared, which is what
    /// [`max_memory_per_worker`](crate::ProcessPoolBuilder::max_memory_per_worker) bounds. `None`
    /// if it has just ended, or where there is no `/proc`.
    pub memory: Option<u64>,
    /// How many workers its place had before it: they left, were replaced, or were lost.
    pub restarts: u64,
}

/// What a worker is doing, in [`WorkerStats`].
///
/// ```
/// use procpool::WorkerState;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(2).build()?;
/// pool.ready().await?;
/// assert!(pool.stats().workers.iter().all(|worker| worker.state == WorkerState::Idle));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It waits for a call.
    #[default]
    Idle,
    /// It runs a call.
    Running,
    /// It is given nothing more: it comes to the end of what it runs, if it does, and then it is
    /// gone.
    Leaving,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Leaving => "leaving",
        })
    }
}

/// Looks at the pool under its lock, and at the workers' memory after that.
pub(super) fn snapshot(driver: &Driver) -> Stats {
    let (mut stats, slots) = driver.read(|scheduler, rooms, counts, slots| {
        let now = Moment::now();
        let slots: Vec<Arc<Slot>> = slots.iter().flatten().cloned().collect();
        let workers = slots.iter().map(|slot| WorkerStats {
            async_tasks: rooms.guests(id_of(slot)),
            ..worker(scheduler, slot, now)
        });
        let place = driver.in_place.as_ref();
        let in_place = place.map(|place| place.workers(&driver.plan.recipe.name));
        let in_place = in_place.unwrap_or_default();
        let stats = Stats {
            max_workers: driver.workers(),
            queued: scheduler.calls_waiting() + rooms.waiting(),
            unfinished: scheduler.unfinished() - rooms.jobs() + rooms.unfinished() + in_place.len(),
            workers: workers.chain(in_place).collect(),
            submitted: counts.submitted,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            timed_out: counts.timed_out,
            lost: counts.lost,
            retried: counts.retried,
            workers_started: counts.started,
            workers_ended: counts.ended,
            waited: counts.waited.clone(),
            ran: counts.ran.clone(),
            throughput: counts.rate.lately(now),
            mean_throughput: counts.rate.mean(now),
        };
        (stats, slots)
    });
    for (worker, slot) in stats.workers.iter_mut().zip(&slots) {
        worker.memory = slot.memory_used();
    }
    stats
}

fn worker(scheduler: &Scheduler<Job>, slot: &Slot, now: Moment) -> WorkerStats {
    let load = scheduler.load(id_of(slot));
    let running = load.first.and_then(|(key, ticket)| {
        let job = scheduler.attachment(key)?;
        match look(&slot.page, ticket) {
            Progress::Running(since) | Progress::Between(since) => {
                let item = slot.page.begun(ticket).saturating_sub(1);
                let item = item.min(job.client.items().saturating_sub(1));
                let number = key.number() + u64::from(item);
                Some((number, job.name(), since.until(now)))
            }
            Progress::Waiting | Progress::Over => None,
        }
    });
    let state = match running {
        _ if load.leaving => WorkerState::Leaving,
        Some(_) => WorkerState::Running,
        None => WorkerState::Idle,
    };
    let length = running.as_ref().map(|(_, _, length)| *length);
    let (number, name) = running.map(|(number, name, _)| (number, name)).unzip();
    WorkerStats {
        name: slot.name.clone(),
        pid: slot.child.pid(),
        state,
        age: load.ready.map_or(Duration::ZERO, |ready| ready.until(now)),
        running: number,
        running_name: name.flatten(),
        running_for: length,
        held: load.held,
        async_tasks: 0,
        done: load.done,
        memory: None,
        restarts: load.restarts,
    }
}

impl Stats {
    /// Counts the calls that are running.
    pub fn running(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.running.is_some())
            .count()
    }
}
