//! One call's options, and the one way into the pool that all calls take.

pub(crate) mod async_progress;
mod async_task;
pub(crate) mod maps;
pub(crate) mod options;
pub(crate) mod progress;

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::{self, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::builder::bounded;
use super::driver::Driver;
use super::driver::rooms::AsyncHolder;
use super::error::{ARGUMENT, Kind, TaskError, TrySubmitError};
use super::events::PoolEvent;
use super::handle::TaskHandle;
use super::holder::Holder;
use super::job::{Client, Deadline, Job};
use super::map::{Manner, Map, MapIter};
use super::reply::{Answer, Raw, Reply};
use super::scheduler::Retry;
use super::trace::Origin;
use super::updates::Listener;
use crate::sys::clock::Moment;
use crate::task::call::{Call, Parts};
use crate::wire::page::ITEMS;

pub use self::async_task::AsyncTask;
use self::maps::map_verbs;
pub(super) use self::options::Options;
use self::options::{key_option, options, short_name, waiting_options};

/// A function with options for its calls. Got from [`ProcessPool::task`](crate::ProcessPool::task).
///
/// ```
/// use std::time::Duration;
/// use procpool::ProcessPool;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder().workers(1).build()?;
/// let endless = pool
///     .task(|_: ()| loop { std::thread::park() })
///     .timeout(Duration::from_millis(50))
///     .name("endless")
///     .submit(());
/// let outcome: Result<(), _> = endless.await;
/// assert!(outcome.unwrap_err().is_timeout());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct Task<A, R> {
    driver: Arc<Driver>,
    function: fn(A) -> R,
    options: Options,
    manner: Manner,
}

/// A call with options. Got from [`ProcessPool::task_call`](crate::ProcessPool::task_call).
///
/// ```
/// use std::time::Duration;
/// use procpool::call;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// fn area(width: u32, height: u32) -> u64 {
///     u64::from(width) * u64::from(height)
/// }
///
/// let area = pool.task_call(call!(area(6, 7))).timeout(Duration::from_secs(5));
/// assert_eq!(area.run().await?, 42);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task does nothing until it is submitted"]
pub struct TaskCall<R> {
    driver: Arc<Driver>,
    call: Call<R>,
    options: Options,
}

impl<A, R> Task<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(super) fn new(driver: Arc<Driver>, function: fn(A) -> R) -> Self {
        Self {
            driver,
            function,
            options: Options::default(),
            manner: Manner::default(),
        }
    }

    options!();
    key_option!();

    /// Queues one call and returns at once. See [`ProcessPool::submit`](crate::ProcessPool::submit).
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(&self, argument: A) -> TaskHandle<R> {
        let call = Call::of1(self.function, &argument);
        // What is encoded is all that is kept of the argument.
        drop(argument);
        submit(&self.driver, call, &self.options, None)
    }

    /// Queues one call that has its part of the room already.
    #[cfg(feature = "tower")]
    pub(crate) fn submit_admitted(
        &self,
        argument: A,
        permit: Option<OwnedSemaphorePermit>,
    ) -> TaskHandle<R> {
        let call = Call::of1(self.function, &argument);
        drop(argument);
        let (reply, job) = prepare(&self.driver, call, &self.options, None);
        accept(&self.driver, reply, job.map(|job| job.admitted(permit)))
    }

    /// The room in the queue, where that is bounded.
    #[cfg(feature = "tower")]
    pub(crate) fn room(&self) -> Option<Arc<Semaphore>> {
        self.driver.room.clone()
    }

    /// Why the pool takes nothing new, if that is so.
    #[cfg(feature = "tower")]
    pub(crate) fn refusal(&self) -> Option<TaskError> {
        self.driver.refusal()
    }

    /// Queues one call, or hands the argument back. See
    /// [`ProcessPool::try_submit`](crate::ProcessPool::try_submit).
    ///
    /// # Errors
    ///
    /// When the queue is full, when the pool is shut down or broken, when the argument cannot be
    /// encoded or is too large, or when the deadline has passed.
    pub fn try_submit(&self, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>> {
        let call = Call::of1(self.function, &argument);
        try_submit(&self.driver, call, &self.options, None)
            .map_err(|error| TrySubmitError { error, argument })
    }

    /// Waits for room, then for the result. See [`ProcessPool::run`](crate::ProcessPool::run).
    ///
    /// The time spent waiting for room is no part of [`queue_timeout`](Self::queue_timeout), and is
    /// part of [`deadline`](Self::deadline).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does.
    pub fn run(
        &self,
        argument: A,
    ) -> impl Future<Output = Result<R, TaskError>> + Send + use<A, R> {
        // Encoded here and now: the argument need not be able to move between threads.
        let call = Call::of1(self.function, &argument);
        drop(argument);
        run(self.driver.clone(), call, self.options.clone(), None)
    }
}

