//! The ways in which a task, a submission, a pool can fail.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::process::{Exit, StartError};
use crate::task::hook::NoHook;
use crate::task::{DecodeError, EncodeError, ForeignFunction, PanicInfo};

/// Why a task has no result.
///
/// Can be asked what happened; the answers do not overlap but where that is said. An `Err` that
/// the task itself returned is no `TaskError`: it is the task's value.
///
/// ```
/// use procpool::TaskError;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// fn explain(error: &TaskError) -> String {
///     if let Some(panic) = error.panic() {
///         format!("a bug at {}", panic.location().unwrap_or("an unknown place"))
///     } else if let Some(exit) = error.worker_exit() {
///         format!("worker {} ended by {}", exit.pid(), exit.exit())
///     } else if !error.maybe_executed() {
///         format!("not run, so it can be tried again: {error}")
///     } else {
///         error.to_string()
///     }
/// }
///
/// let error = pool.submit(|n: i32| 10 / n, 0).await.unwrap_err();
/// assert!(error.is_panic());
/// assert!(explain(&error).starts_with("a bug at "));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskError(Box<Kind>);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Panicked(PanicInfo),
    WorkerLost(WorkerExit),
    Cancelled,
    Aborted {
        started: bool,
    },
    RanTooLong(Duration),
    WaitedTooLong(Duration),
    Elapsed(Duration),
    EncodeArgument(EncodeError),
    EncodeResult(EncodeError),
    Foreign(ForeignFunction),
    DecodeArgument(DecodeError),
    DecodeResult(DecodeError),
    TooLarge {
        what: &'static str,
        size: usize,
        limit: usize,
    },
    QueueFull(usize),
    ShutDown {
        started: bool,
    },
    Broken(Breakage),
}

/// What broke a pool.
#[derive(Clone, Debug)]
pub(crate) enum Breakage {
    /// No worker can be started.
    Start(StartError),
    /// A worker was lost that must not be replaced.
    Loss(WorkerExit),
}

impl TaskError {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(kind))
    }

    /// Tells whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic().is_some()
    }

    /// Returns what is known of the panic, if the task panicked.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match &*self.0 {
            Kind::Panicked(panic) => Some(panic),
            _ => None,
        }
    }

    /// Tells whether the worker died while it was running the task.
    ///
    /// In a pool with [`Restart::Never`](crate::Restart) the pool is then broken, and the error
    /// [says that](Self::is_broken) instead.
    pub fn is_worker_lost(&self) -> bool {
        matches!(*self.0, Kind::WorkerLost(_))
    }

    /// Returns how the worker ended whose death caused this error, if one did: that of the worker
    /// that ran the task, or of the one that broke the pool.
    pub fn worker_exit(&self) -> Option<&WorkerExit> {
        match &*self.0 {
            Kind::WorkerLost(exit) | Kind::Broken(Breakage::Loss(exit)) => Some(exit),
            _ => None,
        }
    }

    /// Tells whether the task was cancelled or aborted.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0, Kind::Cancelled | Kind::Aborted { .. })
    }

    /// Tells whether the task was aborted. Such an error is also [cancelled](Self::is_cancelled).
    pub fn is_aborted(&self) -> bool {
        matches!(*self.0, Kind::Aborted { .. })
    }

    /// Tells whether time ran out: the task's own, its time in the queue, or that of whoever
    /// [gave up waiting](Self::is_elapsed) for it.
    pub fn is_timeout(&self) -> bool {
        matches!(
            *self.0,
            Kind::RanTooLong(_) | Kind::WaitedTooLong(_) | Kind::Elapsed(_)
        )
    }

    /// Tells whether only the waiting ended, by [`TaskHandle::timeout`](crate::TaskHandle::timeout)
    /// or [`blocking_wait`](crate::TaskHandle::blocking_wait): the task goes on, and its handle
    /// can be waited for again. Such an error is also a [timeout](Self::is_timeout).
    pub fn is_elapsed(&self) -> bool {
        matches!(*self.0, Kind::Elapsed(_))
    }

    /// Tells whether the argument or the result could not be encoded, or the function is none that
    /// a worker could find.
    pub fn is_encode(&self) -> bool {
        matches!(
            *self.0,
            Kind::EncodeArgument(_) | Kind::EncodeResult(_) | Kind::Foreign(_)
        )
    }

    /// Tells whether the argument could not be decoded by the worker, or the result here.
    pub fn is_decode(&self) -> bool {
        matches!(*self.0, Kind::DecodeArgument(_) | Kind::DecodeResult(_))
    }

    /// Tells whether the encoded argument or result is longer than
    /// [`max_frame`](crate::ProcessPoolBuilder::max_frame).
    pub fn is_too_large(&self) -> bool {
        matches!(*self.0, Kind::TooLarge { .. })
    }

    /// Tells whether the task was refused because
    /// [`max_pending`](crate::ProcessPoolBuilder::max_pending) others were waiting.
    pub fn is_queue_full(&self) -> bool {
        matches!(*self.0, Kind::QueueFull(_))
    }

    /// Tells whether the task was refused or ended because the pool was shut down, or because the
    /// runtime that drove it ended.
    pub fn is_shut_down(&self) -> bool {
        matches!(*self.0, Kind::ShutDown { .. })
    }

    /// Tells whether the task was refused or ended because the pool is broken: it cannot start
    /// workers, or it lost one and was told never to replace one.
    pub fn is_broken(&self) -> bool {
        matches!(*self.0, Kind::Broken(_))
    }

    /// Tells whether the task's function may have been called, and so may have had effects.
    ///
    /// False is certain: it was never called and never will be.
    pub fn maybe_executed(&self) -> bool {
        match &*self.0 {
            Kind::Panicked(_)
            | Kind::WorkerLost(_)
            | Kind::RanTooLong(_)
            | Kind::Elapsed(_)
            | Kind::EncodeResult(_)
            | Kind::DecodeResult(_)
            // Not known to the caller of a pool that fell apart: it may have been running.
            | Kind::Broken(Breakage::Loss(_)) => true,
            Kind::Aborted { started } | Kind::ShutDown { started } => *started,
            Kind::TooLarge { what, .. } => *what == RESULT,
            Kind::Cancelled
            | Kind::WaitedTooLong(_)
            | Kind::EncodeArgument(_)
            | Kind::Foreign(_)
            | Kind::DecodeArgument(_)
            | Kind::QueueFull(_)
            | Kind::Broken(Breakage::Start(_)) => false,
        }
    }
}

