//! What can be said of a call beside function and argument: the options that [`Task`](super::Task)
//! and [`TaskCall`](super::TaskCall) have in common.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::driver::Driver;
use crate::pool::job::{Client, Deadline, Job, Terms};
use crate::pool::scheduler::Retry;
use crate::pool::trace::{CallTrace, Origin};
use crate::task::head::{CallHead, Labels};
use crate::task::identity::Target;
use crate::wire::packed::Packed;

/// What can be said of a call beside function and argument.
#[derive(Clone, Debug, Default)]
pub(in crate::pool) struct Options {
    pub(in crate::pool) timeout: Option<Duration>,
    pub(in crate::pool) soft_timeout: Option<Duration>,
    pub(in crate::pool) queue_timeout: Option<Duration>,
    pub(in crate::pool) deadline: Option<Duration>,
    pub(in crate::pool) retry: Retry,
    pub(in crate::pool) priority: i32,
    pub(in crate::pool) key: Option<u64>,
    pub(in crate::pool) name: Option<Arc<str>>,
}

impl Options {
    /// Those of a call of which nothing is said.
    pub(in crate::pool) const PLAIN: Self = Self {
        timeout: None,
        soft_timeout: None,
        queue_timeout: None,
        deadline: None,
        retry: Retry::NEVER,
        priority: 0,
        key: None,
        name: None,
    };

    /// Makes a job of a call, or of many items; a deadline has been running since it was asked for.
    pub(in crate::pool) fn job(
        &self,
        driver: &Driver,
        origin: &Origin,
        target: Target,
        argument: Packed,
        deadline: Option<Deadline>,
        client: Client,
    ) -> Job {
        let name = self.name.as_deref();
        let trace = CallTrace::begin(origin, name, client.items());
        let head = CallHead {
            target,
            attempt: 1,
            items: client.items(),
            soft_timeout: self.soft_timeout.or(driver.plan.task_soft_timeout),
            deadline: deadline.map(|deadline| deadline.at),
            labels: Labels::new(name, trace.caller()),
        };
        let terms = Terms {
            timeout: self.timeout.or(driver.plan.task_timeout),
            soft_timeout: head.soft_timeout,
            queue_timeout: self.queue_timeout,
            deadline,
            retry: self.retry,
            priority: self.priority,
            key: self.key,
            ..Terms::PLAIN
        };
        Job::new(head.pack(), argument, target.kind(), client, trace, terms)
    }
}

