//! The options of a pool. Those that say what the workers' processes are like are in [`worker`],
//! what those run around their calls in [`hooks`], and what is told of it all in [`observing`];
//! [`build`] makes a pool of them.

mod build;
mod hooks;
mod limits;
mod observing;
mod worker;

use std::time::Duration;

use tokio::runtime::Handle;

pub(crate) use self::build::MOST_WORKERS;
use self::hooks::HookOptions;
use self::observing::ObservingOptions;
use self::worker::WorkerOptions;
use super::scheduler::Restart;
use crate::process::StartMethod;
use crate::supervisor::stdio::Stdio;
use crate::task::slabs;

/// The longest time that is told from no limit. Clocks overflow when a century or `Duration::MAX`
/// is added to them; this, as long as tokio's longest sleep, is far from there.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A limit that can be added to any moment.
pub(crate) fn bounded(limit: Duration) -> Duration {
    limit.min(FAR_FUTURE)
}

/// Builds a [`ProcessPool`](crate::ProcessPool). Got from [`ProcessPool::builder`](crate::ProcessPool::builder).
///
/// ```
/// use std::time::Duration;
/// use procpool::{ProcessPool, StartMethod};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder()
///     .workers(2)
///     .start_method(StartMethod::Spawn)
///     .task_timeout(Duration::from_secs(30))
///     .max_pending(100)
///     .worker_name("resize")
///     .env("RUST_BACKTRACE", "1")
///     .build()?;
/// assert_eq!(pool.submit(|n: u64| n * n, 12).await?, 144);
/// pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// Options are checked by [`build`](Self::build), all of them, whatever order they were given in.
/// Times may be as long as one likes: from thirty years on they are thirty years.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ProcessPoolBuilder {
    workers: Option<usize>,
    min_workers: usize,
    idle_timeout: Option<Duration>,
    start_method: StartMethod,
    task_timeout: Option<Duration>,
    task_soft_timeout: Option<Duration>,
    start_timeout: Duration,
    handshake_timeout: Duration,
    max_frame: usize,
    busy_poll: Option<Duration>,
    large_payloads: usize,
    max_pending: Option<usize>,
    max_async_per_worker: usize,
    max_tasks_per_worker: Option<usize>,
    max_age: Option<Duration>,
    max_memory_per_worker: Option<u64>,
    retire_when: Option<fn() -> bool>,
    abort_grace: Duration,
    restart: Restart,
    inline: bool,
    worker_name: Option<String>,
    worker: WorkerOptions,
    hooks: HookOptions,
    observing: ObservingOptions,
    stdout: Stdio,
    stderr: Stdio,
    runtime: Option<Handle>,
}

impl Default for ProcessPoolBuilder {
    fn default() -> Self {
        Self {
            workers: None,
            min_workers: 0,
            idle_timeout: None,
            start_method: StartMethod::default(),
            task_timeout: None,
            task_soft_timeout: None,
            start_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            max_frame: 1 << 30,
            busy_poll: None,
            large_payloads: slabs::LIMIT,
            max_pending: None,
            max_async_per_worker: 64,
            max_tasks_per_worker: None,
            max_age: None,
            max_memory_per_worker: None,
            retire_when: None,
            abort_grace: Duration::ZERO,
            restart: Restart::default(),
            inline: false,
            worker_name: None,
            worker: WorkerOptions::default(),
            hooks: HookOptions::default(),
            observing: ObservingOptions::default(),
            stdout: Stdio::inherit(),
            stderr: Stdio::inherit(),
            runtime: None,
        }
    }
}

impl ProcessPoolBuilder {
    /// Sets how many workers there may be; they are started as they are needed. Default: as many
    /// as this process may use cores. Zero, and more than 65,536, are
    /// errors of [`build`](Self::build).
    ///
    /// More workers than cores help where tasks wait (for a disk, a network, a device); where they
    /// compute, they only cost memory.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets how many workers are kept warm: they are started when the pool is built, without
    /// being asked for, replaced when they end, and stay however long they have nothing to do.
    /// Default: none, so that a pool that is not used costs no process. More than
    /// [`workers`](Self::workers) is an error of [`build`](Self::build).
    ///
    /// `build` does not wait for them; [`ready`](crate::ProcessPool::ready) does, for all there may be.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use procpool::ProcessPool;
    ///
    /// // Two for the quiet hours, eight for the others.
    /// let pool = ProcessPool::builder()
    ///     .workers(8)
    ///     .min_workers(2)
    ///     .idle_timeout(Duration::from_secs(60))
    ///     .build()?;
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn min_workers(mut self, workers: usize) -> Self {
        self.min_workers = workers;
        self
    }

