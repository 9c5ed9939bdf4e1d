//! Async tasks whose functions say how far they have come.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::options::{options, short_name, waiting_options};
use super::progress::{BUFFER, progress_verbs, updates_options};
use super::{Options, run, submit, try_submit};
use crate::pool::builder::bounded;
use crate::pool::driver::Driver;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::scheduler::Retry;
use crate::pool::updates::{Listener, Mailbox, Updates, WhenFull};
use crate::task::call::Call;
use crate::task::payload;
use crate::task::progress::{Progress, Reporting};
use crate::wire::page::MOST_UPDATES;

/// An `async fn` that takes a [`Progress`] behind its argument, with options for its calls. Got from
/// [`ProcessPool::task_async_with_progress`](crate::ProcessPool::task_async_with_progress).
///
/// Such a task sends with [`send_async`](Progress::send_async), which keeps nobody in its worker
/// waiting.
///
/// ```
/// use futures::TryStreamExt;
/// use procpool::task::Progress;
///
/// async fn fetch(pages: Vec<u32>, fetched: Progress<u32>) -> usize {
///     for page in &pages {
///         tokio::task::yield_now().await; // and the page is there
///         fetched.send_async(page).await.expect("a number can be sent");
///     }
///     pages.len()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let fetch = pool.task_async_with_progress(fetch).buffer(2);
/// let ((one, ones), (two, twos)) = (fetch.submit(vec![1, 2, 3]), fetch.submit(vec![4]));
/// assert_eq!(ones.try_collect::<Vec<_>>().await?, [1, 2, 3]);
/// assert_eq!(twos.try_collect::<Vec<_>>().await?, [4]);
/// assert_eq!((one.await?, two.await?), (3, 1));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct AsyncProgressTask<A, P, Fut> {
    driver: Arc<Driver>,
    function: fn(A, Progress<P>) -> Fut,
    options: Options,
    buffer: usize,
    when_full: WhenFull,
}

impl<A, P, Fut> AsyncProgressTask<A, P, Fut>
where
    A: Serialize + DeserializeOwned,
    P: Serialize + DeserializeOwned,
    Fut: Future + 'static,
    Fut::Output: Serialize + DeserializeOwned + Send + 'static,
{
    pub(in crate::pool) fn new(driver: Arc<Driver>, function: fn(A, Progress<P>) -> Fut) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            buffer: BUFFER,
            when_full: WhenFull::default(),
        }
    }

    progress_verbs!(Fut::Output, Fut, "submit_async");

    fn call(&self, argument: &A) -> Call<Fut::Output> {
        Call::of_async(Reporting(self.function), argument)
    }
}

impl<A, P, Fut> Clone for AsyncProgressTask<A, P, Fut> {
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

impl<A, P, Fut> fmt::Debug for AsyncProgressTask<A, P, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncProgressTask")
            .field("options", &self.options)
            .field("buffer", &self.buffer)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
