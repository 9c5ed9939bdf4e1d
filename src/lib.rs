//! A pool of worker processes for tokio: submit a function, get a future.
//!
//! Work that may crash, hang, leak or has to be stopped does not belong in the process that waits
//! for it. A [`ProcessPool`] runs it in worker processes. The death of one costs the call that it was
//! running and no other; a time limit ends the work and not only the waiting; and whatever happens,
//! every handle resolves and nothing is left behind.
//!
//! ```
//! use std::time::Duration;
//! use procpool::{ProcessPool, call};
//!
//! fn fib(n: u64) -> u64 {
//!     if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
//! }
//! fn add(a: i32, b: i32) -> i32 {
//!     a + b
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = ProcessPool::builder().workers(2).build()?;
//!
//! let n = pool.submit(fib, 20).await?; // any fn, or closure that captures nothing
//! let s = pool.submit_call(call!(add(1, 2))).await?; // several arguments
//! assert_eq!((n, s), (6765, 3));
//!
//! // A crash is an error of the one call, and says what happened.
//! let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
//! let error = crash.await.unwrap_err();
//! assert_eq!(error.worker_exit().and_then(|exit| exit.exit().signal()), Some(6));
//!
//! // A limit ends the work.
//! let endless = pool.task(|_: ()| -> () { loop { std::thread::park() } });
//! let error = endless.timeout(Duration::from_millis(50)).submit(()).await.unwrap_err();
//! assert!(error.is_timeout());
//!
//! pool.shutdown().await; // no process is left after this
//! # Ok(()) }
//! ```
//!
//! # How to think of it
//!
//! **A call is a plain function and its argument.** The argument is encoded where the call is made
//! and decoded in a worker; the result takes the same way back. A closure that captures does not
//! compile: what a task needs goes through its argument. The worker is this program, executed again,
//! so every function of the program is there; its statics are its own.
//!
//! **The handle decides.** [`submit`](ProcessPool::submit) never waits, and refusals come through the
//! [`TaskHandle`]. Dropping the handle detaches the task;
//! [`abort_on_drop`](TaskHandle::abort_on_drop), and [`run`](ProcessPool::run) by itself, end it
//! instead. [`cancel`](TaskHandle::cancel) takes back what has not been started, and
//! [`abort`](TaskHandle::abort) ends it even then.
//!
//! **Errors are asked.** What a task returns is its value, an `Err` included. A [`TaskError`] says why
//! there is none, and [whether the function may have run](TaskError::maybe_executed).
//!
//! **Nothing has to be set up.** Code that runs before `main` turns a process that a pool has started
//! into its worker; see [`init`] for the way without it.
//!
//! # Guide
//!
//! | | |
//! | --- | --- |
//! | [Choosing a call](guide::choosing_a_call) | which way to hand over work, and what can be handed over |
//! | [Batches](guide::batches) | one function over many items |
//! | [Cancellation and time](guide::cancellation_and_time) | who ends a task, and which limit counts what |
//! | [Failure](guide::failure) | what an error says, and what a pool survives |
//! | [Lifecycle](guide::lifecycle) | how workers start, what they are given, and how a pool ends |
//! | [Observing](guide::observing) | what a pool is doing, and how it is told to others |
//! | [Connections](guide::connections) | messages between processes that go on while a task runs |
//! | [Queues](guide::queues) | items between any number of processes |
//! | [Listening](guide::listening) | connections by an address, and with Python programs |
//! | [Processes](guide::processes) | one function in a process of its own |
//! | [Shared memory](guide::shared) | values, arrays and tables that several processes see |
//! | [Locks](guide::locks) | how tasks, threads and processes take turns, count and wait for each other |
//! | [Testing](guide::testing) | pools in tests, and tests of code that has a pool |
//! | [From Python](guide::from_python) | the names of Python's pools, and what they are called here |
//!
//! # Parts
//!
//! | | |
//! | --- | --- |
//! | [`ProcessPool`], [`ProcessPoolBuilder`] | the pool and its options: [`StartMethod`], [`Restart`], [`Stdio`], [`Resource`] |
//! | [`ThreadPool`], [`ThreadPoolBuilder`], [`ThreadTask`], [`ThreadTaskCall`], [`ThreadAsyncTask`], [`ThreadProgressTask`], [`ThreadAsyncProgressTask`], [`ThreadMap`] | the same verbs over threads, for code that is trusted |
//! | [`Executor`], [`ExecutorTask`], [`ExecutorTaskCall`], [`ExecutorAsyncTask`], [`ExecutorProgressTask`], [`Portable`], [`Ability`], [`Unsupported`] | code for either kind of pool, and what one of them cannot do |
//! | [`TaskHandle`] | a submitted call: its result, and the means to end it |
//! | [`Task`], [`TaskCall`] | a call with a time limit, a limit on waiting, a deadline, a priority, a key, a name; [`Retry`]: how often it is run again |
//! | [`AsyncTask`] | the same for an `async fn` |
//! | [`ProgressTask`], [`AsyncProgressTask`], [`Updates`], [`WhenFull`] | a task that says something while it runs, and what it says |
//! | [`Map`], [`Enumerated`] | the results of one function over many items |
//! | [`call!`], [`Call`] | a call with several arguments |
//! | [`TaskError`], [`PanicInfo`], [`WorkerExit`], [`Exit`] | why there is no result |
//! | [`RemoteError`] | an error that a task can return, made by `?` from any other |
//! | [`Fd`] | a file, a socket or another owner of a descriptor as an argument or result |
//! | [`Payload`], [`payload`] | megabytes as a part of an argument or a result, by memory that is used again |
//! | [`Value`], [`Array`], [`ValueGuard`] | plain old data that several processes change in place, one at a time |
//! | [`RawValue`], [`RawArray`], [`AtomicPrimitive`] | the same without a lock: copies, and atomics |
//! | [`SharedMemory`], [`SharedSlice`] | a block of bytes that all may write, and a table that is read in place |
//! | [`Lock`], [`LockGuard`], [`LockError`], [`RLock`], [`RLockGuard`], [`Semaphore`], [`BoundedSemaphore`], [`Permit`], [`AcquireError`], [`ReleaseError`], [`Condition`], [`WrongLock`], [`Event`], [`Barrier`], [`BarrierError`], [`BarrierWaitResult`] | locks and signals between processes; more in [`sync`] |
//! | [`Queue`], [`JoinableQueue`], [`SimpleQueue`], [`PutError`], [`GetError`], [`JoinError`] | items on their way between any number of processes; more in [`queue`](mod@queue) |
//! | `Json` (feature `json`) | an argument or result of a type that needs field names or type tags |
//! | [`BuildError`], [`StartError`], [`TrySubmitError`], [`NotClosed`], [`ResizeError`] | how the pool's other operations fail |
//! | [`ShutdownOptions`] | the end of a pool |
//! | [`Stats`], [`Histogram`], [`Events`], [`PoolEvent`] | a look at a pool, and what happens in it as it happens |
//! | `TaskService` (feature `tower`) | a function in a pool as a `tower` service |
//! | [`HookOutcome`] | what a worker's initializer and finalizer may return |
//! | [`pipe`], [`one_way`], [`Connection`], [`ConnectionError`], [`wait`] | messages between processes, of values, bytes and descriptors; more in [`connection`] |
//! | [`Process`], [`ProcessBuilder`], [`SpawnError`], [`ProcessError`], [`active_children`], [`current_process`], [`parent_process`] | one function in a process of its own; scopes and more in [`processes`] |
//! | [`Listener`], [`Client`], [`Address`], [`AuthKey`], [`AuthMode`] | connections between programs that know an address, and can prove who they are |
//! | [`task::current`] | what a running task knows of itself |
//!
//! # Features
//!
//! | | |
//! | --- | --- |
//! | `auto-init` (default) | workers are recognised before `main`; without it, [`init`] has to be its first line |
//! | `json` | `Json`, which carries what the crate's encoding cannot: `serde_json::Value`, `flatten`, untagged enums |
//! | `pickle` | values as pickles, for [Python programs at the other end](guide::listening#python-at-the-other-end) of a connection |
//! | `anyhow` | a [`RemoteError`] becomes an `anyhow::Error` by `?` |
//! | `ndarray` | `view` and `view_mut`: shared arrays in several dimensions |
//! | `tower` | `TaskService`: a pool behind tower's layers |
//! | `tracing` | [spans of calls, and what tasks log in their workers](guide::observing#traces) |
//! | `metrics` | [what a pool counts](guide::observing#metrics), told to the `metrics` facade |
//!
//! # Platform
//!
//! Linux. A worker has the rights of its program: it contains crashes and endless loops, and is no
//! boundary against code that means harm.