    /// Sets after how long a worker leaves that has nothing to do, down to
    /// [`min_workers`](Self::min_workers). Default: never. Zero is an error of
    /// [`build`](Self::build).
    ///
    /// Calls go to the worker that was busy last, so that the others can leave. The next call that
    /// needs one starts it again, which costs about a millisecond and what the worker has kept
    /// between tasks.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Sets how worker processes are made. Default: [`StartMethod::ForkServer`].
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = method;
        self
    }

    /// Sets how long a worker may take to become ready, its [initializer](Self::initializer)
    /// included. Default: 60 s. A worker that is late is killed; five failed starts in a row break
    /// the pool. Zero is an error of [`build`](Self::build).
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// Sets how long a new process may be silent before its first word; the program's own
    /// constructors run in that time. Default: 10 s. Zero is an error of [`build`](Self::build).
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Sets how many bytes an encoded argument or result may have. Default: 1 GiB, and at most a
    /// little under 4 GiB; zero and more than that are errors of [`build`](Self::build). What is
    /// larger fails its own task, see [`TaskError::is_too_large`](crate::TaskError::is_too_large).
    /// Nothing is set aside for it: memory is used as bytes arrive.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Sets how many bytes of memory a process may have for [large payloads](crate::Payload) to go through: the
    /// program and each worker, for what they send, and as much again for copies of what they receive. Default: 1 GiB. What finds no room there takes
    /// the pipe, which is slower; with zero, all of it does. Nothing is set aside for it: memory is used as it is
    /// filled, and given back a second after its last use.
    ///
    /// The pools of a program share its part: it may have what the most generous of them allows.
    pub fn large_payloads(mut self, bytes: usize) -> Self {
        self.large_payloads = bytes;
        self
    }

    /// Bounds how many tasks may wait, beyond the one that each worker can run. Default: no bound,
    /// so that [`submit`](crate::ProcessPool::submit) fails for no reason of load; a service wants one,
    /// with [`try_submit`](crate::ProcessPool::try_submit) or [`run`](crate::ProcessPool::run). Zero is a bound
    /// like any other: a task is accepted if a worker can run it now.
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// Sets how many tasks a worker runs before another takes its place; each item of a
    /// [`map`](crate::ProcessPool::map) is a task. Default: no limit. Zero is an error of
    /// [`build`](Self::build).
    ///
    /// For tasks that leak, or that wear their process down in other ways. A worker never runs more
    /// than this; so that not all workers are replaced together, one of them may go when it has run
    /// nine tenths, unless the limit is below ten. With 1 each task has a process of its own, which
    /// costs about a millisecond. Callers notice nothing else of it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use procpool::ProcessPool;
    ///
    /// let pool = ProcessPool::builder().workers(1).max_tasks_per_worker(2).build()?;
    /// let mut pids = Vec::new();
    /// for _ in 0..4 {
    ///     pids.push(pool.submit(|_: ()| std::process::id(), ()).await?);
    /// }
    /// assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3]);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "max_tasks_per_child")]
    #[doc(alias = "maxtasksperchild")]
    pub fn max_tasks_per_worker(mut self, tasks: usize) -> Self {
        self.max_tasks_per_worker = Some(tasks);
        self
    }

    /// Sets how long a worker lives before another takes its place. Default: no limit. Zero is an
    /// error of [`build`](Self::build).
    ///
    /// No task is cut short: a worker that is old enough finishes what it runs, however long that
    /// takes, and is given nothing more. So that not all workers are replaced together, each has a
    /// time of its own in the last tenth, and one goes after the other; at the full age whoever is
    /// left goes in any case. Idle workers are replaced, too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use procpool::ProcessPool;
    ///
    /// let pool = ProcessPool::builder().max_age(Duration::from_secs(3600)).build()?;
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets how many bytes of memory a worker may use. Default: no limit. Zero is an error of
    /// [`build`](Self::build), and so is any limit where there is no `/proc`.
    ///
    /// A task during which its worker grows beyond that is ended, and its error
    /// [says so](crate::TaskError::is_memory_exceeded); a worker that a task has left too large
    /// runs nothing more. In both cases another worker takes the place.
    ///
    /// What counts is what the process itself has allocated and written to (resident, not shared),
    /// which for a worker that has done nothing yet is one or two MiB. Processes that a task starts
    /// are not counted. The workers are measured four times a second while they have something to
    /// do, and ever more rarely for a quarter of a minute after that; so what grows very fast gets
    /// further than this. To set a hard bound, or one for all workers together, use a control group.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use procpool::ProcessPool;
    ///
    /// fn balloon(_: ()) {
    ///     let mut memory = Vec::new();
    ///     loop {
    ///         memory.push(vec![1u8; 1 << 20]);
    ///         std::thread::sleep(Duration::from_millis(1));
    ///     }
    /// }
    ///
    /// let pool = ProcessPool::builder().workers(1).max_memory_per_worker(64 << 20).build()?;
    /// assert!(pool.submit(balloon, ()).await.unwrap_err().is_memory_exceeded());
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn max_memory_per_worker(mut self, bytes: u64) -> Self {
        self.max_memory_per_worker = Some(bytes);
        self
    }

    /// Sets a function that is called in a worker after each task, and whose `true` has the worker
    /// replaced. Default: none. [`task::retire_worker`](crate::task::retire_worker) is for the
    /// tasks that know it themselves.
    ///
    /// It is called before the task's result is sent, so it should be quick; its time counts in
    /// the task's limit. Nothing is run in the worker after a `true`. If it panics the worker is
    /// replaced as well. A function that is not part of the program itself is an error of
    /// [`build`](Self::build).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::fs;
    /// use procpool::ProcessPool;
    ///
    /// /// A library leaks descriptors: a hundred of them are enough.
    /// fn leaks() -> bool {
    ///     fs::read_dir("/proc/self/fd").is_ok_and(|open| open.count() > 100)
    /// }
    ///
    /// let pool = ProcessPool::builder().workers(1).retire_when(leaks).build()?;
    /// assert_eq!(pool.submit(|n: u64| n + 1, 1).await?, 2);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn retire_when(mut self, predicate: fn() -> bool) -> Self {
        self.retire_when = Some(predicate);
        self
    }

    /// Sets how many async tasks ([`submit_async`](crate::ProcessPool::submit_async)) may be under way in
    /// one worker at once. Default: 64. Zero, and more than 1,024, are errors of
    /// [`build`](Self::build).
    pub fn max_async_per_worker(mut self, tasks: usize) -> Self {
        self.max_async_per_worker = tasks;
        self
    }

    /// Gives a task that was aborted, or whose time is up, this long to come to its end by itself
    /// ([`TaskContext::is_cancelled`](crate::task::TaskContext::is_cancelled)) before its worker
    /// is killed. Default: none. The caller is answered at once in any case; a task that ends
    /// within the grace keeps its worker alive. The longer it is, the longer a task that does not
    /// ask keeps its worker from the next.
    ///
    /// An async task is dropped in its worker when the grace is over, where it has got to; the
    /// worker, and what else runs in it, goes on. Only if the task has not yielded a second after
    /// that the worker is killed.
    pub fn abort_grace(mut self, grace: Duration) -> Self {
        self.abort_grace = grace;
        self
    }

    /// Sets what happens when a worker is lost. Default: [`Restart::OnFailure`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Has calls run where they are made, by the thread that makes them, and starts no process: for
    /// tests of code that has a pool, and for machines that are too small for workers.
    ///
    /// A call is over when `submit` is back, and its handle is done. What goes in and what comes out
    /// takes the way that it takes to a worker, so what does not travel fails here as it does there.
    /// The items of a map are run as its stream is polled, one for each poll. Panics, refusals,
    /// events and counters are the same, retries as well (their pauses are the caller's); [`task::current`](crate::task::current) answers.
    ///
    /// What only a process can do is not done:
    ///
    /// - A crash, an exit or an endless loop is that of the program.
    /// - Nothing can end a call that runs. A time limit is told after the fact: a call that took
    ///   longer has its result thrown away, and the error is that of the limit. One that asks
    ///   [`is_cancelled`](crate::task::TaskContext::is_cancelled) is told when its time is up.
    /// - Statics are the program's own, and thread-locals those of the caller. The
    ///   [initializer](Self::initializer) is run once, before the first call and by its thread (if it
    ///   fails, the pool is broken); the [finalizer](Self::finalizer) once, at an orderly end.
    /// - In async code a call blocks the thread that makes it, and cannot enter a runtime of its own.
    ///
    /// All other options are accepted, and checked, so that the same code builds either pool. Those
    /// that say what worker processes are like, when they are replaced and where their output goes
    /// have no effect, nor do priorities, keys, chunk sizes and limits on waiting where nothing waits.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use procpool::ProcessPool;
    ///
    /// let pool = ProcessPool::builder().inline().build()?;
    /// let here = pool.submit(|_: ()| std::process::id(), ());
    /// assert!(here.is_done());
    /// assert_eq!(here.await?, std::process::id());
    ///
    /// let error = pool.submit(|n: usize| [1, 2, 3][n], 7).await.unwrap_err();
    /// assert!(error.is_panic());
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "SequentialBackend")]
    #[doc(alias = "synchronous")]
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Names the workers, for `ps` and in errors: the name, a hyphen and a number. Default:
    /// `procpool` and a number that tells the program's pools apart. An empty name, and one with a
    /// zero byte, are errors of [`build`](Self::build).
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.worker_name = Some(name.into());
        self
    }

    /// Sets what becomes of the workers' standard output. Default: [`Stdio::inherit`].
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.stdout = stdio;
        self
    }

    /// Sets what becomes of the workers' standard error. Default: [`Stdio::inherit`].
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.stderr = stdio;
        self
    }

    /// Sets the runtime that drives the pool; one without I/O is an error of
    /// [`build`](Self::build). Default: the one in which `build` is called, else a thread of the
    /// crate's own. When that runtime ends,
    /// so does the pool, as by [`terminate`](crate::ProcessPool::terminate).
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}
