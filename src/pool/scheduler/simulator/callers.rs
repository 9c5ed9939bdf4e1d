//! What the pool's callers do, one call at a time.

use super::rules::require;
use super::visits::Wish;
use super::world::{Office, World};
use crate::pool::scheduler::Event;

impl World<'_> {
    /// Some caller does something.
    pub(super) fn act(&mut self) {
        if self.plan.acts == 0 {
            return self.curtain();
        }
        self.plan.acts -= 1;
        if self.rng.percent(self.plan.visits) {
            self.act_on_visits();
        } else if self.rng.percent(self.plan.maps) {
            self.act_on_maps();
        } else if self.rng.percent(self.plan.regrets) {
            self.regret();
        } else {
            match self.rng.below(200) {
                0 => self.close(),
                1 => self.cancel_pending(),
                2 => self.terminate(),
                3 | 4 => self.tell(Event::StartAll),
                5 => (0..70).for_each(|_| self.change_their_mind()),
                6 | 7 => self.resize(),
                8..100 => self.submit(),
                _ => (0..self.rng.below(12)).for_each(|_| self.submit()),
            }
        }
        let pause = self.rng.up_to(self.plan.pause);
        let wake = self.core.wake_at().filter(|_| self.rng.percent(10));
        // Now and then just when the core has something to do as well.
        self.office
            .enter(wake.unwrap_or(self.now + pause), Office::Act);
    }

    /// Somebody wants an async call run, or something of one.
    fn act_on_visits(&mut self) {
        if !self.rng.percent(self.plan.regrets) {
            for _ in 0..1 + self.rng.below(4) {
                let planned = self.plan.visit(self.now, &mut self.rng);
                self.submit_visit(planned);
            }
            return;
        }
        let open: Vec<_> = self.visits.unanswered().collect();
        let visit = match (self.visits.len(), &*open) {
            (0, _) => return,
            (count, []) => self.rng.below(count),
            (_, open) => self.rng.pick(open),
        };
        let wish = self.rng.pick(&[Wish::Cancel, Wish::Abort, Wish::Request]);
        self.wish(visit, wish);
    }

    /// There may be more workers, or fewer.
    fn resize(&mut self) {
        let workers = 1 + self.rng.below(8);
        self.drain();
        self.starts.places = workers;
        self.ledger.turns.forget_homes();
        for process in &mut self.processes {
            process.surplus |= process.id.place >= workers;
        }
        self.tell(Event::Resize(workers));
    }

    /// A call is wanted and then not.
    fn change_their_mind(&mut self) {
        self.submit();
        if let Some(job) = self.ledger.len().checked_sub(1) {
            self.cancel(job);
        }
    }

    fn submit(&mut self) {
        let planned = self.plan.call(self.now, &mut self.rng);
        self.drain();
        let job = self.ledger.open(planned, self.now);
        self.trace
            .note(self.now, || format!("event   submit job {job} {planned:?}"));
        match self.core.submit(self.now, planned.spec, job) {
            Ok(key) => self.ledger.accepted(job, key),
            Err((refusal, job)) => {
                require(self.closed, "only a closed pool refuses", || {
                    format!("{refusal:?} {job}")
                });
                return self.ledger.refused();
            }
        }
        require(!self.closed, "a closed pool refuses", || {
            format!("job {job}")
        });
        self.promise(job, &planned.spec);
        self.longest_line = self.longest_line.max(self.core.waiting());
        self.drain();
        self.check_core();
    }

    /// A caller wants one of the latest calls back, or at an end, or would like it to end.
    fn regret(&mut self) {
        let count = self.ledger.len();
        let open: Vec<_> = self.ledger.unanswered().collect();
        let job = match (count, &*open) {
            (0, _) => return,
            (_, []) => count - 1 - self.rng.below(count.min(20)),
            (_, open) => self.rng.pick(open),
        };
        match self.rng.below(3) {
            0 => self.cancel(job),
            1 => self.abort(job),
            _ => self.request(job),
        }
    }

    /// A chunk has no caller but its map, a room none but those that are in it.
    pub(super) fn has_no_caller(&self, job: usize) -> bool {
        self.chunks.contains_key(&job) || self.ledger.is_room(job)
    }

    fn cancel(&mut self, job: usize) {
        if self.has_no_caller(job) {
            return;
        }
        if let Some(key) = self.ledger.cancel(job) {
            self.tell(Event::Cancel(key));
            self.ledger.check_cancelled(job);
        }
    }

    pub(super) fn abort(&mut self, job: usize) {
        if self.has_no_caller(job) {
            return;
        }
        if let Some(key) = self.ledger.abort(job) {
            self.tell(Event::Abort(key));
            self.ledger.check_aborted(job, &self.processes);
        }
    }

    pub(super) fn close(&mut self) {
        self.tell(Event::Close);
        require(self.closed, "close closes", String::new);
    }

    pub(super) fn cancel_pending(&mut self) {
        self.drain();
        self.ledger.cancelled_pending = true;
        self.tell(Event::CancelPending);
        require(self.closed, "cancel_pending closes", String::new);
        self.ledger.check_nothing_waits();
        self.visits.check_nothing_waits();
        self.dropped = true;
        self.drop_pauses();
    }

    pub(super) fn terminate(&mut self) {
        self.drain();
        self.ledger.terminated = true;
        self.tell(Event::Terminate);
        require(self.closed, "terminate closes", String::new);
        self.ledger.check_all_over(&self.processes);
        self.visits.check_all_over(&self.processes);
        self.drop_pauses();
    }
}
