//! What goes wrong.

use std::time::Duration;

use super::rules::require;
use super::world::{Office, World};
use crate::pool::scheduler::{Event, LANES, Progress, StartFailure, Ticket, WorkerId};
use crate::sys::clock::Moment;

impl World<'_> {
    /// One of this world's faults.
    pub(super) fn fault(&mut self) {
        if self.plan.faults == 0 || self.calm || self.finished {
            return;
        }
        self.plan.faults -= 1;
        match self.rng.below(4) {
            0 if self.plan.crashes => self.crash(),
            1 if self.plan.stops => self.stop_somebody(),
            2 if self.plan.violations && self.rng.percent(30) => self.violate(),
            3 if self.plan.orphans && self.rng.percent(30) => self.orphan(),
            _ => {}
        }
        let pause = self
            .rng
            .spread(self.plan.fault_pause / 20, self.plan.fault_pause);
        self.office.enter(self.now + pause, Office::Fault);
    }

    /// A living worker, if there is any.
    fn somebody(&mut self, ready: bool) -> Option<usize> {
        let living = |index: &usize| {
            let process = &self.processes[*index];
            !process.dead && (process.ready || !ready)
        };
        let from = self.processes.len().saturating_sub(12);
        let living: Vec<_> = (from..self.processes.len()).filter(living).collect();
        (!living.is_empty()).then(|| self.rng.pick(&living))
    }

    fn crash(&mut self) {
        if let Some(index) = self.somebody(false) {
            self.die(index, false);
        }
    }

    fn stop_somebody(&mut self) {
        if let Some(index) = self.somebody(true) {
            self.stop(index);
        }
    }

    /// A worker says what it must not say.
    fn violate(&mut self) {
        let Some(index) = self.somebody(self.plan.failing_starts == 0) else {
            return;
        };
        self.drain();
        let process = &mut self.processes[index];
        let id = process.id;
        let unknown = Ticket {
            lane: self.rng.below(LANES) as u16,
            sequence: process.sequence + 1 + self.rng.below(3) as u64,
        };
        process.condemned = true;
        self.trace
            .note(self.now, || format!("event   {id:?} breaks the protocol"));
        if let Some(guest) = self.visits.guest_of(id).filter(|_| self.rng.percent(50)) {
            return self.deny(id, guest);
        }
        if self.rng.percent(30) && self.processes[index].ready {
            return self.tell(Event::Acknowledged(id, unknown));
        }
        let answer = self.core.complete(self.now, id, unknown, Duration::ZERO);
        require(
            answer.is_err(),
            "nobody answers a call that it was not given",
            || format!("{id:?}"),
        );
        self.tell(Event::Condemned(id));
    }

    /// A worker says of somebody in its room that it is gone; or that all are.
    fn deny(&mut self, id: WorkerId, guest: Ticket) {
        let room = self.core.running(id);
        let job = room.and_then(|(key, _)| self.core.attachment(key).copied());
        let room = room.zip(job.filter(|job| self.ledger.is_open_room(*job)));
        match room.filter(|_| self.rng.percent(50)) {
            None => drop(self.rooms.passed(self.now, id, guest)),
            Some(((_, ticket), job)) => {
                self.starts.served();
                let over = self.core.complete(self.now, id, ticket, Duration::ZERO);
                require(
                    over.is_ok(),
                    "a room is the first call of its worker",
                    || format!("{id:?}"),
                );
                self.ledger.responded(job, job, id);
                let _ = self.with_rooms(|rooms, _, around| rooms.closed(around, id));
            }
        }
        // Under one lock with that.
        self.core.handle(self.now, Event::Condemned(id));
        self.drain();
    }

    /// A fork server is gone.
    fn orphan(&mut self) {
        for index in 0..self.processes.len() {
            self.drain();
            let process = &mut self.processes[index];
            if !process.reaped {
                process.orphaned = true;
                let id = process.id;
                self.tell(Event::Orphaned(id));
            }
        }
    }

    /// Something is heard of a worker that is no more.
    pub(super) fn echo(&mut self, index: usize) {
        let id = self.processes[index].id;
        let ticket = Ticket {
            lane: self.rng.below(3) as u16,
            sequence: 1 + self.rng.below(5) as u64,
        };
        let event = match self.rng.below(12) {
            0 => Event::Ready(id),
            1 => Event::StartFailed(id, StartFailure::Worker),
            2 => Event::TakenBack(id, ticket, true),
            3 => Event::Ended(id, ticket, true),
            4 => Event::Probed(id, ticket, Progress::Waiting),
            5 => Event::Probed(id, ticket, Progress::Running(Moment(0))),
            6 => Event::Acknowledged(id, ticket),
            7 => Event::Exited(id),
            8 => Event::Orphaned(id),
            9 => Event::Uncut(id, ticket),
            10 => Event::Probed(id, ticket, Progress::Between(Moment(0))),
            _ => Event::Condemned(id),
        };
        self.tell(event);
        let answer = self.core.complete(self.now, id, ticket, Duration::ZERO);
        let guest = Ticket {
            lane: LANES as u16 + ticket.lane,
            ..ticket
        };
        let other = self.rooms.answered(self.now, id, guest);
        require(
            answer.is_err() && other.is_err(),
            "the dead answer nothing",
            || format!("{id:?}"),
        );
    }
}
