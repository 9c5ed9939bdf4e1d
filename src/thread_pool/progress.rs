//! Tasks on threads whose functions say how far they have come.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ThreadPool;
use super::driver::Driver;
use super::job::{Labour, Moved};
use super::task::{Admitted, Options, accept, admit, find_room, options, refused_options};
use crate::pool::Retry;
use crate::pool::builder::bounded;
use crate::pool::error::{Ability, TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::reply::Reply;
use crate::pool::task::options::{short_name, waiting_options};
use crate::pool::task::progress::{BUFFER, updates_options};
use crate::pool::updates::{Listener, Mailbox, Updates, WhenFull};
use crate::task::payload;
use crate::task::progress::Progress;
use crate::wire::page::MOST_UPDATES;

/// A function that takes a [`Progress`] behind its argument, with options for its calls on a
/// [`ThreadPool`]. Got from [`ThreadPool::task_with_progress`].
///
/// ```
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
/// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
/// let squares = pool.task_with_progress(squares).name("squares").buffer(4);
/// let (end, updates) = squares.submit((1..=10).collect());
/// let squares: Vec<u64> = updates.try_collect().await?;
/// assert_eq!((squares.len(), squares[9]), (10, 100));
/// end.await?;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ThreadProgressTask<A, P, R> {
    driver: Arc<Driver>,
    function: fn(A, Progress<P>) -> R,
    options: Options,
    buffer: usize,
    when_full: WhenFull,
}

/// What a task of either kind does with its options: `$result` is what its calls give, `$last` its
/// last parameter.
macro_rules! progress_verbs {
    ($result:ty, $last:ident, $link:literal) => {
        /// Queues one call and returns at once: with the handle, and with what the task says while it
        #[doc = concat!("runs. See [`ThreadPool::", $link, "`].")]
        ///
        /// Dropping the handle detaches the task, dropping the updates costs it nothing.
        pub fn submit(&self, argument: A) -> (TaskHandle<$result>, Updates<P>) {
            let (listener, updates) = ends(self.buffer, self.when_full);
            let admitted = admit(&self.driver, &self.options);
            let handle = match admitted {
                Ok(admitted) => self.accept(argument, admitted, listener),
                Err(error) => {
                    let reply = Reply::of_plain_result();
                    reply.clone().give(Err(error));
                    TaskHandle::new(reply, None)
                }
            };
            (handle, updates)
        }

        /// Queues one call, or hands the argument back. See [`ThreadPool::try_submit`].
        ///
        /// # Errors
        ///
        /// When the queue is full, when the pool is shut down, when an option is unsupported, or when the
        /// deadline has passed.
        pub fn try_submit(
            &self,
            argument: A,
        ) -> Result<(TaskHandle<$result>, Updates<P>), TrySubmitError<A>> {
            let admitted = admit(&self.driver, &self.options);
            match admitted {
                Ok(admitted) => {
                    let (listener, updates) = ends(self.buffer, self.when_full);
                    Ok((self.accept(argument, admitted, listener), updates))
                }
                Err(error) => Err(TrySubmitError { error, argument }),
            }
        }

        /// Waits for room, then for the result, as [`ThreadPool::run`] does once the future is polled;
        /// beside it what the task says meanwhile.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future aborts the task, as far as [`TaskHandle::abort`] can do that here.
        pub fn run(
            &self,
            argument: A,
        ) -> (
            impl Future<Output = Result<$result, TaskError>> + Send + use<A, P, $last>,
            Updates<P>,
        ) {
            let (listener, updates) = ends(self.buffer, self.when_full);
            let task = self.clone();
            let result = async move {
                let admitted = find_room(&task.driver, &task.options).await?;
                let handle = task.accept(argument, admitted, listener);
                handle.abort_on_drop().await
            };
            (result, updates)
        }
    };
}
pub(super) use progress_verbs;

impl<A, P, R> ThreadProgressTask<A, P, R>
where
    A: Send + 'static,
    P: Serialize + DeserializeOwned + 'static,
    R: Send + 'static,
{
    fn new(driver: Arc<Driver>, function: fn(A, Progress<P>) -> R) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            buffer: BUFFER,
            when_full: WhenFull::default(),
        }
    }

    options!();
    updates_options!();

    progress_verbs!(R, R, "submit_with_progress");

    fn accept(&self, argument: A, admitted: Admitted, listener: Listener) -> TaskHandle<R> {
        let (reply, function) = (Reply::of_plain_result(), self.function);
        let work = Box::new(Moved {
            function: move |argument| function(argument, Progress::of_current()),
            argument: Some(argument),
            result: None,
            reply: reply.clone(),
        });
        let (work, listener) = (Labour::Blocking(work), Some(listener));
        accept(&self.driver, reply, work, admitted, &self.options, listener)
    }
}

/// Where updates go, and where they come out.
pub(super) fn ends<P: DeserializeOwned>(
    buffer: usize,
    when_full: WhenFull,
) -> (Listener, Updates<P>) {
    let (listener, mailbox) = Mailbox::new(buffer, when_full);
    // The threads need nobody to drive them.
    (listener, Updates::new(mailbox, payload::decode::<P>, None))
}

/// With tasks that say how far they have come.
impl ThreadPool {
    /// Queues a call of a function that says how far it has come, and returns at once. As
    /// [`ProcessPool::submit_with_progress`](crate::ProcessPool::submit_with_progress), where the
    /// whole story is.
    ///
    /// Argument and result are moved. What is sent on the way is encoded and decoded as it is there:
    /// a task sends what it only has by reference, and keeps it.
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
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let files = vec!["a".to_owned(), "b".to_owned()];
    /// let (copied, mut progress) = pool.submit_with_progress(copy, files);
    /// while let Some(update) = progress.next().await {
    ///     let (done, all) = update?;
    ///     println!("{done} of {all}");
    /// }
    /// assert_eq!(copied.await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn submit_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
        argument: A,
    ) -> (TaskHandle<R>, Updates<P>)
    where
        A: Send + 'static,
        P: Serialize + DeserializeOwned + 'static,
        R: Send + 'static,
    {
        self.task_with_progress(function).submit(argument)
    }

    /// Returns a task of a function that says how far it has come, whose calls can be given options.
    /// See [`ThreadProgressTask`] for an example.
    pub fn task_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
    ) -> ThreadProgressTask<A, P, R>
    where
        A: Send + 'static,
        P: Serialize + DeserializeOwned + 'static,
        R: Send + 'static,
    {
        ThreadProgressTask::new(self.driver().clone(), function)
    }
}

impl<A, P, R> Clone for ThreadProgressTask<A, P, R> {
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

impl<A, P, R> fmt::Debug for ThreadProgressTask<A, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadProgressTask")
            .field("options", &self.options)
            .field("buffer", &self.buffer)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
