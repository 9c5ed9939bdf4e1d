//! The options of a pool of threads.

use std::time::Duration;

use super::ThreadPool;
use super::driver::{Driver, Plan};
use super::initializer::Initializer;
use crate::pool::builder::{MOST_WORKERS, bounded};
use crate::pool::error::{BuildError, BuildFault};
use crate::process::Keeper;
use crate::task::{HookOutcome, panic};

/// How many async tasks a thread runs at once unless it is said otherwise, and how many it may at
/// most. As in workers.
const MAX_ASYNC: usize = 64;
const MOST_ASYNC: usize = 1024;

/// Builds a [`ThreadPool`]. Got from [`ThreadPool::builder`].
///
/// ```
/// use procpool::ThreadPool;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::builder().workers(2).max_pending(100).worker_name("resize").build()?;
/// assert_eq!(pool.submit(|n: u64| n * n, 12).await?, 144);
/// # Ok(()) }
/// ```
///
/// Options are checked by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ThreadPoolBuilder {
    workers: Option<usize>,
    min_workers: usize,
    idle_timeout: Option<Duration>,
    max_pending: Option<usize>,
    task_soft_timeout: Option<Duration>,
    slow_call: Option<Duration>,
    max_async_per_worker: Option<usize>,
    worker_name: Option<String>,
    initializer: Option<Initializer>,
}

impl ThreadPoolBuilder {
    /// Sets how many threads there may be; they are started as they are needed. Default: as many as
    /// this process may use cores. Zero, and more than 65,536, are errors of
    /// [`build`](Self::build).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets how many threads are started when the pool is built, without being asked for, and stay
    /// however long they have nothing to do. Default: none. More than [`workers`](Self::workers) is
    /// an error of [`build`](Self::build).
    pub fn min_workers(mut self, workers: usize) -> Self {
        self.min_workers = workers;
        self
    }

    /// Sets after how long a thread ends that has nothing to do, down to
    /// [`min_workers`](Self::min_workers). Default: never. Zero is an error of
    /// [`build`](Self::build).
    ///
    /// Calls go to the thread that was busy last, so that the others can end. With it ends what tasks
    /// have left in its thread-locals.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use procpool::ThreadPool;
    ///
    /// let pool = ThreadPool::builder().workers(8).min_workers(1);
    /// let pool = pool.idle_timeout(Duration::from_secs(10)).build()?;
    /// assert_eq!(pool.stats().workers.len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Asks every task that runs longer than this to come to its end, as
    /// [`ThreadTask::soft_timeout`](crate::ThreadTask::soft_timeout) does, which goes before it.
    /// Default: no limit. Zero is an error of [`build`](Self::build).
    pub fn task_soft_timeout(mut self, limit: Duration) -> Self {
        self.task_soft_timeout = Some(limit);
        self
    }

    /// Has runs that take longer than this told of, while they go on, as
    /// [`ProcessPoolBuilder::slow_call`](crate::ProcessPoolBuilder::slow_call) does. Default: none.
    /// Zero is an error of [`build`](Self::build).
    ///
    /// Each call then sets a timer, which costs it some microseconds.
    pub fn slow_call(mut self, bound: Duration) -> Self {
        self.slow_call = Some(bound);
        self
    }

    /// Bounds how many tasks may wait, beyond the one that each thread can run. Default: no bound.
    /// As [`ProcessPoolBuilder::max_pending`](crate::ProcessPoolBuilder::max_pending).
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// Sets how many async tasks ([`submit_async`](ThreadPool::submit_async)) may be under way on one
    /// thread at once. Default: 64. Zero, and more than 1,024, are errors of
    /// [`build`](Self::build).
    pub fn max_async_per_worker(mut self, tasks: usize) -> Self {
        self.max_async_per_worker = Some(tasks);
        self
    }

    /// Names the threads: the name, a hyphen and a number. Default: `procpool-thread`. The system
    /// shows the first 15 bytes. An empty name, and one with a zero byte, are errors of
    /// [`build`](Self::build).
    #[doc(alias = "thread_name")]
    #[doc(alias = "thread_name_prefix")]
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.worker_name = Some(name.into());
        self
    }

    /// Has each thread run this before it takes calls, with a clone of `argument`: what it leaves in
    /// thread-locals, they find. Default: nothing.
    ///
    /// When it returns an error or panics, that thread ends. What waits is left to the other threads;
    /// where there is none, it fails with an error that [says so](crate::TaskError::is_broken) and has
    /// the text behind it, and the next call has a thread started again.
    /// [`ready`](ThreadPool::ready) tells of it, too. One that never returns keeps its thread, as
    /// a task does that never returns: nobody can end it. As Python's `ThreadPoolExecutor(initializer=..)`, but for a pool that stays
    /// usable.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use procpool::ThreadPool;
    ///
    /// thread_local! {
    ///     static LEVEL: Cell<u32> = const { Cell::new(0) };
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ThreadPool::builder().workers(2).initializer(|level| LEVEL.set(level), 3).build()?;
    /// assert_eq!(pool.submit(|n: u32| n * LEVEL.get(), 14).await?, 42);
    /// # Ok(()) }
    /// ```
    pub fn initializer<A, R>(mut self, function: fn(A) -> R, argument: A) -> Self
    where
        A: Clone + Send + Sync + 'static,
        R: HookOutcome + 'static,
    {
        self.initializer = Some(Initializer::new(function, argument));
        self
    }

    /// Builds the pool. No thread of it is started before the first task, but for those that
    /// [stay](Self::min_workers).
    ///
    /// # Errors
    ///
    /// When an option has a value that it cannot have, or when the crate's own thread, which keeps
    /// time for all pools, cannot be started.
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        let Self {
            workers,
            min_workers,
            idle_timeout,
            max_pending,
            task_soft_timeout,
            slow_call,
            max_async_per_worker,
            worker_name,
            initializer,
        } = self;
        let max_async = max_async_per_worker.unwrap_or(MAX_ASYNC);
        let workers = workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
        });
        let fault = if workers == 0 {
            Some("the number of workers must be greater than 0")
        } else if workers > MOST_WORKERS {
            Some("the number of workers must not be greater than 65536")
        } else if min_workers > workers {
            Some("more workers are to be kept warm than there may be")
        } else if idle_timeout == Some(Duration::ZERO) {
            Some("the idle timeout must be greater than 0")
        } else if task_soft_timeout == Some(Duration::ZERO) {
            Some("a soft task timeout must be greater than 0")
        } else if slow_call == Some(Duration::ZERO) {
            Some("the bound for slow calls must be greater than 0")
        } else if !(1..=MOST_ASYNC).contains(&max_async) {
            Some("the number of async tasks per worker must be between 1 and 1024")
        } else if worker_name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.contains('\0'))
        {
            Some("a worker name must be a text without zero bytes")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(BuildFault::Invalid(fault).into());
        }
        let keeper = Keeper::get().map_err(BuildFault::System)?;
        // A hook cannot be changed while a panic is on its way through this thread.
        if !std::thread::panicking() {
            panic::install_hook();
        }
        let plan = Plan {
            workers,
            min_workers,
            idle_timeout: idle_timeout.map(bounded),
            max_async,
            name: worker_name
                .clone()
                .unwrap_or_else(|| "procpool-thread".to_owned()),
            label: worker_name,
            max_pending,
            task_soft_timeout: task_soft_timeout.map(bounded),
            slow_call: slow_call.map(bounded),
            initializer,
        };
        let driver = Driver::start(plan, keeper);
        driver.start_those_that_stay();
        Ok(ThreadPool::new_with(driver))
    }
}
