//! What both kinds of pool do, as a trait: code that is generic over it runs on either. Calls with
//! options are in [`task`], [`task_call`], [`async_task`] and [`progress`].

mod async_task;
mod progress;
mod task;
mod task_call;

use std::fmt;
use std::future::Future;

use futures::stream::{self, FusedStream, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pool::ProcessPool;
use crate::pool::error::{Ability, NotClosed, ResizeError, TaskError, TrySubmitError, Unsupported};
use crate::pool::events::Events;
use crate::pool::handle::TaskHandle;
use crate::pool::map::Map;
use crate::pool::shutdown::ShutdownOptions;
use crate::pool::stats::Stats;
use crate::pool::task::async_progress::AsyncProgressTask;
use crate::pool::task::progress::ProgressTask;
use crate::pool::task::{AsyncTask, Task, TaskCall};
use crate::pool::updates::Updates;
use crate::process::StartError;
use crate::task::{Call, Progress};
use crate::thread_pool::ThreadPool;
use crate::thread_pool::async_progress::ThreadAsyncProgressTask;
use crate::thread_pool::async_task::ThreadAsyncTask;
use crate::thread_pool::map::ThreadMap;
use crate::thread_pool::progress::ThreadProgressTask;
use crate::thread_pool::task::{ThreadTask, ThreadTaskCall};

/// Options of a task, as the methods of those names that the type has itself.
macro_rules! options {
    ($task:ident: $($option:ident($value:ident: $type:ty)),+ $(,)?) => {$(
        fn $option(self, $value: $type) -> Self {
            $task::$option(self, $value)
        }
    )+};
}
use options;

pub use self::async_task::ExecutorAsyncTask;
pub use self::progress::ExecutorProgressTask;
pub use self::task::ExecutorTask;
pub use self::task_call::ExecutorTaskCall;

/// An argument or a result that can go to any executor: it can be encoded, and it can be moved to
/// another thread.
///
/// Every type that can is one.
pub trait Portable: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for T {}

/// Something that runs calls: a [`ProcessPool`] or a [`ThreadPool`].
///
/// A library that works with either leaves the choice to its user. The methods are those of the
/// pools, where they are described; what a pool cannot do it says by [`Unsupported`], before it is
/// needed ([`require`](Self::require)) or when it is asked for.
///
/// ```
/// use futures::TryStreamExt;
/// use procpool::{Executor, ProcessPool, TaskError, ThreadPool};
///
/// async fn sum_of_squares(executor: &impl Executor, numbers: Vec<u64>) -> Result<u64, TaskError> {
///     let squares = executor.map_unordered(|n: u64| n * n, numbers);
///     squares.try_fold(0, async |sum, square| Ok(sum + square)).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let threads = ThreadPool::builder().workers(2).build()?;
/// let processes = ProcessPool::builder().workers(2).build()?;
/// assert_eq!(sum_of_squares(&threads, vec![1, 2, 3]).await?, 14);
/// assert_eq!(sum_of_squares(&processes, vec![1, 2, 3]).await?, 14);
/// # processes.shutdown().await;
/// # Ok(()) }
/// ```
///
/// It is sealed, so that it can grow.
pub trait Executor: Clone + fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// The results of one function over a stream of items.
    type Map<S, R>: FusedStream<Item = Result<R, TaskError>> + Send + Unpin
    where
        S: Stream<Item: Portable> + Send + Unpin,
        R: Portable;

    /// A function with options for its calls.
    type Task<A: Portable, R: Portable>: ExecutorTask<A, R>;

    /// One call with options.
    type TaskCall<R: Portable>: ExecutorTaskCall<R>;

    /// An `async fn` with options for its calls.
    type AsyncTask<A: Portable, Fut: Future<Output: Portable> + 'static>: ExecutorAsyncTask<A, Fut::Output>;

    /// A function that says how far it has come, with options for its calls.
    type ProgressTask<A: Portable, P: Portable, R: Portable>: ExecutorProgressTask<A, P, R>;

    /// An `async fn` that says how far it has come, with options for its calls.
    type AsyncProgressTask<A: Portable, P: Portable, Fut: Future<Output: Portable> + 'static>: ExecutorProgressTask<A, P, Fut::Output>;

    /// Fails if the executor is unable to do this.
    ///
    /// # Errors
    ///
    /// A [`ThreadPool`] has none of the [abilities](Ability) (async tasks it can end). A pool that runs
    /// calls [inline](crate::ProcessPoolBuilder::inline) can neither end nor isolate them; any other
    /// [`ProcessPool`] has them all.
    fn require(&self, ability: Ability) -> Result<(), Unsupported>;

    /// Queues a call and returns at once. See [`ProcessPool::submit`].
    fn submit<A, R>(&self, function: fn(A) -> R, argument: A) -> TaskHandle<R>
    where
        A: Portable,
        R: Portable;

    /// Queues a call that [`call!`](crate::call) has made, and returns at once. See
    /// [`ProcessPool::submit_call`].
    fn submit_call<R: Portable>(&self, call: Call<R>) -> TaskHandle<R>;

    /// Queues a call if there is room in the queue. See [`ProcessPool::try_submit`].
    ///
    /// # Errors
    ///
    /// With the argument, when the call is not accepted.
    fn try_submit<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Portable,
        R: Portable;

    /// Waits for room in the queue, then for the result; dropping the future ends the work as far
    /// as that can be done. See [`ProcessPool::run`] and [`ThreadPool::run`].
    fn run<A, R>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> impl Future<Output = Result<R, TaskError>> + Send
    where
        A: Portable,
        R: Portable;

    /// Returns a task: a function whose calls can be given options. See [`ProcessPool::task`].
    fn task<A: Portable, R: Portable>(&self, function: fn(A) -> R) -> Self::Task<A, R>;

    /// Returns a task of a call that [`call!`](crate::call) has made, to be given options. See
    /// [`ProcessPool::task_call`].
    fn task_call<R: Portable>(&self, call: Call<R>) -> Self::TaskCall<R>;

    /// Queues a call of an `async fn` and returns at once. See [`ProcessPool::submit_async`].
    fn submit_async<A, Fut>(&self, function: fn(A) -> Fut, argument: A) -> TaskHandle<Fut::Output>
    where
        A: Portable,
        Fut: Future<Output: Portable> + 'static;

    /// Returns a task of an `async fn`, whose calls can be given options. See
    /// [`ProcessPool::task_async`].
    fn task_async<A, Fut>(&self, function: fn(A) -> Fut) -> Self::AsyncTask<A, Fut>
    where
        A: Portable,
        Fut: Future<Output: Portable> + 'static;

    /// Queues a call of a function that says how far it has come, and returns at once. See
    /// [`ProcessPool::submit_with_progress`].
    fn submit_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
        argument: A,
    ) -> (TaskHandle<R>, Updates<P>)
    where
        A: Portable,
        P: Portable,
        R: Portable;

    /// Returns a task of a function that says how far it has come, whose calls can be given options.
    fn task_with_progress<A, P, R>(
        &self,
        function: fn(A, Progress<P>) -> R,
    ) -> Self::ProgressTask<A, P, R>
    where
        A: Portable,
        P: Portable,
        R: Portable;

    /// Returns a task of an `async fn` that says how far it has come, whose calls can be given
    /// options. Every executor can end such tasks.
    fn task_async_with_progress<A, P, Fut>(
        &self,
        function: fn(A, Progress<P>) -> Fut,
    ) -> Self::AsyncProgressTask<A, P, Fut>
    where
        A: Portable,
        P: Portable,
        Fut: Future<Output: Portable> + 'static;

    /// Runs a function over many items, results in the order of the items. See
    /// [`ProcessPool::map`].
    fn map<A, R, I>(
        &self,
        function: fn(A) -> R,
        items: I,
    ) -> Self::Map<stream::Iter<I::IntoIter>, R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A, IntoIter: Send>;

    /// Runs a function over many items, results in the order in which they are ready. See
    /// [`ProcessPool::map_unordered`].
    fn map_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        items: I,
    ) -> Self::Map<stream::Iter<I::IntoIter>, R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A, IntoIter: Send>;

    /// Runs a function over a stream of items, results in the order of the items. See
    /// [`ProcessPool::map_stream`].
    fn map_stream<A, R, S>(&self, function: fn(A) -> R, items: S) -> Self::Map<S, R>
    where
        A: Portable,
        R: Portable,
        S: Stream<Item = A> + Send + Unpin;

    /// Starts all workers and waits until they are ready. See [`ProcessPool::ready`].
    ///
    /// # Errors
    ///
    /// When one cannot be started, or when the executor is shut down.
    fn ready(&self) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Returns what happens from now on, as a stream. See [`ProcessPool::events`].
    fn events(&self) -> Events;

    /// Takes no new work; what was accepted is finished. See [`ProcessPool::close`].
    fn close(&self);

    /// Waits for the end of a closed executor. See [`ProcessPool::join`].
    ///
    /// # Errors
    ///
    /// At once, when it has not been closed.
    fn join(&self) -> impl Future<Output = Result<(), NotClosed>> + Send;

    /// Takes no new work, and waits for all that was accepted. See [`ProcessPool::shutdown`].
    fn shutdown(&self) -> impl Future<Output = ()> + Send;

    /// Takes no new work, cancels what has not been started, and waits for what runs. See
    /// [`ProcessPool::shutdown_now`].
    fn shutdown_now(&self) -> impl Future<Output = ()> + Send;

    /// Shuts down in the way that the options say. See [`ProcessPool::shutdown_with`].
    ///
    /// # Errors
    ///
    /// When a limit has passed, and what runs [cannot be ended](Ability::EndRunning).
    fn shutdown_with(
        &self,
        options: ShutdownOptions,
    ) -> impl Future<Output = Result<(), Unsupported>> + Send;

    /// Ends everything. See [`ProcessPool::terminate`] and [`ThreadPool::terminate`].
    ///
    /// # Errors
    ///
    /// When something runs that [cannot be ended](Ability::EndRunning).
    fn terminate(&self) -> impl Future<Output = Result<(), Unsupported>> + Send;

    /// Tells whether no more work is taken.
    fn is_closed(&self) -> bool;

    /// Returns how many workers there may be.
    fn workers(&self) -> usize;

    /// Changes how many workers there may be. See [`ProcessPool::resize`].
    ///
    /// # Errors
    ///
    /// When it is zero, or more than 65,536, or when no more work is taken. Nothing is changed then.
    fn resize(&self, workers: usize) -> Result<(), ResizeError>;

    /// Returns a snapshot of what it does and has done.
    fn stats(&self) -> Stats;
}

