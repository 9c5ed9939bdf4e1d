//! A process, as whoever has started it sees it.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::Body;
use super::builder::ProcessBuilder;
use super::error::{ProcessError, ProcessFault};
use super::spawn::Spawning;
use crate::connection::Waitable;
use crate::process::{Exit, Keeper, Sleep};
use crate::task::{DecodeError, panic};
use crate::wire::packed::Packed;

/// A process that runs one function of this program, which returns an `R`.
///
/// How it may end, and who waits for it, is told [there](crate::processes). Many may wait for it at
/// once, each through a reference.
///
/// Its descriptor is a pidfd, the *sentinel*: it can be polled, and is readable when the process has
/// ended; [`wait`](crate::wait) takes processes beside connections.
///
/// # Drop
///
/// Dropping it lets go of the process, which runs on. It is reaped when it ends, and ends with this
/// program at the latest. What it returns is thrown away.
///
/// ```
/// use procpool::Process;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let process = Process::spawn(|n: u64| (1..=n).product::<u64>(), 20).await?;
/// println!("{} is process {}", process.name(), process.pid());
/// assert_eq!(process.join().await?, 2_432_902_008_176_640_000);
/// assert!(!process.is_alive());
/// # Ok(()) }
/// ```
///
/// In a program without a runtime:
///
/// ```
/// use procpool::Process;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let process = Process::spawn(|text: String| text.len(), "hello".to_owned()).blocking_wait()?;
///     assert_eq!(process.blocking_join(None)?, 5);
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    body: Arc<Body>,
    decode: Decode<R>,
}

/// Makes a value of what a process has returned.
pub(super) type Decode<R> = fn(&Packed) -> Result<R, DecodeError>;

impl Process<()> {
    /// Returns the options for a process.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }

    /// The process without what it returns.
    pub(super) fn without_value(body: Arc<Body>) -> Self {
        Self::new(body, |_| Ok(()))
    }
}

impl<R> Process<R> {
    pub(super) fn new(body: Arc<Body>, decode: Decode<R>) -> Self {
        Self { body, decode }
    }

