//! Tasks whose functions say how far they have come.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::async_progress::AsyncProgressTask;
use super::options::{Options, key_option, options, short_name, waiting_options};
use super::{bounded, run, submit, try_submit};
use crate::pool::ProcessPool;
use crate::pool::driver::Driver;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::scheduler::Retry;
use crate::pool::updates::{Listener, Mailbox, Updates, WhenFull};
use crate::task::call::Call;
use crate::task::payload;
use crate::task::progress::{Progress, Reporting};
use crate::wire::page::MOST_UPDATES;

/// How many updates may wait for their reader unless it is said otherwise: enough that a reader who
/// keeps up never makes the task wait, and little memory if one does not.
pub(crate) const BUFFER: usize = 64;

/// The options of tasks that say something while they run.
macro_rules! updates_options {
    () => {
        /// Sets how many updates may wait for their reader, or be on the way. Default: 64. With more of
        /// them a reader may pause longer before the task does, and memory for so many is used then.
        /// More than 16 million are as many.
        ///
        /// # Panics
        ///
        /// When it is zero.
        #[track_caller]
        pub fn buffer(mut self, updates: usize) -> Self {
            assert!(updates > 0, "a buffer must have room for an update");
            self.buffer = updates.min(MOST_UPDATES);
            self
        }

        /// Sets what happens when the task sends an update and the [buffer](Self::buffer) is full. By
        /// default the task waits.
        pub fn when_full(mut self, when_full: WhenFull) -> Self {
            self.when_full = when_full;
            self
        }
    };
}
pub(crate) use updates_options;

/// The options and the verbs of tasks that say something while they run. They differ in what a call
/// gives in the end, and in how one is made (`call`).
macro_rules! progress_verbs {
    ($result:ty, $last:ident, $like:literal) => {
        options!();
        updates_options!();

        /// Queues one call and returns at once: with the handle, and with what the task says while it
        /// runs. See
        #[doc = concat!("[`ProcessPool::", $like, "`](crate::ProcessPool::", $like, ").")]
        ///
        /// Dropping the handle detaches the task, dropping the updates costs it nothing.
        pub fn submit(&self, argument: A) -> (TaskHandle<$result>, Updates<P>) {
            let (call, listener, updates) = self.begin(&argument);
            drop(argument);
            let handle = submit(&self.driver, call, &self.options, Some(listener));
            (handle, updates)
        }

        /// Queues one call, or hands the argument back, as
        /// [`ProcessPool::try_submit`](crate::ProcessPool::try_submit) does.
        ///
        /// # Errors
        ///
        /// When the queue is full, when the pool is shut down or broken, when the argument cannot be
        /// encoded or is too large, or when the deadline has passed.
        #[allow(
            clippy::type_complexity,
            reason = "it is what submit returns, or the argument"
        )]
        pub fn try_submit(
            &self,
            argument: A,
        ) -> Result<(TaskHandle<$result>, Updates<P>), TrySubmitError<A>> {
            let (call, listener, updates) = self.begin(&argument);
            match try_submit(&self.driver, call, &self.options, Some(listener)) {
                Ok(handle) => Ok((handle, updates)),
                Err(error) => Err(TrySubmitError { error, argument }),
            }
        }

        /// Waits for room in the queue, then for the result, as
        /// [`ProcessPool::run`](crate::ProcessPool::run) does once the future is polled; beside it
        /// what the task says meanwhile.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future aborts the task, as [`TaskHandle::abort`] does. The updates end then.
        pub fn run(
            &self,
            argument: A,
        ) -> (
            impl Future<Output = Result<$result, TaskError>> + Send + use<A, P, $last>,
            Updates<P>,
        ) {
            let (call, listener, updates) = self.begin(&argument);
            drop(argument);
            let (driver, options) = (self.driver.clone(), self.options.clone());
            (run(driver, call, options, Some(listener)), updates)
        }

        fn begin(&self, argument: &A) -> (Call<$result>, Listener, Updates<P>) {
            let (listener, mailbox) = Mailbox::new(self.buffer, self.when_full);
            let driver = Some(self.driver.clone());
            let updates = Updates::new(mailbox, payload::decode::<P>, driver);
            (self.call(argument), listener, updates)
        }
    };
}
pub(super) use progress_verbs;

