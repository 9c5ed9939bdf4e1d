//! Async functions on threads.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::ThreadPool;
use super::driver::Driver;
use super::job::{Labour, MovedAsync};
use super::task::{Admitted, Options, accept, admit, find_room, refused_options};
use crate::pool::Retry;
use crate::pool::builder::bounded;
use crate::pool::error::{Ability, TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::reply::Reply;
use crate::pool::task::options::{short_name, waiting_options};

/// An `async fn` with options for its calls on a [`ThreadPool`]. Got from
/// [`ThreadPool::task_async`].
///
/// ```
/// use std::time::Duration;
///
/// async fn wait(seconds: u64) {
///     tokio::time::sleep(Duration::from_secs(seconds)).await;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
/// let impatient = pool.task_async(wait).timeout(Duration::from_millis(50)).name("wait");
/// let (long, short) = (impatient.submit(3600), impatient.submit(0));
/// short.await?; // beside the other, on the same thread
/// assert!(long.await.unwrap_err().is_timeout());
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ThreadAsyncTask<A, Fut> {
    driver: Arc<Driver>,
    function: fn(A) -> Fut,
    options: Options,
}

/// The options of async tasks, which can be ended.
macro_rules! async_options {
    () => {
        waiting_options!("ThreadPool");
        refused_options!();

        /// Ends the task when it has run this long, counted from its true start: its handle resolves at
        /// once, and its future is dropped at the await where it is.
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

        /// Ends the task when this long has passed since it was submitted, waiting and running together.
        /// As [`AsyncTask::deadline`](crate::AsyncTask::deadline).
        pub fn deadline(mut self, limit: Duration) -> Self {
            self.options.deadline = Some(bounded(limit));
            self
        }
    };
}
pub(super) use async_options;

impl<A, Fut> ThreadAsyncTask<A, Fut>
where
    A: Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    fn new(driver: Arc<Driver>, function: fn(A) -> Fut) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
        }
    }

    async_options!();

    /// Queues one call and returns at once. See [`ThreadPool::submit_async`].
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(&self, argument: A) -> TaskHandle<Fut::Output> {
        match admit(&self.driver, &self.options) {
            Ok(admitted) => self.accept(argument, admitted),
            Err(error) => {
                let reply = Reply::of_plain_result();
                reply.clone().give(Err(error));
                TaskHandle::new(reply, None)
            }
        }
    }

    /// Queues one call, or hands the argument back. See [`ThreadPool::try_submit`].
    ///
    /// # Errors
    ///
    /// When the queue is full, when the pool is shut down, when an option is unsupported, or when the
    /// deadline has passed.
    pub fn try_submit(&self, argument: A) -> Result<TaskHandle<Fut::Output>, TrySubmitError<A>> {
        match admit(&self.driver, &self.options) {
            Ok(admitted) => Ok(self.accept(argument, admitted)),
            Err(error) => Err(TrySubmitError { error, argument }),
        }
    }

    /// Waits for room, then for the result. See [`ThreadPool::run`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does.
    pub fn run(
        &self,
        argument: A,
    ) -> impl Future<Output = Result<Fut::Output, TaskError>> + Send + use<A, Fut> {
        let task = self.clone();
        async move {
            let admitted = find_room(&task.driver, &task.options).await?;
            task.accept(argument, admitted).abort_on_drop().await
        }
    }

    fn accept(&self, argument: A, admitted: Admitted) -> TaskHandle<Fut::Output> {
        let reply = Reply::of_plain_result();
        let work = Labour::Async(Box::new(MovedAsync {
            function: self.function,
            argument,
            reply: reply.clone(),
        }));
        accept(&self.driver, reply, work, admitted, &self.options, None)
    }
}

/// With async functions.
impl ThreadPool {
    /// Queues a call of an `async fn` and returns at once.
    ///
    /// A thread runs such calls on a tokio runtime of its own, many beside each other
    /// ([`max_async_per_worker`](crate::ThreadPoolBuilder::max_async_per_worker)), or one blocking
    /// call, and never both at once. They are collected in few threads. A blocking call for which
    /// there is no thread is not passed by: until it has one, no host takes more.
    ///
    /// The handle is that of any task, and here it can do what it does in a
    /// [`ProcessPool`](crate::ProcessPool::submit_async): [aborting](TaskHandle::abort) it, a time
    /// limit and [`terminate`](Self::terminate) resolve it at once, and drop the future where it has
    /// got to. Only what does not yield cannot be ended: it keeps its thread, and what runs beside it
    /// there, until it does.
    ///
    /// The runtime stays for as long as the thread does, and is driven while it has such calls. The
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
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let pages: Vec<_> = (1..=50).map(|page| pool.submit_async(fetch, page)).collect();
    /// let pages = futures::future::try_join_all(pages).await?; // all at once, on one thread
    /// assert_eq!(pages[49], "page 50");
    /// # Ok(()) }
    /// ```
    pub fn submit_async<A, Fut>(
        &self,
        function: fn(A) -> Fut,
        argument: A,
    ) -> TaskHandle<Fut::Output>
    where
        A: Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        self.task_async(function).submit(argument)
    }

    /// Returns a task of an `async fn`, whose calls can be given options. See [`ThreadAsyncTask`].
    pub fn task_async<A, Fut>(&self, function: fn(A) -> Fut) -> ThreadAsyncTask<A, Fut>
    where
        A: Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        ThreadAsyncTask::new(self.driver().clone(), function)
    }
}

impl<A, Fut> Clone for ThreadAsyncTask<A, Fut> {
    fn clone(&self) -> Self {
        Self {
            driver: self.driver.clone(),
            function: self.function,
            options: self.options.clone(),
        }
    }
}

impl<A, Fut> fmt::Debug for ThreadAsyncTask<A, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadAsyncTask")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
