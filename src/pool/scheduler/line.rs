//! The line of jobs that wait in the parent: first in, first out, with a way out of the middle.

use std::collections::{BTreeSet, VecDeque};

use super::event::JobKey;
use crate::sys::clock::Moment;

/// The waiting jobs in order.
///
/// A job that leaves from the middle stays behind as a gap: a key whose job waits no longer, which
/// the owner can tell. Gaps are passed over when they come to the front and swept when they are
/// the larger half, so leaving is cheap and memory stays bounded.
#[derive(Debug, Default)]
pub(super) struct Line {
    order: VecDeque<JobKey>,
    waiting: usize,
    until: BTreeSet<(Moment, JobKey)>,
}

impl Line {
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many keys are kept, gaps included, and how many moments.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.order.len(), self.until.len())
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets a job in at the end, to wait no longer than `until`.
    pub(super) fn push_back(&mut self, job: JobKey, until: Option<Moment>) {
        self.order.push_back(job);
        self.entered(job, until);
    }

    /// Lets a job in at the front: it was sent to a worker and came back unstarted.
    pub(super) fn push_front(&mut self, job: JobKey, until: Option<Moment>) {
        self.order.push_front(job);
        self.entered(job, until);
    }

    fn entered(&mut self, job: JobKey, until: Option<Moment>) {
        self.waiting += 1;
        if let Some(until) = until {
            self.until.insert((until, job));
        }
    }

    /// The first job in the line; `waits` tells a job from a gap.
    pub(super) fn first(&mut self, waits: impl Fn(JobKey) -> bool) -> Option<JobKey> {
        if self.waiting == 0 {
            self.order.clear();
            return None;
        }
        while let Some(job) = self.order.front() {
            if waits(*job) {
                return Some(*job);
            }
            self.order.pop_front();
        }
        None
    }

    /// Takes out the job that [`first`](Self::first) has just named.
    pub(super) fn take_first(&mut self, until: Option<Moment>) {
        if let Some(job) = self.order.pop_front() {
            self.left(job, until);
        }
    }

    /// Takes a job out from wherever it stands. `waits` must already deny it.
    pub(super) fn remove(
        &mut self,
        job: JobKey,
        until: Option<Moment>,
        waits: impl Fn(JobKey) -> bool,
    ) {
        self.left(job, until);
        if self.order.len() > 32 && self.order.len() > 2 * self.waiting {
            self.order.retain(|job| waits(*job));
        }
    }

    fn left(&mut self, job: JobKey, until: Option<Moment>) {
        self.waiting -= 1;
        if let Some(until) = until {
            self.until.remove(&(until, job));
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
