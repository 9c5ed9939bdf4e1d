//! The executor whose workers are threads of this process: the verbs of the pool of processes, with
//! its handles and errors, for code that is trusted to end and not to crash.
//!
//! ```text
//!   ThreadPool ─▶ task (function, argument ─▶ Job) ─▶ driver ─▶ roster decides
//!                                                        │
//!   TaskHandle ◀── reply ◀── a thread runs the job ◀─────┘
//! ```
//!
//! - [`builder`], [`shutdown`], [`task`], [`async_task`], [`progress`], [`async_progress`], [`map`]: what
//!   can be asked for.
//! - [`roster`]: who waits, who runs where (pure). [`driver`]: the lock around it. [`threads`]: their
//!   lives. [`initializer`]: how these begin. [`host`]: async calls on them. [`timers`]: what happens
//!   after a time.
//! - [`job`]: a function with its argument and the duty to answer.

pub(crate) mod async_progress;
pub(crate) mod async_task;
pub(crate) mod builder;
mod driver;
mod host;
mod initializer;
mod job;
pub(crate) mod map;
pub(crate) mod progress;
mod roster;
mod shutdown;
pub(crate) mod task;
mod threads;
mod timers;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::stream::Stream;

use self::builder::ThreadPoolBuilder;
use self::driver::Driver;
use self::map::{ThreadMap, ThreadMapIter};
use self::task::{Options, ThreadTask, ThreadTaskCall};
use crate::pool::builder::MOST_WORKERS;
use crate::pool::error::{BuildError, ResizeError, ResizeFault, TaskError, TrySubmitError};
use crate::pool::events::Events;
use crate::pool::handle::TaskHandle;
use crate::pool::stake::Stake;
use crate::pool::stats::Stats;
use crate::process::StartError;
use crate::task::Call;

/// A pool of threads, with the verbs of a [`ProcessPool`](crate::ProcessPool).
///
/// Arguments and results are moved, not encoded, and a call costs no more than one of tokio's
/// `spawn_blocking`. What only a process can do, a thread cannot.
///
/// # What is different over threads
///
/// | | |
/// | --- | --- |
/// | [`abort`](TaskHandle::abort) of a running blocking task | [asks](crate::task::TaskContext::is_cancelled) it to end and answers `false` |
/// | [`timeout`](ThreadTask::timeout), [`deadline`](ThreadTask::deadline) of a blocking task | each call is refused, with an error that [says so](TaskError::is_unsupported); [`queue_timeout`](ThreadTask::queue_timeout) and [`soft_timeout`](ThreadTask::soft_timeout) are kept |
/// | [`terminate`](Self::terminate), [`shutdown_with`](Self::shutdown_with) a limit | ends what waits and what is async, asks blocking tasks that run to end, and answers [`Unsupported`](crate::Unsupported) if there are any |
/// | a crash, an exit or an abort in a task | takes the program along; with `panic = "abort"` so does a panic, which otherwise is an error of its task as there |
/// | [async tasks](Self::submit_async) | are ended as there, but for one that does not yield: no thread is killed for it |
/// | [`retry`](ThreadTask::retry), [`key`](ThreadTask::key) | each call is refused, with an error that says so: an argument is moved, and the threads share their memory |
/// | an [initializer](ThreadPoolBuilder::initializer) | is given a clone of its argument; one that fails breaks no pool: the next call tries again |
/// | what else workers are given (environment, limits, a finalizer, standard output) and how they are renewed | is not offered: they are this process |
/// | [`map`](Self::map) | has no chunks: each item is a call |
/// | [updates](Self::submit_with_progress) | of any size can be sent |
/// | [`stats`](Self::stats) | all workers have this process's id, and none of them memory of its own |
/// | [`events`](Self::events) | of tasks, not of the coming and going of threads |
/// | feature `tracing` | a task runs in the span of its call, so its own spans are inside of that, and what it logs is not carried anywhere |
/// | feature `metrics` | the label `kind` is `thread` |
///
/// Code for either kind of pool is generic over [`Executor`](crate::Executor), and can
/// [require](crate::Executor::require) what it needs of them.
///
/// Cheap to clone; all clones are one pool. It needs no runtime: handles can be awaited anywhere,
/// and [waited for](TaskHandle::blocking_wait).
///
/// So that errors can tell where a task panicked, the first pool of a program puts a panic hook in
/// front of the one there is. It keeps panics of tasks, and hands on all others.
///
/// # Drop
///
/// Dropping the last clone is [`close`](Self::close): what was accepted is finished, and then the
/// threads end. It never blocks. Handles and tasks do not keep a pool open; a
/// [`ThreadMap`](crate::ThreadMap) that has not taken its last item does.
///
/// ```
/// use procpool::ThreadPool;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::new()?;
/// let shared = std::sync::Arc::new(vec![1, 2, 3]); // no need to encode it
/// let sum = pool.submit(|numbers: std::sync::Arc<Vec<i32>>| numbers.iter().sum(), shared);
/// assert_eq!(sum.await.unwrap_or(0), 6);
///
/// let error = pool.submit(|n: usize| [1, 2, 3][n], 7).await.unwrap_err();
/// assert!(error.is_panic());
/// pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "ThreadPoolExecutor")]
pub struct ThreadPool {
    stake: Stake<Driver>,
}