/// Those that a pool of threads has as well. Its `Options` have fields of the same names.
macro_rules! waiting_options {
    ($pool:literal) => {
        /// Gives up on the task when it has waited this long for its start, from when it was accepted:
        /// what [`run`](crate::Task::run) waits for room is not part of it. One that has been
        /// started is not touched. A limit of next to nothing can pass even where a worker is
        /// free: it is counted until the worker has begun.
        pub fn queue_timeout(mut self, limit: Duration) -> Self {
            self.options.queue_timeout = Some(bounded(limit));
            self
        }

        /// Asks the task to come to its end when it has run this long, counted from its true start:
        /// [`is_cancelled`](crate::task::TaskContext::is_cancelled) is true from then on, and whoever
        /// waits for its [token](crate::task::CancellationToken) is woken. Goes before the pool's
        /// [`task_soft_timeout`](crate::ProcessPoolBuilder::task_soft_timeout).
        ///
        /// What the task then returns is its result, and one that takes no notice just runs on. A
        /// longer [`timeout`](crate::Task::timeout) beside it is the limit that ends the task: between
        /// the two it has time to save what it has, or to return a part of the answer. Of a map,
        /// the time is each item's.
        ///
        /// ```
        /// use std::time::Duration;
        ///
        /// // The best answer that can be had in the time.
        /// fn refine(mut guess: f64) -> f64 {
        ///     let task = procpool::task::current().expect("this runs in a pool");
        ///     while !task.is_cancelled() {
        ///         guess = (guess + 2.0 / guess) / 2.0;
        ///     }
        ///     guess
        /// }
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        #[doc = concat!("# let pool = procpool::", $pool, "::builder().workers(1).build()?;")]
        /// let refine = pool.task(refine).soft_timeout(Duration::from_millis(50));
        /// let root = refine.run(1.0).await?;
        /// assert!((root * root - 2.0).abs() < 1e-9);
        /// # pool.shutdown().await;
        /// # Ok(()) }
        /// ```
        ///
        /// # Panics
        ///
        /// When the limit is zero.
        #[track_caller]
        pub fn soft_timeout(mut self, limit: Duration) -> Self {
            assert!(
                !limit.is_zero(),
                "a soft task timeout must be greater than 0"
            );
            self.options.soft_timeout = Some(bounded(limit));
            self
        }

        /// Lets the task go before waiting tasks of lower priority. Default: 0.
        ///
        /// The higher number goes first; within one, who was first. A task that runs is never
        /// interrupted, and one that was sent ahead to its worker process (about 150 µs of work
        /// that is known to be short) is not overtaken there. Nothing grows more urgent by waiting:
        /// as long as tasks of a higher priority keep all workers busy, lower ones wait.
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        #[doc = concat!("# let pool = procpool::", $pool, "::builder().workers(1).build()?;")]
        /// fn resize(page: u32) -> u32 {
        ///     page
        /// }
        ///
        /// let bulk = pool.task(resize).priority(-10);
        /// let bulk: Vec<_> = (0..100).map(|page| bulk.submit(page)).collect();
        /// // Somebody looks at this one now.
        /// assert_eq!(pool.task(resize).priority(10).run(7).await?, 7);
        /// # drop(bulk);
        /// # pool.shutdown_now().await;
        /// # Ok(()) }
        /// ```
        pub fn priority(mut self, priority: i32) -> Self {
            self.options.priority = priority;
            self
        }

        /// Names the task; [`task::current`](crate::task::current) shows the name in the task.
        /// What is longer than 1 KiB is cut.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.options.name = Some(short_name(name.into()));
            self
        }
    };
}
pub(crate) use waiting_options;

/// A name as it travels.
pub(crate) fn short_name(mut name: String) -> Arc<str> {
    let end = (0..=1024.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or(0));
    Arc::from(name)
}