/// Over many items.
impl<A, R> Task<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    /// Sets how many items [`map`](Self::map) and its relatives hand over at once. Default: as
    /// many as take about half a millisecond, found out while they run, at first one.
    ///
    /// # Panics
    ///
    /// When it is zero.
    pub fn chunk_size(mut self, items: usize) -> Self {
        assert!(items > 0, "a chunk size must be greater than 0");
        self.manner.chunk_size = Some(items.min(ITEMS as usize));
        self
    }

    /// Sets how many items [`map`](Self::map) and its relatives take ahead of the reader. Default:
    /// 1,024.
    ///
    /// # Panics
    ///
    /// When it is zero.
    pub fn look_ahead(mut self, items: usize) -> Self {
        assert!(items > 0, "a look-ahead must be greater than 0");
        self.manner.look_ahead = items;
        self
    }

    map_verbs!("ProcessPool", Map, MapIter);

    fn map_over<S: Stream<Item = A>>(&self, items: S, ordered: bool) -> Map<S, R> {
        let options = self.options.clone();
        Map::new(
            &self.driver,
            self.function,
            items,
            options,
            self.manner,
            ordered,
        )
    }
}

impl<R: Send + 'static> TaskCall<R> {
    pub(super) fn new(driver: Arc<Driver>, call: Call<R>) -> Self {
        Self {
            driver,
            call,
            options: Options::default(),
        }
    }

    options!();
    key_option!();

    /// Queues the call and returns at once. See [`ProcessPool::submit`](crate::ProcessPool::submit).
    ///
    /// Dropping the handle detaches the task.
    pub fn submit(self) -> TaskHandle<R> {
        submit(&self.driver, self.call, &self.options, None)
    }

    /// Waits for room, then for the result. See [`ProcessPool::run`](crate::ProcessPool::run).
    ///
    /// The time spent waiting for room is no part of [`queue_timeout`](Self::queue_timeout), and is
    /// part of [`deadline`](Self::deadline).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the task, as [`TaskHandle::abort`] does.
    pub async fn run(self) -> Result<R, TaskError> {
        run(self.driver, self.call, self.options, None).await
    }
}

/// Queues a call; `listener` hears what it says while it runs. Whatever stands against it comes through
/// the handle.
pub(super) fn submit<R: Send + 'static>(
    driver: &Arc<Driver>,
    call: Call<R>,
    options: &Options,
    listener: Option<Listener>,
) -> TaskHandle<R> {
    let (reply, job) = prepare(driver, call, options, listener);
    let job = job.and_then(|job| admit(driver).map(|permit| job.admitted(permit)));
    accept(driver, reply, job)
}

/// Queues a call, or says what stands against it.
fn try_submit<R: Send + 'static>(
    driver: &Arc<Driver>,
    call: Call<R>,
    options: &Options,
    listener: Option<Listener>,
) -> Result<TaskHandle<R>, TaskError> {
    let (reply, job) = prepare(driver, call, options, listener);
    let job = job?;
    let permit = admit(driver)?;
    try_accept(driver, reply, job.admitted(permit))
}

/// Waits for room, queues the call and waits for its result; dropped, it aborts the call.
async fn run<R: Send + 'static>(
    driver: Arc<Driver>,
    call: Call<R>,
    options: Options,
    listener: Option<Listener>,
) -> Result<R, TaskError> {
    let (reply, job) = prepare(&driver, call, &options, listener);
    let job = job?;
    let permit = match &driver.room {
        None => None,
        Some(room) => Some(find_room(&driver, room.clone(), job.terms().deadline).await?),
    };
    let handle = try_accept(&driver, reply, job.admitted(permit))?;
    handle.abort_on_drop().await
}

