//! The executor: takes calls, keeps workers, gives answers.
//!
//! ```text
//!   ProcessPool ─▶ task (Call ─▶ Job) ─▶ driver ─▶ scheduler decides
//!                                          │
//!                                          ├─▶ supervisor/slot ─▶ wire ─▶ the worker
//!   TaskHandle ◀── reply ◀─────────────────┘ ◀── frames, deaths, time
//! ```
//!
//! - [`builder`], [`shared`], [`shutdown`], [`task`]: what can be asked for. [`stake`]: who keeps it open.
//! - [`scheduler`]: decides (pure). [`driver`]: performs, and is told what happens.
//! - [`rooms`]: decides about async calls (pure).
//! - [`reply`]: the duty to answer. [`handle`]: the caller's end. [`error`]: how it can fail.
//! - [`admission`]: how many calls there may be. [`holder`]: what a handle asks of its pool. [`blocking`]: waiting on a blocked thread.
//! - [`updates`]: what a task says while it runs.
//! - [`in_place`]: calls that are run where they are made.
//! - [`map`]: one function over many items.
//! - [`stats`]: what was done and is being done. [`events`]: what happens, as it happens.
//!   [`trace`]: the spans of calls. [`meter`]: what is counted for others.

pub(crate) mod admission;
pub(crate) mod builder;
mod driver;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod histogram;
pub(crate) mod holder;
#[cfg(any(test, counting))]
pub mod hot_path;
pub(crate) mod in_place;
mod job;
pub(crate) mod map;
pub(crate) mod meter;
pub(crate) mod reply;
mod rooms;
#[cfg(any(test, counting))]
pub mod scale;
mod scheduler;
mod shared;
pub(crate) mod shutdown;
pub(crate) mod stake;
pub(crate) mod stats;
pub(crate) mod task;
#[cfg(test)]
mod tests;
pub(crate) mod trace;
pub(crate) mod updates;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::builder::{MOST_WORKERS, ProcessPoolBuilder};
use self::driver::Driver;
use self::error::{BuildError, ResizeError, ResizeFault, TaskError, TrySubmitError};
use self::handle::TaskHandle;
use self::scheduler::Event;
use self::stake::Stake;
use self::stats::Stats;
use self::task::{AsyncTask, Options, Task, TaskCall};
use crate::process::StartError;
use crate::task::call::Call;

pub use self::scheduler::{Restart, Retry};

/// A pool of worker processes.
///
/// Calls are queued by [`submit`](Self::submit) and its relatives, run one at a time by each
/// worker process, and answered through a [`TaskHandle`]. Workers are started when they are needed
/// and replaced when they die; a worker's death costs the call that it was running and no other.
///
/// Cheap to clone; all clones are one pool.
///
/// # Which runtime
///
/// The pool is driven by the tokio runtime in which it is built, or by the one given to the
/// builder; built outside of any, by a thread of the crate's own. When that runtime ends, what is
/// unresolved resolves as [shut down](TaskError::is_shut_down) and the workers end. Handles can be
/// awaited anywhere, and [waited for](TaskHandle::blocking_wait) without a runtime.
///
/// # Drop
///
/// Dropping the last clone is [`close`](Self::close): what was accepted is finished, and then the
/// workers leave. It never blocks. To wait for the end use [`shutdown`](Self::shutdown). Handles and
/// tasks do not keep a pool open; a [`Map`](crate::Map) that has not taken its last item does.
///
/// ```
/// use procpool::ProcessPool;
///
/// fn fib(n: u64) -> u64 {
///     if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::new()?;
/// assert_eq!(pool.submit(fib, 20).await?, 6765);
/// pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "ProcessPoolExecutor")]
pub struct ProcessPool {
    stake: Stake<Driver>,
}