impl ThreadPool {
    /// Builds a pool with default options: a thread per core.
    ///
    /// # Errors
    ///
    /// See [`ThreadPoolBuilder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder, to choose options.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::default()
    }

    fn new_with(driver: Arc<Driver>) -> Self {
        Self {
            stake: Stake::new(driver),
        }
    }

    fn driver(&self) -> &Arc<Driver> {
        self.stake.driver()
    }

    /// Queues a call and returns at once.
    ///
    /// As with [`ProcessPool::submit`](crate::ProcessPool::submit), `function` is any function, or a
    /// closure that captures nothing, so that a program can go from one pool to the other; but
    /// argument and result need be nothing but able to move between threads.
    ///
    /// Whatever stands against the call comes through the handle: a queue that is full, a pool that
    /// is shut down. Dropping the handle detaches the task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let words = pool.submit(|text: &'static str| text.split(' ').count(), "a b c");
    /// assert_eq!(words.await?, 3);
    /// # Ok(()) }
    /// ```
    pub fn submit<A, R>(&self, function: fn(A) -> R, argument: A) -> TaskHandle<R>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        self.task(function).submit(argument)
    }

    /// Queues a call that [`call!`](crate::call) has made, and returns at once: a function with
    /// several arguments, or with none.
    ///
    /// `call!` encodes the arguments, whoever runs the call; a tuple given to
    /// [`submit`](Self::submit) is moved.
    ///
    /// ```
    /// use procpool::call;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// assert_eq!(pool.submit_call(call!(u64::pow(2, 10))).await?, 1024);
    /// assert_eq!(pool.submit(|(a, b)| u64::pow(a, b), (2, 10)).await?, 1024);
    /// # Ok(()) }
    /// ```
    pub fn submit_call<R: Send + 'static>(&self, call: Call<R>) -> TaskHandle<R> {
        task::submit_call(self.driver(), call, &Options::default())
    }

    /// Queues a call if there is room in the queue, else hands the argument back at once.
    ///
    /// # Errors
    ///
    /// When [`max_pending`](ThreadPoolBuilder::max_pending) tasks are waiting, or when the pool is
    /// shut down.
    pub fn try_submit<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        self.task(function).try_submit(argument)
    }

    /// Waits for room in the queue, then for the result. Dropping the future takes the work back if
    /// it has not been started; what runs is asked to end, and cannot be made to.
    ///
    /// The call is queued when the future is polled. Whoever waits for room is served in order, and
    /// fails if the pool is shut down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as far as [`TaskHandle::abort`] can do that here.
    pub fn run<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> impl Future<Output = Result<R, TaskError>> + Send + use<A, R>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        self.task(function).run(argument)
    }

    /// Returns a task: a function whose calls can be given options.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let patient = pool.task(|n: u64| n + 1).queue_timeout(Duration::from_secs(5)).name("next");
    /// assert_eq!(patient.submit(1).await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn task<A, R>(&self, function: fn(A) -> R) -> ThreadTask<A, R>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        ThreadTask::new(self.driver().clone(), function)
    }

    /// Returns a task of a call that [`call!`](crate::call) has made, to be given options. See
    /// [`ThreadTaskCall`].
    pub fn task_call<R: Send + 'static>(&self, call: Call<R>) -> ThreadTaskCall<R> {
        ThreadTaskCall::new(self.driver().clone(), call)
    }

    /// Starts all threads, and waits until they have run what they run
    /// [first](ThreadPoolBuilder::initializer).
    ///
    /// # Errors
    ///
    /// When the system has no room for a thread, when the initializer of one fails, or when the pool
    /// is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends only the waiting. One that was never polled has done nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(2).build()?;
    /// pool.ready().await?;
    /// assert_eq!(pool.stats().workers.len(), 2);
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self) -> Result<(), StartError> {
        let driver = self.driver();
        driver.starts.all(|| driver.start_all()).await
    }

    /// Returns what happens in the pool from now on, as a stream. It ends when the pool has been
    /// shut down and its threads have left. Otherwise as
    /// [`ProcessPool::events`](crate::ProcessPool::events).
    pub fn events(&self) -> Events {
        self.driver().hub.listen()
    }

    /// Runs a function over many items; the results come as a stream, in the order of the items.
    ///
    /// Work starts at once. Up to 1,024 items ([adjustable](ThreadTask::look_ahead)) are taken here
    /// and now, and more only as the stream is read, so the items may have no end. Each is a call of
    /// its own: nothing is gained by handing over several at once where nothing is encoded.
    ///
    /// What is taken counts as accepted: [`close`](Self::close) lets it finish. It takes no room of
    /// [`max_pending`](ThreadPoolBuilder::max_pending).
    ///
    /// ```
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(2).build()?;
    /// let squares: Vec<u64> = pool.map(|n: u64| n * n, 0..100).try_collect().await?;
    /// assert_eq!(squares[99], 9_801);
    /// # Ok(()) }
    /// ```
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> ThreadMapIter<I::IntoIter, R>
    where
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task(function).map(items)
    }

    /// Runs a function over many items; the results come in the order in which they are ready.
    /// Otherwise as [`map`](Self::map).
    pub fn map_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        items: I,
    ) -> ThreadMapIter<I::IntoIter, R>
    where
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task(function).map_unordered(items)
    }

    /// Runs a function over a stream of items; the results come in the order of the items. The
    /// stream of items is polled only while the results are. Otherwise as [`map`](Self::map).
    pub fn map_stream<A, R, S>(&self, function: fn(A) -> R, items: S) -> ThreadMap<S, R>
    where
        A: Send + 'static,
        R: Send + 'static,
        S: Stream<Item = A>,
    {
        self.task(function).map_stream(items)
    }

    /// Tells whether the pool takes no more work.
    pub fn is_closed(&self) -> bool {
        self.driver().lifetime().closed
    }

    /// Returns how many threads there may be; they are started as they are needed.
    pub fn workers(&self) -> usize {
        self.driver().workers()
    }

    /// Changes how many threads there may be, while the pool runs. Returns at once.
    ///
    /// A pool that grows starts threads as they are needed. In one that shrinks those that are too
    /// many finish what they run and end; which of them that are is left to chance. No call is lost
    /// or refused for it. [`max_pending`](ThreadPoolBuilder::max_pending) and
    /// [`min_workers`](ThreadPoolBuilder::min_workers) are understood as in
    /// [`ProcessPool::resize`](crate::ProcessPool::resize).
    ///
    /// # Errors
    ///
    /// When it is zero, or more than 65,536, or when the pool takes no more work. Nothing is changed
    /// then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// pool.resize(4)?;
    /// pool.ready().await?;
    /// assert_eq!((pool.workers(), pool.stats().workers.len()), (4, 4));
    /// assert!(pool.resize(0).is_err());
    /// # Ok(()) }
    /// ```
    pub fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(ResizeFault::Number(workers).into());
        }
        self.driver().resize(workers)
    }

    /// Returns a snapshot of what the pool does and has done. Its workers are the threads, and the
    /// process id of each is the program's own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(4).build()?;
    /// pool.submit(|n: u64| n + 1, 1).await?;
    /// let stats = pool.stats();
    /// assert_eq!((stats.completed, stats.workers.len()), (1, 1));
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        self.driver().stats()
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("workers", &self.workers())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
