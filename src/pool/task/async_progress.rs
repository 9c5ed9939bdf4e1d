//! Async tasks whose functions say how far they have come.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::async_task::{accept, try_accept};
use super::options::{options, short_name, waiting_options};
use super::progress::{BUFFER, updates_options};
use super::{Job, Listener, Options, admit, find_room, prepare};
use crate::pool::builder::bounded;
use crate::pool::driver::Driver;
use crate::pool::error::{TaskError, TrySubmitError};
use crate::pool::handle::TaskHandle;
use crate::pool::reply::Reply;
use crate::pool::scheduler::Retry;
use crate::pool::updates::{Mailbox, Updates, WhenFull};
use crate::task::call::{Call, Parts};
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

/// A job that is ready to be queued, and where its answer and its updates will be.
struct Prepared<P, R> {
    job: Result<Job, TaskError>,
    reply: Arc<Reply<R>>,
    updates: Updates<P>,
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

    options!();
    updates_options!();

    /// Queues one call and returns at once: with the handle, and with what the task says while it
    /// runs. See [`ProcessPool::submit_async`](crate::ProcessPool::submit_async).
    ///
    /// Dropping the handle detaches the task, dropping the updates costs it nothing.
    pub fn submit(&self, argument: A) -> (TaskHandle<Fut::Output>, Updates<P>) {
        let prepared = self.prepare(&argument);
        drop(argument);
        let job = prepared.job.and_then(|job| {
            let permit = admit(&self.driver)?;
            Ok(Job { permit, ..job })
        });
        let handle = accept(&self.driver, &self.options, prepared.reply, job);
        (handle, prepared.updates)
    }

    /// Queues one call, or hands the argument back, as
    /// [`ProcessPool::try_submit`](crate::ProcessPool::try_submit) does.
    ///
    /// # Errors
    ///
    /// When the queue is full, when the pool is shut down or broken, or when the argument cannot
    /// be encoded or is too large.
    #[expect(
        clippy::type_complexity,
        reason = "it is what submit returns, or the argument"
    )]
    pub fn try_submit(
        &self,
        argument: A,
    ) -> Result<(TaskHandle<Fut::Output>, Updates<P>), TrySubmitError<A>> {
        let prepared = self.prepare(&argument);
        let handle = prepared.job.and_then(|job| {
            let permit = admit(&self.driver)?;
            let job = Job { permit, ..job };
            let accepted = try_accept(&self.driver, &self.options, prepared.reply, job);
            accepted.map_err(TaskError::of_refused)
        });
        match handle {
            Ok(handle) => Ok((handle, prepared.updates)),
            Err(error) => Err(TrySubmitError { error, argument }),
        }
    }

    /// Waits for room in the queue, then for the result, as
    /// [`ProcessPool::run`](crate::ProcessPool::run) does once the future is polled; beside it what
    /// the task says meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does. The updates end then.
    pub fn run(
        &self,
        argument: A,
    ) -> (
        impl Future<Output = Result<Fut::Output, TaskError>> + Send + use<A, P, Fut>,
        Updates<P>,
    ) {
        let Prepared {
            job,
            reply,
            updates,
        } = self.prepare(&argument);
        drop(argument);
        let (driver, options) = (self.driver.clone(), self.options.clone());
        let result = async move {
            let job = job?;
            let permit = match &driver.room {
                None => None,
                Some(room) => Some(find_room(&driver, room.clone(), job.deadline).await?),
            };
            accept(&driver, &options, reply, Ok(Job { permit, ..job }))
                .abort_on_drop()
                .await
        };
        (result, updates)
    }

    fn prepare(&self, argument: &A) -> Prepared<P, Fut::Output> {
        let Parts {
            target,
            argument,
            decode,
        } = Call::of_async(Reporting(self.function), argument).into_parts();
        let reply = Reply::new(decode);
        let job = prepare(&self.driver, &reply, target, argument, &self.options);
        let (listener, mailbox) = Mailbox::new(self.buffer, self.when_full);
        let (listener, is_async): (Option<Listener>, _) = (Some(listener), true);
        let job = job.map(|job| Job {
            listener,
            is_async,
            ..job
        });
        Prepared {
            job,
            reply,
            updates: Updates::new(mailbox, payload::decode::<P>, Some(self.driver.clone())),
        }
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
