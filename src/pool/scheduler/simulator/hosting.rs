//! What the driver does for async calls: it asks the rooms, performs what they decide, and takes in
//! what workers say of their guests.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::asking::NOTICING;
use super::life::STOPPING;
use super::plan::{Flaw, Planned, PlannedVisit};
use super::process::{Guest, Sent, Spoken};
use super::rules::require;
use super::visits::{Look, Scene, Wish};
use super::world::{Office, World};
use crate::pool::rooms::{Act, CallSpec, Rooms, Surroundings};
use crate::pool::scheduler::{
    Event, JobKey, JobSpec, Outcome, Progress, Request, Ticket, WorkerId,
};
use crate::sys::clock::Moment;

/// What the rooms see of the world, which goes on meanwhile.
pub(super) struct Around<'w, 't> {
    world: RefCell<&'w mut World<'t>>,
    /// What time it was when they were asked.
    asked: Moment,
}

impl Surroundings for Around<'_, '_> {
    fn take_back(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let world = &mut self.world.borrow_mut();
        world.pass_a_moment();
        let won = world.asked(worker).page.take_back(ticket);
        if won {
            world.visits.came_back(worker, ticket);
        }
        won
    }

    fn end(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let world = &mut self.world.borrow_mut();
        world.pass_a_moment();
        let won = world.asked(worker).page.end(ticket, Moment(u64::MAX));
        if won {
            world.guest_was_ended(worker, ticket, self.asked);
        }
        won
    }

    fn ask(&self, worker: WorkerId, ticket: Ticket, why: Request) -> bool {
        let world = &mut self.world.borrow_mut();
        world.pass_a_moment();
        let page = &world.asked(worker).page;
        let asked = page.ask(ticket, Moment(u64::MAX)).is_some();
        if asked {
            world.guest_takes_notice(worker, ticket, why);
        }
        asked
    }

    fn progress(&self, worker: WorkerId, ticket: Ticket) -> Progress {
        self.world.borrow_mut().asked(worker).page.progress(ticket)
    }

    fn has_begun(&self, worker: WorkerId, room: JobKey) -> bool {
        let first = self
            .world
            .borrow()
            .core
            .running(worker)
            .filter(|(first, _)| *first == room);
        first.is_some_and(|(_, ticket)| self.progress(worker, ticket) != Progress::Waiting)
    }

    fn admits(&self, worker: WorkerId, room: JobKey, guests: usize) -> bool {
        self.world.borrow().core.admits(worker, room, guests)
    }

    fn waiting(&self) -> usize {
        self.world.borrow().core.calls_waiting()
    }

    fn spare(&self) -> (usize, usize) {
        self.world.borrow().core.spare()
    }
}

impl<'t> World<'t> {
    /// Does something with the rooms, which see the world without them.
    pub(super) fn with_rooms<R>(
        &mut self,
        act: impl FnOnce(&mut Rooms<usize>, Moment, &Around<'_, 't>) -> R,
    ) -> R {
        let nothing = Rooms::new(self.plan.rooms);
        let mut rooms = std::mem::replace(&mut self.rooms, nothing);
        let now = self.now;
        self.rooms_asked = now;
        let around = Around {
            world: RefCell::new(self),
            asked: now,
        };
        let result = act(&mut rooms, now, &around);
        around.world.into_inner().rooms = rooms;
        result
    }

    /// A caller wants an async call run.
    pub(super) fn submit_visit(&mut self, planned: PlannedVisit) -> Option<usize> {
        self.drain();
        require(
            self.core.refusal().is_some() == self.closed,
            "a closed pool refuses async calls, and no other does",
            String::new,
        );
        if self.closed {
            return None;
        }
        let number = self.core.take_numbers(1);
        let visit = self.visits.open(planned, number, self.now);
        let spec = CallSpec {
            number,
            ..planned.spec
        };
        self.trace.note(self.now, || {
            format!("event   submit visit {visit} as {number} {planned:?}")
        });
        let name: Option<Arc<str>> = planned.named.then(|| number.to_string().into());
        self.rooms.submit(self.now, spec, name, visit);
        if let Some(limit) = spec.queue_timeout {
            self.look_later(Look::Begun, visit, self.now + limit);
        }
        if let Some(deadline) = spec.deadline {
            self.look_later(Look::Over, visit, deadline);
            self.look_later(Look::Answered, visit, deadline);
        }
        self.drain();
        self.check_core();
        Some(visit)
    }

