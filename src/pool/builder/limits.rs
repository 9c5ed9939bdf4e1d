//! The options that say how long tasks may run, and how long their answers are waited for awake.

use std::time::Duration;

use super::ProcessPoolBuilder;

impl ProcessPoolBuilder {
    /// Ends every task that runs longer than this, counted from its true start, and replaces its
    /// worker. Default: no limit, because only the tasks' author knows one.
    /// [`Task::timeout`](crate::Task::timeout) goes before it. Zero is an error of
    /// [`build`](Self::build).
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.task_timeout = Some(limit);
        self
    }

    /// Has both sides of a call wait awake for so long before they sleep: a worker for its next call, and
    /// who awaits a call, if it is the only one, for its answer. Longer than a second is an error of
    /// [`build`](Self::build).
    ///
    /// To be woken costs microseconds, twice a call, and on virtual machines tens of them. Where short
    /// calls follow each other within this time, none of that is paid. The price is the CPU: after every
    /// call a worker keeps a core busy for this time if nothing comes, and so does whoever awaits a
    /// call. Give it cores to spare, and somewhat more than the usual pause between calls (50 to 200 µs).
    /// Nobody waits awake for what needs the same core, and an idle pool sleeps.
    ///
    /// Default: workers sleep at once. Who awaits a short call that follows another within a millisecond
    /// looks for its answer for up to 30 µs, does so less and less where that is in vain, and leaves his
    /// runtime its turn every 5 µs. With [`Duration::ZERO`] nobody waits awake.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use procpool::ProcessPool;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = ProcessPool::builder()
    ///     .workers(1)
    ///     .busy_poll(Duration::from_micros(100))
    ///     .build()?;
    /// for n in 0..100_u64 {
    ///     assert_eq!(pool.submit(|n: u64| n + 1, n).await?, n + 1);
    /// }
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "latency")]
    #[doc(alias = "spin")]
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = Some(limit);
        self
    }

    /// Asks every task that runs longer than this, counted from its true start, to come to its end.
    /// Default: no limit. What that means says [`Task::soft_timeout`](crate::Task::soft_timeout),
    /// which goes before it. Zero is an error of [`build`](Self::build).
    pub fn task_soft_timeout(mut self, limit: Duration) -> Self {
        self.task_soft_timeout = Some(limit);
        self
    }
}
