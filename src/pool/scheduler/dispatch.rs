//! Which worker gets a waiting job, and when: one that has nothing to do at once, one that is busy
//! if what it holds takes next to no time.

use std::cmp::Reverse;

use super::event::{Action, JobKey, Outcome, Ticket};
use super::job::Load;
use super::place::{Limits, Sent};
use super::{Scheduler, upkeep, waits};
use crate::sys::clock::Moment;

impl<T> Scheduler<T> {
    /// Sends waiting jobs, in their order, to workers that have nothing to do or little.
    pub(super) fn dispatch(&mut self, now: Moment) {
        self.stuck = None;
        while !self.line.is_empty() {
            let jobs = &self.jobs;
            let open = self.line.first(|key| waits(jobs, key));
            let bound = self.first_at_home(now);
            let mut firsts = open.into_iter().chain(bound.map(|(key, _)| key));
            if let Some(late) = firsts.find(|key| self.is_past_its_deadline(now, *key)) {
                self.leave_line(late, Outcome::Expired(false));
                continue;
            }
            let bound_is_first = match (open, bound) {
                (Some(open), Some((bound, _))) => self.turn(bound) < self.turn(open),
                _ => bound.is_some(),
            };
            let placed = if bound_is_first {
                bound
            } else {
                let open = open.and_then(|key| Some((key, self.place_for(now, key)?)));
                // Where the first cannot go, those may that wait for nothing but that place.
                open.or(bound)
            };
            let Some((key, place)) = placed else {
                self.stuck = open.map(|key| self.jobs[key.index].rare().priority);
                return;
            };
            self.assign(now, place, key);
        }
    }

    fn is_past_its_deadline(&self, now: Moment, key: JobKey) -> bool {
        let deadline = self.jobs[key.index].rare().deadline;
        deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whose turn it is: the lower goes first.
    pub(super) fn turn(&self, key: JobKey) -> (Reverse<i32>, u64) {
        (Reverse(self.jobs[key.index].rare().priority), key.number)
    }

    /// A place whose worker can take a job that may go to any.
    fn place_for(&mut self, now: Moment, key: JobKey) -> Option<usize> {
        let load = self.jobs[key.index].load;
        self.idle_place()
            .or_else(|| self.place_with_room(now, load))
    }

    /// How long a call is expected to take.
    fn expected(&self, load: Load) -> Option<u64> {
        let each = self.costs.expected(load.kind)?;
        Some(each.saturating_mul(u64::from(load.items.max(1))))
    }

    /// The place whose worker became idle last: its memory is the warmest. One that nobody waits
    /// for, if there is one.
    fn idle_place(&mut self) -> Option<usize> {
        if self.line.next_awaited(0).is_some() {
            let free =
                |place: &usize| !self.line.is_awaited(*place) && self.places[*place].is_idle();
            if let Some(position) = self.idle.iter().rposition(free) {
                return Some(self.idle.remove(position));
            }
        }
        while let Some(place) = self.idle.pop() {
            if self.places[place].is_idle() {
                return Some(place);
            }
        }
        None
    }

    /// A place whose worker has so little left to do that a short call may wait there.
    fn place_with_room(&mut self, now: Moment, load: Load) -> Option<usize> {
        let expected = self.expected_ahead(load)?;
        let late = upkeep::late(now);
        let places = &self.places;
        self.roomy.find(load, places.len(), |place| {
            let place = places.get(place);
            place.is_some_and(|place| place.has_room(expected, load, late))
        })
    }

    /// Whether a call may wait behind those that the worker of that place holds.
    pub(super) fn has_room(&self, now: Moment, place: usize, load: Load) -> bool {
        let expected = self.expected_ahead(load);
        let late = upkeep::late(now);
        expected.is_some_and(|expected| self.places[place].has_room(expected, load, late))
    }

    /// How long a call is expected to take that may be sent ahead; `None` for one that may not.
    fn expected_ahead(&self, load: Load) -> Option<u64> {
        // A chunk may wait behind a chunk: it can be taken back from there.
        let unknown = (load.items > 0).then_some(0);
        self.expected(load).or(unknown)
    }

    fn assign(&mut self, now: Moment, place: usize, key: JobKey) {
        let expected = self.expected(self.jobs[key.index].load);
        let job = &mut self.jobs[key.index];
        self.line.take_first(job.waiter(key));
        let worker = self.places[place]
            .worker
            .as_mut()
            .expect("a chosen place has a worker");
        let mut sent = Sent {
            ticket: Ticket {
                lane: 0,
                sequence: 0,
            },
            job: key,
            kind: job.load.kind,
            items: job.load.items,
            room: job.room > 0,
            answered: 0,
            cut: false,
            uncut: now,
            bytes: job.load.bytes,
            expected,
            limits: Limits::of(job.rare()),
            asked: None,
            sent_at: now,
            // A room takes as long as there is somebody in it.
            slow_call: self.rules.slow_call.filter(|_| job.room == 0),
            told: None,
            until: job.rare().until,
            check_at: None,
            recall: None,
            ending: None,
        };
        if sent.is_looked_at() {
            let slow = sent.slow_call.map(|bound| now + bound);
            sent.check_at = sent.first_limit(now).into_iter().chain(slow).min();
        }
        let (check_at, until) = (sent.check_at, sent.until);
        let ticket = worker.send(sent, now);
        let first = worker.ahead.len() == 1;
        // What else the worker has to be looked at for has been seen to.
        let head = worker.look_at.filter(|_| first);
        let id = worker.id;
        job.sent = Some((id, ticket));
        self.actions.push_back(Action::Assign(id, ticket, key));
        for wake in [check_at, until, head].into_iter().flatten() {
            self.wake_by(wake);
        }
        if first {
            self.roomy.add(place);
        }
    }
}
