//! The options that say what is told of a pool at work.

use std::time::Duration;

use super::build::check;
use super::{ProcessPoolBuilder, bounded};
use crate::pool::error::BuildError;

/// What is told.
#[derive(Clone, Debug)]
pub(super) struct ObservingOptions {
    slow_call: Option<Duration>,
    worker_events: bool,
}

impl Default for ObservingOptions {
    fn default() -> Self {
        Self {
            slow_call: None,
            worker_events: true,
        }
    }
}

impl ProcessPoolBuilder {
    /// Has runs that take longer than this told of, while they go on: as a
    /// [`PoolEvent::SlowCall`](crate::PoolEvent::SlowCall) and as a warning of `tracing`, once for
    /// each run. Default: none. Zero is an error of [`build`](Self::build).
    ///
    /// Nothing is ended by it; that is [`task_timeout`](Self::task_timeout). The time counts from the
    /// task's true start, and of a map for each item. A bound below a few milliseconds costs the
    /// pool's timer a look at each worker as often.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt;
    /// use procpool::{PoolEvent, ProcessPool};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder().workers(1).slow_call(Duration::from_millis(20)).build()?;
    /// let mut events = pool.events();
    /// let nap = pool.task(|_: ()| std::thread::sleep(Duration::from_millis(200))).name("nap");
    /// let nap = nap.submit(());
    /// while let Some(event) = events.next().await {
    ///     if let PoolEvent::SlowCall { task, name, .. } = event {
    ///         assert_eq!((task, name.as_deref()), (nap.id(), Some("nap")));
    ///         assert!(!nap.is_done());
    ///         break;
    ///     }
    /// }
    /// # pool.terminate().await;
    /// # Ok(()) }
    /// ```
    pub fn slow_call(mut self, bound: Duration) -> Self {
        self.observing.slow_call = Some(bound);
        self
    }

    /// Sets whether what tasks log with `tracing` in their workers is brought back and logged again
    /// in this process, inside of the span of its call. Default: yes. (Feature `tracing`.)
    ///
    /// A worker is told when it is started up to which level anybody listens here; if nobody does,
    /// it brings back nothing. It takes the place of the process's global subscriber, after the
    /// initializer has run: one that the initializer has set stays, and then nothing is brought back;
    /// one that a task wants to set is refused. Turn this off where tasks set subscribers.
    ///
    /// What the guide says about [observing](crate::guide::observing) has the whole story.
    #[cfg(feature = "tracing")]
    pub fn worker_events(mut self, brought_back: bool) -> Self {
        self.observing.worker_events = brought_back;
        self
    }
}

/// The same, checked.
pub(super) struct Observed {
    pub(super) slow_call: Option<Duration>,
    pub(super) worker_events: bool,
}

impl ObservingOptions {
    /// Checks the options.
    pub(super) fn settle(self) -> Result<Observed, BuildError> {
        let Self {
            slow_call,
            worker_events,
        } = self;
        check(
            slow_call != Some(Duration::ZERO),
            "the bound for slow calls must be greater than 0",
        )?;
        Ok(Observed {
            slow_call: slow_call.map(bounded),
            worker_events,
        })
    }
}