/// What [`Kind::TooLarge`] calls an argument …
pub(crate) const ARGUMENT: &str = "argument";
/// … and a result.
pub(crate) const RESULT: &str = "result";

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Panicked(panic) => write!(f, "task panicked: {panic}"),
            Kind::WorkerLost(exit) => write!(f, "worker died while it ran the task: {exit}"),
            Kind::Cancelled => f.write_str("task was cancelled before it was started"),
            Kind::Aborted { started: true } => f.write_str("task was aborted while it ran"),
            Kind::Aborted { started: false } => {
                f.write_str("task was aborted before it was started")
            }
            Kind::RanTooLong(limit) => write!(f, "task ran longer than its limit of {limit:?}"),
            Kind::WaitedTooLong(limit) => {
                write!(
                    f,
                    "task waited for its start longer than its limit of {limit:?}"
                )
            }
            Kind::Elapsed(limit) => write!(f, "task was not done within {limit:?} and goes on"),
            Kind::EncodeArgument(_) => f.write_str("argument could not be encoded"),
            Kind::EncodeResult(_) => f.write_str("result could not be encoded"),
            Kind::Foreign(_) => f.write_str("function cannot be called in a worker"),
            Kind::DecodeArgument(_) => f.write_str("argument could not be decoded in the worker"),
            Kind::DecodeResult(_) => f.write_str("result could not be decoded"),
            Kind::TooLarge { what, size, limit } => write!(
                f,
                "{what} of {size} bytes is larger than a frame may be (max_frame is {limit} bytes)"
            ),
            Kind::QueueFull(limit) => {
                write!(f, "queue is full: {limit} tasks wait already (max_pending)")
            }
            Kind::ShutDown { started: true } => {
                f.write_str("pool was shut down while the task ran")
            }
            Kind::ShutDown { started: false } => f.write_str("pool is shut down"),
            Kind::Broken(Breakage::Start(_)) => {
                f.write_str("pool is broken: no worker can be started")
            }
            Kind::Broken(Breakage::Loss(exit)) => {
                write!(f, "pool is broken by the loss of a worker: {exit}")
            }
        }
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            Kind::Panicked(panic) => Some(panic),
            Kind::WorkerLost(exit) | Kind::Broken(Breakage::Loss(exit)) => Some(exit),
            Kind::Broken(Breakage::Start(error)) => Some(error),
            Kind::EncodeArgument(error) | Kind::EncodeResult(error) => Some(error),
            Kind::DecodeArgument(error) | Kind::DecodeResult(error) => Some(error),
            Kind::Foreign(error) => Some(error),
            _ => None,
        }
    }
}

/// How a worker ended, and what is known of why.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let leaves = |code: i32| -> () { std::process::exit(code) };
/// let error = pool.submit(leaves, 7).await.unwrap_err();
/// let exit = error.worker_exit().expect("the worker is gone");
/// assert_eq!(exit.exit().code(), Some(7));
/// assert!(exit.ran_for().is_some());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct WorkerExit {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) exit: Exit,
    pub(crate) ran_for: Option<Duration>,
    pub(crate) stderr_tail: Option<String>,
    pub(crate) oom_suspected: bool,
    pub(crate) violation: Option<String>,
}

impl WorkerExit {
    /// Returns the process id that the worker had.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the worker's name, as `ps` showed it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its exit code or the signal that killed it.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns how long the call had been running, if one was.
    pub fn ran_for(&self) -> Option<Duration> {
        self.ran_for
    }

    /// Returns the last of what the worker wrote to its standard error, where that is captured
    /// ([`Stdio::capture`](crate::Stdio::capture)).
    pub fn stderr_tail(&self) -> Option<&str> {
        self.stderr_tail.as_deref()
    }

