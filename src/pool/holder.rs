//! What a handle asks of whoever has its job. A pool of processes and a pool of threads both answer,
//! and so give the same handle.

use std::panic::RefUnwindSafe;
use std::time::Duration;

use super::driver::Driver;
use super::scheduler::Event;
use crate::process::Sleep;

pub(crate) use super::scheduler::{JobKey, Progress};

/// A pool, as the handles of its tasks know it.
pub(crate) trait Holder: RefUnwindSafe + Send + Sync {
    /// Takes a job back that has not been started; tells whether that is now its outcome.
    fn cancel(&self, key: JobKey) -> bool;

    /// Ends a job by whatever means there are; tells whether that is now its outcome.
    fn abort(&self, key: JobKey) -> bool;

    /// Takes a job back that has not been started, else asks it to come to its end; tells whether it
    /// was cancelled or asked.
    fn request(&self, key: JobKey) -> bool;

    /// How far an unfinished job has come that was given to a worker, and that worker's process.
    fn progress(&self, key: JobKey) -> Option<(Option<u32>, Progress)>;

    /// Sleeps by a clock that needs no runtime of the caller's.
    fn sleep(&self, limit: Duration) -> Sleep;

    /// Somebody awaits a job on this thread, which may drive a runtime.
    fn awaited_here(&self);

    /// Whether the answer to this job is awaited awake.
    fn is_lone(&self, _key: JobKey) -> bool {
        false
    }

    /// Looks for that answer for some microseconds; `false` if whoever awaits it is to sleep.
    fn look(&self, _key: JobKey) -> bool {
        false
    }

    /// Somebody waits for a job on a blocked thread, and nothing is known of who drives what.
    fn help(&self);
}

/// All that changes in it is behind locks, and no code of callers runs under those. Said here, because
/// whether tokio's locks say it of themselves depends on its features.
impl RefUnwindSafe for Driver {}

impl Holder for Driver {
    fn cancel(&self, key: JobKey) -> bool {
        self.withdraw(key, Event::Cancel(key))
    }

    fn abort(&self, key: JobKey) -> bool {
        self.withdraw(key, Event::Abort(key))
    }

    fn request(&self, key: JobKey) -> bool {
        self.request(key)
    }

    fn progress(&self, key: JobKey) -> Option<(Option<u32>, Progress)> {
        let (pid, progress) = self.progress(key)?;
        Some((Some(pid), progress))
    }

    fn sleep(&self, limit: Duration) -> Sleep {
        self.sleep(limit)
    }

    fn awaited_here(&self) {
        self.awaited_here();
    }

    fn is_lone(&self, key: JobKey) -> bool {
        self.is_lone(key)
    }

    fn look(&self, key: JobKey) -> bool {
        self.look(key)
    }

    fn help(&self) {
        self.help();
    }
}
