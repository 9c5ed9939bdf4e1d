//! An async function with options for its calls.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::options::{options, short_name, waiting_options};
use super::{Options, run, submit, try_submit};
use crate::pool::builder::bounded;
use crate::pool::driver::Driver;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::scheduler::Retry;
use crate::task::call::Call;

/// An `async fn` with options for its calls. Got from
/// [`ProcessPool::task_async`](crate::ProcessPool::task_async).
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
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let impatient = pool.task_async(wait).timeout(Duration::from_millis(50)).name("wait");
/// let (long, short) = (impatient.submit(3600), impatient.submit(0));
/// short.await?; // beside the other, in the same worker
/// assert!(long.await.unwrap_err().is_timeout());
/// assert_eq!(pool.stats().workers_ended, 0, "its worker was not killed");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct AsyncTask<A, Fut> {
    driver: Arc<Driver>,
    function: fn(A) -> Fut,
    options: Options,
}

impl<A, Fut> AsyncTask<A, Fut>
where
    A: Serialize + DeserializeOwned,
    Fut: Future + 'static,
    Fut::Output: Serialize + DeserializeOwned + Send + 'static,
{
    pub(in crate::pool) fn new(driver: Arc<Driver>, function: fn(A) -> Fut) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
        }
    }

    options!();

    /// Queues one call and returns at once. See
    /// [`ProcessPool::submit_async`](crate::ProcessPool::submit_async).
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(&self, argument: A) -> TaskHandle<Fut::Output> {
        let call = Call::of_async(self.function, &argument);
        drop(argument);
        submit(&self.driver, call, &self.options, None)
    }

    /// Queues one call, or hands the argument back, as
    /// [`ProcessPool::try_submit`](crate::ProcessPool::try_submit) does.
    ///
    /// # Errors
    ///
    /// When the queue is full, when the pool is shut down or broken, when the argument cannot be
    /// encoded or is too large, or when the deadline has passed.
    pub fn try_submit(&self, argument: A) -> Result<TaskHandle<Fut::Output>, TrySubmitError<A>> {
        let call = Call::of_async(self.function, &argument);
        try_submit(&self.driver, call, &self.options, None)
            .map_err(|error| TrySubmitError { error, argument })
    }

    /// Waits for room in the queue, then for the result, as
    /// [`ProcessPool::run`](crate::ProcessPool::run) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does.
    pub fn run(
        &self,
        argument: A,
    ) -> impl Future<Output = Result<Fut::Output, TaskError>> + Send + use<A, Fut> {
        // Encoded here and now: the argument need not be able to move between threads.
        let call = Call::of_async(self.function, &argument);
        drop(argument);
        run(self.driver.clone(), call, self.options.clone(), None)
    }
}

impl<A, Fut> Clone for AsyncTask<A, Fut> {
    fn clone(&self) -> Self {
        Self {
            driver: self.driver.clone(),
            function: self.function,
            options: self.options.clone(),
        }
    }
}

impl<A, Fut> fmt::Debug for AsyncTask<A, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncTask")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
