//! Who waits for a condition and who was notified, as its words say it: some words for each. It
//! does no I/O, does not sleep and does not look at the clock, so that it can be played in all orders.
//!
//! ```text
//!          enter              notify               leave
//!   empty ───────▶ waiting ─────────▶ notified ──────────▶ empty
//!     ▲    leave, abandon │              │  ▲
//!     └───────────────────┘      abandon │  │ take over: by one who waited already when it was notified
//!                                        ▼  │
//!                              nobody's, or one's who has died
//! ```
//!
//! Entering, leaving and notifying are for who has the condition's lock. Who gives up or dies has it not,
//! so every change of a state is one swap that names what it expects.
//!
//! A notification is an entry, and moves by one swap: from one who does not want it, or has died, to one
//! who waits. He has two entries for a moment, then leaves his own. If that was notified as well he gives
//! the other back; if he dies meanwhile both are a dead one's, of which the next take over what is notified.
//! So a notification gets lost never, and twice as many wake only if one dies at that.
//!
//! An entry's ticket is its place in the order. How many had come when it was notified stands beside: who
//! came later does not take it over, and where nobody is left who may, it is nobody's for good, and swept
//! away.

use crate::sync::atom::{Memory, Word};
use crate::sync::holder::{Holder, handed_to, held_by};
use crate::sys::incarnation::Incarnation;

/// Whether anybody may sleep.
const SLEEPERS: usize = 0;
/// How many have come.
const TICKETS: usize = 1;
/// From here on no entry was ever used.
const USED: usize = 2;
/// Where the entries begin: on a cache line of their own.
pub(super) const HEAD: usize = 8;

/// How many words an entry has: its state, its ticket, and how many had come when it was notified.
pub(super) const WORDS: usize = 3;

const EMPTY: u64 = 0;
/// Notified, and nobody's.
const FOR_ANYBODY: u64 = 1;

/// The words of a condition with so many entries.
#[derive(Debug)]
pub(super) struct Table<'a, M> {
    pub(super) words: &'a M,
    pub(super) count: usize,
}

/// One who waits, or was notified. In its state the process is the holder of the entry in the one case, and
/// has been handed it in the other.
#[derive(Debug)]
pub(super) struct Entry {
    number: usize,
    ticket: u64,
    me: Incarnation,
}

