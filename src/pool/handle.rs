//! The caller's end of a call.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, select};

use super::error::{Kind, TaskError};
use super::holder::{Holder, JobKey, Progress};
use super::reply::{CallbackId, Reply, Stage, run_callback};
use crate::sys::blocking;

/// A submitted task: a future of its result, and the means to end it.
///
/// # Drop
///
/// Dropping a handle detaches the task, as with tokio's `JoinHandle`: it runs, and its result is
/// thrown away. [`abort_on_drop`](Self::abort_on_drop) changes that.
///
/// # Cancel safety
///
/// A handle can be polled by reference, in `select!` or under `tokio::time::timeout`; to stop
/// polling it loses nothing.
///
/// # Panics
///
/// Polling a handle again after it has given its result panics.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let square = pool.submit(|n: u64| n * n, 12);
/// let endless = pool.submit(|_: ()| loop { std::thread::park() }, ());
/// assert_eq!(square.await?, 144);
///
/// assert!(endless.abort());
/// let outcome: Result<(), _> = endless.await;
/// assert!(outcome.unwrap_err().is_aborted());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "dropping the handle detaches the task; its result and its errors are lost"]
pub struct TaskHandle<R> {
    reply: Arc<Reply<R>>,
    /// The result, once it was looked at without being taken.
    looked_at: OnceLock<Result<R, TaskError>>,
    /// Held while the result is moved there.
    looking: Mutex<()>,
    /// The pool that has the call, and its name there; `None` if it was refused.
    job: Option<(Arc<dyn Holder>, JobKey)>,
    abort_on_drop: bool,
}

