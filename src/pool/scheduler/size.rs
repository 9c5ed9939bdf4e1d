//! How many workers there are: some are kept warm, others leave when they have nothing to do for
//! long, and the number that there may be can be changed.
//!
//! A place that is *wanted* has a worker, or will have one as soon as one can be started. Being
//! started makes it wanted; it is so until its worker leaves because it was idle, or until the pool
//! has become smaller. Places that are too many are there for as long as somebody leaves them.

use super::event::WorkerId;
use super::place::{Phase, Place, Worker};
use super::{Mode, Scheduler};
use crate::sys::clock::Moment;

impl<T> Scheduler<T> {
    /// From now on there may be so many workers. Those in higher places finish and leave.
    pub(super) fn resize(&mut self, now: Moment, workers: usize) {
        self.rules.workers = workers;
        while self.places.len() < workers {
            self.places.push(Place::default());
            self.vacant += 1;
        }
        self.move_homes();
        for place in &mut self.places[workers..] {
            (place.wanted, place.awaited) = (false, false);
        }
        let surplus = self.places[workers..].iter();
        let surplus = surplus.filter_map(|place| place.worker.as_ref());
        let surplus: Vec<_> = surplus.map(|worker| (worker.id, worker.phase)).collect();
        for (worker, phase) in surplus {
            if phase == Phase::Starting {
                self.kill(worker);
            } else {
                self.finish(worker);
                self.rest(now, worker);
            }
        }
        self.give_up_places();
        self.keep_warm();
    }

    /// Forgets places that are too many and empty.
    pub(super) fn give_up_places(&mut self) {
        let empty = |place: &Place| place.worker.is_none();
        while self.places.len() > self.rules.workers && self.places.last().is_some_and(empty) {
            self.places.pop();
            self.vacant -= 1;
        }
        self.idle.retain(|place| *place < self.places.len());
    }

    /// How many workers there may be.
    pub(crate) fn workers(&self) -> usize {
        self.rules.workers
    }

    /// Whether one more worker could be started.
    pub(super) fn has_vacancy(&self) -> bool {
        let mut places = self.places.iter().take(self.rules.workers);
        self.vacant > 0 && places.any(|place| place.worker.is_none())
    }

    /// How many workers are kept warm.
    fn kept(&self) -> usize {
        self.rules.min_workers.min(self.rules.workers)
    }

    /// Wants as many workers as are kept warm.
    pub(super) fn keep_warm(&mut self) {
        let missing = self.kept().saturating_sub(self.wanted());
        let unwanted = self.places.iter_mut().filter(|place| !place.wanted);
        for place in unwanted.take(missing) {
            place.wanted = true;
        }
    }

    /// Wants a worker in every place, and waits for each that is not ready.
    pub(super) fn want_all(&mut self) {
        for place in self.places.iter_mut().take(self.rules.workers) {
            let worker = place.worker.as_ref();
            place.wanted = true;
            place.awaited = worker.is_none_or(|worker| worker.phase != Phase::Ready);
        }
    }

    /// Whether every worker that was asked for has been ready since.
    pub(crate) fn is_complete(&self) -> bool {
        self.places.iter().all(|place| !place.awaited)
    }

    fn wanted(&self) -> usize {
        self.places.iter().filter(|place| place.wanted).count()
    }

    /// A worker is ready. There is one more now: those whose time was up while they were needed
    /// may have become too many.
    pub(super) fn joined(&mut self, now: Moment, worker: WorkerId) {
        if let Some(place) = self.places.get_mut(worker.place) {
            place.awaited = false;
        }
        if self.rules.idle_timeout.is_none() {
            return;
        }
        let idle = self.places.iter().filter_map(|place| place.worker.as_ref());
        let idle: Vec<_> = idle
            .filter(|worker| worker.is_idle() && worker.leave_at.is_none())
            .map(|worker| worker.id)
            .collect();
        idle.into_iter().for_each(|worker| self.idles(now, worker));
    }

    /// A worker has nothing to do from now on.
    pub(super) fn idles(&mut self, now: Moment, worker: WorkerId) {
        let leave_at = self.rules.idle_timeout.map(|timeout| now + timeout);
        let (Some(leave_at), Some(state)) = (leave_at, self.worker(worker)) else {
            return;
        };
        if state.leave_at.is_none() {
            state.leave_at = Some(leave_at);
            self.wake_by(leave_at);
        }
    }

    /// A worker has had nothing to do for long: it leaves unless it is one of those that are kept.
    pub(super) fn leave_idle(&mut self, now: Moment, worker: WorkerId) {
        let spare = self.mode == Mode::Open && self.wanted() > self.kept();
        let idle = self.worker(worker).is_some_and(|state| state.is_idle());
        if spare && idle {
            self.places[worker.place].wanted = false;
            self.finish(worker);
            self.rest(now, worker);
        }
    }
}

impl Worker {
    /// Whether it has had nothing to do for long; told once.
    pub(super) fn has_idled(&mut self, now: Moment) -> bool {
        self.leave_at.take_if(|at| *at <= now).is_some()
    }
}