    /// A caller wants something of an async call.
    pub(super) fn wish(&mut self, visit: usize, wish: Wish) {
        self.drain();
        let number = self.visits.wish(visit, wish);
        self.trace
            .note(self.now, || format!("event   {wish:?} visit {visit}"));
        if self.rooms.is_open(number) {
            self.with_rooms(|rooms, now, around| match wish {
                Wish::Cancel => rooms.cancel(around, number),
                Wish::Abort => rooms.abort(now, around, number),
                Wish::Request => {
                    rooms.request(around, number);
                }
            });
        }
        self.drain();
        self.visits.check_wish(visit, wish, &self.processes);
        self.check_core();
    }

    fn look_later(&mut self, look: Look, visit: usize, at: Moment) {
        let at = at + look.after();
        self.office.enter(at, Office::Look(look, visit));
    }

    /// An async call is begun.
    pub(super) fn visit_begins(&mut self, visit: usize, worker: WorkerId, ticket: Ticket) {
        self.trace.note(self.now, || {
            format!("machine {worker:?} starts visit {visit}")
        });
        require(
            !self.dropped,
            "no async call is begun when all that waits was dropped",
            || format!("{visit} {worker:?}"),
        );
        let scene = Scene::of(&self.processes, &self.starts, &self.ledger, self.now);
        self.visits.begun(visit, ticket, scene);
        let spec = self.visits.get(visit).planned.spec;
        if let Some(limit) = spec.timeout {
            self.look_later(Look::Over, visit, self.now + limit);
            self.look_later(Look::Answered, visit, self.now + limit);
        }
        if let Some(limit) = spec.soft_timeout {
            self.look_later(Look::Asked, visit, self.now + limit);
        }
    }

    /// The rooms have their turn; true if the core may have something to say to what follows.
    pub(super) fn turn_of_rooms(&mut self) -> bool {
        if self.rooms.is_idle() {
            return false;
        }
        self.with_rooms(|rooms, now, around| rooms.turn(now, around));
        let acted = self.act_for_rooms();
        for process in &mut self.processes {
            process.fresh = false;
        }
        acted
    }

    /// Performs what the rooms have decided; tells whether there was anything.
    pub(super) fn act_for_rooms(&mut self) -> bool {
        let mut acted = false;
        while let Some(act) = self.rooms.next_act() {
            acted = true;
            self.count();
            self.pass_a_moment();
            self.trace.note(self.now, || format!("act     {act:?}"));
            require(!self.finished, "nothing comes after Finished", || {
                format!("{act:?}")
            });
            self.perform_act(act);
        }
        acted
    }

    fn perform_act(&mut self, act: Act<usize>) {
        match act {
            Act::Open(number, priority) => self.ask_for_room(number, priority),
            Act::Forget(key) => {
                if let Some(job) = self.core.attachment(key).copied() {
                    self.ledger.cancel(job);
                }
                self.core.handle(self.now, Event::Cancel(key));
            }
            Act::Enter(worker, ticket, number) => self.enter(worker, ticket, number),
            Act::Drop(worker, ticket) => {
                let (now, grace) = (self.now, self.plan.rooms.grace);
                let process = self.asked(worker);
                process.check_expelled(ticket, None, now, grace);
                process.inbox.push_back(Sent::Drop(ticket));
                let index = self.index(worker);
                self.wake(index);
            }
            Act::Condemn(worker, number, name) => {
                let rules = self.plan.rooms;
                let visit = self.visits.by_number(number);
                let named = visit.is_some_and(|visit| self.visits.get(visit).planned.named);
                let own = named.then(|| number.to_string());
                require(
                    name.as_deref() == own.as_deref(),
                    "who has not yielded is called by its name",
                    || format!("{number} {name:?}"),
                );
                let (now, limit) = (self.now, rules.grace + rules.yield_limit);
                let process = self.asked(worker);
                process.check_accused(visit, now, limit);
                process.unyielding = true;
                self.core.handle(self.now, Event::Condemned(worker));
            }
            Act::Silent(worker) => self.core.handle(self.now, Event::Condemned(worker)),
            Act::Repeat(number, outcome) => {
                let visit = self.rooms.attachment(number).copied();
                let visit = visit.expect("who is to be run again is in the pool");
                self.repeat_visit(visit, Some(outcome), self.rooms_asked);
            }
            Act::Resolve(visit, number, outcome, ran) => {
                let own = self.visits.get(visit).number == number;
                require(
                    own,
                    "an async call is answered under its own number",
                    || format!("{number} is not {:?}", self.visits.get(visit)),
                );
                let scene = Scene::of(&self.processes, &self.starts, &self.ledger, self.now);
                self.visits.check_ran(visit, outcome, ran, scene);
                self.visits.resolved(visit, outcome, scene);
            }
            Act::Calls(any) => self.core.handle(self.now, Event::AsyncCalls(any)),
        }
    }

