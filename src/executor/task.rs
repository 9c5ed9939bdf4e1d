//! Calls with options, on whatever executor.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use futures::stream::{self, FusedStream, Stream};

use super::{Portable, sealed};
use crate::pool::Retry;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::map::Map;
use crate::pool::task::Task;
use crate::thread_pool::map::ThreadMap;
use crate::thread_pool::task::ThreadTask;

/// A function with options for its calls: a [`Task`] or a [`ThreadTask`]. Got from
/// [`Executor::task`](crate::Executor::task).
///
/// An option that the executor cannot keep is no option that is ignored: each call is refused, with
/// an error that [says so](TaskError::is_unsupported).
///
/// ```
/// use std::time::Duration;
/// use procpool::{Executor, ExecutorTask, TaskError, ThreadPool};
///
/// /// Ends the work when it takes too long, where it can be ended.
/// async fn guarded(executor: &impl Executor, n: u64) -> Result<u64, TaskError> {
///     let task = executor.task(|n: u64| n + 1).name("guarded");
///     let limited = task.clone().timeout(Duration::from_secs(5));
///     match limited.run(n).await {
///         Err(error) if error.is_unsupported() => task.run(n).await,
///         result => result,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(guarded(&ThreadPool::new()?, 1).await?, 2);
/// # Ok(()) }
/// ```
pub trait ExecutorTask<A: Portable, R: Portable>:
    Clone + fmt::Debug + Send + Sync + sealed::Sealed + 'static
{
    /// The results of the function over a stream of items.
    type Map<S>: FusedStream<Item = Result<R, TaskError>> + Send + Unpin
    where
        S: Stream<Item = A> + Send + Unpin;

    /// Ends the task when it has run this long, where the executor
    /// [can](crate::Ability::EndRunning). See [`Task::timeout`].
    fn timeout(self, limit: Duration) -> Self;

    /// Ends the task when this long has passed since it was submitted, where the executor
    /// [can](crate::Ability::EndRunning). See [`Task::deadline`].
    fn deadline(self, limit: Duration) -> Self;

    /// Has the task run again when it fails, where the executor [can](crate::Ability::Retry). See
    /// [`Task::retry`].
    fn retry(self, retry: impl Into<Retry>) -> Self;

    /// Sends the task to the worker of its key, where the executor [can](crate::Ability::Key). See
    /// [`Task::key`].
    fn key(self, key: impl Hash) -> Self;

    /// Lets the task go before waiting tasks of lower priority. See [`Task::priority`].
    fn priority(self, priority: i32) -> Self;

    /// Gives up on the task when it has waited this long for its start. See
    /// [`Task::queue_timeout`].
    fn queue_timeout(self, limit: Duration) -> Self;

    /// Asks the task to come to its end when it has run this long. See [`Task::soft_timeout`].
    fn soft_timeout(self, limit: Duration) -> Self;

    /// Sets how many items [`map`](Self::map) and its relatives hand over at once, where they are
    /// handed over. See [`Task::chunk_size`].
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[track_caller]
    fn chunk_size(self, items: usize) -> Self;

    /// Sets how many items [`map`](Self::map) and its relatives take ahead of the reader. See
    /// [`Task::look_ahead`].
    fn look_ahead(self, items: usize) -> Self;

    /// Names the task. See [`Task::name`].
    fn name(self, name: impl Into<String>) -> Self;

    /// Queues one call and returns at once. See [`Task::submit`].
    fn submit(&self, argument: A) -> TaskHandle<R>;

    /// Queues one call, or hands the argument back. See [`Task::try_submit`].
    ///
    /// # Errors
    ///
    /// With the argument, when the call is not accepted.
    fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>;

    /// Waits for room, then for the result. See [`Task::run`].
    fn run(&self, argument: A) -> impl Future<Output = Result<R, TaskError>> + Send;

    /// Runs the function over many items, results in the order of the items. See [`Task::map`].
    fn map<I>(&self, items: I) -> Self::Map<stream::Iter<I::IntoIter>>
    where
        I: IntoIterator<Item = A, IntoIter: Send>;

    /// Runs the function over many items, results in the order in which they are ready. See
    /// [`Task::map_unordered`].
    fn map_unordered<I>(&self, items: I) -> Self::Map<stream::Iter<I::IntoIter>>
    where
        I: IntoIterator<Item = A, IntoIter: Send>;

    /// Runs the function over a stream of items, results in the order of the items. See
    /// [`Task::map_stream`].
    fn map_stream<S>(&self, items: S) -> Self::Map<S>
    where
        S: Stream<Item = A> + Send + Unpin;

    /// Runs the function over a stream of items, results in the order in which they are ready. See
    /// [`Task::map_stream_unordered`].
    fn map_stream_unordered<S>(&self, items: S) -> Self::Map<S>
    where
        S: Stream<Item = A> + Send + Unpin;
}

/// Each method is the one of that name that the type has itself.
macro_rules! executor_task {
    ($task:ident, $map:ident) => {
        impl<A: Portable, R: Portable> ExecutorTask<A, R> for $task<A, R> {
            type Map<S>
                = $map<S, R>
            where
                S: Stream<Item = A> + Send + Unpin;

            super::options! {
                $task:
                timeout(limit: Duration),
                deadline(limit: Duration),
                retry(retry: impl Into<Retry>),
                key(key: impl Hash),
                priority(priority: i32),
                queue_timeout(limit: Duration),
                soft_timeout(limit: Duration),
                chunk_size(items: usize),
                look_ahead(items: usize),
                name(name: impl Into<String>),
            }

            fn submit(&self, argument: A) -> TaskHandle<R> {
                $task::submit(self, argument)
            }

            fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>> {
                $task::try_submit(self, argument)
            }

            fn run(&self, argument: A) -> impl Future<Output = Result<R, TaskError>> + Send {
                $task::run(self, argument)
            }

            fn map<I>(&self, items: I) -> Self::Map<stream::Iter<I::IntoIter>>
            where
                I: IntoIterator<Item = A, IntoIter: Send>,
            {
                $task::map(self, items)
            }

            fn map_unordered<I>(&self, items: I) -> Self::Map<stream::Iter<I::IntoIter>>
            where
                I: IntoIterator<Item = A, IntoIter: Send>,
            {
                $task::map_unordered(self, items)
            }

            fn map_stream<S>(&self, items: S) -> Self::Map<S>
            where
                S: Stream<Item = A> + Send + Unpin,
            {
                $task::map_stream(self, items)
            }

            fn map_stream_unordered<S>(&self, items: S) -> Self::Map<S>
            where
                S: Stream<Item = A> + Send + Unpin,
            {
                $task::map_stream_unordered(self, items)
            }
        }
    };
}

executor_task!(Task, Map);
executor_task!(ThreadTask, ThreadMap);
