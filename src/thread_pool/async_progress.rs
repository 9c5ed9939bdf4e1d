//! Async tasks on threads whose functions say how far they have come.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ThreadPool;
use super::async_task::async_options;
use super::driver::Driver;
use super::job::{Labour, MovedAsync};
use super::progress::{ends, progress_verbs};
use super::task::{Admitted, Options, accept, admit, find_room, refused_options};
use crate::pool::Retry;
use crate::pool::builder::bounded;
use crate::pool::error::{Ability, TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::reply::Reply;
use crate::pool::task::options::{short_name, waiting_options};
use crate::pool::task::progress::{BUFFER, updates_options};
use crate::pool::updates::{Listener, Updates, WhenFull};
use crate::task::progress::Progress;
use crate::wire::page::MOST_UPDATES;

/// An `async fn` that takes a [`Progress`] behind its argument, with options for its calls on a
/// [`ThreadPool`]. Got from [`ThreadPool::task_async_with_progress`].
///
/// Such a task sends with [`send_async`](Progress::send_async), which keeps nobody on its thread
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
/// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
/// let fetch = pool.task_async_with_progress(fetch).buffer(2);
/// let ((one, ones), (two, twos)) = (fetch.submit(vec![1, 2, 3]), fetch.submit(vec![4]));
/// assert_eq!(ones.try_collect::<Vec<_>>().await?, [1, 2, 3]);
/// assert_eq!(twos.try_collect::<Vec<_>>().await?, [4]);
/// assert_eq!((one.await?, two.await?), (3, 1));
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ThreadAsyncProgressTask<A, P, Fut> {
    driver: Arc<Driver>,
    function: fn(A, Progress<P>) -> Fut,
    options: Options,
    buffer: usize,
    when_full: WhenFull,
}

impl<A, P, Fut> ThreadAsyncProgressTask<A, P, Fut>
where
    A: Send + 'static,
    P: Serialize + DeserializeOwned + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    fn new(driver: Arc<Driver>, function: fn(A, Progress<P>) -> Fut) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            buffer: BUFFER,
            when_full: WhenFull::default(),
        }
    }

    async_options!();
    updates_options!();

    progress_verbs!(Fut::Output, Fut, "submit_async");

    fn accept(
        &self,
        argument: A,
        admitted: Admitted,
        listener: Listener,
    ) -> TaskHandle<Fut::Output> {
        let (reply, function) = (Reply::of_plain_result(), self.function);
        let work = Labour::Async(Box::new(MovedAsync {
            function: move |argument| function(argument, Progress::of_current()),
            argument,
            reply: reply.clone(),
        }));
        let listener = Some(listener);
        accept(&self.driver, reply, work, admitted, &self.options, listener)
    }
}

/// With async tasks that say how far they have come.
impl ThreadPool {
    /// Returns a task of an `async fn` that says how far it has come, whose calls can be given
    /// options. See [`ThreadAsyncProgressTask`] for an example.
    pub fn task_async_with_progress<A, P, Fut>(
        &self,
        function: fn(A, Progress<P>) -> Fut,
    ) -> ThreadAsyncProgressTask<A, P, Fut>
    where
        A: Send + 'static,
        P: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        ThreadAsyncProgressTask::new(self.driver().clone(), function)
    }
}

impl<A, P, Fut> Clone for ThreadAsyncProgressTask<A, P, Fut> {
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

impl<A, P, Fut> fmt::Debug for ThreadAsyncProgressTask<A, P, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadAsyncProgressTask")
            .field("options", &self.options)
            .field("buffer", &self.buffer)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
