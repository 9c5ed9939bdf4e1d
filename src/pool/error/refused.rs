//! The ways in which something is refused before there is a call: a submission, a pool, a wait.

use std::error::Error;
use std::fmt;
use std::io;

use super::TaskError;
use crate::task::hook::NoHook;
use crate::task::{ForeignFunction, write_sources};
use crate::worker::fitness::Unfit;

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
#[derive(Debug)]
pub struct BuildError(pub(crate) BuildFault);

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFault {
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("invalid argument: a function given to the builder cannot be called in a worker")]
    Foreign(#[source] ForeignFunction),
    #[error("the shared pool is the program's, and this is a worker: build a pool of its own")]
    SharedInWorker,
    #[error("the workers' directory is relative to one that is not there any more")]
    Directory(#[source] io::Error),
    #[error(transparent)]
    Hook(NoHook),
    #[error("the system has no room for the initializer's argument")]
    Initializer(#[source] io::Error),
    #[error("there is no /proc here, without which the memory of workers cannot be measured")]
    Unmeasurable(#[source] io::Error),
    #[error("the pool's own thread could not be started")]
    System(#[source] io::Error),
}

impl BuildError {
    /// Tells whether an option has a value that it cannot have.
    pub fn is_invalid_argument(&self) -> bool {
        matches!(self.0, BuildFault::Invalid(_) | BuildFault::Foreign(_))
    }

    /// Tells whether the crate's start-up code has not run in this process: feature `auto-init` is
    /// off, and [`init`](crate::init) was not called.
    pub fn is_not_initialised(&self) -> bool {
        matches!(self.0, BuildFault::Unfit(Unfit::NotInitialised))
    }

    /// Tells whether this copy of the crate is not part of the program itself, but of a shared
    /// library that it has loaded.
    pub fn is_not_in_main_image(&self) -> bool {
        matches!(self.0, BuildFault::Unfit(Unfit::NotInMainImage))
    }

    /// Tells whether the program runs with more rights than its caller has (set-user-id, file
    /// capabilities), so that it must not start workers.
    pub fn is_raised_privileges(&self) -> bool {
        matches!(self.0, BuildFault::Unfit(Unfit::RaisedPrivileges))
    }

    /// Tells whether the system refuses a call that no pool can do without: the kernel is too old,
    /// or a filter (a container's seccomp profile) forbids it. The text names the call.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0, BuildFault::Unfit(Unfit::Unsupported(_)))
    }

    /// Tells whether the argument of an initializer could not be encoded, or the function is none
    /// that a worker could find.
    pub fn is_encode(&self) -> bool {
        matches!(self.0, BuildFault::Hook(_))
    }

    /// Tells whether the [shared pool](crate::ProcessPool::shared) was asked for inside of a worker.
    pub fn is_in_worker(&self) -> bool {
        matches!(self.0, BuildFault::SharedInWorker)
    }

    /// Tells whether this process is inside of as many pools as may be nested, which is four: a task of the
    /// program's own pool may make the second, its tasks the third, theirs the fourth.
    pub fn is_too_deep(&self) -> bool {
        matches!(self.0, BuildFault::Unfit(Unfit::TooDeep(_)))
    }
}

impl From<BuildFault> for BuildError {
    fn from(fault: BuildFault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// [`ProcessPool::resize`](crate::ProcessPool::resize) was asked for a number of workers that no
/// pool can have, or of a pool that takes no more work.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let refused = pool.resize(0).unwrap_err();
/// assert_eq!(refused.to_string(), "a pool has between 1 and 65536 workers, not 0");
///
/// pool.shutdown().await;
/// assert!(pool.resize(2).unwrap_err().is_closed());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ResizeError(#[from] pub(crate) ResizeFault);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResizeFault {
    #[error("a pool has between 1 and 65536 workers, not {0}")]
    Number(usize),
    #[error("pool takes no more work")]
    Closed,
}

impl ResizeError {
    /// Tells whether the pool takes no more work: it was closed or shut down, it broke, or its
    /// runtime ended.
    pub fn is_closed(&self) -> bool {
        self.0 == ResizeFault::Closed
    }
}

/// [`ProcessPool::join`](crate::ProcessPool::join) was called on a pool that still takes work.
///
/// ```
/// use procpool::{NotClosed, ProcessPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder().workers(1).build()?;
/// let refused: NotClosed = pool.join().await.unwrap_err();
/// assert_eq!(refused.to_string(), "pool is still open: close it before joining it");
///
/// pool.close();
/// pool.join().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool is still open: close it before joining it")]
pub struct NotClosed(pub(crate) ());
