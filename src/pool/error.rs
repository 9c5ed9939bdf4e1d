//! The ways in which a task can fail. What a lost worker leaves to be told is in [`exit`], the
//! errors of other operations are in [`refused`], and what a pool cannot do at all in [`unsupported`].

mod exit;
mod refused;
mod unsupported;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::scheduler::Failure;
use crate::process::StartError;
use crate::task::{DecodeError, EncodeError, ForeignFunction, PanicInfo, write_sources};

pub(crate) use self::exit::Fault;
pub use self::exit::WorkerExit;
pub use self::refused::{BuildError, NotClosed, ResizeError, TrySubmitError};
pub(crate) use self::refused::{BuildFault, ResizeFault};
pub use self::unsupported::{Ability, Unsupported};

/// Why a task has no result.
///
/// Can be asked what happened; the answers do not overlap but where that is said. An `Err` that
/// the task itself returned is no `TaskError`: it is the task's value.
///
/// Shown as `{error}` it says what happened in a few words; what is behind it (the panic and its
/// place, the worker's exit, the value that cannot be encoded) is its [source](Error::source).
/// Shown as `{error:#}` it says all of it in one line, made for logs.
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
/// assert_eq!(error.to_string(), "task panicked: attempt to divide by zero");
/// assert!(format!("{error:#}").starts_with("task panicked: attempt to divide by zero (at "));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TaskError(Box<Failed>);

