//! Which worker gets a waiting job, and when: one that has nothing to do at once, one that is busy
//! if what it holds takes next to no time.

use super::event::{Action, JobKey, JobSpec, Outcome, Ticket};
use super::place::{Sent, Worker};
use super::{Scheduler, upkeep, waits};
use crate::sys::clock::Moment;

impl<T> Scheduler<T> {
    /// Sends waiting jobs, in their order, to workers that have nothing to do or little.
    pub(super) fn dispatch(&mut self, now: Moment) {
        loop {
            let jobs = &self.jobs;
            let Some(key) = self.line.first(|key| waits(jobs, key)) else {
                return;
            };
            let spec = jobs[key.index].spec;
            if spec.deadline.is_some_and(|deadline| deadline <= now) {
                self.leave_line(key, Outcome::Expired(false));
                continue;
            }
            let expected = self.expected(spec);
            let place = self
                .idle_place()
                .or_else(|| self.place_with_room(now, spec, expected));
            let Some(place) = place else { return };
            self.assign(now, place, key, expected);
        }
    }

    /// How long a call is expected to take.
    fn expected(&self, spec: JobSpec) -> Option<u64> {
        let each = self.costs.expected(spec.kind)?;
        Some(each.saturating_mul(u64::from(spec.items.max(1))))
    }

    /// The place whose worker became idle last: its memory is the warmest.
    fn idle_place(&mut self) -> Option<usize> {
        while let Some(place) = self.idle.pop() {
            if self.places[place]
                .worker
                .as_ref()
                .is_some_and(Worker::is_idle)
            {
                return Some(place);
            }
        }
        None
    }

    /// A place whose worker has so little left to do that a short call may wait there.
    fn place_with_room(
        &mut self,
        now: Moment,
        spec: JobSpec,
        expected: Option<u64>,
    ) -> Option<usize> {
        let expected = match expected {
            Some(expected) => expected,
            // A chunk may wait behind a chunk: it can be taken back from there.
            None if spec.items > 0 => 0,
            None => return None,
        };
        let late = upkeep::late(now);
        let count = self.places.len();
        let place = (0..count)
            .map(|step| (self.cursor + step) % count)
            .find(|place| {
                let worker = self.places[*place].worker.as_ref();
                worker.is_some_and(|worker| worker.has_room(expected, &spec, late))
            })?;
        self.cursor = place + 1;
        Some(place)
    }

    fn assign(&mut self, now: Moment, place: usize, key: JobKey, expected: Option<u64>) {
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
            kind: job.spec.kind,
            items: job.spec.items,
            cut: false,
            uncut: now,
            bytes: job.spec.bytes,
            expected,
            timeout: job.spec.timeout,
            sent_at: now,
            deadline: job.spec.deadline,
            until: job.until,
            check_at: None,
            recall: None,
            ending: None,
        };
        sent.check_at = sent.time_is_up(now).map(|(at, _)| at);
        let limits = sent.check_at.into_iter().chain(sent.until);
        let ticket = worker.send(sent, now);
        // What else the worker has to be looked at for has been seen to.
        let head = worker.look_at.filter(|_| worker.ahead.len() == 1);
        let id = worker.id;
        job.sent = Some((id, ticket));
        self.actions.push_back(Action::Assign(id, ticket, key));
        if let Some(wake) = limits.chain(head).min() {
            self.wake_by(wake);
        }
    }
}