/// A function that takes a [`Progress`] behind its argument, with options for its calls. Got from
/// [`ProcessPool::task_with_progress`](crate::ProcessPool::task_with_progress).
///
/// ```
/// use std::time::Duration;
/// use futures::TryStreamExt;
/// use procpool::task::Progress;
///
/// fn squares(numbers: Vec<u64>, done: Progress<u64>) {
///     for number in numbers {
///         done.send(&(number * number)).expect("a number can be sent");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let squares = pool.task_with_progress(squares).timeout(Duration::from_secs(30)).buffer(4);
/// let (end, updates) = squares.submit((1..=10).collect());
/// let squares: Vec<u64> = updates.try_collect().await?;
/// assert_eq!((squares.len(), squares[9]), (10, 100));
/// end.await?;
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ProgressTask<A, P, R> {
    driver: Arc<Driver>,
    function: fn(A, Progress<P>) -> R,
    options: Options,
    buffer: usize,
    when_full: WhenFull,
}

impl<A, P, R> ProgressTask<A, P, R>
where
    A: Serialize + DeserializeOwned,
    P: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(in crate::pool) fn new(driver: Arc<Driver>, function: fn(A, Progress<P>) -> R) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            buffer: BUFFER,
            when_full: WhenFull::default(),
        }
    }

    progress_verbs!(R, R, "submit_with_progress");
    key_option!();

    fn call(&self, argument: &A) -> Call<R> {
        Call::of(Reporting(self.function), argument)
    }
}

/// With tasks that say how far they have come.
impl ProcessPool {
    /// Queues a call of a function that says how far it has come, and returns at once.
    ///
    /// Behind its argument the function takes a [`Progress`], with which it sends values while it
    /// runs. They come as a stream, [`Updates`]; the result comes through the handle as ever. The
    /// stream has to be read, or dropped: with the options that hold here a task waits when 64
    /// updates have not been read. See [`ProgressTask`] for others.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use procpool::task::Progress;
    ///
    /// fn copy(files: Vec<String>, progress: Progress<(usize, usize)>) -> usize {
    ///     for (number, _file) in files.iter().enumerate() {
    ///         // … and the file is copied.
    ///         progress.send(&(number + 1, files.len())).expect("numbers can be sent");
    ///     }
    ///     files.len()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let files = vec!["a".to_owned(), "b".to_owned()];
    /// let (copied, mut progress) = pool.submit_with_progress(copy, files);
    /// while let Some(update) = progress.next().await {
    ///     let (done, all) = update?;
    ///     println!("{done} of {all}");
    /// }
    /// assert_eq!(copied.await?, 2);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn submit_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
        argument: A,
    ) -> (TaskHandle<R>, Updates<P>)
    where
        A: Serialize + DeserializeOwned,
        P: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.task_with_progress(function).submit(argument)
    }

    /// Returns a task of a function that says how far it has come, whose calls can be given options.
    /// See [`submit_with_progress`](Self::submit_with_progress), and [`ProgressTask`] for an example.
    pub fn task_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
    ) -> ProgressTask<A, P, R>
    where
        A: Serialize + DeserializeOwned,
        P: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        ProgressTask::new(self.driver().clone(), function)
    }

    /// Returns a task of an `async fn` that says how far it has come. See [`AsyncProgressTask`] for
    /// an example.
    pub fn task_async_with_progress<A, P, Fut>(
        &self,
        function: fn(A, Progress<P>) -> Fut,
    ) -> AsyncProgressTask<A, P, Fut>
    where
        A: Serialize + DeserializeOwned,
        P: Serialize + DeserializeOwned,
        Fut: Future + 'static,
        Fut::Output: Serialize + DeserializeOwned + Send + 'static,
    {
        AsyncProgressTask::new(self.driver().clone(), function)
    }
}

impl<A, P, R> Clone for ProgressTask<A, P, R> {
    fn clone(&self) -> Self {
        Self {
            driver: self.driver.clone(),
            function: self.function,
            options: self.options.clone(),
            buffer: self.buffer,
            when_full: self.when_full,
        }
    }
}

impl<A, P, R> fmt::Debug for ProgressTask<A, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressTask")
            .field("options", &self.options)
            .field("buffer", &self.buffer)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
