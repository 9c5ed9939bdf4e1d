//! What a pool has done so far and is doing now.

use std::fmt;
use std::time::Duration;

use super::driver::{Driver, id_of, look};
use super::error::TaskError;
use super::histogram::Histogram;
use super::reply::Raw;
use super::scheduler::Progress;
use crate::sys::clock::Moment;

/// Counters that only grow; kept by the driver.
#[derive(Clone, Debug, Default)]
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
}

impl Counts {
    /// A worker has answered a call that was accepted so long ago and ran for so long.
    pub(crate) fn answered(&mut self, raw: &Raw, ago: Duration, took: Duration) {
        self.waited.record(ago.saturating_sub(took));
        self.ran.record(took.min(ago));
        match raw {
            Raw::Returned(_) => self.completed += 1,
            Raw::Failed(_) => self.failed += 1,
        }
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
    }

    /// A call has failed like this and is run again.
    pub(crate) fn repeated(&mut self, number: u64, error: &TaskError) {
        tracing::debug!(target: "procpool", call = number, error = format_args!("{error:#}"), "a call is run again");
        self.retried += 1;
    }

    /// So many calls are back where they were before they were submitted.
    pub(crate) fn taken_back(&mut self, calls: u64) {
        self.submitted -= calls;
    }
}

/// A snapshot of a pool, from [`ProcessPool::stats`](crate::ProcessPool::stats).
///
/// ```text
/// 2 of 4 workers, 1 running, 0 waiting; submitted 12, completed 10, failed 1, …
///   resize-1 (pid 4121): running call 12 for 31ms, 8 done
///   resize-2 (pid 4122): idle, 3 done
/// ```
///
/// Taking one is cheap, a lock and a look at each worker's page; the counters never go back.
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
    /// The number of the call it is running, if it is.
    pub running: Option<u64>,
    /// Since how long it has been running that.
    pub running_for: Option<Duration>,
    /// How many calls it holds, the running one included.
    pub held: usize,
    /// How many async calls are in it. While there are any, what it is
    /// [`running`](Self::running) is the one for which it began with them.
    pub async_tasks: usize,
    /// How many calls it has answered.
    pub done: u64,
}

pub(super) fn snapshot(driver: &Driver) -> Stats {
    driver.read(|scheduler, rooms, counts, slots| {
        let now = Moment::now();
        let workers = slots.iter().flatten().map(|slot| {
            let load = scheduler.load(id_of(slot));
            let first = load
                .first
                .map(|(key, ticket)| (key, look(&slot.page, ticket)));
            let running = match first {
                Some((key, Progress::Running(since) | Progress::Between(since))) => {
                    Some((key.number(), since.until(now)))
                }
                _ => None,
            };
            WorkerStats {
                name: slot.name.clone(),
                pid: slot.child.pid(),
                running: running.map(|(number, _)| number),
                running_for: running.map(|(_, length)| length),
                held: load.held,
                async_tasks: rooms.guests(id_of(slot)),
                done: load.done,
            }
        });
        let (hosting, waiting) = rooms.jobs();
        let place = driver.in_place.as_ref();
        let in_place = place.map(|place| place.workers(&driver.plan.recipe.name));
        let in_place = in_place.unwrap_or_default();
        Stats {
            max_workers: driver.workers(),
            queued: scheduler.waiting() - waiting + rooms.waiting(),
            unfinished: scheduler.unfinished() - hosting + rooms.unfinished() + in_place.len(),
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
        }
    })
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

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} workers, {} running, {} waiting; submitted {}, completed {}, failed {}, \
             cancelled {}, timed out {}, lost {}, retried {}; workers started {}, ended {}",
            self.workers.len(),
            self.max_workers,
            self.running(),
            self.unfinished - self.running().min(self.unfinished),
            self.submitted,
            self.completed,
            self.failed,
            self.cancelled,
            self.timed_out,
            self.lost,
            self.retried,
            self.workers_started,
            self.workers_ended,
        )?;
        if self.ran.count() > 0 {
            write!(f, "\n  waited: {}\n  ran: {}", self.waited, self.ran)?;
        }
        for worker in &self.workers {
            write!(f, "\n  {} (pid {}): ", worker.name, worker.pid)?;
            match (worker.running, worker.running_for) {
                (Some(call), Some(length)) => write!(f, "running call {call} for {length:.1?}")?,
                _ => f.write_str("idle")?,
            }
            write!(f, ", {} done", worker.done)?;
        }
        Ok(())
    }
}
