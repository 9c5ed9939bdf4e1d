//! What becomes of guests: they come in, are answered, pass by, or their room goes.

use super::call::Stage;
use super::room::{Room, Stay};
use super::{Act, LATE, Rooms, SILENCE, Surroundings, VERY_LATE};
use crate::pool::scheduler::{JobKey, Outcome, Progress, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A worker says something of a guest that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownGuest;

impl<T> Rooms<T> {
    /// The scheduler has taken in the room that was asked for.
    pub(crate) fn asked_for(&mut self, key: JobKey) {
        self.asking = false;
        self.pending.push(key);
    }

    /// A worker is given a room.
    pub(crate) fn opened(
        &mut self,
        now: Moment,
        around: &impl Surroundings,
        worker: WorkerId,
        key: JobKey,
    ) {
        self.pending.retain(|pending| *pending != key);
        // It may have been given to another first, and this one another room. Who did not begin them
        // passes by whoever came there; the other room stands in the scheduler's line again.
        let stale = |(at, room): (&WorkerId, &Room)| {
            let job = room.job.filter(|job| *job == key || *at == worker)?;
            Some((*at, job))
        };
        let stale: Vec<_> = self.rooms.iter().filter_map(stale).collect();
        for (at, job) in stale {
            self.pending.extend(Some(job).filter(|job| *job != key));
            self.clear(around, at);
            self.rooms.entry(at).or_default().job = None;
        }
        let room = self.rooms.entry(worker).or_default();
        room.job = Some(key);
        (room.fresh, room.stuck, room.ending, room.silent) = (true, false, None, None);
        room.look_by(now + LATE);
    }

    pub(super) fn enter(&mut self, now: Moment, worker: WorkerId, number: u64) {
        let (Some(room), Some(call)) = (self.rooms.get_mut(&worker), self.calls.get_mut(&number))
        else {
            return;
        };
        let ticket = room.enter(now, number, call.name.clone());
        room.look_by(now + LATE);
        self.line.remove(&call.turn());
        call.stage = Stage::Sent(worker, ticket);
        (call.asked, call.silent, call.ran) = (false, None, None);
        let limits = call.until().into_iter();
        let at = limits.chain(call.first_limit(now)).min();
        self.look_at(number, at);
        self.acts.push_back(Act::Enter(worker, ticket, number));
    }

    /// A guest has been answered: gives back what is attached to the call, to be answered with
    /// that. `None` if the call was ended meanwhile.
    pub(crate) fn answered(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Result<Option<T>, UnknownGuest> {
        match self.leave(now, worker, ticket)? {
            Stay::Here(number) => Ok(self.take(number)),
            Stay::TakenBack | Stay::Ended { .. } => Ok(None),
        }
    }

    /// A guest is no more, without an answer; tells whether it had been begun.
    pub(crate) fn passed(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Result<bool, UnknownGuest> {
        if self.guest(worker, ticket).is_some() {
            // It has thrown away what it should have run, and is lost with its worker.
            return Err(UnknownGuest);
        }
        let stay = self.leave(now, worker, ticket)?;
        Ok(stay != Stay::TakenBack)
    }

    /// The call that a guest is, if it is to be answered.
    pub(crate) fn guest(&mut self, worker: WorkerId, ticket: Ticket) -> Option<u64> {
        match self.rooms.get_mut(&worker)?.guest(ticket)?.stay {
            Stay::Here(number) => Some(number),
            Stay::TakenBack | Stay::Ended { .. } => None,
        }
    }

    /// The call of which a worker speaks that names a guest; `None` if that was taken back or ended.
    pub(crate) fn sending(
        &self,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Result<Option<u64>, UnknownGuest> {
        let room = self.rooms.get(&worker).ok_or(UnknownGuest)?;
        let guest = room.guests.get(&ticket.lane).ok_or(UnknownGuest)?;
        match guest.stay {
            _ if guest.ticket != ticket => Err(UnknownGuest),
            Stay::Here(number) => Ok(Some(number)),
            Stay::TakenBack | Stay::Ended { .. } => Ok(None),
        }
    }

    /// A guest's lane is free again.
    pub(super) fn leave(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Result<Stay, UnknownGuest> {
        let room = self.rooms.get_mut(&worker).ok_or(UnknownGuest)?;
        let guest = room.leave(ticket).ok_or(UnknownGuest)?;
        (room.stuck, room.silent) = (false, None);
        if room.guests() == 0 {
            room.look_by(now + LATE);
        }
        self.gone(now, worker, ticket.lane, guest.stay);
        Ok(guest.stay)
    }

    fn gone(&mut self, now: Moment, worker: WorkerId, lane: u16, stay: Stay) {
        if let Stay::Ended {
            number,
            again,
            until,
            ..
        } = stay
        {
            self.leaving.remove(&(until, worker, lane));
            if again {
                self.unblock(now, number);
            }
        }
    }

    /// The call by which a room was open is over, because nobody was in it.
    pub(crate) fn closed(
        &mut self,
        around: &impl Surroundings,
        worker: WorkerId,
    ) -> Result<(), UnknownGuest> {
        self.rooms.get_mut(&worker).ok_or(UnknownGuest)?.job = None;
        self.clear(around, worker);
        let room = self.rooms.get_mut(&worker).ok_or(UnknownGuest)?;
        if room.here().next().is_none() {
            return Ok(());
        }
        // They have been begun, so they do not go elsewhere: they are lost with their worker.
        room.ending = Some(Outcome::Lost(worker));
        Err(UnknownGuest)
    }

    /// A worker could not open its room: gives out those that were to be its guests.
    pub(crate) fn unhosted(
        &mut self,
        around: &impl Surroundings,
        worker: WorkerId,
    ) -> Vec<(u64, T)> {
        let mut given = Vec::new();
        let Some(room) = self.rooms.get_mut(&worker) else {
            return given;
        };
        room.job = None;
        let here: Vec<_> = room.here().collect();
        for (ticket, number, _) in here {
            if self.take_back(around, worker, ticket) {
                given.extend(self.take(number).map(|attachment| (number, attachment)));
            }
        }
        given
    }

    /// Takes those back into the line that have not been begun there.
    fn clear(&mut self, around: &impl Surroundings, worker: WorkerId) {
        let here: Vec<_> = match self.rooms.get(&worker) {
            Some(room) => room.here().collect(),
            None => return,
        };
        for (ticket, number, _) in here {
            if self.take_back(around, worker, ticket) {
                self.wait(number);
            }
        }
    }

    /// Takes a guest back if it has not been begun. Its lane is taken until the worker has passed by
    /// it.
    pub(super) fn take_back(
        &mut self,
        around: &impl Surroundings,
        worker: WorkerId,
        ticket: Ticket,
    ) -> bool {
        let won = around.take_back(worker, ticket);
        if let Some(room) = self.rooms.get_mut(&worker).filter(|_| won) {
            room.give_back(ticket);
        }
        won
    }

    /// The call by which a room was to be open, or is, has ended without an answer. Who waits outside
    /// has a turn, in which another is asked for, or none is to be had.
    pub(crate) fn broke(
        &mut self,
        now: Moment,
        around: &impl Surroundings,
        key: JobKey,
        outcome: Outcome,
    ) {
        self.pending.retain(|pending| *pending != key);
        let found = self
            .rooms
            .iter_mut()
            .find(|(_, room)| room.job == Some(key));
        let Some((worker, room)) = found else {
            return;
        };
        let worker = *worker;
        room.job = None;
        room.ending = Some(outcome);
        let here: Vec<_> = room.here().collect();
        let unbegun = outcome.of_unbegun();
        for (ticket, number, _) in here {
            if self.take_back(around, worker, ticket) {
                match unbegun {
                    None => self.wait(number),
                    Some(outcome) => self.resolve(number, outcome),
                }
            } else if matches!(outcome, Outcome::Lost(_)) {
                if let Progress::Running(since) = around.progress(worker, ticket) {
                    if let Some(call) = self.calls.get_mut(&number) {
                        call.ran = Some(since.until(now));
                    }
                }
                // All that it has answered has been taken in.
                let _ = self.leave(now, worker, ticket);
                self.failed(now, number, outcome, None);
            } else if around.end(worker, ticket) {
                self.end_guest(now, worker, ticket, number);
                self.failed(now, number, outcome, Some((worker, ticket)));
            }
        }
    }

    /// A worker is gone, and all that it has answered has been taken in.
    pub(crate) fn released(&mut self, now: Moment, worker: WorkerId) {
        let Some(room) = self.rooms.remove(&worker) else {
            return;
        };
        let Room {
            job,
            guests,
            ending,
            ..
        } = room;
        // Nobody there has begun it: it stands in the scheduler's line again.
        self.pending.extend(job);
        // What took it all with it counts for more than how the room ended.
        let ending = self.over.and_then(Outcome::of_begun).or(ending);
        for (lane, guest) in guests {
            self.gone(now, worker, lane, guest.stay);
            match (guest.stay, ending) {
                (Stay::Here(number), Some(outcome)) => self.failed(now, number, outcome, None),
                (Stay::Here(number), None) => self.wait(number),
                (Stay::TakenBack | Stay::Ended { .. }, _) => {}
            }
        }
    }

    /// Looks for guests that have not been begun though they have been there for a while: somebody
    /// in their room does not yield. They may go elsewhere. Where nobody is in a room, and it is not
    /// left, its worker is given up: it is stopped, and whoever came there would wait for ever.
    pub(super) fn look_around(&mut self, now: Moment, around: &impl Surroundings) {
        let due = |room: &Room| room.look_at.is_some_and(|at| at <= now);
        let rooms = self.rooms.iter().filter(|(_, room)| due(room));
        let rooms: Vec<_> = rooms.map(|(worker, _)| *worker).collect();
        if rooms.is_empty() {
            return;
        }
        let (idle, vacant) = around.spare();
        let late = if idle + vacant == 1 { VERY_LATE } else { LATE };
        for worker in rooms {
            let Some(room) = self.rooms.get_mut(&worker) else {
                continue;
            };
            room.look_at = None;
            let here: Vec<_> = room.here().collect();
            for (ticket, number, entered) in here {
                if around.progress(worker, ticket) != Progress::Waiting {
                    continue;
                }
                if entered + late > now {
                    self.rooms
                        .entry(worker)
                        .or_default()
                        .look_by(entered + late);
                } else if self.take_back(around, worker, ticket) {
                    self.wait(number);
                    self.rooms.entry(worker).or_default().stuck = true;
                }
            }
            self.look_whether_it_ends(now, around, worker);
        }
    }

    /// A worker leaves its room as soon as nobody is in it, or it is silent.
    fn look_whether_it_ends(&mut self, now: Moment, around: &impl Surroundings, worker: WorkerId) {
        let empty = |room: &&mut Room| room.is_open() && room.guests() == 0;
        let room = self.rooms.get_mut(&worker).filter(empty);
        let Some((room, job)) = room.and_then(|room| room.job.map(|job| (room, job))) else {
            return;
        };
        if !around.has_begun(worker, job) {
            // The scheduler looks after it, as after any call that waits, there or again in the line.
            return room.look_by(now + SILENCE);
        }
        let limit = *room.silent.get_or_insert(now) + SILENCE;
        if limit <= now {
            self.acts.push_back(Act::Silent(worker));
        } else {
            room.look_by(limit);
        }
    }
}
