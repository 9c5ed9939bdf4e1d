//! Ending calls before they end themselves: by request, by a limit, because the pool ends; and
//! running them again where their callers allow that.

use super::call::Stage;
use super::room::Stay;
use super::{Act, Rooms, SILENCE, Surroundings};
use crate::pool::scheduler::{Failure, Outcome, Progress, Request, Retry, Ticket, WorkerId};
use crate::sys::clock::Moment;

impl<T> Rooms<T> {
    /// Takes a call back if it has not been begun.
    pub(crate) fn cancel(&mut self, around: &impl Surroundings, number: u64) {
        self.withdraw(around, number, Outcome::Cancelled);
    }

    /// Ends a call even while it runs. It is not run again, even if this run was over.
    pub(crate) fn abort(&mut self, now: Moment, around: &impl Surroundings, number: u64) {
        self.forbid_repeating(number);
        if !self.withdraw(around, number, Outcome::Aborted(false)) {
            self.end(now, around, number, Outcome::Aborted(true));
        }
    }

    /// Takes a call back if it has not been begun, else asks it to come to its end; tells whether it
    /// could be asked. It is not run again, however it ends.
    pub(crate) fn request(&mut self, around: &impl Surroundings, number: u64) -> bool {
        self.forbid_repeating(number);
        if self.withdraw(around, number, Outcome::Cancelled) {
            return true;
        }
        let holder = self.holder(number);
        holder.is_some_and(|(worker, ticket)| around.ask(worker, ticket, Request::Caller))
    }

