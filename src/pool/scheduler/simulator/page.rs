//! The control page, played: one word for each lane, and swaps that name the sequence.

use std::collections::BTreeMap;
use std::fmt;

use crate::pool::scheduler::{LANES, Progress, Ticket};
use crate::sys::clock::Moment;
use crate::wire::page::Step;

/// The state of a call, or of the item of a chunk that was begun last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Taken,
    Running(u32, Moment),
    /// The item is over and the next has not been begun.
    Between(u32, Moment),
    /// The item runs, and none after it will.
    Last(u32, Moment),
    Ended(u32),
    Done(u32),
}

/// A worker's page. Every method is one atomic operation of one of its two sides.
pub(super) struct Page {
    words: [(u64, State); LANES],
    /// Those of async calls, by their lanes.
    berths: BTreeMap<u16, (u64, State)>,
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
            words: [(0, State::Done(0)); LANES],
            berths: BTreeMap::new(),
        }
    }

    /// Parent: a call is about to be sent.
    pub(super) fn put(&mut self, ticket: Ticket) {
        let word = (ticket.sequence, State::Waiting);
        match self.words.get_mut(usize::from(ticket.lane)) {
            Some(lane) => *lane = word,
            None => drop(self.berths.insert(ticket.lane, word)),
        }
    }

    /// Worker: *waiting → running*.
    pub(super) fn start(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.swap(ticket, |state| {
            (state == State::Waiting).then_some(State::Running(0, now))
        })
    }

    /// Worker: *running → done*.
    pub(super) fn finish(&mut self, ticket: Ticket) -> bool {
        self.swap(ticket, |state| {
            matches!(state, State::Running(..)).then_some(State::Done(0))
        })
    }

    /// Worker: an item is over.
    pub(super) fn finish_item(&mut self, ticket: Ticket) -> Step {
        let mut step = Step::Ended;
        self.swap(ticket, |state| match state {
            State::Running(item, since) => {
                step = Step::On;
                Some(State::Between(item, since))
            }
            State::Last(item, _) => {
                step = Step::Last;
                Some(State::Done(item))
            }
            _ => None,
        });
        step
    }

    /// Worker: begins the next item.
    pub(super) fn next_item(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.swap(ticket, |state| match state {
            State::Between(item, _) => Some(State::Running(item + 1, now)),
            _ => None,
        })
    }

    /// Worker: nothing is left of a chunk.
    pub(super) fn close(&mut self, ticket: Ticket) {
        self.swap(ticket, |state| match state {
            State::Between(item, _) => Some(State::Done(item)),
            _ => None,
        });
    }

    /// Parent: *waiting → taken back*.
    pub(super) fn take_back(&mut self, ticket: Ticket) -> bool {
        self.swap(ticket, |state| {
            (state == State::Waiting).then_some(State::Taken)
        })
    }

    /// Parent: *running → ended*, if it runs since then or before.
    pub(super) fn end(&mut self, ticket: Ticket, begun_by: Moment) -> bool {
        self.swap(ticket, |state| match state {
            State::Running(item, since) | State::Last(item, since) => {
                (since <= begun_by).then_some(State::Ended(item))
            }
            _ => None,
        })
    }

    /// Parent: nothing behind the item that was begun last is begun; names that.
    pub(super) fn cut(&mut self, ticket: Ticket) -> Option<u32> {
        let mut last = None;
        self.swap(ticket, |state| match state {
            State::Running(item, since) => {
                last = Some(item);
                Some(State::Last(item, since))
            }
            State::Between(item, _) => {
                last = Some(item);
                Some(State::Done(item))
            }
            _ => None,
        });
        last
    }

    /// Parent: which item is asked to come to its end, if what runs was begun by then.
    pub(super) fn ask(&self, ticket: Ticket, begun_by: Moment) -> Option<u32> {
        let (item, since) = self.running(ticket)?;
        (since <= begun_by).then_some(item)
    }

    /// The item that is running, and since when; of a call that is no chunk, the first.
    pub(super) fn running(&self, ticket: Ticket) -> Option<(u32, Moment)> {
        match self.state(ticket)? {
            State::Running(item, since) | State::Last(item, since) => Some((item, since)),
            _ => None,
        }
    }

    /// Parent: how far the call has come.
    pub(super) fn progress(&self, ticket: Ticket) -> Progress {
        match self.state(ticket) {
            Some(State::Waiting) => Progress::Waiting,
            Some(State::Running(_, since) | State::Last(_, since)) => Progress::Running(since),
            Some(State::Between(_, since)) => Progress::Between(since),
            Some(State::Taken | State::Ended(_) | State::Done(_)) | None => Progress::Over,
        }
    }

    /// Parent: how many items were begun.
    pub(super) fn begun(&self, ticket: Ticket) -> u32 {
        match self.state(ticket) {
            Some(
                State::Running(item, _)
                | State::Last(item, _)
                | State::Between(item, _)
                | State::Ended(item)
                | State::Done(item),
            ) => item + 1,
            Some(State::Waiting | State::Taken) | None => 0,
        }
    }

    /// Whether the call, or an item of it, is running.
    pub(super) fn is_running(&self, ticket: Ticket) -> bool {
        self.running(ticket).is_some()
    }

    /// How many calls wait that are no async ones.
    pub(super) fn waiting(&self) -> usize {
        self.words
            .iter()
            .filter(|(_, state)| *state == State::Waiting)
            .count()
    }

    fn state(&self, ticket: Ticket) -> Option<State> {
        let lane = self.words.get(usize::from(ticket.lane));
        let (sequence, state) = lane.or_else(|| self.berths.get(&ticket.lane))?;
        (*sequence == ticket.sequence).then_some(*state)
    }

    fn swap(&mut self, ticket: Ticket, next: impl FnOnce(State) -> Option<State>) -> bool {
        let Some(state) = self.state(ticket).and_then(next) else {
            return false;
        };
        let lane = self.words.get_mut(usize::from(ticket.lane));
        if let Some((_, word)) = lane.or_else(|| self.berths.get_mut(&ticket.lane)) {
            *word = state;
        }
        true
    }
}