    fn repeat_visit(&mut self, visit: usize, outcome: Option<Outcome>, failed: Moment) {
        let scene = Scene::of(&self.processes, &self.starts, &self.ledger, self.now);
        self.visits.repeated(visit, outcome, failed, scene);
    }

    fn ask_for_room(&mut self, number: u64, priority: i32) {
        let asker = self.rooms.attachment(number).copied();
        let asker = asker.map(|visit| self.visits.get(visit).planned.spec.priority);
        require(
            asker == Some(priority),
            "a room is asked for in the name of a call, with its priority",
            || format!("{number} {priority}"),
        );
        require(
            !self.is_ending() && !self.ledger.cancelled_pending,
            "no room is asked for when all is over",
            || format!("{number}"),
        );
        let (idle, vacant) = self.core.spare();
        let roomy = self.roomy();
        require(
            roomy.is_none() || idle + vacant > 1,
            "one worker is left for blocking calls as long as there is room",
            || format!("{roomy:?}"),
        );
        let spec = JobSpec {
            kind: u64::MAX,
            priority,
            room: Some(number),
            ..JobSpec::default()
        };
        let planned = Planned {
            spec,
            // As long as there is somebody in it.
            length: Duration::ZERO,
            large: false,
            last: false,
            // Somebody in it may.
            grows: true,
        };
        let job = self.ledger.open(planned, self.now);
        let key = self.core.take_in(self.now, spec, job);
        self.ledger.accepted(job, key);
        self.rooms.asked_for(key);
        self.longest_line = self.longest_line.max(self.core.waiting());
    }

    /// A room that would certainly let somebody in: nobody is on the way there or out of it, and
    /// nobody else waits for its worker.
    fn roomy(&self) -> Option<WorkerId> {
        let others = self.core.waiting() > self.ledger.waiting_rooms();
        let mut open = self.processes.iter().filter(|process| {
            let begun = process.guests.iter().all(|guest| guest.until.is_some());
            let (guests, lanes) = (process.guests.len(), process.berths.len());
            let there = process.is_in_room() && begun && guests > 0 && guests == lanes;
            let room = self.core.running(process.id);
            let admits = |(room, _)| self.core.admits(process.id, room, guests);
            there && guests < self.plan.rooms.most && room.is_some_and(admits)
        });
        open.find(|_| !others).map(|process| process.id)
    }

    /// A worker was given a room.
    pub(super) fn open_room(&mut self, worker: WorkerId, key: JobKey) {
        let now = self.now;
        let process = self.asked(worker);
        (process.fresh, process.guest_heard_at) = (true, now);
        self.with_rooms(|rooms, now, around| rooms.opened(now, around, worker, key));
    }