/// How a task failed at last, and before.
#[derive(Clone, Debug)]
struct Failed {
    kind: Kind,
    earlier: Vec<TaskError>,
}

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
    Expired {
        limit: Duration,
        started: bool,
    },
    Elapsed(Duration),
    EncodeArgument(EncodeError),
    EncodeResult(EncodeError),
    Foreign(ForeignFunction),
    DecodeArgument(DecodeError),
    DecodeResult(DecodeError),
    DecodeUpdate(DecodeError),
    TooLarge {
        what: &'static str,
        size: usize,
        limit: usize,
    },
    MemoryExceeded {
        used: u64,
        limit: u64,
    },
    QueueFull(usize),
    ShutDown {
        started: bool,
    },
    Broken {
        why: Breakage,
        started: bool,
    },
    Unsupported(Unsupported),
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
        let earlier = Vec::new();
        Self(Box::new(Failed { kind, earlier }))
    }

    /// The same error for a call whose earlier runs have failed like this.
    pub(crate) fn after(mut self, earlier: Vec<TaskError>) -> Self {
        self.0.earlier = earlier;
        self
    }

    /// The same error for a call that had been running for so long when its worker was lost.
    pub(crate) fn after_running(mut self, length: Option<Duration>) -> Self {
        if let (Kind::WorkerLost(exit), Some(_)) = (&mut self.0.kind, length) {
            exit.ran_for = length;
        }
        self
    }

    /// How a run has failed that may be repeated.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self.0.kind {
            Kind::Panicked(_) => Some(Failure::Panicked),
            Kind::WorkerLost(_) => Some(Failure::Lost),
            Kind::RanTooLong(_) => Some(Failure::RanTooLong),
            _ => None,
        }
    }

    /// Tells whether the task panicked.
    ///
    /// In a program built with `panic = "abort"` no panic can be caught: there it is a
    /// [lost worker](Self::is_worker_lost), ended by SIGABRT, and the message is on its standard
    /// error.
    pub fn is_panic(&self) -> bool {
        self.panic().is_some()
    }

    /// Returns what is known of the panic, if the task panicked.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match &self.0.kind {
            Kind::Panicked(panic) => Some(panic),
            _ => None,
        }
    }

    /// Tells whether the worker died while it was running the task.
    ///
    /// In a pool with [`Restart::Never`](crate::Restart) the pool is then broken, and the error
    /// [says that](Self::is_broken) instead.
    pub fn is_worker_lost(&self) -> bool {
        matches!(self.0.kind, Kind::WorkerLost(_))
    }

    /// Returns how the worker ended whose death caused this error, if one did: that of the worker
    /// that ran the task, or of the one that broke the pool.
    pub fn worker_exit(&self) -> Option<&WorkerExit> {
        match &self.0.kind {
            Kind::WorkerLost(exit)
            | Kind::Broken {
                why: Breakage::Loss(exit),
                ..
            } => Some(exit),
            _ => None,
        }
    }

    /// Tells whether the task was cancelled or aborted.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled | Kind::Aborted { .. })
    }

    /// Tells whether the task was aborted. Such an error is also [cancelled](Self::is_cancelled).
    pub fn is_aborted(&self) -> bool {
        matches!(self.0.kind, Kind::Aborted { .. })
    }

    /// Tells whether time ran out: the task's own, its time in the queue, that of both together
    /// ([`deadline`](crate::Task::deadline)), or that of whoever [gave up
    /// waiting](Self::is_elapsed) for it. The text says which, and how long it was.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::RanTooLong(_) | Kind::WaitedTooLong(_) | Kind::Expired { .. } | Kind::Elapsed(_)
        )
    }

    /// Tells whether only the waiting ended, by [`TaskHandle::timeout`](crate::TaskHandle::timeout)
    /// or [`blocking_wait`](crate::TaskHandle::blocking_wait): the task goes on, and its handle
    /// can be waited for again. Such an error is also a [timeout](Self::is_timeout).
    pub fn is_elapsed(&self) -> bool {
        matches!(self.0.kind, Kind::Elapsed(_))
    }

    /// Tells whether the argument or the result could not be encoded, or the function is none that
    /// a worker could find.
    pub fn is_encode(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::EncodeArgument(_) | Kind::EncodeResult(_) | Kind::Foreign(_)
        )
    }

    /// Tells whether the argument could not be decoded by the worker, or the result, or an
    /// [update](crate::Updates), here.
    pub fn is_decode(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::DecodeArgument(_) | Kind::DecodeResult(_) | Kind::DecodeUpdate(_)
        )
    }

    /// Tells whether the encoded argument or result is longer than
    /// [`max_frame`](crate::ProcessPoolBuilder::max_frame).
    pub fn is_too_large(&self) -> bool {
        matches!(self.0.kind, Kind::TooLarge { .. })
    }

    /// Tells whether the task was ended because its worker used more memory than
    /// [`max_memory_per_worker`](crate::ProcessPoolBuilder::max_memory_per_worker). The error's
    /// text has both numbers.
    ///
    /// Where the kernel, and not the pool, has killed the worker for want of memory, the worker is
    /// [lost](Self::is_worker_lost) and its exit
    /// [says that](crate::WorkerExit::oom_suspected).
    pub fn is_memory_exceeded(&self) -> bool {
        matches!(self.0.kind, Kind::MemoryExceeded { .. })
    }

    /// Tells whether the task was refused because
    /// [`max_pending`](crate::ProcessPoolBuilder::max_pending) others were waiting.
    pub fn is_queue_full(&self) -> bool {
        matches!(self.0.kind, Kind::QueueFull(_))
    }

    /// Tells whether the task was refused or ended because the pool was shut down, or because the
    /// runtime that drove it ended.
    pub fn is_shut_down(&self) -> bool {
        matches!(self.0.kind, Kind::ShutDown { .. })
    }

    /// Tells whether the task was refused or ended because the pool is broken: it cannot start
    /// workers, or it lost one and was told never to replace one.
    pub fn is_broken(&self) -> bool {
        matches!(self.0.kind, Kind::Broken { .. })
    }

    /// All that [`reason`](Self::reason) says of a call that was accepted.
    #[cfg(feature = "metrics")]
    pub(crate) const REASONS: [&str; 11] = [
        "panicked",
        "worker lost",
        "cancelled",
        "aborted",
        "timed out",
        "not encoded",
        "not decoded",
        "too large",
        "memory exceeded",
        "shut down",
        "pool broken",
    ];

    /// Why there is no result, in a word or two: for those who count.
    pub(crate) fn reason(&self) -> &'static str {
        match &self.0.kind {
            Kind::Panicked(_) => "panicked",
            Kind::WorkerLost(_) => "worker lost",
            Kind::Cancelled => "cancelled",
            Kind::Aborted { .. } => "aborted",
            Kind::RanTooLong(_) | Kind::WaitedTooLong(_) | Kind::Expired { .. } => "timed out",
            Kind::Elapsed(_) => "given up",
            Kind::EncodeArgument(_) | Kind::EncodeResult(_) => "not encoded",
            Kind::DecodeArgument(_) | Kind::DecodeResult(_) | Kind::DecodeUpdate(_) => {
                "not decoded"
            }
            Kind::Foreign(_) => "foreign function",
            Kind::TooLarge { .. } => "too large",
            Kind::MemoryExceeded { .. } => "memory exceeded",
            Kind::QueueFull(_) => "queue full",
            Kind::ShutDown { .. } => "shut down",
            Kind::Broken { .. } => "pool broken",
            Kind::Unsupported(_) => "unsupported",
        }
    }

    /// Returns how often the task was run, as far as that is known: more than once only where a
    /// [`retry`](crate::Task::retry) allows it, and not at all if it
    /// [cannot have been](Self::maybe_executed).
    pub fn attempts(&self) -> u32 {
        let earlier = u32::try_from(self.history().len()).unwrap_or(u32::MAX);
        earlier.saturating_add(u32::from(self.0.kind.maybe_executed()))
    }

    /// Returns the failures before this one, the first of them first: those of the runs that were
    /// repeated because a [`retry`](crate::Task::retry) allows it.
    pub fn history(&self) -> &[TaskError] {
        &self.0.earlier
    }

    /// Tells whether the task asked for what its executor is unable to do, as a time limit on code
    /// that runs on a [thread](crate::ThreadPool); the [source](Error::source) is the
    /// [`Unsupported`]. It was refused, and not run without it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, Kind::Unsupported(_))
    }

    /// Tells whether the task's function may have been called, and so may have had effects.
    ///
    /// False is certain: it was never called and never will be.
    pub fn maybe_executed(&self) -> bool {
        !self.history().is_empty() || self.0.kind.maybe_executed()
    }
}

