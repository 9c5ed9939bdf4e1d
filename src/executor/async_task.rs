//! Async calls with options, on whatever executor.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::{Portable, sealed};
use crate::pool::Retry;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::task::AsyncTask;
use crate::thread_pool::async_task::ThreadAsyncTask;

/// An `async fn` with options for its calls: an [`AsyncTask`] or a [`ThreadAsyncTask`]. Got from
/// [`Executor::task_async`](crate::Executor::task_async). Every executor can end such tasks.
///
/// ```
/// use std::time::Duration;
/// use procpool::{Executor, ExecutorAsyncTask, TaskError, ThreadPool};
///
/// async fn fetch(page: u32) -> String {
///     format!("page {page}")
/// }
///
/// async fn impatiently(executor: &impl Executor, page: u32) -> Result<String, TaskError> {
///     let fetch = executor.task_async(fetch).timeout(Duration::from_secs(5)).name("fetch");
///     fetch.run(page).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(impatiently(&ThreadPool::new()?, 7).await?, "page 7");
/// # Ok(()) }
/// ```
pub trait ExecutorAsyncTask<A: Portable, R: Portable>:
    Clone + fmt::Debug + Send + Sync + sealed::Sealed + 'static
{
    /// Ends the task when it has run this long. See [`AsyncTask::timeout`].
    fn timeout(self, limit: Duration) -> Self;

    /// Ends the task when this long has passed since it was submitted. See [`AsyncTask::deadline`].
    fn deadline(self, limit: Duration) -> Self;

    /// Asks the task to come to its end when it has run this long. See [`AsyncTask::soft_timeout`].
    fn soft_timeout(self, limit: Duration) -> Self;

    /// Has the task run again when it fails, where the executor [can](crate::Ability::Retry). See
    /// [`AsyncTask::retry`].
    fn retry(self, retry: impl Into<Retry>) -> Self;

    /// Lets the task go before waiting tasks of lower priority. See [`AsyncTask::priority`].
    fn priority(self, priority: i32) -> Self;

    /// Gives up on the task when it has waited this long for its start. See
    /// [`AsyncTask::queue_timeout`].
    fn queue_timeout(self, limit: Duration) -> Self;

    /// Names the task. See [`AsyncTask::name`].
    fn name(self, name: impl Into<String>) -> Self;

    /// Queues one call and returns at once. See [`AsyncTask::submit`].
    fn submit(&self, argument: A) -> TaskHandle<R>;

    /// Queues one call, or hands the argument back. See [`AsyncTask::try_submit`].
    ///
    /// # Errors
    ///
    /// With the argument, when the call is not accepted.
    fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>;

    /// Waits for room, then for the result. See [`AsyncTask::run`].
    fn run(&self, argument: A) -> impl Future<Output = Result<R, TaskError>> + Send;
}

/// Each method is the one of that name that the type has itself.
macro_rules! executor_async_task {
    ($task:ident) => {
        impl<A, Fut> ExecutorAsyncTask<A, Fut::Output> for $task<A, Fut>
        where
            A: Portable,
            Fut: Future<Output: Portable> + 'static,
        {
            super::options! {
                $task:
                timeout(limit: Duration),
                deadline(limit: Duration),
                soft_timeout(limit: Duration),
                retry(retry: impl Into<Retry>),
                priority(priority: i32),
                queue_timeout(limit: Duration),
                name(name: impl Into<String>),
            }

            fn submit(&self, argument: A) -> TaskHandle<Fut::Output> {
                $task::submit(self, argument)
            }

            fn try_submit(
                &self,
                argument: A,
            ) -> Result<TaskHandle<Fut::Output>, TrySubmitError<A>> {
                $task::try_submit(self, argument)
            }

            fn run(
                &self,
                argument: A,
            ) -> impl Future<Output = Result<Fut::Output, TaskError>> + Send {
                $task::run(self, argument)
            }
        }
    };
}

executor_async_task!(AsyncTask);
executor_async_task!(ThreadAsyncTask);
