//! This process and its parent, as they are among the processes of the program.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::StartMethod;
use crate::process::lineage::{self, Standing};
use crate::sys::pidfd;

/// Returns what the current process is among those of its program; as Python's `current_process()`.
///
/// ```
/// use procpool::{Process, current_process};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let who = |_: ()| (current_process().name().to_owned(), current_process().pid());
/// let process = Process::builder().name("worker bee").spawn(who, ()).await?;
/// assert_eq!(process.join().await?, ("worker bee".to_owned(), process.pid()));
/// assert_eq!(current_process().name(), "MainProcess");
/// # Ok(()) }
/// ```
pub fn current_process() -> CurrentProcess {
    CurrentProcess {
        standing: lineage::standing(),
        name: lineage::own_name(),
    }
}

/// Returns the process that has started the current one; `None` in a program that was not started by
/// this crate. As Python's `parent_process()`.
///
/// It is the process that asked for the start, also where a fork server forked it. In a worker of a
/// pool it is the pool's.
pub fn parent_process() -> Option<ParentProcess> {
    lineage::standing().map(ParentProcess)
}

/// The current process. Got from [`current_process`].
#[derive(Clone, Debug)]
pub struct CurrentProcess {
    standing: Option<Arc<Standing>>,
    name: String,
}

impl CurrentProcess {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Returns its name: that of its [builder](super::ProcessBuilder::name), a worker's in a worker of
    /// a pool, and `MainProcess` in a program that was not started by this crate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether it is a [daemon](super::ProcessBuilder::daemon). Workers of pools are.
    pub fn is_daemon(&self) -> bool {
        let own = self.standing.as_ref();
        own.is_some_and(|own| own.lineage.daemon)
    }

    /// Returns how it was to be started; `None` if this crate did not start it.
    pub fn start_method(&self) -> Option<StartMethod> {
        self.standing.as_ref().map(|own| own.lineage.method)
    }
}

/// The parent of the current process. Got from [`parent_process`].
///
/// Its descriptor is a pidfd, which is readable when the parent has ended. A process sees that
/// seldom: it is about to be killed then.
#[derive(Clone, Debug)]
pub struct ParentProcess(Arc<Standing>);

impl ParentProcess {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.lineage.parent.pid
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.0.lineage.parent.name
    }

    /// Tells whether it has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(pidfd::has_ended(self.as_fd()), Ok(false))
    }
}

impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
