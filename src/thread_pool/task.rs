//! One call's options, and the way into the pool that all calls take.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::driver::Driver;
use super::job::{Encoded, Job, Moved, Work};
use super::map::{ThreadMap, ThreadMapIter};
use crate::pool::builder::bounded;
use crate::pool::error::{Ability, Kind, TaskError, TrySubmitError, Unsupported};
use crate::pool::handle::TaskHandle;
use crate::pool::map::LOOK_AHEAD;
use crate::pool::reply::{Answer, Raw, Reply};
use crate::sys::clock::Moment;
use crate::task::Call;
use crate::task::call::Parts;

/// A function with options for its calls on a [`ThreadPool`](crate::ThreadPool). Got from
/// [`ThreadPool::task`](crate::ThreadPool::task).
///
/// ```
/// use std::time::Duration;
/// use procpool::ThreadPool;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::builder().workers(1).build()?;
/// let busy = pool.submit(|_: ()| std::thread::sleep(Duration::from_millis(300)), ());
/// let hurried = pool.task(|n: u64| n + 1).queue_timeout(Duration::from_millis(20)).submit(1);
/// assert!(hurried.await.unwrap_err().is_timeout());
/// busy.await?;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ThreadTask<A, R> {
    driver: Arc<Driver>,
    function: fn(A) -> R,
    options: Options,
    look_ahead: usize,
}

/// What can be said of a call beside function and argument.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    queue_timeout: Option<Duration>,
    soft_timeout: Option<Duration>,
    name: Option<Arc<str>>,
    /// What was asked for and cannot be had.
    unsupported: Option<Ability>,
}

/// Whether a call takes room in the queue: what a map takes is bounded by its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Needed,
    NotNeeded,
}

impl<A, R> ThreadTask<A, R>
where
    A: Send + 'static,
    R: Send + 'static,
{
    pub(super) fn new(driver: Arc<Driver>, function: fn(A) -> R) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            look_ahead: LOOK_AHEAD,
        }
    }

    /// Limits how long the task may run, which no pool of threads can: each call is refused with
    /// an error that [says so](TaskError::is_unsupported). A [`ProcessPool`](crate::ProcessPool)
    /// can; to give up waiting use [`TaskHandle::timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let limited = pool.task(|n: u64| n + 1).timeout(Duration::from_secs(5));
    /// let error = limited.submit(1).await.unwrap_err();
    /// assert!(error.is_unsupported() && !error.maybe_executed());
    /// # Ok(()) }
    /// ```
    pub fn timeout(mut self, _limit: Duration) -> Self {
        self.options.unsupported = Some(Ability::EndRunning);
        self
    }

    /// Asks the task to come to its end when it has run this long. See
    /// [`Task::soft_timeout`](crate::Task::soft_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
    /// let nap = |_: ()| {
    ///     let stop = procpool::task::current().expect("this runs in a pool").cancellation();
    ///     stop.wait_timeout(Duration::from_secs(3600))
    /// };
    /// assert!(pool.task(nap).soft_timeout(Duration::from_millis(20)).run(()).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// When the limit is zero.
    #[track_caller]
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        assert!(
            !limit.is_zero(),
            "a soft task timeout must be greater than 0"
        );
        self.options.soft_timeout = Some(bounded(limit));
        self
    }

    /// Gives up on the task when it has waited this long for its start. One that has been started
    /// is not touched.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(bounded(limit));
        self
    }

    /// Names the task; [`task::current`](crate::task::current) shows the name on its thread.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(Arc::from(name.into()));
        self
    }

    /// Sets how many items [`map`](Self::map) and its relatives take ahead of the reader. Default:
    /// 1,024.
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[track_caller]
    pub fn look_ahead(mut self, items: usize) -> Self {
        assert!(items > 0, "a look-ahead must be greater than 0");
        self.look_ahead = items;
        self
    }

    /// Queues one call and returns at once. See [`ThreadPool::submit`](crate::ThreadPool::submit).
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(&self, argument: A) -> TaskHandle<R> {
        self.submit_into(Room::Needed, argument)
    }

    pub(super) fn submit_into(&self, room: Room, argument: A) -> TaskHandle<R> {
        let reply = Reply::of_plain_result();
        let admitted = match room {
            Room::Needed => self.options.check().and_then(|()| admit(&self.driver)),
            Room::NotNeeded => self.options.check().map(|()| None),
        };
        match admitted {
            Ok(permit) => self.accept(reply, argument, permit),
            Err(error) => {
                reply.clone().give(Err(error));
                TaskHandle::new(reply, None)
            }
        }
    }

    /// Queues one call, or hands the argument back. See
    /// [`ThreadPool::try_submit`](crate::ThreadPool::try_submit).
    ///
    /// # Errors
    ///
    /// When the queue is full, when the pool is shut down, or when an option is unsupported.
    pub fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>> {
        let admitted = self.options.check().and_then(|()| admit(&self.driver));
        match admitted {
            Ok(permit) => Ok(self.accept(Reply::of_plain_result(), argument, permit)),
            Err(error) => Err(TrySubmitError { error, argument }),
        }
    }

    /// Waits for room, then for the result. See [`ThreadPool::run`](crate::ThreadPool::run).
    ///
    /// The time spent waiting for room is not part of [`queue_timeout`](Self::queue_timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as far as [`TaskHandle::abort`] can do that here.
    pub fn run(
        &self,
        argument: A,
    ) -> impl Future<Output = Result<R, TaskError>> + Send + use<A, R> {
        let task = self.clone();
        async move {
            task.options.check()?;
            let permit = match &task.driver.room {
                None => None,
                Some(room) => match room.clone().acquire_owned().await {
                    Ok(permit) => Some(permit),
                    Err(_) => return Err(shut_down()),
                },
            };
            task.accept(Reply::of_plain_result(), argument, permit)
                .abort_on_drop()
                .await
        }
    }

    fn accept(
        &self,
        reply: Arc<Reply<R>>,
        argument: A,
        permit: Option<OwnedSemaphorePermit>,
    ) -> TaskHandle<R> {
        let work = Box::new(Moved {
            function: self.function,
            argument: Some(argument),
            result: None,
            reply: reply.clone(),
        });
        accept(&self.driver, reply, work, permit, &self.options)
    }

    /// Runs the function over many items. See [`ThreadPool::map`](crate::ThreadPool::map).
    pub fn map<I>(&self, items: I) -> ThreadMapIter<I::IntoIter, R>
    where
        I: IntoIterator<Item = A>,
    {
        self.map_iter(items, true)
    }

    /// Runs the function over many items, results in the order in which they come. See
    /// [`ThreadPool::map_unordered`](crate::ThreadPool::map_unordered).
    pub fn map_unordered<I>(&self, items: I) -> ThreadMapIter<I::IntoIter, R>
    where
        I: IntoIterator<Item = A>,
    {
        self.map_iter(items, false)
    }

    /// Runs the function over a stream of items. See
    /// [`ThreadPool::map_stream`](crate::ThreadPool::map_stream).
    pub fn map_stream<S: Stream<Item = A>>(&self, items: S) -> ThreadMap<S, R> {
        ThreadMap::new(self.clone(), items, self.look_ahead, true)
    }

    /// Runs the function over a stream of items, results in the order in which they come.
    pub fn map_stream_unordered<S: Stream<Item = A>>(&self, items: S) -> ThreadMap<S, R> {
        ThreadMap::new(self.clone(), items, self.look_ahead, false)
    }

    fn map_iter<I>(&self, items: I, ordered: bool) -> ThreadMapIter<I::IntoIter, R>
    where
        I: IntoIterator<Item = A>,
    {
        let items = stream::iter(items);
        let mut map = ThreadMap::new(self.clone(), items, self.look_ahead, ordered);
        // An iterator has its items ready, so the work starts here and now.
        std::pin::Pin::new(&mut map).take(&mut Context::from_waker(Waker::noop()));
        map
    }
}