mod sealed {
    /// Implemented by the crate's own executors and their tasks alone.
    pub trait Sealed {}

    impl Sealed for super::ProcessPool {}
    impl Sealed for super::ThreadPool {}
    impl<A, R> Sealed for super::Task<A, R> {}
    impl<A, R> Sealed for super::ThreadTask<A, R> {}
    impl<R> Sealed for super::TaskCall<R> {}
    impl<R> Sealed for super::ThreadTaskCall<R> {}
    impl<A, Fut> Sealed for super::AsyncTask<A, Fut> {}
    impl<A, Fut> Sealed for super::ThreadAsyncTask<A, Fut> {}
    impl<A, P, R> Sealed for super::ProgressTask<A, P, R> {}
    impl<A, P, R> Sealed for super::ThreadProgressTask<A, P, R> {}
    impl<A, P, Fut> Sealed for super::AsyncProgressTask<A, P, Fut> {}
    impl<A, P, Fut> Sealed for super::ThreadAsyncProgressTask<A, P, Fut> {}
}

/// The methods that both pools have under the same name and with the same signature.
macro_rules! shared {
    ($pool:ident) => {
        fn submit<A, R>(&self, function: fn(A) -> R, argument: A) -> TaskHandle<R>
        where
            A: Portable,
            R: Portable,
        {
            $pool::submit(self, function, argument)
        }

        fn submit_call<R: Portable>(&self, call: Call<R>) -> TaskHandle<R> {
            $pool::submit_call(self, call)
        }

        fn try_submit<A, R>(
            &self,
            function: fn(A) -> R,
            argument: A,
        ) -> Result<TaskHandle<R>, TrySubmitError<A>>
        where
            A: Portable,
            R: Portable,
        {
            $pool::try_submit(self, function, argument)
        }

        fn run<A, R>(
            &self,
            function: fn(A) -> R,
            argument: A,
        ) -> impl Future<Output = Result<R, TaskError>> + Send
        where
            A: Portable,
            R: Portable,
        {
            $pool::run(self, function, argument)
        }

        fn task<A: Portable, R: Portable>(&self, function: fn(A) -> R) -> Self::Task<A, R> {
            $pool::task(self, function)
        }

        fn task_call<R: Portable>(&self, call: Call<R>) -> Self::TaskCall<R> {
            $pool::task_call(self, call)
        }

        fn submit_async<A, Fut>(
            &self,
            function: fn(A) -> Fut,
            argument: A,
        ) -> TaskHandle<Fut::Output>
        where
            A: Portable,
            Fut: Future<Output: Portable> + 'static,
        {
            $pool::submit_async(self, function, argument)
        }

        fn task_async<A, Fut>(&self, function: fn(A) -> Fut) -> Self::AsyncTask<A, Fut>
        where
            A: Portable,
            Fut: Future<Output: Portable> + 'static,
        {
            $pool::task_async(self, function)
        }

        fn submit_with_progress<A, P, R>(
            &self,
            function: fn(A, Progress<P>) -> R,
            argument: A,
        ) -> (TaskHandle<R>, Updates<P>)
        where
            A: Portable,
            P: Portable,
            R: Portable,
        {
            $pool::submit_with_progress(self, function, argument)
        }

        fn task_with_progress<A, P, R>(
            &self,
            function: fn(A, Progress<P>) -> R,
        ) -> Self::ProgressTask<A, P, R>
        where
            A: Portable,
            P: Portable,
            R: Portable,
        {
            $pool::task_with_progress(self, function)
        }

        fn task_async_with_progress<A, P, Fut>(
            &self,
            function: fn(A, Progress<P>) -> Fut,
        ) -> Self::AsyncProgressTask<A, P, Fut>
        where
            A: Portable,
            P: Portable,
            Fut: Future<Output: Portable> + 'static,
        {
            $pool::task_async_with_progress(self, function)
        }

        fn map<A, R, I>(
            &self,
            function: fn(A) -> R,
            items: I,
        ) -> Self::Map<stream::Iter<I::IntoIter>, R>
        where
            A: Portable,
            R: Portable,
            I: IntoIterator<Item = A, IntoIter: Send>,
        {
            $pool::map(self, function, items)
        }

        fn map_unordered<A, R, I>(
            &self,
            function: fn(A) -> R,
            items: I,
        ) -> Self::Map<stream::Iter<I::IntoIter>, R>
        where
            A: Portable,
            R: Portable,
            I: IntoIterator<Item = A, IntoIter: Send>,
        {
            $pool::map_unordered(self, function, items)
        }

        fn map_stream<A, R, S>(&self, function: fn(A) -> R, items: S) -> Self::Map<S, R>
        where
            A: Portable,
            R: Portable,
            S: Stream<Item = A> + Send + Unpin,
        {
            $pool::map_stream(self, function, items)
        }

        async fn ready(&self) -> Result<(), StartError> {
            $pool::ready(self).await
        }

        fn events(&self) -> Events {
            $pool::events(self)
        }

        fn close(&self) {
            $pool::close(self);
        }

        async fn join(&self) -> Result<(), NotClosed> {
            $pool::join(self).await
        }

        async fn shutdown(&self) {
            $pool::shutdown(self).await;
        }

        async fn shutdown_now(&self) {
            $pool::shutdown_now(self).await;
        }

        fn is_closed(&self) -> bool {
            $pool::is_closed(self)
        }

        fn workers(&self) -> usize {
            $pool::workers(self)
        }

        fn resize(&self, workers: usize) -> Result<(), ResizeError> {
            $pool::resize(self, workers)
        }

        fn stats(&self) -> Stats {
            $pool::stats(self)
        }
    };
}