impl ProcessPool {
    /// Builds a pool with default options: a worker per core.
    ///
    /// # Errors
    ///
    /// See [`ProcessPoolBuilder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder, to choose options.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::default()
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
    /// `function` is any function, or a closure that captures nothing; what it needs goes through
    /// `argument`, which is encoded here, on this thread, and dropped. For several arguments see
    /// [`submit_call`](Self::submit_call).
    ///
    /// Both travel, so that argument and result are owned types that serde knows: `String`, where a
    /// thread would take `&str` (the compiler says "not general enough" then), and `Vec<T>` for
    /// `&[T]`. [`call!`](crate::call) can lend the worker's own value to a function that takes a
    /// reference.
    ///
    /// Whatever stands against the call comes through the handle: an argument that cannot be
    /// encoded, a queue that is full, a pool that is shut down or broken. Dropping the handle
    /// detaches the task.
    ///
    /// # Panics
    ///
    /// When the argument's own `Serialize` or `Drop` panics. Where the function does, or its
    /// result's `Serialize`, it is an error of the call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let words = pool.submit(|text: String| text.split_whitespace().count(), "a b c".to_owned());
    /// assert_eq!(words.await?, 3);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn submit<A, R>(&self, function: fn(A) -> R, argument: A) -> TaskHandle<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let call = Call::of1(function, &argument);
        // What is encoded is all that is kept of the argument.
        drop(argument);
        task::submit(self.driver(), call, &Options::PLAIN, None)
    }

    /// Queues a call that [`call!`](crate::call) has made, and returns at once: a function with
    /// several arguments, or with none.
    ///
    /// ```
    /// use procpool::call;
    ///
    /// fn area(width: u32, height: u32) -> u64 {
    ///     u64::from(width) * u64::from(height)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// assert_eq!(pool.submit_call(call!(area(6, 7))).await?, 42);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "apply_async")]
    pub fn submit_call<R: Send + 'static>(&self, call: Call<R>) -> TaskHandle<R> {
        task::submit(self.driver(), call, &Options::PLAIN, None)
    }

    /// Queues a call of an `async fn` and returns at once.
    ///
    /// A worker runs such calls on a tokio runtime of its own, on one thread, many beside each other
    /// ([`max_async_per_worker`](ProcessPoolBuilder::max_async_per_worker)): for work that waits (for
    /// a network, a disk, a child process) and must still not be able to harm this program. A worker
    /// serves async calls or blocking ones, never both at once. Async calls are collected in few
    /// workers; as long as those are not full, one is left for blocking calls.
    ///
    /// The handle is that of any task. [Aborting](TaskHandle::abort) it, or a time limit, drops the
    /// future in its worker where it has got to, and what runs beside it goes on. Only if it has not
    /// yielded a second later is the worker killed, and all that ran in it fails with it, with the
    /// [culprit](crate::WorkerExit::culprit) named; so does a task that crashes the worker. Who cannot afford
    /// that uses [`submit`](Self::submit).
    ///
    /// The runtime stays for as long as the worker does, and is driven while it has such calls: what
    /// a task has spawned there, or a client with its connections in a static, goes on with the next
    /// ones. What blocks the runtime for two seconds after the last call has ended costs the worker. The
    /// future need not be `Send`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// async fn fetch(page: u32) -> String {
    ///     tokio::time::sleep(Duration::from_millis(20)).await; // a slow server
    ///     format!("page {page}")
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let pages: Vec<_> = (1..=50).map(|page| pool.submit_async(fetch, page)).collect();
    /// let pages = futures::future::try_join_all(pages).await?; // all at once, in one worker
    /// assert_eq!(pages[49], "page 50");
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn submit_async<A, Fut>(
        &self,
        function: fn(A) -> Fut,
        argument: A,
    ) -> TaskHandle<Fut::Output>
    where
        A: Serialize + DeserializeOwned,
        Fut: Future + 'static,
        Fut::Output: Serialize + DeserializeOwned + Send + 'static,
    {
        self.task_async(function).submit(argument)
    }

    /// Returns a task of an `async fn`, whose calls can be given options.
    ///
    /// All but [`key`](Task::key): which worker a call comes to follows from where there is room, and
    /// the task has no such method. Async calls that are to meet in one worker, for a cache or a
    /// connection there, go to a pool of their own with [one](ProcessPoolBuilder::workers).
    pub fn task_async<A, Fut>(&self, function: fn(A) -> Fut) -> AsyncTask<A, Fut>
    where
        A: Serialize + DeserializeOwned,
        Fut: Future + 'static,
        Fut::Output: Serialize + DeserializeOwned + Send + 'static,
    {
        AsyncTask::new(self.driver().clone(), function)
    }

    /// Queues a call if there is room in the queue, else hands the argument back at once.
    ///
    /// # Errors
    ///
    /// When [`max_pending`](ProcessPoolBuilder::max_pending) tasks are waiting, when the pool is
    /// shut down or broken, or when the argument cannot be encoded or is too large.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procpool::ProcessPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// fn nap(seconds: u64) {
    ///     std::thread::sleep(Duration::from_secs(seconds));
    /// }
    ///
    /// let pool = ProcessPool::builder().workers(1).max_pending(1).build()?;
    /// let running = pool.try_submit(nap, 3600)?;
    /// let waiting = pool.try_submit(nap, 3601)?;
    /// let refused = pool.try_submit(nap, 3602).unwrap_err();
    /// assert!(refused.is_queue_full());
    /// assert_eq!(refused.into_argument(), 3602);
    /// # pool.terminate().await;
    /// # Ok(()) }
    /// ```
    pub fn try_submit<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.task(function).try_submit(argument)
    }

    /// Waits for room in the queue, then for the result. Made for request handlers: dropping the
    /// future, before or while the task runs, ends the work.
    ///
    /// The argument is encoded when `run` is called; the call is queued when the future is polled.
    /// Whoever waits for room is served in order, and fails if the pool is shut down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let slow = pool.run(|seconds| std::thread::sleep(Duration::from_secs(seconds)), 3600);
    /// assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    /// // The worker that slept is gone, and the next call has a fresh one.
    /// assert_eq!(pool.run(|n: i32| n + 1, 1).await?, 2);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn run<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> impl Future<Output = Result<R, TaskError>> + Send + use<A, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
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
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let limited = pool.task(|n: u64| n + 1).timeout(Duration::from_secs(5));
    /// let (one, two) = (limited.submit(0), limited.submit(1));
    /// assert_eq!((one.await?, two.await?), (1, 2));
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn task<A, R>(&self, function: fn(A) -> R) -> Task<A, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Task::new(self.driver().clone(), function)
    }

    /// Returns a task of a call that [`call!`](crate::call) has made, to be given options.
    ///
    /// ```
    /// use procpool::call;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let product = pool.task_call(call!(u64::pow(2, 10))).name("product");
    /// assert_eq!(product.submit().await?, 1024);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn task_call<R: Send + 'static>(&self, call: Call<R>) -> TaskCall<R> {
        TaskCall::new(self.driver().clone(), call)
    }

    /// Starts all workers and waits until they are ready.
    ///
    /// # Errors
    ///
    /// When a worker cannot be started: the reason why the pool is broken, or why the system
    /// refused a process (the pool goes on trying then). Also when the pool is shut down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; once it was polled the workers are started all the same.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// pool.ready().await?;
    /// assert_eq!(pool.stats().workers.len(), 1);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self) -> Result<(), StartError> {
        let driver = self.driver();
        if let Some(place) = &driver.in_place {
            driver.completeness()?;
            return driver.prepare_in_place(place);
        }
        let mut changes = driver.watch();
        driver.tell(Event::StartAll);
        driver.awaited_here();
        let mut since = false;
        loop {
            match driver.completeness() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(self.breaking_loss().unwrap_or(error)),
            }
            // What failed before this was asked may long be over: only a start that has failed
            // since then counts.
            let failed = driver.start_error().filter(|_| since);
            if let Some(error) = failed.filter(StartError::is_resource) {
                return Err(error);
            }
            if changes.changed().await.is_err() {
                return Err(StartError::shutting_down());
            }
            since = true;
        }
    }

    /// The loss that has broken the pool, if one has, as the reason why no worker is started.
    fn breaking_loss(&self) -> Option<StartError> {
        let refusal = self.driver().refusal().filter(TaskError::is_broken)?;
        let exit = refusal.worker_exit()?;
        Some(StartError::after_loss(exit.exit(), exit.to_string()))
    }

    /// Tells whether the pool takes no more work: it was closed or shut down, it broke, or its
    /// runtime ended.
    pub fn is_closed(&self) -> bool {
        self.driver().watch().borrow().closed
    }

    /// Whether calls are run where they are made.
    pub(crate) fn is_inline(&self) -> bool {
        self.driver().in_place.is_some()
    }

    /// Returns how many workers there may be; [`stats`](Self::stats) tells how many there are.
    pub fn workers(&self) -> usize {
        self.driver().workers()
    }

    /// Changes how many workers there may be, while the pool runs. Returns at once.
    ///
    /// A pool that grows starts workers as they are needed. In one that shrinks those that are too
    /// many take nothing new, finish what they run, however long that takes, and leave; calls that
    /// they have not begun go to the others. No call is lost or refused for it.
    ///
    /// [`max_pending`](ProcessPoolBuilder::max_pending) still means what is beyond one task for each
    /// worker: of what was accepted when there was more room, nothing is given back.
    /// [`min_workers`](ProcessPoolBuilder::min_workers) holds as far as there may be so many.
    ///
    /// # Errors
    ///
    /// When it is zero, or more than 65,536, or when the pool takes no more work. Nothing is changed
    /// then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// pool.resize(4)?;
    /// pool.ready().await?;
    /// assert_eq!((pool.workers(), pool.stats().workers.len()), (4, 4));
    /// assert!(pool.resize(0).is_err());
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn resize(&self, workers: usize) -> Result<(), ResizeError> {
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(ResizeFault::Number(workers).into());
        }
        self.driver().resize(workers)
    }

    /// Returns a snapshot of what the pool does and has done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// pool.submit(|n: u64| n + 1, 1).await?;
    /// let stats = pool.stats();
    /// assert_eq!((stats.submitted, stats.completed, stats.lost), (1, 1, 0));
    /// println!("{stats}");
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        stats::snapshot(self.driver())
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool")
            .field("workers", &self.workers())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
