//! How a worker ended that took a call with it, or its pool.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::process::Exit;

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
    pub(crate) fault: Option<Fault>,
}

/// For what a worker was killed.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It broke the protocol.
    Violation(String),
    /// An async task in it that was ended did not yield.
    Unyielding(String),
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
        match &self.fault {
            Some(Fault::Violation(what)) => Some(what),
            Some(Fault::Unyielding(_)) | None => None,
        }
    }

    /// Returns which async task did not yield when it was ended, if the pool killed the worker for
    /// that: its number, and its name if it has one. All that ran beside it are lost with it.
    pub fn culprit(&self) -> Option<&str> {
        match &self.fault {
            Some(Fault::Unyielding(task)) => Some(task),
            Some(Fault::Violation(_)) | None => None,
        }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker {} (pid {}) ended by {}",
            self.name, self.pid, self.exit
        )?;
        match &self.fault {
            None => {}
            Some(Fault::Violation(what)) => write!(f, " because it broke the protocol: {what}")?,
            Some(Fault::Unyielding(task)) => {
                write!(f, " because {task} was ended in it and did not yield")?;
            }
        }
        if self.oom_suspected {
            f.write_str(", probably because memory had run out")?;
        }
        if let Some(ran_for) = self.ran_for {
            write!(f, ", {ran_for:.1?} after the call was started")?;
        }
        Ok(())
    }
}

impl Error for WorkerExit {}
