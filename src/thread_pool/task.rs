//! One call's options, and the way into the pool that all calls take.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::driver::Driver;
use super::job::{Encoded, Job, Labour, Moved};
use super::map::{ThreadMap, ThreadMapIter};
use crate::pool::Retry;
use crate::pool::builder::bounded;
use crate::pool::error::{Ability, Kind, TaskError, TrySubmitError, Unsupported};
use crate::pool::events::PoolEvent;
use crate::pool::handle::TaskHandle;
use crate::pool::map::LOOK_AHEAD;
use crate::pool::reply::{Answer, Raw, Reply};
use crate::pool::stake::Stake;
use crate::pool::task::maps::map_verbs;
use crate::pool::task::options::{short_name, waiting_options};
use crate::pool::trace::{CallTrace, Origin};
use crate::pool::updates::Listener;
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

/// A call with options on a [`ThreadPool`](crate::ThreadPool). Got from
/// [`ThreadPool::task_call`](crate::ThreadPool::task_call).
///
/// ```
/// use procpool::{ThreadPool, call};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::builder().workers(1).build()?;
/// let power = pool.task_call(call!(u64::pow(2, 10))).name("power").priority(1);
/// assert_eq!(power.run().await?, 1024);
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct ThreadTaskCall<R> {
    driver: Arc<Driver>,
    call: Call<R>,
    options: Options,
}

/// What can be said of a call beside function and argument.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) queue_timeout: Option<Duration>,
    /// Of async calls alone.
    pub(super) timeout: Option<Duration>,
    /// Of others only one that has passed.
    pub(super) deadline: Option<Duration>,
    pub(super) soft_timeout: Option<Duration>,
    pub(super) priority: i32,
    pub(super) name: Option<Arc<str>>,
    /// What was asked for and cannot be had.
    pub(super) unsupported: Option<Ability>,
}

/// The options that tasks and calls have in common.
macro_rules! options {
    () => {
        waiting_options!("ThreadPool");

        /// Limits how long the task may run, which no pool of threads can: each call is refused
        /// with an error that [says so](TaskError::is_unsupported). A
        /// [`ProcessPool`](crate::ProcessPool) can; to give up waiting use [`TaskHandle::timeout`].
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

        /// Limits waiting and running together. As [`timeout`](Self::timeout) no pool of threads
        /// can, and each call is refused; of the waiting alone
        /// [`queue_timeout`](Self::queue_timeout) is a limit. A deadline of zero can be kept: no call
        /// is run, and the error of each [says so](TaskError::is_timeout).
        pub fn deadline(mut self, limit: Duration) -> Self {
            self.options.deadline = Some(limit);
            if !limit.is_zero() {
                self.options.unsupported = Some(Ability::EndRunning);
            }
            self
        }

        refused_options!();

        /// Sends the task to the worker of its key, which no pool of threads does: each call is
        /// refused with an error that [says so](TaskError::is_unsupported). What tasks keep in
        /// statics all threads find again.
        pub fn key(mut self, _key: impl Hash) -> Self {
            self.options.unsupported = Some(Ability::Key);
            self
        }
    };
}
pub(super) use options;

/// What can be asked of no task on a thread.
macro_rules! refused_options {
    () => {
        /// Has the task run again when it fails, which no pool of threads can, because the argument is
        /// moved into the call: each call is refused with an error that
        /// [says so](TaskError::is_unsupported).
        pub fn retry(mut self, _retry: impl Into<Retry>) -> Self {
            self.options.unsupported = Some(Ability::Retry);
            self
        }
    };
}
pub(super) use refused_options;

/// A call that may be queued.
pub(super) struct Admitted {
    /// Its part of the room in the queue.
    permit: Option<OwnedSemaphorePermit>,
    /// When it was asked for.
    since: Moment,
    /// Where it was asked for.
    origin: Origin,
}

