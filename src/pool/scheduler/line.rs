//! The line of jobs that wait in the parent: who is first, and who has waited too long.

use std::collections::BTreeSet;

use super::event::JobKey;
use super::queue::Queue;
use crate::sys::clock::Moment;

/// The waiting jobs.
#[derive(Debug, Default)]
pub(super) struct Line {
    queue: Queue,
    waiting: usize,
    until: BTreeSet<(Moment, JobKey)>,
}

/// What the line has to know of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) job: JobKey,
    pub(super) priority: i32,
    /// The moment until which it may wait.
    pub(super) until: Option<Moment>,
}

impl Line {
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many keys are kept, gaps included, for how many priorities, and how many moments.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize, usize) {
        let (keys, priorities) = self.queue.kept();
        (keys, priorities, self.until.len())
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets a job in behind the others of its priority.
    pub(super) fn push_back(&mut self, waiter: Waiter) {
        self.queue.push_back(waiter.job, waiter.priority);
        self.entered(waiter);
    }

    /// Lets a job in before the others of its priority: it was sent to a worker and came back
    /// unstarted.
    pub(super) fn push_front(&mut self, waiter: Waiter) {
        self.queue.push_front(waiter.job, waiter.priority);
        self.entered(waiter);
    }

    fn entered(&mut self, waiter: Waiter) {
        self.waiting += 1;
        if let Some(until) = waiter.until {
            self.until.insert((until, waiter.job));
        }
    }

    /// The first job in the line; `waits` tells a job from a gap.
    pub(super) fn first(&mut self, waits: impl Fn(JobKey) -> bool) -> Option<JobKey> {
        self.queue.first(waits)
    }

    /// Takes out the job that [`first`](Self::first) has just named.
    pub(super) fn take_first(&mut self, waiter: Waiter) {
        self.queue.take_first();
        self.left(waiter);
    }

    /// Takes a job out from wherever it stands. `waits` must already deny it.
    pub(super) fn remove(&mut self, waiter: Waiter, waits: impl Fn(JobKey) -> bool) {
        self.queue.leave_gap(waits);
        self.left(waiter);
    }

    fn left(&mut self, waiter: Waiter) {
        self.waiting -= 1;
        if let Some(until) = waiter.until {
            self.until.remove(&(until, waiter.job));
        }
    }

    /// The moment at which the first of the waiting jobs will have waited too long.
    pub(super) fn first_until(&self) -> Option<Moment> {
        self.until.first().map(|(until, _)| *until)
    }

    /// A job that has waited too long, if there is one; it is still in the line.
    pub(super) fn overdue(&self, now: Moment) -> Option<JobKey> {
        self.until
            .first()
            .filter(|(until, _)| *until <= now)
            .map(|(_, job)| *job)
    }
}
