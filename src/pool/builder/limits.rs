//! The options that say how long tasks may run.

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

    /// Asks every task that runs longer than this, counted from its true start, to come to its end.
    /// Default: no limit. What that means says [`Task::soft_timeout`](crate::Task::soft_timeout),
    /// which goes before it. Zero is an error of [`build`](Self::build).
    pub fn task_soft_timeout(mut self, limit: Duration) -> Self {
        self.task_soft_timeout = Some(limit);
        self
    }
}