    /// Tells whether the kernel probably killed the worker because memory had run out: it ended by
    /// SIGKILL that was not ours, and the system has counted such a kill meanwhile.
    pub fn oom_suspected(&self) -> bool {
        self.oom_suspected
    }

    /// Returns what the worker sent that it must not send, if the pool killed it for that.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker {} (pid {}) ended by {}",
            self.name, self.pid, self.exit
        )?;
        if let Some(violation) = &self.violation {
            write!(f, " because it broke the protocol: {violation}")?;
        }
        if self.oom_suspected {
            f.write_str(", probably because memory had run out")?;
        }
        if let Some(ran_for) = self.ran_for {
            write!(f, ", {ran_for:?} after the call was started")?;
        }
        Ok(())
    }
}

impl Error for WorkerExit {}

/// Why [`try_submit`](crate::ProcessPool::try_submit) did not take a task; has the argument back.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// pool.close();
/// let refused = pool.try_submit(|text: String| text.len(), "kept".to_owned()).unwrap_err();
/// assert!(refused.is_shut_down());
/// let (why, text) = refused.into_parts();
/// println!("{text} was not taken: {why}");
/// # Ok(()) }
/// ```
pub struct TrySubmitError<A> {
    pub(crate) error: TaskError,
    pub(crate) argument: A,
}

impl<A> TrySubmitError<A> {
    /// Returns the reason: the queue is full, the pool is shut down or broken, or the argument
    /// cannot be sent.
    pub fn error(&self) -> &TaskError {
        &self.error
    }

    /// Returns the argument.
    pub fn into_argument(self) -> A {
        self.argument
    }

    /// Returns reason and argument.
    pub fn into_parts(self) -> (TaskError, A) {
        (self.error, self.argument)
    }

    /// Tells whether `max_pending` tasks are waiting. See [`TaskError::is_queue_full`].
    pub fn is_queue_full(&self) -> bool {
        self.error.is_queue_full()
    }

    /// Tells whether the pool is shut down. See [`TaskError::is_shut_down`].
    pub fn is_shut_down(&self) -> bool {
        self.error.is_shut_down()
    }

    /// Tells whether the pool is broken. See [`TaskError::is_broken`].
    pub fn is_broken(&self) -> bool {
        self.error.is_broken()
    }
}

impl<A> fmt::Debug for TrySubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySubmitError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<A> fmt::Display for TrySubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<A> Error for TrySubmitError<A> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Why a pool could not be built.
///
/// ```
/// use procpool::ProcessPool;
///
/// let error = ProcessPool::builder().workers(0).build().unwrap_err();
/// assert!(error.is_invalid_argument());
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(#[from] pub(crate) BuildFault);

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFault {
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    #[error(
        "this program cannot start workers: the crate's start-up code has not run; call \
         `procpool::init()` first thing in `main`, or enable the feature `auto-init`"
    )]
    NotInitialised,
    #[error(
        "this copy of the crate is part of a shared library, and workers are started from the \
         program that loaded it; build the pool in a program of your own that contains the crate"
    )]
    NotInMainImage,
    #[error(
        "this program runs with raised privileges (set-user-id, file capabilities) and must not \
         obey its environment, by which workers are told what they are"
    )]
    RaisedPrivileges,
    #[error("pools are nested {0} deep already, which is as deep as they may be")]
    TooDeep(u8),
    #[error("the workers' directory is relative to one that is not there any more: {0}")]
    Directory(#[source] io::Error),
    #[error(transparent)]
    Hook(NoHook),
    #[error("the system has no room for the initializer's argument: {0}")]
    Initializer(#[source] io::Error),
    #[error("the system has no room for the pool's own thread: {0}")]
    System(#[source] io::Error),
}

impl BuildError {
    /// Tells whether an option has a value that it cannot have.
    pub fn is_invalid_argument(&self) -> bool {
        matches!(self.0, BuildFault::Invalid(_))
    }

    /// Tells whether the crate's start-up code has not run in this process: feature `auto-init` is
    /// off, and [`init`](crate::init) was not called.
    pub fn is_not_initialised(&self) -> bool {
        matches!(self.0, BuildFault::NotInitialised)
    }

    /// Tells whether this copy of the crate is not part of the program itself, but of a shared
    /// library that it has loaded.
    pub fn is_not_in_main_image(&self) -> bool {
        matches!(self.0, BuildFault::NotInMainImage)
    }

    /// Tells whether the argument of an initializer could not be encoded, or the function is none
    /// that a worker could find.
    pub fn is_encode(&self) -> bool {
        matches!(self.0, BuildFault::Hook(_))
    }

    /// Tells whether this process is inside of as many pools as may be nested.
    pub fn is_too_deep(&self) -> bool {
        matches!(self.0, BuildFault::TooDeep(_))
    }
}

/// [`ProcessPool::join`](crate::ProcessPool::join) was called on a pool that still takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool is still open: close it before joining it")]
pub struct NotClosed(pub(crate) ());