pub mod connection;
mod executor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod guide;
#[cfg(any(test, counting))]
#[doc(hidden)]
pub use pool::{hot_path, scale};
mod pool;
mod process;
pub mod processes;
pub mod queue;
mod shared;
mod supervisor;
pub mod sync;
#[allow(unsafe_code)]
mod sys;
/// What a running task knows of itself, and the errors of what travels to it and back.
///
/// Inside of a task, [`current`](task::current) gives its [`TaskContext`](task::TaskContext): its
/// number and name, its deadline, and whether anybody still waits for it. An
/// [`EncodeError`](task::EncodeError), a [`DecodeError`](task::DecodeError) or a
/// [`ForeignFunction`](task::ForeignFunction) is the [source](std::error::Error::source) of the
/// [`TaskError`] of a call that could not be sent or answered for that reason.
/// [`retire_worker`](task::retire_worker) has the worker replaced after this task. A type that travels in
/// another form than it is kept in asks [`in_transit`](task::in_transit).
pub mod task;
mod thread_pool;
#[cfg(feature = "tower")]
mod tower;
mod wire;
mod worker;

pub use connection::{
    Address, AuthKey, AuthMode, Client, Connection, ConnectionError, Listener, one_way, pipe, wait,
};
pub use executor::{
    Executor, ExecutorAsyncTask, ExecutorProgressTask, ExecutorTask, ExecutorTaskCall, Portable,
};
pub use pool::builder::ProcessPoolBuilder;
pub use pool::error::{
    Ability, BuildError, NotClosed, ResizeError, TaskError, TrySubmitError, Unsupported, WorkerExit,
};
pub use pool::events::{Events, PoolEvent};
pub use pool::handle::TaskHandle;
pub use pool::histogram::Histogram;
pub use pool::map::{Enumerated, Map, MapIter};
pub use pool::reply::CallbackId;
pub use pool::shutdown::ShutdownOptions;
pub use pool::stats::{Stats, WorkerState, WorkerStats};
pub use pool::task::async_progress::AsyncProgressTask;
pub use pool::task::progress::ProgressTask;
pub use pool::task::{AsyncTask, Task, TaskCall};
pub use pool::updates::{Updates, WhenFull};
pub use pool::{ProcessPool, Restart, Retry};
pub use process::{Exit, StartError, StartMethod, UnknownStartMethod};
pub use processes::{
    Process, ProcessBuilder, ProcessError, SpawnError, active_children, current_process,
    parent_process,
};
pub use queue::{GetError, JoinError, JoinableQueue, PutError, Queue, SimpleQueue};
pub use shared::{
    Array, AtomicPrimitive, RawArray, RawValue, SharedMemory, SharedSlice, Value, ValueGuard,
};
pub use supervisor::stdio::{Stdio, WorkerLine};
pub use sync::{
    AcquireError, Barrier, BarrierError, BarrierWaitResult, BoundedSemaphore, Condition, Event,
    Lock, LockError, LockGuard, Permit, RLock, RLockGuard, ReleaseError, Semaphore, WrongLock,
};
pub use sys::attributes::Resource;
pub use task::Call;
#[cfg(feature = "json")]
pub use task::Json;
pub use task::bulk::Payload;
pub use task::bulk::adapt as payload;
pub use task::{Fd, HookOutcome, PanicInfo, RemoteError};
pub use thread_pool::ThreadPool;
pub use thread_pool::async_progress::ThreadAsyncProgressTask;
pub use thread_pool::async_task::ThreadAsyncTask;
pub use thread_pool::builder::ThreadPoolBuilder;
pub use thread_pool::map::{ThreadMap, ThreadMapIter};
pub use thread_pool::progress::ThreadProgressTask;
pub use thread_pool::task::{ThreadTask, ThreadTaskCall};
#[cfg(feature = "tower")]
pub use tower::{TaskResponse, TaskService};
pub use worker::boot::init;

/// The README's examples are tested like those of this documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
