//! The control page, played: one word for each lane, and swaps that name the sequence.

use std::fmt;

use crate::pool::scheduler::{LANES, Progress, Ticket};
use crate::sys::clock::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Taken,
    Running(Moment),
    Ended,
    Done,
}

/// A worker's page. Every method is one atomic operation of one of its two sides.
pub(super) struct Page {
    words: [(u64, State); LANES],
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().enumerate();
        f.debug_map()
            .entries(words.filter(|(_, (sequence, _))| *sequence > 0))
            .finish()
    }
}

impl Page {
    pub(super) fn new() -> Self {
        Self {
            words: [(0, State::Done); LANES],
        }
    }

    /// Parent: a call is about to be sent.
    pub(super) fn put(&mut self, ticket: Ticket) {
        self.words[usize::from(ticket.lane)] = (ticket.sequence, State::Waiting);
    }

    /// Worker: *waiting → running*.
    pub(super) fn start(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.swap(ticket, |state| {
            (state == State::Waiting).then_some(State::Running(now))
        })
    }

    /// Worker: *running → done*.
    pub(super) fn finish(&mut self, ticket: Ticket) -> bool {
        self.swap(ticket, |state| {
            matches!(state, State::Running(_)).then_some(State::Done)
        })
    }

    /// Parent: *waiting → taken back*.
    pub(super) fn take_back(&mut self, ticket: Ticket) -> bool {
        self.swap(ticket, |state| {
            (state == State::Waiting).then_some(State::Taken)
        })
    }

    /// Parent: *running → ended*, if it runs since then or before.
    pub(super) fn end(&mut self, ticket: Ticket, begun_by: Moment) -> bool {
        self.swap(ticket, |state| {
            matches!(state, State::Running(since) if since <= begun_by).then_some(State::Ended)
        })
    }

    /// Parent: how far the call has come.
    pub(super) fn progress(&self, ticket: Ticket) -> Progress {
        match self.state(ticket) {
            Some(State::Waiting) => Progress::Waiting,
            Some(State::Running(since)) => Progress::Running(since),
            Some(State::Taken | State::Ended | State::Done) | None => Progress::Over,
        }
    }

    /// Whether the call is running.
    pub(super) fn is_running(&self, ticket: Ticket) -> bool {
        matches!(self.progress(ticket), Progress::Running(_))
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.words
            .iter()
            .filter(|(_, state)| *state == State::Waiting)
            .count()
    }

    fn state(&self, ticket: Ticket) -> Option<State> {
        let (sequence, state) = self.words[usize::from(ticket.lane)];
        (sequence == ticket.sequence).then_some(state)
    }

    fn swap(&mut self, ticket: Ticket, next: impl Fn(State) -> Option<State>) -> bool {
        let Some(state) = self.state(ticket).and_then(next) else {
            return false;
        };
        self.words[usize::from(ticket.lane)].1 = state;
        true
    }
}
