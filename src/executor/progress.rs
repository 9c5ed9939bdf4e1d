//! Tasks that say how far they have come, on whatever executor.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::{Portable, sealed};
use crate::pool::Retry;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::task::async_progress::AsyncProgressTask;
use crate::pool::task::progress::ProgressTask;
use crate::pool::updates::{Updates, WhenFull};
use crate::thread_pool::async_progress::ThreadAsyncProgressTask;
use crate::thread_pool::progress::ThreadProgressTask;

/// A function that says how far it has come, with options for its calls: a [`ProgressTask`] or a
/// [`ThreadProgressTask`], got from
/// [`Executor::task_with_progress`](crate::Executor::task_with_progress). Of an `async fn` an
/// [`AsyncProgressTask`] or a [`ThreadAsyncProgressTask`], got from
/// [`Executor::task_async_with_progress`](crate::Executor::task_async_with_progress).
///
/// ```
/// use futures::{StreamExt, TryStreamExt};
/// use procpool::task::Progress;
/// use procpool::{Executor, ExecutorProgressTask, TaskError, ThreadPool};
///
/// fn halve(mut number: u64, halves: Progress<u64>) -> u32 {
///     let mut steps = 0;
///     while number > 1 {
///         (number, steps) = (number / 2, steps + 1);
///         halves.send(&number).expect("a number can be sent");
///     }
///     steps
/// }
///
/// async fn halves(executor: &impl Executor, number: u64) -> Result<Vec<u64>, TaskError> {
///     let (end, updates) = executor.task_with_progress(halve).buffer(2).submit(number);
///     let halves = updates.try_collect().await?;
///     end.await?;
///     Ok(halves)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(halves(&ThreadPool::new()?, 9).await?, [4, 2, 1]);
/// # Ok(()) }
/// ```
pub trait ExecutorProgressTask<A: Portable, P: Portable, R: Portable>:
    Clone + fmt::Debug + Send + Sync + sealed::Sealed + 'static
{
    /// Ends the task when it has run this long, where the executor
    /// [can](crate::Ability::EndRunning). See [`ProgressTask::timeout`].
    fn timeout(self, limit: Duration) -> Self;

    /// Ends the task when this long has passed since it was submitted, where the executor
    /// [can](crate::Ability::EndRunning). See [`ProgressTask::deadline`].
    fn deadline(self, limit: Duration) -> Self;

    /// Asks the task to come to its end when it has run this long. See
    /// [`ProgressTask::soft_timeout`].
    fn soft_timeout(self, limit: Duration) -> Self;

    /// Has the task run again when it fails, where the executor [can](crate::Ability::Retry). See
    /// [`ProgressTask::retry`].
    fn retry(self, retry: impl Into<Retry>) -> Self;

    /// Lets the task go before waiting tasks of lower priority. See [`ProgressTask::priority`].
    fn priority(self, priority: i32) -> Self;

    /// Gives up on the task when it has waited this long for its start. See
    /// [`ProgressTask::queue_timeout`].
    fn queue_timeout(self, limit: Duration) -> Self;

    /// Names the task. See [`ProgressTask::name`].
    fn name(self, name: impl Into<String>) -> Self;

    /// Sets how many updates may wait for their reader. See [`ProgressTask::buffer`].
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[track_caller]
    fn buffer(self, updates: usize) -> Self;

    /// Sets what happens when the task sends an update and the buffer is full. See
    /// [`ProgressTask::when_full`].
    fn when_full(self, when_full: WhenFull) -> Self;

    /// Queues one call and returns at once. See [`ProgressTask::submit`].
    fn submit(&self, argument: A) -> (TaskHandle<R>, Updates<P>);

    /// Queues one call, or hands the argument back. See [`ProgressTask::try_submit`].
    ///
    /// # Errors
    ///
    /// With the argument, when the call is not accepted.
    fn try_submit(&self, argument: A) -> Result<(TaskHandle<R>, Updates<P>), TrySubmitError<A>>;

    /// Waits for room, then for the result; beside it what the task says meanwhile. See
    /// [`ProgressTask::run`].
    fn run(
        &self,
        argument: A,
    ) -> (
        impl Future<Output = Result<R, TaskError>> + Send,
        Updates<P>,
    );
}

/// Each method is the one of that name that the type has itself.
macro_rules! executor_progress_task {
    ($task:ident of $made:ident: [$($bound:tt)+] => $result:ty) => {
        impl<A, P, $made> ExecutorProgressTask<A, P, $result> for $task<A, P, $made>
        where
            A: Portable,
            P: Portable,
            $made: $($bound)+,
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
                buffer(updates: usize),
                when_full(when_full: WhenFull),
            }

            fn submit(&self, argument: A) -> (TaskHandle<$result>, Updates<P>) {
                $task::submit(self, argument)
            }

            fn try_submit(
                &self,
                argument: A,
            ) -> Result<(TaskHandle<$result>, Updates<P>), TrySubmitError<A>> {
                $task::try_submit(self, argument)
            }

            fn run(
                &self,
                argument: A,
            ) -> (
                impl Future<Output = Result<$result, TaskError>> + Send,
                Updates<P>,
            ) {
                $task::run(self, argument)
            }
        }
    };
}

executor_progress_task!(ProgressTask of R: [Portable] => R);
executor_progress_task!(ThreadProgressTask of R: [Portable] => R);
executor_progress_task!(AsyncProgressTask of Fut: [Future<Output: Portable> + 'static] => Fut::Output);
executor_progress_task!(ThreadAsyncProgressTask of Fut: [Future<Output: Portable> + 'static] => Fut::Output);