impl<M: Memory> Table<'_, M> {
    /// Begins to wait, unless as many do as can. Only for who has the lock.
    pub(super) fn enter(&self, me: Incarnation) -> Option<Entry> {
        self.sweep();
        let number = (0..self.count).find(|number| {
            // Before, so that it is never where nobody looks.
            self.words.word(USED).raise(*number as u64 + 1);
            self.state(*number).load() == EMPTY
        })?;
        let ticket = self.words.word(TICKETS).count();
        self.ticket(number).store(ticket);
        self.state(number).store(held_by(me));
        Some(Entry { number, ticket, me })
    }

    /// Clears away the notifications that nobody may take over any more.
    fn sweep(&self) {
        let oldest = self.waiting().map(|(ticket, ..)| ticket).min();
        for number in self.used() {
            let is_late = oldest.is_none_or(|oldest| self.came(number).load() <= oldest);
            if self.state(number).load() == FOR_ANYBODY && is_late {
                let _ = self.state(number).change(FOR_ANYBODY, EMPTY);
            }
        }
    }

    /// Notifies so many, first who waits longest, and passes by those whose process does not live; tells
    /// how many. Only for who has the lock.
    pub(super) fn notify(&self, most: usize, mut lives: impl FnMut(Incarnation) -> bool) -> usize {
        let mut waiting: Vec<_> = self.waiting().collect();
        waiting.sort_by_key(|(ticket, ..)| *ticket);
        let came = self.words.word(TICKETS).load();
        let mut notified = 0;
        for (_, number, process) in waiting {
            if notified == most {
                break;
            }
            let waits = held_by(process);
            if !lives(process) {
                let _ = self.state(number).change(waits, EMPTY);
                continue;
            }
            self.came(number).store(came);
            let done = self.state(number).change(waits, handed_to(process));
            notified += usize::from(done.is_ok());
        }
        notified
    }

    /// Whether the bell is to be rung.
    pub(super) fn has_sleepers(&self) -> bool {
        M::Word::in_order();
        self.words.word(SLEEPERS).load() != 0 && self.words.word(SLEEPERS).swap(0) != 0
    }

    /// Tells whether that one was notified, or could take over what is nobody's. From then on the next
    /// notification rings the bell. Whoever reads `Err` has to ring it himself, and look again.
    pub(super) fn look(&self, entry: &mut Entry) -> Result<bool, ()> {
        self.words.word(SLEEPERS).store(1);
        M::Word::in_order();
        if self.state(entry.number).load() == handed_to(entry.me) {
            return Ok(true);
        }
        self.take_over(FOR_ANYBODY, entry)
    }

    /// The processes that were notified and have not left yet.
    pub(super) fn notified(&self) -> Vec<Incarnation> {
        let holders = self.used().filter_map(|number| self.holder(number));
        let notified = holders.filter(|holder| holder.handed);
        notified.map(|holder| holder.process).collect()
    }

    /// As [`look`](Self::look), for what a process had that has died.
    pub(super) fn inherit(&self, dead: Incarnation, entry: &mut Entry) -> Result<bool, ()> {
        self.take_over(handed_to(dead), entry)
    }

    fn take_over(&self, from: u64, entry: &mut Entry) -> Result<bool, ()> {
        for number in self.used() {
            let state = self.state(number);
            if state.load() != from {
                continue;
            }
            if self.came(number).load() <= entry.ticket {
                if from != FOR_ANYBODY {
                    // Others may have waited.
                    let _ = state.change(from, FOR_ANYBODY);
                }
                continue;
            }
            let notified = handed_to(entry.me);
            if state.change(from, notified).is_err() {
                continue;
            }
            let own = self.state(entry.number);
            if own.change(held_by(entry.me), EMPTY).is_ok() {
                entry.number = number;
                return Ok(true);
            }
            // One is enough.
            let _ = state.change(notified, FOR_ANYBODY);
            return Err(());
        }
        Ok(false)
    }

    /// Ends the wait; tells whether that one was notified. Only for who has the lock.
    pub(super) fn leave(&self, entry: &Entry) -> bool {
        let state = self.state(entry.number);
        let waited = state.change(held_by(entry.me), EMPTY);
        waited.is_err() && state.change(handed_to(entry.me), EMPTY).is_ok()
    }

    /// Gives up; tells whether the bell is to be rung, because that one had been notified.
    pub(super) fn abandon(&self, entry: &Entry) -> bool {
        let state = self.state(entry.number);
        let waited = state.change(held_by(entry.me), EMPTY);
        waited.is_err()
            && state.change(handed_to(entry.me), FOR_ANYBODY).is_ok()
            && self.has_sleepers()
    }

    /// Those who wait: their tickets, entries and processes.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u64, usize, Incarnation)> {
        self.used().filter_map(|number| {
            let holder = self.holder(number).filter(|holder| !holder.handed)?;
            Some((self.ticket(number).load(), number, holder.process))
        })
    }

    fn holder(&self, number: usize) -> Option<Holder> {
        Holder::of(self.state(number).load())
    }

    fn used(&self) -> std::ops::Range<usize> {
        0..self.count.min(self.words.word(USED).load() as usize)
    }

    fn state(&self, number: usize) -> &M::Word {
        self.words.word(HEAD + WORDS * number)
    }

    fn ticket(&self, number: usize) -> &M::Word {
        self.words.word(HEAD + WORDS * number + 1)
    }

    fn came(&self, number: usize) -> &M::Word {
        self.words.word(HEAD + WORDS * number + 2)
    }
}