    /// Nobody wants another run of it, however this one ends.
    fn forbid_repeating(&mut self, number: u64) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.spec.retry = Retry::default();
        }
    }

    /// Nothing that has not been begun will be, and ends like this; where everything ends, so does
    /// what has been begun, whatever else is known of its room.
    pub(crate) fn over(&mut self, now: Moment, around: &impl Surroundings, outcome: Outcome) {
        self.over = Some(outcome);
        let all: Vec<_> = self.calls.keys().copied().collect();
        for number in all {
            // Where no worker can be started, those that live finish what they hold.
            let stays = outcome == Outcome::Broken(None, false) && self.holder(number).is_some();
            if stays || self.withdraw(around, number, outcome) {
                continue;
            }
            if let Some(begun) = outcome.of_begun() {
                self.end(now, around, number, begun);
            }
        }
    }

    /// Ends a call that has not been begun; tells whether it is over.
    fn withdraw(&mut self, around: &impl Surroundings, number: u64, outcome: Outcome) -> bool {
        let Some(call) = self.calls.get(&number) else {
            return true;
        };
        let unbegun = match call.stage {
            Stage::Waiting | Stage::Pausing(..) => true,
            Stage::Sent(worker, ticket) => self.take_back(around, worker, ticket),
        };
        if unbegun {
            self.resolve(number, outcome);
        }
        unbegun
    }

    /// Ends a call that runs; a call that is over keeps its answer, which must come soon.
    fn end(&mut self, now: Moment, around: &impl Surroundings, number: u64, outcome: Outcome) {
        let Some((worker, ticket)) = self.holder(number) else {
            return;
        };
        if around.end(worker, ticket) {
            self.end_guest(now, worker, ticket, number);
            self.failed(now, number, outcome, Some((worker, ticket)));
        } else {
            self.look_for_answer(now, worker, number);
        }
    }

    /// A guest was ended: after its grace it is dropped.
    pub(super) fn end_guest(&mut self, now: Moment, worker: WorkerId, ticket: Ticket, number: u64) {
        let until = now + self.rules.grace;
        let Some(guest) = self
            .rooms
            .get_mut(&worker)
            .and_then(|room| room.guest(ticket))
        else {
            return;
        };
        guest.stay = Stay::Ended {
            number,
            again: false,
            dropped: false,
            until,
        };
        self.leaving.insert((until, worker, ticket.lane));
        self.let_go(now);
    }

    /// Has those dropped whose grace is over; who keeps hold of one for too long is killed.
    fn let_go(&mut self, now: Moment) {
        while let Some((at, worker, lane)) = self.leaving.first().copied() {
            if at > now {
                return;
            }
            self.leaving.pop_first();
            let limit = now + self.rules.yield_limit;
            let room = self.rooms.get_mut(&worker);
            let Some(guest) = room.and_then(|room| room.guests.get_mut(&lane)) else {
                continue;
            };
            let (ticket, name) = (guest.ticket, guest.name.clone());
            let Stay::Ended {
                number,
                dropped,
                until,
                ..
            } = &mut guest.stay
            else {
                continue;
            };
            if *dropped {
                self.acts.push_back(Act::Condemn(worker, *number, name));
            } else {
                (*dropped, *until) = (true, limit);
                self.leaving.insert((limit, worker, lane));
                self.acts.push_back(Act::Drop(worker, ticket));
            }
        }
    }

    /// Time has passed: whatever is due is done.
    pub(crate) fn tick(&mut self, now: Moment, around: &impl Surroundings) {
        while let Some((at, number)) = self.times.first().copied() {
            if at > now {
                break;
            }
            self.look_at(number, None);
            self.look_after(now, around, number);
        }
        self.let_go(now);
        self.look_around(now, around);
    }

    /// Looks at the limits of a call; it is looked at again when the next one is due.
    fn look_after(&mut self, now: Moment, around: &impl Surroundings, number: u64) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let (spec, until) = (call.spec, call.until());
        let late = || {
            if spec.deadline.is_some_and(|deadline| deadline <= now) {
                Outcome::Expired(false)
            } else {
                Outcome::WaitedTooLong
            }
        };
        match call.stage {
            Stage::Waiting => {
                if until.is_some_and(|until| until <= now) {
                    self.resolve(number, late());
                }
            }
            Stage::Pausing(at, blocked) => {
                if spec.deadline.is_some_and(|deadline| deadline <= now) {
                    self.resolve(number, Outcome::Expired(false));
                } else if !blocked && at <= now {
                    self.wait(number);
                } else {
                    let pause = (!blocked).then_some(at);
                    self.look_at(number, pause.into_iter().chain(spec.deadline).min());
                }
            }
            Stage::Sent(worker, ticket) => match around.progress(worker, ticket) {
                Progress::Waiting => {
                    if until.is_none_or(|until| until > now) {
                        let limit = call.first_limit(now);
                        return self.look_at(number, limit.into_iter().chain(until).min());
                    }
                    if self.take_back(around, worker, ticket) {
                        return self.resolve(number, late());
                    }
                    // It has been begun just now.
                    self.look_at(number, Some(now));
                }
                Progress::Running(since) | Progress::Between(since) => {
                    let ran = spec
                        .timeout
                        .map(|limit| (since + limit, Outcome::RanTooLong));
                    let expired = spec.deadline.map(|at| (at, Outcome::Expired(true)));
                    let due = ran.into_iter().chain(expired).min_by_key(|(at, _)| *at);
                    match due {
                        Some((at, outcome)) if at <= now => self.end(now, around, number, outcome),
                        due => {
                            let soft = self.ask_if_late(now, around, number, since);
                            let due = due.map(|(at, _)| at);
                            self.look_at(number, soft.into_iter().chain(due).min());
                        }
                    }
                }
                Progress::Over => self.look_for_answer(now, worker, number),
            },
        }
    }

    /// A call is over: its answer must come soon, or its worker is stopped. What that has finished
    /// is found when it is dead.
    fn look_for_answer(&mut self, now: Moment, worker: WorkerId, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let limit = *call.silent.get_or_insert(now) + SILENCE;
        if limit <= now {
            self.acts.push_back(Act::Silent(worker));
        } else {
            self.look_at(number, Some(limit));
        }
    }

    /// Asks a call that runs since then to come to its end, if it is time; tells when it will be.
    fn ask_if_late(
        &mut self,
        now: Moment,
        around: &impl Surroundings,
        number: u64,
        since: Moment,
    ) -> Option<Moment> {
        let (worker, ticket) = self.holder(number)?;
        let call = self.calls.get_mut(&number)?;
        let at = since + call.spec.soft_timeout.filter(|_| !call.asked)?;
        if at > now {
            return Some(at);
        }
        call.asked = true;
        around.ask(worker, ticket, Request::SoftLimit);
        None
    }

    /// A run has failed like this: the call is run again, or this is its end. The run is over for
    /// certain when that guest has left; now if there is none.
    pub(super) fn failed(
        &mut self,
        now: Moment,
        number: u64,
        outcome: Outcome,
        guest: Option<(WorkerId, Ticket)>,
    ) {
        let failure = match outcome {
            Outcome::Lost(_) => Some(Failure::Lost),
            Outcome::RanTooLong => Some(Failure::RanTooLong),
            _ => None,
        };
        if !failure.is_some_and(|failure| self.is_repeated(now, number, failure)) {
            return self.resolve(number, outcome);
        }
        self.acts.push_back(Act::Repeat(number, outcome));
        let guest = guest.and_then(|(worker, ticket)| self.rooms.get_mut(&worker)?.guest(ticket));
        let mut blocked = false;
        if let Some(Stay::Ended { again, .. }) = guest.map(|guest| &mut guest.stay) {
            (*again, blocked) = (true, true);
        }
        self.pause(now, number, blocked);
    }

    /// A guest says that its call has panicked. If it is to be run again for that, this is its
    /// number, and nothing is left to be answered.
    pub(crate) fn panicked(
        &mut self,
        now: Moment,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Option<u64> {
        let number = self.guest(worker, ticket)?;
        if !self.is_repeated(now, number, Failure::Panicked) {
            return None;
        }
        self.leave(now, worker, ticket).ok()?;
        self.pause(now, number, false);
        Some(number)
    }

    fn is_repeated(&self, now: Moment, number: u64, failure: Failure) -> bool {
        let Some(call) = self.calls.get(&number) else {
            return false;
        };
        let in_time = call.spec.deadline.is_none_or(|deadline| deadline > now);
        self.over.is_none() && in_time && call.spec.retry.allows(failure, call.failures)
    }

    fn pause(&mut self, now: Moment, number: u64, blocked: bool) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.failures += 1;
        let until = now + call.spec.retry.pause(call.failures);
        call.stage = Stage::Pausing(until, blocked);
        // It has been begun in time once.
        call.waits_until = None;
        let pause = (!blocked).then_some(until);
        let next = pause.into_iter().chain(call.spec.deadline).min();
        self.look_at(number, next);
    }

    /// The run before is over for certain.
    pub(super) fn unblock(&mut self, now: Moment, number: u64) {
        if let Some(call) = self.calls.get_mut(&number) {
            if let Stage::Pausing(_, blocked) = &mut call.stage {
                *blocked = false;
                self.look_at(number, Some(now));
            }
        }
    }
}