    /// Starts a process that calls `function` with `argument`. See
    /// [`ProcessBuilder::spawn`], which has options before it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn spawn<A>(function: fn(A) -> R, argument: A) -> Spawning<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        ProcessBuilder::default().spawn(function, argument)
    }

    /// Returns its process id. When it has ended, that may be another's.
    pub fn pid(&self) -> u32 {
        self.body.pid()
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        self.body.name()
    }

    /// Tells whether it is a [daemon](ProcessBuilder::daemon).
    pub fn is_daemon(&self) -> bool {
        self.body.is_daemon()
    }

    /// Tells whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.exit().is_none()
    }

    /// Returns how it ended; `None` while it has not. As Python's `exitcode`, with a type that tells
    /// codes from signals.
    ///
    /// In the moment between its end and the report of how it ended, this waits for the report, which
    /// takes microseconds.
    pub fn exit(&self) -> Option<Exit> {
        self.body.exit()
    }

    /// Waits until it has ended, and returns what its function has returned.
    ///
    /// May be called again, and by many at once: each call decodes a value of its own. But
    /// descriptors in the value are there once, and go to the first.
    ///
    /// # Errors
    ///
    /// Where there is no value: the function [panicked](ProcessError::is_panic), the process [ended
    /// before](ProcessError::is_lost) it returned, or the value could not be
    /// [encoded](ProcessError::is_encode) or [decoded](ProcessError::is_decode).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn join(&self) -> Result<R, ProcessError> {
        let exit = Arc::clone(&self.body).ended().await;
        self.value(exit)
    }

    /// The same, at most for that long. A limit of zero looks and does not wait.
    ///
    /// # Errors
    ///
    /// When the process has not ended by then ([`is_timeout`](ProcessError::is_timeout)); it goes on,
    /// and can be joined again. Else as [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn join_timeout(&self, limit: Duration) -> Result<R, ProcessError> {
        let told = self.body.exit();
        if let Some(exit) = told {
            return self.value(exit);
        }
        // By the crate's own clock: the runtime may have none.
        let Ok(keeper) = Keeper::get() else {
            return Err(self.still_running(limit));
        };
        let asleep = Sleep::on(keeper.handle(), limit);
        match select(pin!(Arc::clone(&self.body).ended()), asleep).await {
            Either::Left((exit, _)) => self.value(exit),
            Either::Right(_) => Err(self.still_running(limit)),
        }
    }

    /// [Joins](Self::join) on a thread that may block, at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Self::join_timeout).
    pub fn blocking_join(&self, limit: Option<Duration>) -> Result<R, ProcessError> {
        match (self.body.blocking_ended(limit), limit) {
            (None, Some(limit)) => Err(self.still_running(limit)),
            (exit, _) => self.value(exit.unwrap_or(Exit::UNKNOWN)),
        }
    }

    /// Waits until it has ended, and returns how, whatever its function has returned. Each call
    /// returns the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn wait(&self) -> impl Future<Output = Exit> + Send + use<R> {
        Arc::clone(&self.body).ended()
    }

    /// The same on a thread that may block, at most for `limit`; `None` when that has passed.
    pub fn blocking_wait(&self, limit: Option<Duration>) -> Option<Exit> {
        self.body.blocking_ended(limit)
    }

    /// Asks the process to end, by SIGTERM. Unless it has a handler for that, it does, at once and
    /// without cleaning up; what it has started itself goes on until it is [killed](Self::kill) or
    /// this program ends. Does nothing when the process has ended.
    ///
    /// A process that somebody has stopped ends when it is continued.
    ///
    /// # Errors
    ///
    /// Where the system does not allow it, because the process has become another user's.
    pub fn terminate(&self) -> io::Result<()> {
        self.body.signal(Signal::TERM)
    }

    /// Interrupts the process by SIGINT, which is what a terminal sends on Ctrl-C, and from which
    /// these processes are kept. Else as [`terminate`](Self::terminate).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn interrupt(&self) -> io::Result<()> {
        self.body.signal(Signal::INT)
    }

    /// Kills the process, and what it has started in its process group, by SIGKILL. When the process
    /// has ended, what is left of its group.
    pub fn kill(&self) {
        self.body.kill();
    }

    /// Lets go of a process that has ended, with its descriptors; so does dropping it.
    ///
    /// # Errors
    ///
    /// While it runs. The process is in the error, and can still be joined.
    ///
    /// ```
    /// use procpool::Process;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let patience = |_: ()| -> () { loop { std::thread::park() } };
    /// let process = Process::spawn(patience, ()).await?;
    /// let process = process.close().unwrap_err().into_process();
    /// process.kill();
    /// process.wait().await;
    /// process.close()?;
    /// # Ok(()) }
    /// ```
    pub fn close(self) -> Result<(), StillRunning<R>> {
        match self.is_alive() {
            true => Err(StillRunning(self)),
            false => Ok(()),
        }
    }

    /// The value of a process that has ended like this.
    fn value(&self, exit: Exit) -> Result<R, ProcessError> {
        let value = self.body.outcome(exit).and_then(|result| {
            let decoded = panic::catch(|| (self.decode)(&result));
            let decoded = decoded.unwrap_or_else(|panic| Err(DecodeError::panicked::<R>(&panic)));
            decoded.map_err(ProcessFault::DecodeResult)
        });
        value.map_err(|fault| ProcessError::new(self.name(), Some(exit), fault))
    }

    fn still_running(&self, limit: Duration) -> ProcessError {
        ProcessError::new(self.name(), None, ProcessFault::Elapsed(limit))
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        self.body.let_go();
    }
}

impl<R> AsFd for Process<R> {
    /// A pidfd, which is readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.body.as_fd()
    }
}

impl<'a, R> From<&'a Process<R>> for Waitable<'a> {
    /// Is ready when the process has ended.
    fn from(process: &'a Process<R>) -> Self {
        process.as_fd().into()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("exit", &self.exit())
            .finish_non_exhaustive()
    }
}

/// A process was [closed](Process::close) that has not ended; has it back.
#[derive(thiserror::Error)]
#[error("process {} is still running", .0.name())]
pub struct StillRunning<R>(Process<R>);

impl<R> fmt::Debug for StillRunning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillRunning").field(&self.0).finish()
    }
}

impl<R> StillRunning<R> {
    /// Returns the process.
    pub fn into_process(self) -> Process<R> {
        self.0
    }
}