impl<R: Send + 'static> TaskHandle<R> {
    pub(crate) fn new(reply: Arc<Reply<R>>, job: Option<(Arc<dyn Holder>, JobKey)>) -> Self {
        Self {
            reply,
            looked_at: OnceLock::new(),
            looking: Mutex::new(()),
            job,
            abort_on_drop: false,
        }
    }

    /// Returns the task's number in its pool, counted from one; zero if it was refused.
    pub fn id(&self) -> u64 {
        self.job.as_ref().map_or(0, |(_, key)| key.number())
    }

    /// Takes the task back if it has not been started. Returns whether the task is now cancelled.
    ///
    /// A running task is not touched; a finished one keeps its result. The answer is exact: after
    /// `true` the task has not run and never will.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let first = pool.submit(|_: ()| std::thread::sleep(std::time::Duration::from_secs(3600)), ());
    /// let second = pool.submit(|n: u64| n + 1, 1);
    /// assert!(second.cancel());
    /// assert!(second.await.unwrap_err().is_cancelled());
    /// # drop(first);
    /// # pool.terminate().await;
    /// # Ok(()) }
    /// ```
    pub fn cancel(&self) -> bool {
        if let Some((holder, key)) = &self.job {
            if holder.cancel(*key) {
                return true;
            }
        }
        self.is_cancelled()
    }

    /// Ends the task even while it runs. Returns whether the task is now cancelled.
    ///
    /// A task that has not been started is taken back. One that runs has its outcome decided here
    /// and now, this handle resolves at once, and the worker is killed and replaced (after the
    /// pool's [`abort_grace`](crate::ProcessPoolBuilder::abort_grace), in which the task can come
    /// to its end by itself). If the task was over before that, its result stands, nobody is
    /// killed, and the answer is `false`.
    ///
    /// What runs in a [`ThreadPool`](crate::ThreadPool) cannot be ended. There a running task is only
    /// [asked](crate::task::TaskContext::is_cancelled) to come to its end, the answer is `false`, and
    /// what it returns is its result; see [`Ability::EndRunning`](crate::Ability::EndRunning).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let endless = pool.submit(|_: ()| -> () { loop { std::thread::park() } }, ());
    /// assert!(endless.abort());
    /// assert!(endless.await.unwrap_err().is_aborted());
    ///
    /// let finished = pool.submit(|n: u64| n + 1, 1);
    /// while !finished.is_done() {
    ///     tokio::task::yield_now().await;
    /// }
    /// assert!(!finished.abort(), "it was too late");
    /// assert_eq!(finished.await?, 2);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn abort(&self) -> bool {
        if let Some((holder, key)) = &self.job {
            if holder.abort(*key) {
                return true;
            }
        }
        self.is_cancelled()
    }

    /// Asks the task to come to its end, without deciding how it ends. Returns whether it was asked,
    /// or cancelled.
    ///
    /// A task that has not been started is taken back, as by [`cancel`](Self::cancel). For one that
    /// runs [`is_cancelled`](crate::task::TaskContext::is_cancelled) is true from then on, and
    /// whoever waits in it for its [token](crate::task::CancellationToken) is woken. What it
    /// returns is its result; one that takes no notice just runs on. If it fails instead, it is
    /// not [run again](crate::Task::retry). To end it whether it wants to or not is
    /// [`abort`](Self::abort), now or some time after this.
    ///
    /// `false` if the task is over. As ever when a worker is asked for something, `true` may come
    /// just too late to change anything.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let count = pool.submit(
    ///     |_: ()| {
    ///         let task = procpool::task::current().expect("this runs in a worker");
    ///         (0u64..).take_while(|_| !task.is_cancelled()).count()
    ///     },
    ///     (),
    /// );
    /// while !count.is_running() {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// assert!(count.request_cancel());
    /// println!("it has come to {}", count.await?);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn request_cancel(&self) -> bool {
        if let Some((holder, key)) = &self.job {
            if holder.request(*key) {
                return true;
            }
        }
        self.is_cancelled()
    }

    /// Makes dropping this handle [abort](Self::abort) the task.
    ///
    /// Dropping it still never blocks: the worker is killed, and seen off elsewhere. A handle that
    /// has given its result has nothing left to abort.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let endless = pool.submit(|_: ()| -> () { loop { std::thread::park() } }, ()).abort_on_drop();
    /// // The handle moves into `timeout` and is dropped there when time is up.
    /// assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
    /// assert_eq!(pool.submit(|n: u64| n + 1, 1).await?, 2); // in a fresh worker
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn abort_on_drop(mut self) -> Self {
        self.abort_on_drop = true;
        self
    }

    /// Tells whether the task's outcome is decided: it returned, failed or was cancelled.
    pub fn is_done(&self) -> bool {
        self.reply.stage() != Stage::Pending
    }

    /// Tells whether a worker has started the task and its outcome is not decided.
    pub fn is_running(&self) -> bool {
        self.job.as_ref().is_some_and(|(holder, key)| {
            matches!(holder.progress(*key), Some((_, Progress::Running(_))))
        })
    }

    /// Tells whether the task was cancelled or aborted; in either case its error
    /// [says so](TaskError::is_cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// Returns the process id of the worker that runs the task, while it does. By the time it is
    /// used the worker may be gone, and its number another process's. `None` for a task of a
    /// [`ThreadPool`](crate::ThreadPool).
    pub fn worker_pid(&self) -> Option<u32> {
        let (holder, key) = self.job.as_ref()?;
        let (pid, progress) = holder.progress(*key)?;
        pid.filter(|_| progress != Progress::Waiting)
    }

    /// Returns the result if it is there, and leaves it there.
    ///
    /// `None` while the task is not done, while callbacks are looking at the result, and after the
    /// result has been taken. The first call that finds the result decodes it, on this thread.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let handle = pool.submit(|n: u64| n + 1, 1);
    /// while !handle.is_done() {
    ///     tokio::task::yield_now().await;
    /// }
    /// assert!(matches!(handle.result(), Some(Ok(2))));
    /// assert_eq!(handle.await?, 2); // it is still there
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn result(&self) -> Option<&Result<R, TaskError>> {
        self.look()
    }

    fn look(&self) -> Option<&Result<R, TaskError>> {
        if self.looked_at.get().is_none() {
            // One thread at a time: who finds the result taken must find it here.
            let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = self.reply.try_take() {
                let _ = self.looked_at.set(result);
            }
        }
        self.looked_at.get()
    }

    /// Has `callback` called with the result, exactly once, before whoever awaits this handle is
    /// woken.
    ///
    /// Callbacks run in the order in which they were registered, on a thread of the crate's own;
    /// they may block (other callbacks wait then) and may submit. Registered after the task is
    /// done, a callback runs at once, on this thread. A panic in one goes to the panic hook, is
    /// logged as a `tracing` event and hurts nobody. They run also if the handle is dropped.
    ///
    /// Because one thread runs them all, a callback must not wait for a task that has callbacks
    /// itself: those would have to run first, and wait for this one.
    ///
    /// What is returned names the callback, to [take it back](Self::remove_done_callback).
    ///
    /// # Panics
    ///
    /// When the result has already been taken out of this handle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let handle = pool.submit(|n: u64| n + 1, 41);
    /// handle.add_done_callback(move |result| {
    ///     let _ = tell.send(result.as_ref().ok().copied());
    /// });
    /// assert_eq!(handle.await?, 42);
    /// assert_eq!(told.recv()?, Some(42));
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn add_done_callback(
        &self,
        callback: impl FnOnce(&Result<R, TaskError>) + Send + 'static,
    ) -> CallbackId {
        let (id, late) = self.reply.register(Box::new(callback));
        if let Some(callback) = late {
            let result = self
                .look()
                .expect("callback registered after the result was taken");
            run_callback(callback, result);
        }
        id
    }

    /// Takes a callback back. False if it has run or is running, or was taken back before. See
    /// [`CallbackId`].
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        self.reply.unregister(id)
    }

    /// Waits for the result, but not longer than `limit`; the task is not touched. Needs no runtime:
    /// the crate's own clock is used.
    ///
    /// To end the task itself use [`Task::timeout`](crate::Task::timeout).
    ///
    /// # Errors
    ///
    /// When time is up the error [says so](TaskError::is_elapsed), and the handle can be waited for
    /// again. Any other error is the task's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future loses nothing, and the handle can be waited for again.
    ///
    /// # Panics
    ///
    /// When the result was taken before.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let mut handle = pool.submit(|millis| std::thread::sleep(Duration::from_millis(millis)), 300);
    /// let early = handle.timeout(Duration::from_millis(1)).await;
    /// assert!(early.unwrap_err().is_elapsed());
    /// handle.await?; // the task went on
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub async fn timeout(&mut self, limit: Duration) -> Result<R, TaskError> {
        // The clock is another thread's: what is there already is not timed.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut *self).poll(context))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        let Some((holder, _)) = &self.job else {
            // It was refused, so the result is there.
            return self.await;
        };
        let asleep = holder.sleep(limit);
        match select(self, asleep).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(TaskError::new(Kind::Elapsed(limit))),
        }
    }

    /// Waits for the result on a thread that may be blocked; for `limit`, or as long as it takes.
    ///
    /// Works with and without a runtime: where nobody drives the runtime that the pool belongs to,
    /// the crate's own thread takes over. In async code it blocks the thread, as everything of its
    /// kind: await the handle there.
    ///
    /// # Errors
    ///
    /// When time is up the error [says so](TaskError::is_elapsed), and the handle can be waited for
    /// again. Any other error is the task's.
    ///
    /// # Panics
    ///
    /// When the result was taken before.
    ///
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = procpool::ProcessPool::builder().workers(1).build()?;
    ///     assert_eq!(pool.submit(|n: u64| n + 1, 41).blocking_wait(None)?, 42);
    ///     Ok(())
    /// }
    /// ```
    #[track_caller]
    pub fn blocking_wait(&mut self, limit: Option<Duration>) -> Result<R, TaskError> {
        let holder = self.job.as_ref().map(|(holder, _)| holder.clone());
        let help = || holder.iter().for_each(|holder| holder.help());
        match (
            blocking::wait(limit, |context| self.poll_blocked(context), help),
            limit,
        ) {
            (None, Some(limit)) => Err(TaskError::new(Kind::Elapsed(limit))),
            (result, _) => result.expect("without a limit it waits for the result"),
        }
    }

    /// Looks for the answer, if that is what is best; `true` if whoever awaits it is not to sleep.
    fn look_awake(&self) -> bool {
        let lone = |(holder, key): &&(Arc<dyn Holder>, JobKey)| holder.is_lone(*key);
        let Some((holder, key)) = self.job.as_ref().filter(lone) else {
            return false;
        };
        self.reply.forget_waker();
        holder.look(*key)
    }

    /// Polls on a thread that nobody else needs meanwhile.
    #[track_caller]
    fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<Result<R, TaskError>> {
        let awake = self.look_awake();
        let polled = self.poll_result(context);
        if awake && polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    }

    #[track_caller]
    fn poll_result(&mut self, context: &mut Context<'_>) -> Poll<Result<R, TaskError>> {
        if let Some(result) = self.looked_at.take() {
            return Poll::Ready(result);
        }
        match self.reply.poll_take(context) {
            Poll::Ready(Some(result)) => Poll::Ready(result),
            Poll::Ready(None) => panic!("task handle polled after it had given its result"),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<R> TaskHandle<R> {
    /// Takes the task back if it has not been started, or also ends it; whatever comes of that.
    pub(crate) fn give_up(&self, end: bool) {
        if let Some((holder, key)) = &self.job {
            match end {
                false => holder.cancel(*key),
                true => holder.abort(*key),
            };
        }
    }
}

impl<R: Send + 'static> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let awake = self.look_awake();
        let polled = self.poll_result(context);
        if polled.is_pending() {
            if let Some((holder, _)) = &self.job {
                holder.awaited_here();
            }
            if awake {
                // All others of the runtime have a turn before the next look. Should it be lost,
                // as by an executor of another make, the answer comes through the pipe.
                let _ = pin!(tokio::task::yield_now()).poll(context);
            }
        }
        polled
    }
}

// Nothing in a handle is pinned: the result is moved out.
impl<R> Unpin for TaskHandle<R> {}

impl<R> Drop for TaskHandle<R> {
    fn drop(&mut self) {
        if let Some((holder, key)) = self.job.as_ref().filter(|_| self.abort_on_drop) {
            holder.abort(*key);
        }
    }
}

impl<R> fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = std::any::type_name::<R>();
        let state = match self.looked_at.get() {
            Some(Ok(_)) => format!("finished with a value of type {name}"),
            Some(Err(error)) if error.is_cancelled() => String::from("cancelled"),
            Some(Err(_)) => String::from("finished with an error of type TaskError"),
            None => self.reply.describe(name, || {
                let (holder, key) = self.job.as_ref()?;
                Some(matches!(holder.progress(*key)?.1, Progress::Running(_)))
            }),
        };
        let id = self.job.as_ref().map_or(0, |(_, key)| key.number());
        f.debug_struct("TaskHandle")
            .field("id", &id)
            .field("state", &state)
            .finish()
    }
}