/// Makes a job of a call, or says what stands against it; and the place for the answer.
fn prepare<R: Send + 'static>(
    driver: &Driver,
    call: Call<R>,
    options: &Options,
    listener: Option<Listener>,
) -> (Arc<Reply<R>>, Result<Job, TaskError>) {
    let Parts {
        target,
        argument,
        decode,
        is_async,
    } = call.into_parts();
    let reply = Reply::new(decode);
    let job = || {
        let target = target.map_err(|error| TaskError::new(Kind::Foreign(error)))?;
        let argument = argument.map_err(|error| TaskError::new(Kind::EncodeArgument(error)))?;
        let limit = driver.plan.recipe.max_frame;
        let size = argument.size();
        if size > limit {
            return Err(TaskError::new(Kind::TooLarge {
                what: ARGUMENT,
                size,
                limit,
            }));
        }
        let deadline = options.deadline.map(Deadline::after);
        if let Some(passed) = deadline.filter(|deadline| deadline.limit.is_zero()) {
            return Err(passed.missed());
        }
        let client = Client::Call(reply.clone());
        let origin = Origin::here();
        let mut job = options.job(driver, &origin, target, argument, deadline, client);
        job.is_async = is_async;
        if listener.is_some() {
            job.terms_mut().listener = listener;
        }
        Ok(job)
    };
    let job = job();
    (reply, job)
}

/// Takes a part of the room in the queue.
fn admit(driver: &Driver) -> Result<Option<OwnedSemaphorePermit>, TaskError> {
    let Some(room) = &driver.room else {
        return Ok(None);
    };
    match room.clone().try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(TryAcquireError::NoPermits) => {
            let limit = driver.plan.max_pending.unwrap_or_default();
            driver
                .hub
                .note(|| PoolEvent::QueueFull { max_pending: limit });
            driver.hub.tell();
            Err(TaskError::new(Kind::QueueFull(limit)))
        }
        Err(TryAcquireError::Closed) => Err(refused(driver)),
    }
}

/// Waits for a part of the room in the queue.
async fn find_room(
    driver: &Driver,
    room: Arc<Semaphore>,
    deadline: Option<Deadline>,
) -> Result<OwnedSemaphorePermit, TaskError> {
    let permit = room.acquire_owned();
    let permit = match deadline {
        None => permit.await,
        Some(deadline) => {
            let late = driver.sleep(Moment::now().until(deadline.at));
            match select(std::pin::pin!(permit), late).await {
                Either::Left((permit, _)) => permit,
                Either::Right(_) => return Err(deadline.missed()),
            }
        }
    };
    permit.map_err(|_| refused(driver))
}

fn refused(driver: &Driver) -> TaskError {
    driver
        .refusal()
        .unwrap_or_else(|| TaskError::new(Kind::ShutDown { started: false }))
}

/// Hands a job to the driver; a refusal comes through the handle.
fn accept<R: Send + 'static>(
    driver: &Arc<Driver>,
    reply: Arc<Reply<R>>,
    job: Result<Job, TaskError>,
) -> TaskHandle<R> {
    let accepted = job.and_then(|job| try_accept(driver, reply.clone(), job));
    accepted.unwrap_or_else(|error| {
        reply.clone().resolve(Raw::Failed(error));
        TaskHandle::new(reply, None)
    })
}

/// Hands a job to the driver, or says why that refuses it.
fn try_accept<R: Send + 'static>(
    driver: &Arc<Driver>,
    reply: Arc<Reply<R>>,
    job: Job,
) -> Result<TaskHandle<R>, TaskError> {
    let holder: Arc<dyn Holder> = match job.is_async {
        true => Arc::new(AsyncHolder(driver.clone())),
        false => driver.clone(),
    };
    let key = driver.submit(job)?;
    Ok(TaskHandle::new(reply, Some((holder, key))))
}

impl<A, R> Clone for Task<A, R> {
    fn clone(&self) -> Self {
        Self {
            driver: self.driver.clone(),
            function: self.function,
            options: self.options.clone(),
            manner: self.manner,
        }
    }
}

impl<A, R> fmt::Debug for Task<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for TaskCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskCall")
            .field("call", &self.call)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