impl Admitted {
    fn here(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            permit,
            since: Moment::now(),
            origin: Origin::here(),
        }
    }
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

    options!();

    /// Makes no difference: each item of a [`map`](Self::map) is a call of its own, because nothing
    /// is gained by handing over several at once where nothing is encoded.
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[track_caller]
    pub fn chunk_size(self, items: usize) -> Self {
        assert!(items > 0, "a chunk size must be greater than 0");
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
        self.submit_admitted(argument, admit(&self.driver, &self.options))
    }

    /// Queues an item of a map that was asked for there. What a map takes is bounded by its reader,
    /// and takes no room in the queue.
    pub(super) fn submit_item(&self, argument: A, origin: &Origin) -> TaskHandle<R> {
        let admitted = self.options.check().map(|()| Admitted {
            permit: None,
            since: Moment::now(),
            origin: origin.clone(),
        });
        self.submit_admitted(argument, admitted)
    }

    fn submit_admitted(&self, argument: A, admitted: Result<Admitted, TaskError>) -> TaskHandle<R> {
        let reply = Reply::of_plain_result();
        match admitted {
            Ok(admitted) => self.accept(reply, argument, admitted),
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
    /// When the queue is full, when the pool is shut down, when an option is unsupported, or when the
    /// deadline has passed.
    pub fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>> {
        match admit(&self.driver, &self.options) {
            Ok(admitted) => Ok(self.accept(Reply::of_plain_result(), argument, admitted)),
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
            let admitted = find_room(&task.driver, &task.options).await?;
            task.accept(Reply::of_plain_result(), argument, admitted)
                .abort_on_drop()
                .await
        }
    }

    fn accept(&self, reply: Arc<Reply<R>>, argument: A, admitted: Admitted) -> TaskHandle<R> {
        let work = Box::new(Moved {
            function: self.function,
            argument: Some(argument),
            result: None,
            reply: reply.clone(),
        });
        let work = Labour::Blocking(work);
        accept(&self.driver, reply, work, admitted, &self.options, None)
    }

    /// A share in the pool's being open.
    pub(super) fn stake(&self) -> Stake<Driver> {
        Stake::new(self.driver.clone())
    }

    map_verbs!("ThreadPool", ThreadMap, ThreadMapIter);

    fn map_over<S: Stream<Item = A>>(&self, items: S, ordered: bool) -> ThreadMap<S, R> {
        ThreadMap::new(self.clone(), items, self.look_ahead, ordered)
    }
}

impl<R: Send + 'static> ThreadTaskCall<R> {
    pub(super) fn new(driver: Arc<Driver>, call: Call<R>) -> Self {
        Self {
            driver,
            call,
            options: Options::default(),
        }
    }

    options!();

    /// Queues the call and returns at once. See [`ThreadPool::submit`](crate::ThreadPool::submit).
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(self) -> TaskHandle<R> {
        submit_call(&self.driver, self.call, &self.options)
    }

    /// Waits for room, then for the result. See [`ThreadPool::run`](crate::ThreadPool::run).
    ///
    /// The time spent waiting for room is not part of [`queue_timeout`](Self::queue_timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as far as [`TaskHandle::abort`] can do that here.
    pub async fn run(self) -> Result<R, TaskError> {
        let admitted = find_room(&self.driver, &self.options).await?;
        let handle = enqueue_call(&self.driver, self.call, &self.options, || Ok(admitted));
        handle.abort_on_drop().await
    }
}

impl Options {
    /// What stands against any call that is given these.
    fn check(&self) -> Result<(), TaskError> {
        if let Some(ability) = self.unsupported {
            return Err(TaskError::new(Kind::Unsupported(Unsupported(ability))));
        }
        match self.deadline {
            Some(limit) if limit.is_zero() => Err(missed(limit)),
            _ => Ok(()),
        }
    }
}

/// Queues a call that is encoded. Whatever stands against it comes through the handle.
pub(super) fn submit_call<R: Send + 'static>(
    driver: &Arc<Driver>,
    call: Call<R>,
    options: &Options,
) -> TaskHandle<R> {
    enqueue_call(driver, call, options, || admit(driver, options))
}