/// What [`Kind::TooLarge`] calls an argument …
pub(crate) const ARGUMENT: &str = "argument";
/// … and a result.
pub(crate) const RESULT: &str = "result";

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs_before = self.0.earlier.len();
        self.0.kind.outline(
            f,
            if runs_before == 0 {
                "started"
            } else {
                "started again"
            },
        )?;
        match runs_before {
            0 => {}
            1 => f.write_str(", after 1 failed attempt")?,
            count => write!(f, ", after {count} failed attempts")?,
        }
        if !f.alternate() {
            return self.0.kind.gist(f);
        }
        write_sources(f, self)
    }
}

impl Kind {
    fn maybe_executed(&self) -> bool {
        match self {
            Kind::Panicked(_)
            | Kind::WorkerLost(_)
            | Kind::RanTooLong(_)
            | Kind::MemoryExceeded { .. }
            | Kind::Elapsed(_)
            | Kind::EncodeResult(_)
            | Kind::DecodeResult(_)
            | Kind::DecodeUpdate(_) => true,
            Kind::Aborted { started }
            | Kind::Broken { started, .. }
            | Kind::Expired { started, .. }
            | Kind::ShutDown { started } => *started,
            Kind::TooLarge { what, .. } => *what == RESULT,
            Kind::Cancelled
            | Kind::WaitedTooLong(_)
            | Kind::EncodeArgument(_)
            | Kind::Foreign(_)
            | Kind::DecodeArgument(_)
            | Kind::QueueFull(_)
            | Kind::Unsupported(_) => false,
        }
    }

