//! The options of a pool of threads.

use super::ThreadPool;
use super::driver::{Driver, Plan};
use crate::pool::error::{BuildError, BuildFault};
use crate::process::Keeper;
use crate::task::panic;

/// How many threads there may be: more than any system has room for.
const MOST_WORKERS: usize = 1 << 16;

/// Builds a [`ThreadPool`]. Got from [`ThreadPool::builder`].
///
/// ```
/// use procpool::ThreadPool;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::builder().workers(2).max_pending(100).worker_name("resize").build()?;
/// assert_eq!(pool.submit(|n: u64| n * n, 12).await?, 144);
/// # Ok(()) }
/// ```
///
/// Options are checked by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ThreadPoolBuilder {
    workers: Option<usize>,
    max_pending: Option<usize>,
    worker_name: Option<String>,
}

impl ThreadPoolBuilder {
    /// Sets how many threads there may be; they are started as they are needed. Default: as many as
    /// this process may use cores. Zero, and more than 65,536, are errors of
    /// [`build`](Self::build).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Bounds how many tasks may wait, beyond the one that each thread can run. Default: no bound.
    /// As [`ProcessPoolBuilder::max_pending`](crate::ProcessPoolBuilder::max_pending).
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// Names the threads: the name, a hyphen and a number. Default: `procpool-thread`. The system
    /// shows the first 15 bytes. An empty name, and one with a zero byte, are errors of
    /// [`build`](Self::build).
    #[doc(alias = "thread_name")]
    #[doc(alias = "thread_name_prefix")]
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.worker_name = Some(name.into());
        self
    }

    /// Builds the pool. No thread of it is started before the first task.
    ///
    /// # Errors
    ///
    /// When an option has a value that it cannot have, or when the crate's own thread, which keeps
    /// time for all pools, cannot be started.
    pub fn build(self) -> Result<ThreadPool, BuildError> {
        let Self {
            workers,
            max_pending,
            worker_name,
        } = self;
        let workers = workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
        });
        let fault = if workers == 0 {
            Some("the number of workers must be greater than 0")
        } else if workers > MOST_WORKERS {
            Some("the number of workers must not be greater than 65536")
        } else if worker_name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.contains('\0'))
        {
            Some("a worker name must be a text without zero bytes")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(BuildFault::Invalid(fault).into());
        }
        let keeper = Keeper::get().map_err(BuildFault::System)?;
        // A hook cannot be changed while a panic is on its way through this thread.
        if !std::thread::panicking() {
            panic::install_hook();
        }
        let plan = Plan {
            workers,
            name: worker_name.unwrap_or_else(|| "procpool-thread".to_owned()),
            max_pending,
        };
        Ok(ThreadPool::new_with(Driver::start(plan, keeper)))
    }
}