fn enqueue_call<R: Send + 'static>(
    driver: &Arc<Driver>,
    call: Call<R>,
    options: &Options,
    room: impl FnOnce() -> Result<Admitted, TaskError>,
) -> TaskHandle<R> {
    let Parts {
        target,
        argument,
        decode,
        ..
    } = call.into_parts();
    let reply = Reply::new(decode);
    let ready = || {
        let target = target.map_err(|error| TaskError::new(Kind::Foreign(error)))?;
        let argument = argument.map_err(|error| TaskError::new(Kind::EncodeArgument(error)))?;
        Ok((target, argument, room()?))
    };
    match ready() {
        Ok((target, argument, admitted)) => {
            let work = Box::new(Encoded {
                target,
                argument,
                result: None,
                reply: reply.clone(),
            });
            let work = Labour::Blocking(work);
            accept(driver, reply, work, admitted, options, None)
        }
        Err(error) => {
            reply.clone().resolve(Raw::Failed(error));
            TaskHandle::new(reply, None)
        }
    }
}

/// Hands a call to the driver; a refusal comes through the handle.
pub(super) fn accept<R: Send + 'static>(
    driver: &Arc<Driver>,
    reply: Arc<Reply<R>>,
    work: Labour,
    admitted: Admitted,
    options: &Options,
    listener: Option<Listener>,
) -> TaskHandle<R> {
    let trace = CallTrace::begin(&admitted.origin, options.name.as_deref(), 0);
    let job = Job {
        work,
        name: options.name.clone(),
        soft_timeout: options.soft_timeout,
        since: Moment::now(),
        asked_for: admitted.since,
        permit: admitted.permit,
        timer: None,
        deadline: None,
        timeout: options.timeout,
        listener,
        trace,
    };
    match driver.submit(job, options) {
        Some(key) => TaskHandle::new(reply, Some((driver.clone(), key))),
        None => TaskHandle::new(reply, None),
    }
}

/// Takes a part of the room in the queue, for a call of which nothing is asked that cannot be had.
pub(super) fn admit(driver: &Driver, options: &Options) -> Result<Admitted, TaskError> {
    options.check()?;
    if driver.lifetime().closed {
        return Err(shut_down());
    }
    let Some(room) = &driver.room else {
        return Ok(Admitted::here(None));
    };
    match room.clone().try_acquire_owned() {
        Ok(permit) => Ok(Admitted::here(Some(permit))),
        Err(TryAcquireError::NoPermits) => {
            let limit = driver.plan.max_pending.unwrap_or_default();
            driver
                .hub
                .note(|| PoolEvent::QueueFull { max_pending: limit });
            driver.tell();
            Err(TaskError::new(Kind::QueueFull(limit)))
        }
        Err(TryAcquireError::Closed) => Err(shut_down()),
    }
}

/// Waits for a part of the room in the queue, until the deadline at the longest.
pub(super) async fn find_room(driver: &Driver, options: &Options) -> Result<Admitted, TaskError> {
    options.check()?;
    let admitted = Admitted::here(None);
    let Some(room) = &driver.room else {
        return Ok(admitted);
    };
    let permit = room.clone().acquire_owned();
    let permit = match options.deadline {
        None => permit.await,
        Some(limit) => match select(std::pin::pin!(permit), driver.sleep(limit)).await {
            Either::Left((permit, _)) => permit,
            Either::Right(_) => return Err(missed(limit)),
        },
    };
    let permit = Some(permit.map_err(|_| shut_down())?);
    Ok(Admitted { permit, ..admitted })
}

fn missed(limit: Duration) -> TaskError {
    let started = false;
    TaskError::new(Kind::Expired { limit, started })
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

impl<R> fmt::Debug for ThreadTaskCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadTaskCall")
            .field("call", &self.call)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<A, R> fmt::Debug for ThreadTask<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadTask")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