    /// The one fact of the source that nobody can do without who sees only the first line.
    fn gist(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Panicked(panic) => write!(f, ": {}", panic.message()),
            Kind::WorkerLost(exit)
            | Kind::Broken {
                why: Breakage::Loss(exit),
                ..
            } => {
                write!(f, ": {}", exit.exit())?;
                match exit.culprit() {
                    Some(culprit) => write!(f, ", because {culprit} did not yield"),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// What each kind has to say beside its source. What did not come about was that it is
    /// `started`, or "started again".
    fn outline(&self, f: &mut fmt::Formatter<'_>, started: &str) -> fmt::Result {
        match self {
            Kind::Panicked(_) => f.write_str("task panicked"),
            Kind::WorkerLost(_) => f.write_str("worker died while it ran the task"),
            Kind::Cancelled => write!(f, "task was cancelled before it was {started}"),
            Kind::Aborted { started: true } => f.write_str("task was aborted while it ran"),
            Kind::Aborted { started: false } => {
                write!(f, "task was aborted before it was {started}")
            }
            Kind::RanTooLong(limit) => write!(f, "task ran longer than its limit of {limit:?}"),
            Kind::WaitedTooLong(limit) => {
                write!(
                    f,
                    "task waited for its start longer than its limit of {limit:?}"
                )
            }
            Kind::Expired {
                limit,
                started: true,
            } => write!(f, "task ran past its deadline of {limit:?}"),
            Kind::Expired {
                limit,
                started: false,
            } => write!(f, "task was not {started} within its deadline of {limit:?}"),
            Kind::Elapsed(limit) => write!(f, "task was not done within {limit:?} and goes on"),
            Kind::EncodeArgument(_) => f.write_str("argument could not be encoded"),
            Kind::EncodeResult(_) => f.write_str("result could not be encoded"),
            Kind::Foreign(_) => f.write_str("function cannot be called in a worker"),
            Kind::DecodeArgument(_) => f.write_str("argument could not be decoded in the worker"),
            Kind::DecodeResult(_) => f.write_str("result could not be decoded"),
            Kind::DecodeUpdate(_) => f.write_str("update could not be decoded"),
            Kind::TooLarge { what, size, limit } => write!(
                f,
                "{what} of {size} bytes is larger than a frame may be (max_frame is {limit} bytes)"
            ),
            Kind::MemoryExceeded { used, limit } => write!(
                f,
                "task was ended because its worker used {used} bytes of memory \
                 (max_memory_per_worker is {limit} bytes)"
            ),
            Kind::QueueFull(limit) => write!(f, "queue is full (max_pending is {limit})"),
            Kind::ShutDown { started: true } => {
                f.write_str("pool was shut down while the task ran")
            }
            Kind::ShutDown { started: false } => f.write_str("pool is shut down"),
            Kind::Broken {
                why: Breakage::Start(_),
                ..
            } => f.write_str("pool is broken: no worker can be started"),
            Kind::Broken {
                why: Breakage::Loss(_),
                ..
            } => f.write_str("pool is broken by the loss of a worker"),
            Kind::Unsupported(_) => f.write_str("task asks for what its executor cannot do"),
        }
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            Kind::Panicked(panic) => Some(panic),
            Kind::WorkerLost(exit)
            | Kind::Broken {
                why: Breakage::Loss(exit),
                ..
            } => Some(exit),
            Kind::Broken {
                why: Breakage::Start(error),
                ..
            } => Some(error),
            Kind::EncodeArgument(error) | Kind::EncodeResult(error) => Some(error),
            Kind::DecodeArgument(error) | Kind::DecodeResult(error) | Kind::DecodeUpdate(error) => {
                Some(error)
            }
            Kind::Foreign(error) => Some(error),
            Kind::Unsupported(error) => Some(error),
            _ => None,
        }
    }
}
