//! How a process ended.

use std::fmt;

use rustix::process::WaitIdStatus;
use serde::{Deserialize, Serialize};

/// How a process ended: by exiting with a code, by a signal, or in a way that
/// nobody was left to tell.
///
/// An exit is unknown where something else in the program takes the statuses of
/// all children (a handler that calls `wait`, or SIGCHLD ignored), and where a
/// fork server died before it could report its worker's, on kernels that do not
/// keep the status (before 6.15).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let crash = |_: ()| -> () { std::process::abort() };
/// let error = pool.submit(crash, ()).await.unwrap_err();
/// let exit = error.worker_exit().expect("the worker is gone").exit();
/// assert_eq!((exit.code(), exit.signal()), (None, Some(6))); // SIGABRT
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit(How);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum How {
    Code(i32),
    Signal { number: i32, core_dumped: bool },
    Unknown,
}

impl Exit {
    /// The exit that nobody was left to tell.
    pub(crate) const UNKNOWN: Self = Self(How::Unknown);

    /// Returns the exit code, if the process exited by itself.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            How::Code(code) => Some(code),
            _ => None,
        }
    }

    /// Returns the number of the signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.0 {
            How::Signal { number, .. } => Some(number),
            _ => None,
        }
    }

    /// Returns whether a signal ended the process and the kernel wrote a core
    /// dump of it.
    pub fn core_dumped(&self) -> bool {
        matches!(
            self.0,
            How::Signal {
                core_dumped: true,
                ..
            }
        )
    }

    /// Returns whether the process exited with code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// Returns whether nobody was left to tell how the process ended.
    pub fn is_unknown(&self) -> bool {
        self.0 == How::Unknown
    }

    /// The exit in what `waitid` returned for an ended process.
    pub(crate) fn from_waitid(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self(How::Code(code)),
            (None, Some(number)) => Self(How::Signal {
                number,
                core_dumped: status.dumped(),
            }),
            (None, None) => Self::UNKNOWN,
        }
    }

    /// The exit in a wait status as `waitpid` writes it.
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self(How::Code(libc::WEXITSTATUS(status)))
        } else if libc::WIFSIGNALED(status) {
            Self(How::Signal {
                number: libc::WTERMSIG(status),
                core_dumped: libc::WCOREDUMP(status),
            })
        } else {
            Self::UNKNOWN
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            How::Code(code) => write!(f, "exit code {code}"),
            How::Signal {
                number,
                core_dumped,
            } => {
                write!(f, "signal {number}")?;
                if let Some(name) = signal_name(number) {
                    write!(f, " ({name})")?;
                }
                if core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            How::Unknown => f.write_str("unknown exit"),
        }
    }
}

/// The name of a signal that ends a process by default.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGIO => "SIGIO",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_read_as_waitpid_writes_it() {
        let code = Exit::from_wait_status(3 << 8);
        assert_eq!((code.code(), code.signal()), (Some(3), None));
        assert!(!code.success() && Exit::from_wait_status(0).success());

        let killed = Exit::from_wait_status(9);
        assert_eq!((killed.code(), killed.signal()), (None, Some(9)));
        assert!(!killed.core_dumped());
        assert!(Exit::from_wait_status(11 | 0x80).core_dumped());

        assert!(Exit::UNKNOWN.is_unknown() && !killed.is_unknown());
    }

    #[test]
    fn an_exit_reads_as_people_say_it() {
        let shown = |status| Exit::from_wait_status(status).to_string();
        assert_eq!(shown(3 << 8), "exit code 3");
        assert_eq!(shown(9), "signal 9 (SIGKILL)");
        assert_eq!(shown(11 | 0x80), "signal 11 (SIGSEGV), core dumped");
        assert_eq!(shown(40), "signal 40");
        assert_eq!(Exit::UNKNOWN.to_string(), "unknown exit");
    }
}
