//! Why a child could not be started.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use super::Exit;

/// The error of a worker, or of the fork server it was to come from, that could
/// not be started.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// if let Err(error) = pool.ready().await {
///     if error.is_resource() {
///         println!("the system has no room for workers now: {error}");
///     }
///     return Err(error.into());
/// }
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct StartError(Kind);

#[derive(Debug, Clone, thiserror::Error)]
enum Kind {
    #[error("could not {doing}: {text}")]
    System {
        doing: Cow<'static, str>,
        errno: Option<i32>,
        text: String,
    },
    #[error("{who} ended before it was ready: {exit}")]
    Exited { who: &'static str, exit: Exit },
    #[error("{who} was not ready within {limit:?}")]
    TimedOut { who: &'static str, limit: Duration },
    #[error("{who} is of another build: {theirs} instead of {ours}")]
    Mismatch {
        who: &'static str,
        ours: String,
        theirs: String,
    },
    #[error("{who} broke the protocol: {what}")]
    Protocol {
        who: &'static str,
        what: &'static str,
    },
    #[error("the fork server was lost {times} times while a worker was being started")]
    ServerLost { times: u32 },
    #[error("initializer failed: {text}")]
    Initializer { text: String },
    #[error("preload failed: {text}")]
    Preload { text: String },
    #[error("no worker is started any more after a loss: {text}")]
    AfterLoss { exit: Exit, text: String },
    #[error("no worker is started any more: shutting down")]
    ShuttingDown,
}

impl StartError {
    /// Returns whether the system had too little of something just then
    /// (descriptors, processes, memory), so that a later try may succeed.
    pub fn is_resource(&self) -> bool {
        const SCARCE: [i32; 8] = [
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::ENOBUFS,
            // Too many descriptors on their way through sockets.
            libc::ETOOMANYREFS,
            libc::EDQUOT,
        ];
        self.raw_os_error()
            .is_some_and(|errno| SCARCE.contains(&errno))
    }

    /// Returns the system's error number, if a system call failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.0 {
            Kind::System { errno, .. } => *errno,
            _ => None,
        }
    }

    /// Returns how the process ended, if it ended before it was ready; or how the worker did whose
    /// loss broke a pool with [`Restart::Never`](crate::Restart).
    pub fn exit(&self) -> Option<Exit> {
        match &self.0 {
            Kind::Exited { exit, .. } | Kind::AfterLoss { exit, .. } => Some(*exit),
            _ => None,
        }
    }

    /// Returns whether the process was not ready in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Kind::TimedOut { .. })
    }

    /// Returns whether the process turned out to be of another build of the
    /// program, which no later try will change.
    pub fn is_mismatch(&self) -> bool {
        matches!(self.0, Kind::Mismatch { .. })
    }

    /// Returns whether the initializer was what failed.
    pub fn is_initializer(&self) -> bool {
        matches!(self.0, Kind::Initializer { .. })
    }

    /// Returns whether [preloading](crate::ProcessPoolBuilder::preload) was what failed.
    pub fn is_preload(&self) -> bool {
        matches!(self.0, Kind::Preload { .. })
    }

    /// Returns whether nothing was started because everything was being shut
    /// down.
    pub fn is_shutting_down(&self) -> bool {
        matches!(self.0, Kind::ShuttingDown)
    }

    /// The system refused to do something ("execute the program").
    pub(crate) fn system(doing: &'static str, error: &io::Error) -> Self {
        Self(Kind::System {
            doing: Cow::Borrowed(doing),
            errno: error.raw_os_error(),
            text: error.to_string(),
        })
    }

    /// The system refused to do something in the new process.
    pub(crate) fn refused_there(doing: String, errno: Option<i32>, text: String) -> Self {
        let doing = Cow::Owned(doing);
        Self(Kind::System { doing, errno, text })
    }

    /// `who` ("the worker") ended before it was ready.
    pub(crate) fn exited(who: &'static str, exit: Exit) -> Self {
        Self(Kind::Exited { who, exit })
    }

    /// `who` was not ready within `limit`.
    pub(crate) fn timed_out(who: &'static str, limit: Duration) -> Self {
        Self(Kind::TimedOut { who, limit })
    }

    /// `who` is of another build or speaks another version.
    pub(crate) fn mismatch(who: &'static str, ours: String, theirs: String) -> Self {
        Self(Kind::Mismatch { who, ours, theirs })
    }

    /// `who` sent what nobody of this build would.
    pub(crate) fn protocol(who: &'static str, what: &'static str) -> Self {
        Self(Kind::Protocol { who, what })
    }

    /// One fork server after the other died under the same launch.
    pub(crate) fn server_lost(times: u32) -> Self {
        Self(Kind::ServerLost { times })
    }

    /// The worker's initializer failed.
    pub(crate) fn initializer(text: String) -> Self {
        Self(Kind::Initializer { text })
    }

    /// What the fork server was to preload failed.
    pub(crate) fn preload(text: String) -> Self {
        Self(Kind::Preload { text })
    }

    /// A worker was lost, in the way that `text` tells, and none may follow it.
    pub(crate) fn after_loss(exit: Exit, text: String) -> Self {
        Self(Kind::AfterLoss { exit, text })
    }

    /// Everything is being shut down.
    pub(crate) fn shutting_down() -> Self {
        Self(Kind::ShuttingDown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_now_may_be_there_later() {
        let error =
            |errno| StartError::system("execute the program", &io::Error::from_raw_os_error(errno));
        assert!(error(libc::EMFILE).is_resource());
        assert!(error(libc::EAGAIN).is_resource());
        assert!(!error(libc::ENOENT).is_resource());
        assert!(!StartError::shutting_down().is_resource());
        let text = error(libc::EMFILE).to_string();
        assert!(
            text.starts_with("could not execute the program: "),
            "{text}"
        );
    }

    #[test]
    fn a_mismatch_names_both_builds() {
        let error = StartError::mismatch("the fork server", "aa".into(), "bb".into());
        assert!(error.is_mismatch());
        let text = error.to_string();
        assert!(text.contains("aa") && text.contains("bb"), "{text}");
    }
}
