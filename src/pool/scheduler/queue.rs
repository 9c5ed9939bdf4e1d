//! A queue of waiting jobs: the highest priority first, first in first out within one, with a way
//! out of the middle.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::event::JobKey;

/// The waiting jobs in order.
///
/// A job that leaves from the middle stays behind as a gap: a key whose job waits no longer, which
/// the owner can tell. Gaps are passed over when they come to the front and swept when they are
/// the larger half, so leaving is cheap and memory stays bounded.
///
/// Mostly all have the same priority, so those of the highest are at hand, and the others beside.
#[derive(Debug, Default)]
pub(super) struct Queue {
    highest: i32,
    order: VecDeque<JobKey>,
    /// Those of lower priorities.
    others: BTreeMap<i32, VecDeque<JobKey>>,
    waiting: usize,
    /// How many keys are kept, gaps included.
    kept: usize,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many keys are kept, gaps included, and for how many priorities.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.kept, 1 + self.others.len())
    }

    /// Lets a job in behind the others of its priority.
    pub(super) fn push_back(&mut self, job: JobKey, priority: i32) {
        self.entered(priority).push_back(job);
    }

    /// Lets a job in before the others of its priority.
    pub(super) fn push_front(&mut self, job: JobKey, priority: i32) {
        self.entered(priority).push_front(job);
    }

    fn entered(&mut self, priority: i32) -> &mut VecDeque<JobKey> {
        self.waiting += 1;
        self.kept += 1;
        match priority.cmp(&self.highest) {
            Ordering::Equal => &mut self.order,
            Ordering::Less if !(self.order.is_empty() && self.others.is_empty()) => {
                self.others.entry(priority).or_default()
            }
            Ordering::Less | Ordering::Greater => {
                if !self.order.is_empty() {
                    let order = std::mem::take(&mut self.order);
                    self.others.insert(self.highest, order);
                }
                self.highest = priority;
                &mut self.order
            }
        }
    }

    /// The first job; `waits` tells a job from a gap.
    pub(super) fn first(&mut self, waits: impl Fn(JobKey) -> bool) -> Option<JobKey> {
        loop {
            while let Some(job) = self.order.front() {
                if self.waiting > 0 && waits(*job) {
                    return Some(*job);
                }
                self.order.pop_front();
                self.kept -= 1;
            }
            (self.highest, self.order) = self.others.pop_last()?;
        }
    }

    /// Takes out the job that [`first`](Self::first) has just named.
    pub(super) fn take_first(&mut self) {
        if self.order.pop_front().is_some() {
            self.kept -= 1;
            self.waiting -= 1;
        }
    }

    /// A job has left from wherever it stood; `waits` denies it already.
    pub(super) fn leave_gap(&mut self, waits: impl Fn(JobKey) -> bool) {
        self.waiting -= 1;
        if self.kept > 32 && self.kept > 2 * self.waiting {
            self.order.retain(|job| waits(*job));
            self.others.retain(|_, order| {
                order.retain(|job| waits(*job));
                !order.is_empty()
            });
            self.kept = self.waiting;
        }
    }
}
