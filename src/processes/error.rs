//! How starting a process and joining it fail.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::process::{Exit, StartError};
use crate::task::answer::{Failure, MOST};
use crate::task::hook::NoHook;
use crate::task::{DecodeError, EncodeError, ForeignFunction, PanicInfo, write_sources};
use crate::worker::fitness::Unfit;

/// Why a process was not started. There is none then.
///
/// ```
/// use procpool::Process;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = Process::builder().name("").spawn(|n: u8| n, 1).await.unwrap_err();
/// assert!(error.is_invalid_argument());
/// # }
/// ```
///
/// Shown as `{error:#}` it tells its [sources](std::error::Error::source) as well.
#[derive(Debug)]
pub struct SpawnError(pub(super) SpawnFault);

#[derive(Debug, Error)]
pub(super) enum SpawnFault {
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    #[error("argument could not be encoded")]
    Encode(#[source] EncodeError),
    #[error("function cannot be called in another process")]
    Foreign(#[source] ForeignFunction),
    #[error(transparent)]
    Preload(NoHook),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the process could not be started")]
    Start(#[source] StartError),
    #[error("could not {0}")]
    System(&'static str, #[source] io::Error),
    #[error("a process with {0} threads cannot be forked; only one that has no other than this")]
    Threads(u32),
    #[error("a process cannot be forked from within a runtime; do it before that is started")]
    InRuntime,
    #[error(
        "a process cannot be forked by a thread that is panicking; the copy could catch no panic"
    )]
    Panicking,
    #[error("the scope is over that was to wait for the process")]
    ScopeOver,
}

impl SpawnError {
    /// Tells whether an option has a value that it cannot have.
    pub fn is_invalid_argument(&self) -> bool {
        matches!(self.0, SpawnFault::Invalid(_))
    }

    /// Tells whether the argument could not be encoded, or the function is none that another process
    /// of this program could find; the source says why.
    pub fn is_encode(&self) -> bool {
        matches!(
            self.0,
            SpawnFault::Encode(_) | SpawnFault::Foreign(_) | SpawnFault::Preload(_)
        )
    }

    /// Tells whether this program cannot have processes of this crate at all: its start-up code has
    /// not run, it is part of a shared library, the program runs with raised privileges, or the
    /// system refuses what cannot be done without. The text says which.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0, SpawnFault::Unfit(_))
    }

    /// Tells whether the system had too little of something just then (descriptors, processes,
    /// memory), so that a later try may succeed.
    pub fn is_resource(&self) -> bool {
        match &self.0 {
            SpawnFault::Start(error) => error.is_resource(),
            SpawnFault::System(doing, error) => StartError::system(doing, error).is_resource(),
            _ => false,
        }
    }

    /// Returns why the process could not be started, if the start is what failed.
    pub fn start_error(&self) -> Option<&StartError> {
        match &self.0 {
            SpawnFault::Start(error) => Some(error),
            _ => None,
        }
    }

    /// Tells whether this process could not be [forked](crate::StartMethod::Fork), because it has
    /// more than one thread, is inside of a runtime, or is panicking.
    pub fn is_fork_refused(&self) -> bool {
        use SpawnFault::{InRuntime, Panicking, Threads};
        matches!(self.0, Threads(_) | InRuntime | Panicking)
    }

    /// Tells whether the [scope](super::scope) was over that the process was to belong to.
    pub fn is_scope_over(&self) -> bool {
        matches!(self.0, SpawnFault::ScopeOver)
    }

    /// Something of the system's was refused ("make a socket pair").
    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(SpawnFault::System(doing, error))
    }
}

/// Why a process gave no value.
///
/// ```
/// use procpool::Process;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use procpool::Stdio;
/// let leaves = |code: i32| -> String { std::process::exit(code) };
/// let process = Process::builder().name("leaver").spawn(leaves, 3).await?;
/// let error = process.join().await.unwrap_err();
/// assert!(error.is_lost() && !error.is_panic());
/// assert_eq!(error.exit().and_then(|exit| exit.code()), Some(3));
/// assert!(error.to_string().starts_with("process leaver ended without a value: exit code 3"));
/// # Ok(()) }
/// ```
///
/// Shown as `{error}` it says what happened in a few words, and what is behind it is its
/// [source](std::error::Error::source); shown as `{error:#}` it says all of it in one line.
#[derive(Clone, Debug)]
pub struct ProcessError {
    name: String,
    exit: Option<Exit>,
    fault: ProcessFault,
}

#[derive(Clone, Debug, Error)]
pub(super) enum ProcessFault {
    #[error("panicked")]
    Panicked(#[source] PanicInfo),
    #[error("ended without a value: {0}")]
    Lost(Exit),
    #[error("could not decode its argument")]
    DecodeArgument(#[source] DecodeError),
    #[error("could not encode its result")]
    EncodeResult(#[source] EncodeError),
    #[error("has a result of {0} bytes, more than the {MOST} that can be taken")]
    TooLarge(u64),
    #[error("has a result that could not be decoded")]
    DecodeResult(#[source] DecodeError),
    #[error("is still running after {0:?}")]
    Elapsed(Duration),
}

impl ProcessError {
    /// What became of the process of that name.
    pub(super) fn new(name: &str, exit: Option<Exit>, fault: ProcessFault) -> Self {
        let name = name.to_owned();
        Self { name, exit, fault }
    }

    /// Tells whether the function panicked.
    ///
    /// In a program built with `panic = "abort"` no panic can be caught: there the process is
    /// [lost](Self::is_lost), ended by SIGABRT.
    pub fn is_panic(&self) -> bool {
        self.panic().is_some()
    }

    /// Returns what is known of the panic, if the function panicked.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match &self.fault {
            ProcessFault::Panicked(panic) => Some(panic),
            _ => None,
        }
    }

    /// Tells whether the process ended before its function did: it exited, or a signal ended it,
    /// whoever has sent that.
    pub fn is_lost(&self) -> bool {
        matches!(self.fault, ProcessFault::Lost(_))
    }

    /// Returns how the process ended. `None` if it [still runs](Self::is_timeout).
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Tells whether the limit of waiting has passed, and the process still runs.
    pub fn is_timeout(&self) -> bool {
        matches!(self.fault, ProcessFault::Elapsed(_))
    }

    /// Tells whether the process could not encode what its function has returned.
    pub fn is_encode(&self) -> bool {
        matches!(self.fault, ProcessFault::EncodeResult(_))
    }

    /// Tells whether the process could not decode its argument, and so has not called the function,
    /// or its result could not be decoded here.
    pub fn is_decode(&self) -> bool {
        let fault = &self.fault;
        matches!(
            fault,
            ProcessFault::DecodeArgument(_) | ProcessFault::DecodeResult(_)
        )
    }

    /// Tells whether the result is larger than 1 GiB.
    pub fn is_too_large(&self) -> bool {
        matches!(self.fault, ProcessFault::TooLarge(_))
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} {}", self.name, self.fault)?;
        match &self.fault {
            // The message is what one wants to know first, and the source has it as well.
            ProcessFault::Panicked(panic) if !f.alternate() => write!(f, ": {}", panic.message()),
            _ => write_sources(f, self),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<SpawnFault> for SpawnError {
    fn from(fault: SpawnFault) -> Self {
        Self(fault)
    }
}

impl From<Failure> for ProcessFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(panic) => Self::Panicked(panic),
            Failure::Undecodable(error) => Self::DecodeArgument(error),
            Failure::Unencodable(error) => Self::EncodeResult(error),
            Failure::TooLarge(size) => Self::TooLarge(size),
        }
    }
}