impl Options {
    fn check(&self) -> Result<(), TaskError> {
        match self.unsupported {
            None => Ok(()),
            Some(ability) => Err(TaskError::new(Kind::Unsupported(Unsupported(ability)))),
        }
    }
}

/// Queues a call that is encoded. Whatever stands against it comes through the handle.
pub(super) fn submit_call<R: Send + 'static>(
    driver: &Arc<Driver>,
    call: Call<R>,
    options: &Options,
) -> TaskHandle<R> {
    let Parts {
        target,
        argument,
        decode,
    } = call.into_parts();
    let reply = Reply::new(decode);
    let ready = || {
        let target = target.map_err(|error| TaskError::new(Kind::Foreign(error)))?;
        let argument = argument.map_err(|error| TaskError::new(Kind::EncodeArgument(error)))?;
        Ok((target, argument, admit(driver)?))
    };
    match ready() {
        Ok((target, argument, permit)) => {
            let work = Box::new(Encoded {
                target,
                argument,
                result: None,
                reply: reply.clone(),
            });
            accept(driver, reply, work, permit, options)
        }
        Err(error) => {
            reply.clone().resolve(Raw::Failed(error));
            TaskHandle::new(reply, None)
        }
    }
}

/// Hands a call to the driver; a refusal comes through the handle.
fn accept<R: Send + 'static>(
    driver: &Arc<Driver>,
    reply: Arc<Reply<R>>,
    work: Box<dyn Work>,
    permit: Option<OwnedSemaphorePermit>,
    options: &Options,
) -> TaskHandle<R> {
    let job = Job {
        work,
        name: options.name.clone(),
        soft_timeout: options.soft_timeout,
        since: Moment::now(),
        permit,
        timer: None,
    };
    match driver.submit(job, options.queue_timeout) {
        Some(key) => TaskHandle::new(reply, Some((driver.clone(), key))),
        None => TaskHandle::new(reply, None),
    }
}

/// Takes a part of the room in the queue.
fn admit(driver: &Driver) -> Result<Option<OwnedSemaphorePermit>, TaskError> {
    if driver.lifetime().closed {
        return Err(shut_down());
    }
    let Some(room) = &driver.room else {
        return Ok(None);
    };
    match room.clone().try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(TryAcquireError::NoPermits) => {
            let limit = driver.plan.max_pending.unwrap_or_default();
            Err(TaskError::new(Kind::QueueFull(limit)))
        }
        Err(TryAcquireError::Closed) => Err(shut_down()),
    }
}

fn shut_down() -> TaskError {
    TaskError::new(Kind::ShutDown { started: false })
}

impl<A, R> Clone for ThreadTask<A, R> {
    fn clone(&self) -> Self {
        Self {
            driver: self.driver.clone(),
            function: self.function,
            options: self.options.clone(),
            look_ahead: self.look_ahead,
        }
    }
}

impl<A, R> fmt::Debug for ThreadTask<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadTask")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