    fn enter(&mut self, worker: WorkerId, ticket: Ticket, number: u64) {
        let visit = self.rooms.attachment(number).copied();
        require(visit.is_some(), "only an unfinished call enters", || {
            format!("{number}")
        });
        let visit = visit.unwrap_or_default();
        let given = self.core.running(worker).map(|(key, _)| key);
        let given = given.and_then(|key| self.core.attachment(key).copied());
        require(
            given.is_some_and(|job| self.ledger.is_room(job)),
            "nobody is let in where there is no room",
            || format!("{worker:?} {given:?}"),
        );
        let others = self.core.waiting() - self.ledger.waiting_rooms();
        self.asked(worker).check_enter(ticket, others);
        let most = self.plan.rooms.most;
        self.visits.entered(visit, worker, ticket, most, self.now);
        let planned = self.visits.get(visit).planned;
        let guest = Guest {
            ticket,
            visit,
            work: planned.work.after(self.visits.failures(visit)),
            hogs: planned.hogs,
            until: None,
        };
        let process = self.asked(worker);
        process.page.put(ticket);
        process.inbox.push_back(Sent::Enter(guest));
        let index = self.index(worker);
        self.wake(index);
        self.look_later(Look::There, visit, self.now);
    }

    /// A guest was ended: it has to yield.
    fn guest_was_ended(&mut self, worker: WorkerId, ticket: Ticket, now: Moment) {
        let Some(visit) = self.visits.ended(worker, ticket) else {
            return;
        };
        let rules = self.plan.rooms;
        self.asked(worker)
            .expelled
            .insert(ticket.sequence, (visit, now));
        let index = self.index(worker);
        let due = now + rules.grace + rules.yield_limit;
        self.office.enter(
            due + STOPPING,
            Office::MustHaveYielded(index, ticket.sequence),
        );
    }

    /// A guest that was asked to end may do so.
    fn guest_takes_notice(&mut self, worker: WorkerId, ticket: Ticket, why: Request) {
        let now = self.now;
        self.visits.was_asked(worker, ticket, why, now);
        if !self.rng.percent(self.plan.terms.heeds) {
            return;
        }
        let at = now + self.rng.up_to(NOTICING);
        let index = self.index(worker);
        let guests = &mut self.processes[index].guests;
        let found = guests.iter_mut().find(|guest| guest.ticket == ticket);
        let until = found.and_then(|guest| guest.until.as_mut());
        if let Some(until) = until.filter(|until| **until > at) {
            *until = at;
            self.hurry_step(index, at);
        }
    }

    /// What a worker says of a guest is taken in.
    pub(super) fn take_in_guest(&mut self, index: usize, guest: Guest, spoken: Spoken) {
        let process = &mut self.processes[index];
        let (id, ticket, expected) = (process.id, guest.ticket, guest.visit);
        process.berths.remove(&ticket.lane);
        process.expelled.remove(&ticket.sequence);
        let begun = match spoken {
            Spoken::Answered => Ok(true),
            Spoken::Passed => self.rooms.passed(self.now, id, ticket),
        };
        if let Some((_, room)) = self.core.running(id).filter(|_| begun == Ok(true)) {
            self.core.item_answered(id, room);
        }
        if spoken == Spoken::Passed {
            return require(begun.is_ok(), "a true word on a guest is known", || {
                format!("{guest:?}")
            });
        }
        if guest.work.flaw == Flaw::Panics {
            if self.rooms.panicked(self.now, id, ticket).is_some() {
                return self.repeat_visit(expected, None, self.now);
            }
            let scene = Scene::of(&self.processes, &self.starts, &self.ledger, self.now);
            self.visits.check_not_repeated(expected, scene);
        }
        match self.rooms.answered(self.now, id, ticket) {
            Ok(Some(visit)) => self.visits.responded(visit, expected, id),
            Ok(None) => self.visits.check_response_was_late(expected),
            Err(_) => require(false, "a true answer of a guest is known", || {
                format!("{guest:?}")
            }),
        }
    }

    /// Nobody is in a worker's room any more.
    pub(super) fn room_is_left(&mut self, worker: WorkerId) {
        let closed = self.with_rooms(|rooms, _, around| rooms.closed(around, worker));
        require(closed.is_ok(), "who leaves a room was alone in it", || {
            format!("{worker:?}")
        });
    }

    /// Time has passed for somebody who was ended in a room.
    pub(super) fn check_yielded(&self, index: usize, sequence: u64) {
        let process = &self.processes[index];
        let there = process.expelled.contains_key(&sequence);
        require(
            !there || process.killed || process.dead || process.condemned,
            "who does not yield is killed",
            || format!("{:?} {process:?}", self.now),
        );
    }
}
