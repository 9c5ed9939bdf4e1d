//! A played worker: its page, its pipes, and what it does step by step.

use std::collections::{BTreeMap, VecDeque};

use crate::pool::scheduler::{Progress, Ticket};
use crate::sys::clock::Moment;

/// How an async call behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Returns,
    Panics,
    /// Runs until it is told to return, or ended.
    Stays,
    /// Runs, and nothing beside it, until its worker is killed.
    Hogs,
}

/// What its parent sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Host(Ticket),
    Call(Ticket),
    Enter(Ticket, u64),
    Drop(Ticket),
    Leave,
}

/// What it answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Response {
    Returned(Ticket),
    Panicked(Ticket),
    Passed(Ticket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Waiting,
    Running(Moment),
    Done,
    TakenBack,
    Ended,
}

#[derive(Debug)]
struct Guest {
    ticket: Ticket,
    number: u64,
    begun: bool,
}

/// A worker process.
#[derive(Debug, Default)]
pub(super) struct Actor {
    pub(super) dead: bool,
    pub(super) requests: VecDeque<Request>,
    pub(super) responses: VecDeque<Response>,
    page: BTreeMap<u16, (u64, Option<Word>)>,
    room: Option<Ticket>,
    guests: Vec<Guest>,
    /// Whom the caller lets return though they stay.
    pub(super) released: Vec<u64>,
}

impl Actor {
    pub(super) fn offer(&mut self, ticket: Ticket) {
        let old = self
            .page
            .insert(ticket.lane, (ticket.sequence, Some(Word::Waiting)));
        let free =
            old.is_none_or(|(_, word)| !matches!(word, Some(Word::Waiting | Word::Running(_))));
        assert!(free, "a lane in use is given again: {ticket:?}");
    }

    fn word(&self, ticket: Ticket) -> Option<Word> {
        let (sequence, word) = self.page.get(&ticket.lane)?;
        word.filter(|_| *sequence == ticket.sequence)
    }

    fn set(&mut self, ticket: Ticket, word: Word) {
        self.page.insert(ticket.lane, (ticket.sequence, Some(word)));
    }

    pub(super) fn take_back(&mut self, ticket: Ticket) -> bool {
        let waits = self.word(ticket) == Some(Word::Waiting);
        if waits {
            self.set(ticket, Word::TakenBack);
        }
        waits
    }

    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        let runs = matches!(self.word(ticket), Some(Word::Running(_)));
        if runs {
            self.set(ticket, Word::Ended);
        }
        runs
    }

    pub(super) fn progress(&self, ticket: Ticket) -> Progress {
        match self.word(ticket) {
            Some(Word::Waiting) => Progress::Waiting,
            Some(Word::Running(since)) => Progress::Running(since),
            _ => Progress::Over,
        }
    }

    fn begin(&mut self, ticket: Ticket, now: Moment) -> bool {
        let waits = self.word(ticket) == Some(Word::Waiting);
        if waits {
            self.set(ticket, Word::Running(now));
        }
        waits
    }

    fn finish(&mut self, ticket: Ticket, response: Response) {
        if matches!(self.word(ticket), Some(Word::Running(_))) {
            self.set(ticket, Word::Done);
            self.responses.push_back(response);
        } else {
            self.responses.push_back(Response::Passed(ticket));
        }
    }

    /// Does one thing, if there is one to do. `choice` picks among those that could be done; `begun`
    /// is told of each call that is begun.
    pub(super) fn step(
        &mut self,
        now: Moment,
        choice: usize,
        manner: impl Fn(u64) -> Manner,
        begun: &mut Vec<u64>,
    ) -> bool {
        let hogged = |guest: &Guest| guest.begun && manner(guest.number) == Manner::Hogs;
        if self.dead || self.guests.iter().any(hogged) {
            return false;
        }
        if self.room.is_none() {
            return self.serve(now);
        }
        if let Some(Request::Enter(..) | Request::Drop(_)) = self.requests.front() {
            if choice % 2 == 0 || self.guests.is_empty() {
                return self.let_in();
            }
        }
        let able = |guest: &&Guest| {
            let stays = manner(guest.number) == Manner::Stays;
            !guest.begun || !stays || self.released.contains(&guest.number)
        };
        let able: Vec<_> = self
            .guests
            .iter()
            .filter(able)
            .map(|guest| guest.ticket)
            .collect();
        if able.is_empty() {
            if !matches!(
                self.requests.front(),
                Some(Request::Enter(..) | Request::Drop(_))
            ) {
                return self.leave();
            }
            return self.let_in();
        }
        let ticket = able[choice % able.len()];
        let position = self.guests.iter().position(|guest| guest.ticket == ticket);
        let guest = &mut self.guests[position.expect("it is among them")];
        if guest.begun {
            let panics = manner(guest.number) == Manner::Panics;
            self.guests.retain(|guest| guest.ticket != ticket);
            self.finish(
                ticket,
                if panics {
                    Response::Panicked(ticket)
                } else {
                    Response::Returned(ticket)
                },
            );
        } else {
            guest.begun = true;
            let number = guest.number;
            if self.begin(ticket, now) {
                begun.push(number);
            } else {
                self.guests.retain(|guest| guest.ticket != ticket);
                self.responses.push_back(Response::Passed(ticket));
            }
        }
        true
    }

    fn serve(&mut self, now: Moment) -> bool {
        match self.requests.pop_front() {
            None => return false,
            Some(Request::Host(ticket)) => {
                if self.begin(ticket, now) {
                    self.room = Some(ticket);
                } else {
                    self.responses.push_back(Response::Passed(ticket));
                }
            }
            Some(Request::Call(ticket)) => {
                if self.begin(ticket, now) {
                    self.finish(ticket, Response::Returned(ticket));
                } else {
                    self.responses.push_back(Response::Passed(ticket));
                }
            }
            Some(Request::Enter(ticket, _)) => self.responses.push_back(Response::Passed(ticket)),
            Some(Request::Drop(_)) => {}
            Some(Request::Leave) => self.dead = true,
        }
        true
    }

    fn let_in(&mut self) -> bool {
        match self.requests.pop_front() {
            Some(Request::Enter(ticket, number)) => self.guests.push(Guest {
                ticket,
                number,
                begun: false,
            }),
            Some(Request::Drop(ticket)) => {
                let here = self.guests.iter().any(|guest| guest.ticket == ticket);
                if here {
                    self.guests.retain(|guest| guest.ticket != ticket);
                    self.responses.push_back(Response::Passed(ticket));
                }
            }
            _ => return false,
        }
        true
    }

    fn leave(&mut self) -> bool {
        if !self.guests.is_empty() {
            return false;
        }
        let Some(room) = self.room.take() else {
            return false;
        };
        self.finish(room, Response::Returned(room));
        true
    }
}