macro_rules! options {
    () => {
        waiting_options!("ProcessPool");

        /// Ends the task when it has run this long, counted from its true start: its handle
        /// resolves at once, and its worker is replaced. Goes before the pool's
        /// [`task_timeout`](crate::ProcessPoolBuilder::task_timeout).
        ///
        /// # Panics
        ///
        /// When the limit is zero.
        #[track_caller]
        pub fn timeout(mut self, limit: Duration) -> Self {
            assert!(!limit.is_zero(), "a task timeout must be greater than 0");
            self.options.timeout = Some(bounded(limit));
            self
        }

        /// Ends the task when this long has passed since it was submitted, waiting and running
        /// together. One that waits is never started then; one that runs is ended as by
        /// [`timeout`](Self::timeout). Whichever limit comes first holds, and the error's text
        /// says which it was.
        ///
        /// The time counts from the call of `submit`, or from the first poll of what `run` returns,
        /// and waiting for room in the queue is part of it. Of a map the time counts from the call
        /// of `map`, for all items together: those that are not done by then give that error.
        ///
        /// Zero is a deadline that has passed: the task is not run, and its answer is that error.
        /// So what is left of a budget can be passed on as it is. (A [`timeout`](Self::timeout) of
        /// zero would be one that no task can keep, and is refused as a mistake.)
        ///
        /// ```
        /// use std::time::Duration;
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
        /// # pool.ready().await?;
        /// let limit = Duration::from_millis(200);
        /// let endless = |_: ()| -> () { loop { std::thread::park() } };
        /// let runs = pool.submit(endless, ());
        /// let error = pool.task(endless).deadline(limit).run(()).await.unwrap_err();
        /// assert!(error.is_timeout() && !error.maybe_executed(), "it only waited");
        ///
        /// runs.abort();
        /// let error = pool.task(endless).deadline(limit).run(()).await.unwrap_err();
        /// assert!(error.is_timeout());
        /// # pool.shutdown().await;
        /// # Ok(()) }
        /// ```
        pub fn deadline(mut self, limit: Duration) -> Self {
            self.options.deadline = Some(bounded(limit));
            self
        }

        /// Has the task run again when it fails, so many times: for tasks that do no harm if they are
        /// run more than once.
        ///
        /// Without this a task is run at most once. With it, a run that is lost with its worker is
        /// repeated, and what [`Retry`](crate::Retry) says beside that. What the task itself
        /// returns is its result, an `Err` as well, and is never repeated; neither is what cannot
        /// be encoded or decoded, nor what was cancelled, aborted, or is past its
        /// [`deadline`](Self::deadline).
        ///
        /// The handle sees one outcome. While the task waits to be run again it can be cancelled,
        /// and its deadline holds; its [`timeout`](Self::timeout) counts for each run, and its
        /// [`queue_timeout`](Self::queue_timeout) until the first. Then it goes behind what waits
        /// with its priority. Two runs of it are never under way at once.
        /// [`attempt`](crate::task::TaskContext::attempt) tells the task which run it is, and an
        /// error has the failures before it in its [`history`](crate::TaskError::history).
        ///
        /// Of a map each item has attempts of its own; one that is run again goes alone, keeps its
        /// place among the results, and holds up no other.
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
        /// // Each time it takes its worker with it: that does not go on for ever.
        /// let poison = pool.task(|_: ()| -> () { std::process::abort() }).retry(2);
        /// let error = poison.run(()).await.unwrap_err();
        /// assert!(error.is_worker_lost());
        /// assert_eq!((error.attempts(), error.history().len()), (3, 2));
        /// # pool.shutdown().await;
        /// # Ok(()) }
        /// ```
        pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
            self.options.retry = retry.into();
            self
        }
    };
}
pub(in crate::pool) use options;

/// The option that only blocking calls have.
macro_rules! key_option {
    () => {
        /// Sends the task to the worker that gets all tasks of this key, as long as it lives: what
        /// they keep there in statics (a cache, a loaded model, a connection) is found again.
        ///
        /// If that worker is busy the task waits for it, though others may be idle; it keeps
        /// nobody else waiting, and shares the worker with tasks that have other keys or none. When
        /// the worker dies, its keys go to its successor. The pool remembers nothing of a key, so
        /// there may be any number of them. Of a map all items go to that one worker.
        ///
        /// ```
        /// use std::cell::RefCell;
        /// use std::collections::HashMap;
        ///
        /// thread_local! {
        ///     static SEEN: RefCell<HashMap<String, u32>> = RefCell::default();
        /// }
        ///
        /// // Counts in its worker how often it has seen a tenant.
        /// fn visit(tenant: String) -> u32 {
        ///     SEEN.with_borrow_mut(|seen| {
        ///         *seen.entry(tenant).and_modify(|count| *count += 1).or_insert(1)
        ///     })
        /// }
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let pool = procpool::ProcessPool::builder().workers(2).build()?;
        /// for visits in 1..=3 {
        ///     for tenant in ["red", "green", "blue"] {
        ///         let visit = pool.task(visit).key(tenant);
        ///         assert_eq!(visit.run(tenant.to_owned()).await?, visits);
        ///     }
        /// }
        /// # pool.shutdown().await;
        /// # Ok(()) }
        /// ```
        pub fn key(mut self, key: impl Hash) -> Self {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            self.options.key = Some(hasher.finish());
            self
        }
    };
}
pub(in crate::pool) use key_option;
