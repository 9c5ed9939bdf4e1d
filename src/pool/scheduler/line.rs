//! The line of jobs that wait in the parent: who is first, and who has waited too long. Most wait
//! for any worker, some for that of one place, and these stand aside of the others.

use std::collections::{BTreeMap, BTreeSet};

use super::event::JobKey;
use super::queue::Queue;
use crate::sys::clock::Moment;

/// The waiting jobs.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Those that wait for any worker.
    open: Queue,
    /// Those that wait for the worker of a place; no queue is empty.
    aside: BTreeMap<usize, Queue>,
    waiting: usize,
    /// How many of them are rooms.
    rooms: usize,
    until: BTreeSet<(Moment, JobKey)>,
}

/// What the line has to know of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) job: JobKey,
    pub(super) priority: i32,
    /// The moment until which it may wait.
    pub(super) until: Option<Moment>,
    /// The place for whose worker it waits; `None` for any.
    pub(super) home: Option<usize>,
}

impl Line {
    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many of those that wait are rooms.
    pub(super) fn rooms(&self) -> usize {
        self.rooms
    }

    /// How many keys are kept, gaps included, for how many priorities, and how many moments.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize, usize) {
        let queues = self.aside.values().chain([&self.open]);
        let kept = queues.map(Queue::kept);
        let sum = |(keys, priorities), (more, others)| (keys + more, priorities + others);
        let (keys, priorities) = kept.fold((0, 0), sum);
        (keys, priorities, self.until.len())
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets a job in behind the others of its priority.
    pub(super) fn push_back(&mut self, waiter: Waiter) {
        self.queue_of(waiter).push_back(waiter.job, waiter.priority);
        self.entered(waiter);
    }

    /// Lets a job in before the others of its priority: it was sent to a worker and came back
    /// unstarted.
    pub(super) fn push_front(&mut self, waiter: Waiter) {
        self.queue_of(waiter)
            .push_front(waiter.job, waiter.priority);
        self.entered(waiter);
    }

    fn queue_of(&mut self, waiter: Waiter) -> &mut Queue {
        match waiter.home {
            None => &mut self.open,
            Some(place) => self.aside.entry(place).or_default(),
        }
    }

    fn entered(&mut self, waiter: Waiter) {
        self.waiting += 1;
        self.rooms += usize::from(waiter.job.room > 0);
        if let Some(until) = waiter.until {
            self.until.insert((until, waiter.job));
        }
    }

    /// The first of the jobs that wait for any worker; `waits` tells a job from a gap.
    pub(super) fn first(&mut self, waits: impl Fn(JobKey) -> bool) -> Option<JobKey> {
        self.open.first(waits)
    }

    /// How many jobs wait for any worker.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// The first of the jobs that wait for the worker of a place.
    pub(super) fn first_aside(
        &mut self,
        place: usize,
        waits: impl Fn(JobKey) -> bool,
    ) -> Option<JobKey> {
        self.aside.get_mut(&place)?.first(waits)
    }

    /// Whether jobs wait for the worker of that place.
    pub(super) fn is_awaited(&self, place: usize) -> bool {
        self.aside.contains_key(&place)
    }

    /// The first place from this one on for whose worker jobs wait.
    pub(super) fn next_awaited(&self, from: usize) -> Option<usize> {
        self.aside.range(from..).next().map(|(place, _)| *place)
    }

    /// Takes out the job that [`first`](Self::first) or [`first_aside`](Self::first_aside) has just
    /// named.
    pub(super) fn take_first(&mut self, waiter: Waiter) {
        self.queue_of(waiter).take_first();
        self.left(waiter);
    }

    /// Takes a job out from wherever it stands. `waits` must already deny it.
    pub(super) fn remove(&mut self, waiter: Waiter, waits: impl Fn(JobKey) -> bool) {
        self.queue_of(waiter).leave_gap(waits);
        self.left(waiter);
    }

    fn left(&mut self, waiter: Waiter) {
        self.waiting -= 1;
        self.rooms -= usize::from(waiter.job.room > 0);
        if self.queue_of(waiter).is_empty() {
            // With the gaps in it.
            waiter.home.map(|place| self.aside.remove(&place));
        }
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
