//! A function in a pool as a [`tower_service::Service`], to be put behind tower's layers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

use crate::pool::error::TaskError;
use crate::pool::handle::TaskHandle;
use crate::pool::task::Task;

/// A [`Task`] as a service: each request is its argument, each response its result.
///
/// `poll_ready` is the room in the pool's queue: it waits while
/// [`max_pending`](crate::ProcessPoolBuilder::max_pending) tasks wait, and fails when the pool is
/// shut down or broken. Dropping a response future ends the task, so that a timeout or a client
/// that goes away ends the work.
///
/// A clone is ready for itself: it takes its own room.
///
/// ```
/// use procpool::{ProcessPool, TaskService};
/// use tower::{Service, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder().workers(1).max_pending(10).build()?;
/// let mut double = TaskService::new(pool.task(|n: u64| n * 2));
/// assert_eq!(double.ready().await?.call(21).await?, 42);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct TaskService<A, R> {
    task: Task<A, R>,
    room: Option<PollSemaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

/// The response of a [`TaskService`]. Dropped, it aborts the task.
#[must_use = "futures do nothing unless polled"]
pub struct TaskResponse<R>(TaskHandle<R>);

impl<A, R> TaskService<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Makes a service of a task and its options.
    pub fn new(task: Task<A, R>) -> Self {
        let room = task.room().map(PollSemaphore::new);
        Self {
            task,
            room,
            permit: None,
        }
    }
}

impl<A, R> Service<A> for TaskService<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Response = R;
    type Error = TaskError;
    type Future = TaskResponse<R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        if self.permit.is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Some(refusal) = self.task.refusal() {
            return Poll::Ready(Err(refusal));
        }
        if let Some(room) = &mut self.room {
            self.permit = ready!(room.poll_acquire(context));
            if let (None, Some(refusal)) = (&self.permit, self.task.refusal()) {
                return Poll::Ready(Err(refusal));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    ///
    /// When the service was not ready.
    fn call(&mut self, argument: A) -> TaskResponse<R> {
        let permit = self.permit.take();
        assert!(
            permit.is_some() == self.room.is_some(),
            "a service must be ready before it is called"
        );
        TaskResponse(self.task.submit_admitted(argument, permit).abort_on_drop())
    }
}

impl<A, R> Clone for TaskService<A, R> {
    fn clone(&self) -> Self {
        Self {
            task: self.task.clone(),
            room: self.room.clone(),
            permit: None,
        }
    }
}

impl<A, R> fmt::Debug for TaskService<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskService")
            .field("task", &self.task)
            .field("has_room", &self.permit.is_some())
            .finish_non_exhaustive()
    }
}

impl<R: Send + 'static> Future for TaskResponse<R> {
    type Output = Result<R, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<R> fmt::Debug for TaskResponse<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskResponse").field(&self.0).finish()
    }
}
