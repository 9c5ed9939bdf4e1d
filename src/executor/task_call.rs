//! One call with options, on whatever executor.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use super::{Portable, sealed};
use crate::pool::Retry;
use crate::pool::error::TaskError;
use crate::pool::handle::TaskHandle;
use crate::pool::task::TaskCall;
use crate::thread_pool::task::ThreadTaskCall;

/// A call that [`call!`](crate::call) has made, with options: a [`TaskCall`] or a [`ThreadTaskCall`].
/// Got from [`Executor::task_call`](crate::Executor::task_call).
///
/// ```
/// use procpool::{Executor, ExecutorTaskCall, TaskError, ThreadPool, call};
///
/// async fn power(executor: &impl Executor, exponent: u32) -> Result<u64, TaskError> {
///     executor.task_call(call!(u64::pow(2, exponent))).name("power").run().await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(power(&ThreadPool::new()?, 10).await?, 1024);
/// # Ok(()) }
/// ```
pub trait ExecutorTaskCall<R: Portable>: fmt::Debug + Send + sealed::Sealed + 'static {
    /// Ends the task when it has run this long, where the executor
    /// [can](crate::Ability::EndRunning). See [`TaskCall::timeout`].
    fn timeout(self, limit: Duration) -> Self;

    /// Ends the task when this long has passed since it was submitted, where the executor
    /// [can](crate::Ability::EndRunning). See [`TaskCall::deadline`].
    fn deadline(self, limit: Duration) -> Self;

    /// Asks the task to come to its end when it has run this long. See [`TaskCall::soft_timeout`].
    fn soft_timeout(self, limit: Duration) -> Self;

    /// Has the task run again when it fails, where the executor [can](crate::Ability::Retry). See
    /// [`TaskCall::retry`].
    fn retry(self, retry: impl Into<Retry>) -> Self;

    /// Sends the task to the worker of its key, where the executor [can](crate::Ability::Key). See
    /// [`TaskCall::key`].
    fn key(self, key: impl Hash) -> Self;

    /// Lets the task go before waiting tasks of lower priority. See [`TaskCall::priority`].
    fn priority(self, priority: i32) -> Self;

    /// Gives up on the task when it has waited this long for its start. See
    /// [`TaskCall::queue_timeout`].
    fn queue_timeout(self, limit: Duration) -> Self;

    /// Names the task. See [`TaskCall::name`].
    fn name(self, name: impl Into<String>) -> Self;

    /// Queues the call and returns at once. See [`TaskCall::submit`].
    fn submit(self) -> TaskHandle<R>;

    /// Waits for room, then for the result. See [`TaskCall::run`].
    fn run(self) -> impl Future<Output = Result<R, TaskError>> + Send;
}

/// Each method is the one of that name that the type has itself.
macro_rules! executor_task_call {
    ($task:ident) => {
        impl<R: Portable> ExecutorTaskCall<R> for $task<R> {
            super::options! {
                $task:
                timeout(limit: Duration),
                deadline(limit: Duration),
                soft_timeout(limit: Duration),
                retry(retry: impl Into<Retry>),
                key(key: impl Hash),
                priority(priority: i32),
                queue_timeout(limit: Duration),
                name(name: impl Into<String>),
            }

            fn submit(self) -> TaskHandle<R> {
                $task::submit(self)
            }

            fn run(self) -> impl Future<Output = Result<R, TaskError>> + Send {
                $task::run(self)
            }
        }
    };
}

executor_task_call!(TaskCall);
executor_task_call!(ThreadTaskCall);
