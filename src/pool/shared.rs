//! One pool for everybody in the program who does not need one of their own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::ProcessPool;
use super::error::{BuildError, BuildFault};
use crate::process::Keeper;

static SHARED: Mutex<Option<ProcessPool>> = Mutex::new(None);

/// How long its workers stay that have nothing to do: nobody may even know that there are any.
const IDLE: Duration = Duration::from_secs(60);

/// The pool of the program.
impl ProcessPool {
    /// Returns the program's shared pool, which is made when it is first asked for: default
    /// options, a worker per core, driven by a thread of the crate's own and so by no runtime of
    /// the caller's.
    ///
    /// Made for libraries: several that use it do not start more workers than there are cores.
    /// Each task takes its turn; whoever needs limits, an environment or an order of their own
    /// builds a pool.
    ///
    /// A worker that has had nothing to do for a minute leaves, so a program that needs the pool
    /// once keeps no processes for it; the next call that needs a worker starts one again.
    ///
    /// It lives as long as the program. If somebody [shuts it down](Self::shutdown), who has it
    /// finds it closed, and who asks next gets a new one.
    ///
    /// # Errors
    ///
    /// As [`build`](crate::ProcessPoolBuilder::build); and inside of a worker, where the
    /// tasks of all pools of the program would wait for each other.
    ///
    /// ```
    /// use procpool::ProcessPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// async fn word_count(text: String) -> Result<usize, Box<dyn std::error::Error>> {
    ///     let pool = ProcessPool::shared()?;
    ///     Ok(pool.submit(|text: String| text.split(' ').count(), text).await?)
    /// }
    ///
    /// assert_eq!(word_count("as short as this".to_owned()).await?, 4);
    /// # Ok(()) }
    /// ```
    pub fn shared() -> Result<Self, BuildError> {
        if crate::worker::depth() > 0 {
            return Err(BuildFault::SharedInWorker.into());
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = shared.as_ref().filter(|pool| !pool.is_closed()) {
            return Ok(pool.clone());
        }
        let keeper = Keeper::get().map_err(BuildFault::System)?;
        let pool = Self::builder()
            .idle_timeout(IDLE)
            .runtime(keeper.handle().clone())
            .build()?;
        let mut lifetime = pool.driver().watch();
        keeper.handle().clone().spawn(async move {
            // The sender lives in the pool.
            let _ = lifetime.wait_for(|lifetime| lifetime.finished).await;
            let ended = forget();
            // In this order: the crate's thread goes with the last who keeps it.
            drop((ended, keeper));
        });
        Ok(shared.insert(pool).clone())
    }
}

/// Lets go of a pool that has come to its end, unless another has taken its place.
fn forget() -> Option<ProcessPool> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.take_if(|pool| pool.is_closed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_no_idle_process_for_ever() {
        let pool = ProcessPool::shared().unwrap();
        let rules = pool.driver().plan.rules;
        assert_eq!((rules.min_workers, rules.idle_timeout), (0, Some(IDLE)));
    }
}
