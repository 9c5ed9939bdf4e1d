//! What a worker does in a room, step by step: it lets async calls in and sees them out, begins
//! them, answers those that are over, and leaves the room when nobody is in it and nobody comes.

use std::time::Duration;

use super::fate::Rng;
use super::plan::Flaw;
use super::process::{Frame, Guest, Hands, Message, Process, Sent, Spoken};
use super::steps::{Stepped, said};
use crate::pool::scheduler::Ticket;
use crate::sys::clock::Moment;

impl Process {
    /// One step in the room that was opened by this frame.
    pub(super) fn take_step_in_room(
        &mut self,
        frame: Frame,
        now: Moment,
        rng: &mut Rng,
    ) -> Stepped {
        let soon = Some(rng.up_to(500));
        if let Some(hog) = self.hog() {
            return self.guest_over(hog, now, soon);
        }
        let readable = matches!(self.inbox.front(), Some(Sent::Enter(_) | Sent::Drop(_)));
        let guests = self.guests.iter().enumerate();
        let able = guests.filter(|(_, guest)| guest.until.is_none_or(|until| until <= now));
        let able: Vec<_> = able.map(|(position, _)| position).collect();
        if readable && (able.is_empty() || rng.percent(50)) {
            return self.let_in(soon);
        }
        if !able.is_empty() {
            let position = rng.pick(&able);
            return match self.guests[position].until {
                None => self.begin_guest(position, now, soon),
                Some(_) => self.guest_over(position, now, soon),
            };
        }
        if self.guests.is_empty() {
            return self.leave_room(frame, now, soon);
        }
        let first = self.guests.iter().filter_map(|guest| guest.until).min();
        Stepped {
            next: first.map(|first| now.until(first)),
            ..Stepped::default()
        }
    }

    /// Who runs and lets nothing else run.
    pub(super) fn hog(&self) -> Option<usize> {
        let hogs = |guest: &Guest| guest.hogs && guest.until.is_some();
        self.guests.iter().position(hogs)
    }

    /// The next request, which is for this room.
    fn let_in(&mut self, next: Option<Duration>) -> Stepped {
        match self.inbox.pop_front() {
            Some(Sent::Enter(guest)) => self.guests.push(guest),
            Some(Sent::Drop(ticket)) => {
                let there = |guest: &Guest| guest.ticket == ticket;
                if let Some(position) = self.guests.iter().position(there) {
                    let guest = self.guests.remove(position);
                    self.pass_guest(guest);
                    return said(next);
                }
            }
            Some(Sent::Call(_)) | None => {}
        }
        Stepped {
            next,
            ..Stepped::default()
        }
    }

    fn begin_guest(&mut self, position: usize, now: Moment, next: Option<Duration>) -> Stepped {
        let guest = self.guests[position];
        if self.resigned || self.tasks_left == 0 {
            // The parent takes back what is not begun.
            self.guests.remove(position);
        } else if !self.page.start(guest.ticket, now) {
            self.guests.remove(position);
            self.pass_guest(guest);
            return said(next);
        } else {
            self.spend();
            self.grown |= guest.work.grows;
            self.guests[position].until = Some(now + guest.work.length);
            return Stepped {
                next: if guest.hogs {
                    Some(guest.work.length)
                } else {
                    next
                },
                visited: Some((guest.visit, guest.ticket)),
                ..Stepped::default()
            };
        }
        Stepped {
            next,
            ..Stepped::default()
        }
    }

    fn guest_over(&mut self, position: usize, now: Moment, next: Option<Duration>) -> Stepped {
        let guest = self.guests.remove(position);
        if guest.work.flaw == Flaw::Deadly {
            return Stepped {
                died: true,
                ..Stepped::default()
            };
        }
        if self.page.finish(guest.ticket) {
            self.say(Message::Guest(guest, Spoken::Answered), now);
            self.guest_has_run(guest);
        } else {
            self.pass_guest(guest);
        }
        said(next)
    }

    /// Says that a guest is no more, whether it has run or not.
    pub(super) fn pass_guest(&mut self, guest: Guest) {
        self.outbox.push_back(Message::Guest(guest, Spoken::Passed));
        match guest.until {
            Some(_) => self.guest_has_run(guest),
            None => self.may_resign(),
        }
    }

    /// A task has come to its end, and may have been the last.
    fn guest_has_run(&mut self, guest: Guest) {
        let others = self.guests.iter().any(|guest| guest.until.is_some());
        let spent = self.tasks_left == 0 && !others;
        self.resigned |= guest.work.last || self.grown || spent;
        self.may_resign();
    }

    fn may_resign(&mut self) {
        if self.resigned {
            self.outbox.push_back(Message::Resigned);
        }
    }

    fn leave_room(&mut self, frame: Frame, now: Moment, next: Option<Duration>) -> Stepped {
        self.hands = Hands::Empty;
        match self.page.finish(frame.ticket) {
            true => self.say(Message::Response(frame), now),
            false => self.say(Message::Passed(frame.ticket), now),
        }
        self.may_resign();
        said(next)
    }

    /// Whether an async call that was sent under this name is being run.
    pub(super) fn lodges(&self, ticket: Ticket) -> bool {
        let runs = |guest: &Guest| guest.ticket == ticket && guest.until.is_some();
        self.guests.iter().any(runs)
    }

    /// Whether it is in a room and would look at what comes.
    pub(super) fn rests_in_room(&self, by: Moment) -> bool {
        let later = self.step.is_none_or(|at| at > by);
        matches!(self.hands, Hands::Hosting(_)) && self.hog().is_none() && later
    }
}
