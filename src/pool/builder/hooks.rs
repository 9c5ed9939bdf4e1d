//! The options that say what workers run around their calls.

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ProcessPoolBuilder, bounded};
use crate::pool::error::{BuildError, BuildFault};
use crate::pool::in_place::InPlace;
use crate::sys::mapping;
use crate::task::HookOutcome;
use crate::task::hook::{self, NoHook};

/// How long a worker may take to leave when it has nothing to do but that.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// What is run before the first call, and after the last.
#[derive(Clone, Debug)]
pub(super) struct HookOptions {
    preload: Vec<Result<Vec<u8>, NoHook>>,
    initializer: Option<Result<Vec<u8>, NoHook>>,
    finalizer: Option<Result<Vec<u8>, NoHook>>,
    finalizer_timeout: Duration,
}

impl Default for HookOptions {
    fn default() -> Self {
        Self {
            preload: Vec::new(),
            initializer: None,
            finalizer: None,
            finalizer_timeout: Duration::from_secs(5),
        }
    }
}

impl ProcessPoolBuilder {
    /// Has the fork server run this once, before it forks the first worker: what it leaves in statics
    /// all workers have, and share its memory for as long as nobody writes to it. Default: nothing.
    /// May be called repeatedly; the functions are run in that order.
    ///
    /// That is for what is large and only read: a table, a model, a dictionary. An
    /// [`initializer`](Self::initializer) is run in each worker, for what each must have for itself: a
    /// connection, a seed.
    ///
    /// Function and argument are as there. When it returns an error, panics, ends its process, takes
    /// longer than [`start_timeout`](Self::start_timeout), or leaves a thread running, with which
    /// nothing can be forked, no worker can be started:
    /// [`ready`](crate::ProcessPool::ready) and the [errors](crate::TaskError::is_broken) of all tasks
    /// say so, and [`StartError::is_preload`](crate::StartError::is_preload) is true. A fork server
    /// that is lost is replaced by another, which runs it again.
    ///
    /// It needs [`StartMethod::ForkServer`](crate::StartMethod), which is the default; with another
    /// it is an error of [`build`](Self::build). A pool that runs calls [in place](Self::inline) runs
    /// it before its first call.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use procpool::ProcessPool;
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let load = |length: u64| {
    ///     TABLE.get_or_init(|| (0..length).map(|n| n * n).collect());
    /// };
    /// let pool = ProcessPool::builder().workers(4).preload(load, 100_000).build()?;
    /// let square = pool.submit(|n: usize| TABLE.get().expect("it is loaded")[n], 12).await?;
    /// assert_eq!(square, 144);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn preload<A, R>(mut self, function: fn(A) -> R, argument: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        R: HookOutcome,
    {
        self.hooks.preload.push(hook::encode(function, &argument));
        self
    }

    /// Has each worker run this before it takes calls, on the thread that runs the calls: what it
    /// leaves in statics and thread-locals, they find. Default: nothing.
    ///
    /// `function` is any function, or a closure that captures nothing. The argument is encoded here
    /// and may be of any size.
    ///
    /// When it returns an error, panics or ends the process, that is a start that failed, and another
    /// is tried; five in a row break the pool. [`ready`](crate::ProcessPool::ready) and the
    /// [errors](crate::TaskError::is_broken) of all tasks then say what the initializer said. One
    /// that takes longer than [`start_timeout`](Self::start_timeout) is ended, with its worker.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use procpool::{ProcessPool, RemoteError};
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    ///
    /// fn make_table(length: u64) -> Result<(), RemoteError> {
    ///     let table = (0..length).map(|n| n * n).collect();
    ///     TABLE.set(table).map_err(|_| RemoteError::msg("there is a table already"))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder().workers(2).initializer(make_table, 1_000).build()?;
    /// let square = pool.submit(|n: usize| TABLE.get().map(|table| table[n]), 12).await?;
    /// assert_eq!(square, Some(144));
    /// assert!(TABLE.get().is_none(), "the program has none");
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn initializer<A, R>(mut self, function: fn(A) -> R, argument: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        R: HookOutcome,
    {
        self.hooks.initializer = Some(hook::encode(function, &argument));
        self
    }

    /// Has each worker run this before it leaves in order: when the pool is shut down, or does not
    /// need it any more. Default: nothing.
    ///
    /// It is not run when a worker is killed (by an abort, a limit,
    /// [`terminate`](crate::ProcessPool::terminate)), crashes, or ends with the program. What has to
    /// happen in any case is none of its business. An error or a panic goes to the worker's standard
    /// error and has no other effect; after [`finalizer_timeout`](Self::finalizer_timeout) the worker
    /// is killed.
    ///
    /// ```
    /// use procpool::{ProcessPool, Stdio};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (line, lines) = std::sync::mpsc::channel();
    /// let pool = ProcessPool::builder()
    ///     .workers(1)
    ///     .finalizer(|| println!("flushed"))
    ///     .stdout(Stdio::lines(move |printed| line.send(printed.text.to_owned()).unwrap_or(())))
    ///     .build()?;
    /// pool.submit(|n: u8| n, 1).await?;
    /// pool.shutdown().await;
    /// assert_eq!(lines.recv()?, "flushed");
    /// # Ok(()) }
    /// ```
    pub fn finalizer<R: HookOutcome>(mut self, function: fn() -> R) -> Self {
        self.hooks.finalizer = Some(hook::encode(function, &()));
        self
    }

    /// Sets how long a [finalizer](Self::finalizer) may take. Default: 5 s. Shutting the pool down
    /// may take that much longer.
    pub fn finalizer_timeout(mut self, limit: Duration) -> Self {
        self.hooks.finalizer_timeout = limit;
        self
    }
}

impl HookOptions {
    /// The same for a pool without workers.
    pub(super) fn settle_in_place(self) -> Result<InPlace, BuildError> {
        let first = self.preload.into_iter().chain(self.initializer);
        let initializers = first.collect::<Result<_, _>>().map_err(BuildFault::Hook)?;
        let finalizer = self.finalizer.transpose().map_err(BuildFault::Hook)?;
        let limit = bounded(self.finalizer_timeout);
        Ok(InPlace::new(
            initializers,
            finalizer.unwrap_or_default(),
            limit,
        ))
    }
}

/// The options in the form in which workers are told.
#[derive(Default)]
pub(super) struct Hooks {
    /// Each in a file.
    pub(super) preload: Vec<OwnedFd>,
    /// In a file that all workers read, because an argument may be large.
    pub(super) initializer: Option<OwnedFd>,
    pub(super) finalizer: Vec<u8>,
    pub(super) leave_limit: Duration,
}

impl HookOptions {
    /// Whether there is something for a fork server to do.
    pub(super) fn has_preload(&self) -> bool {
        !self.preload.is_empty()
    }

    /// Refuses what cannot be run in a worker.
    pub(super) fn settle(self) -> Result<Hooks, BuildError> {
        let file = |hook: Result<Vec<u8>, NoHook>| {
            let hook = hook.map_err(BuildFault::Hook)?;
            let file = mapping::sealed_copy("procpool-hook", &[&hook]);
            file.map_err(BuildFault::Initializer)
        };
        let preload = self
            .preload
            .into_iter()
            .map(file)
            .collect::<Result<_, _>>()?;
        let initializer = self.initializer.map(file).transpose()?;
        let finalizer = self.finalizer.transpose().map_err(BuildFault::Hook)?;
        let leave_limit = match finalizer {
            Some(_) => LEAVE_LIMIT.saturating_add(self.finalizer_timeout),
            None => LEAVE_LIMIT,
        };
        Ok(Hooks {
            preload,
            initializer,
            finalizer: finalizer.unwrap_or_default(),
            leave_limit,
        })
    }
}