impl Executor for ProcessPool {
    type Map<S, R>
        = Map<S, R>
    where
        S: Stream<Item: Portable> + Send + Unpin,
        R: Portable;

    type Task<A: Portable, R: Portable> = Task<A, R>;

    type TaskCall<R: Portable> = TaskCall<R>;

    type AsyncTask<A: Portable, Fut: Future<Output: Portable> + 'static> = AsyncTask<A, Fut>;

    type ProgressTask<A: Portable, P: Portable, R: Portable> = ProgressTask<A, P, R>;

    type AsyncProgressTask<A: Portable, P: Portable, Fut: Future<Output: Portable> + 'static> =
        AsyncProgressTask<A, P, Fut>;

    shared!(ProcessPool);

    fn require(&self, ability: Ability) -> Result<(), Unsupported> {
        match ability {
            Ability::EndRunning | Ability::Isolate if self.is_inline() => Err(Unsupported(ability)),
            _ => Ok(()),
        }
    }

    async fn shutdown_with(&self, options: ShutdownOptions) -> Result<(), Unsupported> {
        ProcessPool::shutdown_with(self, options).await;
        Ok(())
    }

    fn terminate(&self) -> impl Future<Output = Result<(), Unsupported>> + Send {
        // The ending does not wait for the future to be polled.
        let terminated = ProcessPool::terminate(self);
        async {
            terminated.await;
            Ok(())
        }
    }
}

impl Executor for ThreadPool {
    type Map<S, R>
        = ThreadMap<S, R>
    where
        S: Stream<Item: Portable> + Send + Unpin,
        R: Portable;

    type Task<A: Portable, R: Portable> = ThreadTask<A, R>;

    type TaskCall<R: Portable> = ThreadTaskCall<R>;

    type AsyncTask<A: Portable, Fut: Future<Output: Portable> + 'static> = ThreadAsyncTask<A, Fut>;

    type ProgressTask<A: Portable, P: Portable, R: Portable> = ThreadProgressTask<A, P, R>;

    type AsyncProgressTask<A: Portable, P: Portable, Fut: Future<Output: Portable> + 'static> =
        ThreadAsyncProgressTask<A, P, Fut>;

    shared!(ThreadPool);

    fn require(&self, ability: Ability) -> Result<(), Unsupported> {
        Err(Unsupported(ability))
    }

    async fn shutdown_with(&self, options: ShutdownOptions) -> Result<(), Unsupported> {
        ThreadPool::shutdown_with(self, options).await
    }

    fn terminate(&self) -> impl Future<Output = Result<(), Unsupported>> + Send {
        ThreadPool::terminate(self)
    }
}
