//! How a pool is to be shut down.

use std::time::Duration;

use super::builder::bounded;

/// Options of [`ProcessPool::shutdown_with`](crate::ProcessPool::shutdown_with).
///
/// ```
/// use std::time::Duration;
/// use procpool::{ProcessPool, ShutdownOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// // Drop what has not been started, and give what runs ten seconds.
/// let options = ShutdownOptions::new().cancel_pending(true).timeout(Duration::from_secs(10));
/// pool.shutdown_with(options).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to `shutdown_with`"]
pub struct ShutdownOptions {
    pub(super) wait: bool,
    pub(super) cancel_pending: bool,
    pub(super) timeout: Option<Duration>,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self {
            wait: true,
            cancel_pending: false,
            timeout: None,
        }
    }
}

impl ShutdownOptions {
    /// Returns the options of a plain [`shutdown`](crate::ProcessPool::shutdown): wait for
    /// everything, cancel nothing, as long as it takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to wait until everything is over. Default: true. Without it
    /// [`shutdown_with`](crate::ProcessPool::shutdown_with) resolves at once, and the pool winds
    /// down by itself; [`join`](crate::ProcessPool::join) waits for that later.
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets whether tasks that have not been started are cancelled. Default: false.
    pub fn cancel_pending(mut self, cancel: bool) -> Self {
        self.cancel_pending = cancel;
        self
    }

    /// Ends everything that is not over after this time, as
    /// [`terminate`](crate::ProcessPool::terminate) does. Default: no limit. The limit holds also
    /// without [waiting](Self::wait), and when the future of `shutdown_with` is dropped.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(bounded(limit));
        self
    }
}
