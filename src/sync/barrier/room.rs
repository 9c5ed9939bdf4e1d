//! Who is in a barrier, as its words say it: one word for each party, and one for what it is at. It does no
//! I/O, does not sleep and does not look at the clock, so that it can be played in all orders.
//!
//! Parties come in one at a time, with the door's lock. A party says first that it comes, so that those who
//! are in can attend to it, and is in with the next store; if it dies before that, it was never there.
//! Everything else needs no lock: leaving is a swap of one's own word, and what the barrier is at changes by
//! one swap that names what was found (`phase.rs`). Parties only leave when it is not filling any more.
//! Whoever finds that all have left begins the next round; where the last of them dies before he could,
//! those who want to come in have attended to him, and do it.
//!
//! As everywhere, who is to sleep says so first and then looks, and who changes something does that first
//! and then looks who sleeps. Who is not in and is about to change something says that before (`HERALD`).

use super::phase::{Phase, Stage, Why};
use crate::sync::atom::{Memory, Word};
use crate::sync::holder::{Holder, handed_to, held_by};
use crate::sys::incarnation::Incarnation;

/// What it is at.
const PHASE: usize = 8;
/// Whether anybody may sleep.
const SLEEPERS: usize = 9;
/// Zero, or who is about to change what it is at.
const HERALD: usize = 10;
/// How long each wait may take if nothing else is said, in nanoseconds; zero is for ever.
pub(super) const LIMIT: usize = 11;
/// Where the parties begin: on a cache line of their own. Before all else is the door's lock.
pub(super) const HEAD: usize = 16;

const EMPTY: u64 = 0;

/// The words of a barrier of so many parties.
#[derive(Debug)]
pub(super) struct Room<'a, M> {
    pub(super) words: &'a M,
    pub(super) parties: usize,
}

/// Whether a party may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// It has this place, and is about to be in.
    Open(Coming),
    /// Others have to leave first.
    Shut,
    Broken(Why),
}

/// A party that is about to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coming {
    pub(super) place: usize,
    /// Nobody of its process is in, so that nobody attends to that yet.
    pub(super) is_new: bool,
    round: u64,
}

impl<M: Memory> Room<'_, M> {
    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.words.word(PHASE).load())
    }

    /// Says that one more comes. Only for who has the door's lock.
    pub(super) fn come(&self, me: Incarnation) -> Door {
        loop {
            let phase = self.phase();
            match phase.stage {
                Stage::Filling => {}
                Stage::Broken(why) => return Door::Broken(why),
                _ if self.settle() => continue,
                _ => return Door::Shut,
            }
            let mut is_new = true;
            let mut free = None;
            for place in 0..self.parties {
                let found = self.place(place).load();
                match Holder::of(found) {
                    // Who said that he comes, and has not the lock any more, has died.
                    Some(holder) if !holder.handed => is_new &= holder.process != me,
                    _ if free.is_none() => free = Some((place, found)),
                    _ => {}
                }
            }
            let Some((place, found)) = free else {
                return Door::Shut;
            };
            if self.place(place).change(found, handed_to(me)).is_ok() {
                return Door::Open(Coming {
                    place,
                    is_new,
                    round: phase.round,
                });
            }
        }
    }

    /// Is in from now on, and tells whether all are; `None` if it was the last moment of a round before.
    /// Only for who has the door's lock.
    pub(super) fn step_in(&self, coming: Coming, me: Incarnation) -> Option<bool> {
        let place = self.place(coming.place);
        let _ = place.change(handed_to(me), held_by(me));
        let phase = self.phase();
        // While it fills nobody leaves, so he is in that round; in what was passed he is not.
        if phase.round != coming.round
            || matches!(phase.stage, Stage::Passed | Stage::PassedBreaks(_))
        {
            self.leave(coming.place, me);
            return None;
        }
        Some(self.inside().count() == self.parties)
    }

    /// Changes what it is at, if that can be.
    pub(super) fn change(&self, to: impl Fn(Phase) -> Option<Phase>) -> bool {
        loop {
            let word = self.words.word(PHASE).load();
            let Some(to) = to(Phase::of(word)) else {
                return false;
            };
            if self.words.word(PHASE).change(word, to.word()).is_ok() {
                return true;
            }
        }
    }

    /// Leaves; tells whether that was the last one.
    pub(super) fn leave(&self, place: usize, me: Incarnation) -> bool {
        let _ = self.place(place).change(held_by(me), EMPTY);
        self.settle()
    }

    /// For a process that has died: it breaks what fills, if it was in, and has left.
    pub(super) fn bury(&self, dead: Incarnation) {
        let _ = self.words.word(HERALD).change(dead.to_word(), 0);
        let mut place = 0;
        while place < self.parties {
            // Before, so that it is this round which he is in.
            let word = self.words.word(PHASE).load();
            let found = self.place(place).load();
            if Holder::of(found).is_some_and(|holder| holder.process == dead) {
                let broken = Phase::of(word).break_round(Why::Died);
                if let Some(broken) = broken.filter(|_| found == held_by(dead)) {
                    if self.words.word(PHASE).change(word, broken.word()).is_err() {
                        continue;
                    }
                }
                let _ = self.place(place).change(found, EMPTY);
            }
            place += 1;
        }
        self.settle();
    }

    /// Begins anew if all have left; tells whether it did.
    pub(super) fn settle(&self) -> bool {
        let word = self.words.word(PHASE).load();
        let Some(to) = Phase::of(word).emptied() else {
            return false;
        };
        let all_left = (0..self.parties).all(|place| self.place(place).load() == EMPTY);
        all_left && self.words.word(PHASE).change(word, to.word()).is_ok()
    }

    /// Says that somebody who is not in is about to change what it is at; tells whether the bell is to be
    /// rung.
    pub(super) fn announce(&self, me: Incarnation) -> bool {
        self.words.word(HERALD).store(me.to_word());
        self.may_sleep()
    }

    /// He has changed it, and rung.
    pub(super) fn announced(&self, me: Incarnation) {
        let _ = self.words.word(HERALD).change(me.to_word(), 0);
    }

    /// Says that somebody is about to sleep.
    pub(super) fn about_to_sleep(&self) {
        self.words.word(SLEEPERS).store(1);
        M::Word::in_order();
    }

    /// Whether anybody may sleep.
    pub(super) fn may_sleep(&self) -> bool {
        M::Word::in_order();
        self.words.word(SLEEPERS).load() != 0
    }

    /// Whether the bell is to be rung for what has changed.
    pub(super) fn has_sleepers(&self) -> bool {
        self.may_sleep() && self.words.word(SLEEPERS).swap(0) != 0
    }

    /// The processes whose deaths matter, but for this one.
    pub(super) fn others(&self, me: Incarnation) -> Vec<Incarnation> {
        let places = (0..self.parties).map(|place| self.place(place).load());
        let parties = places.filter_map(|word| Holder::of(word).map(|holder| holder.process));
        let herald = Incarnation::of_word(self.words.word(HERALD).load());
        let mut others = Vec::new();
        for process in parties.chain(herald) {
            if process != me && !others.contains(&process) {
                others.push(process);
            }
        }
        others
    }

    /// Those who are in.
    pub(super) fn inside(&self) -> impl Iterator<Item = Incarnation> {
        let places = (0..self.parties).map(|place| self.place(place).load());
        let inside = places.filter_map(Holder::of).filter(|one| !one.handed);
        inside.map(|holder| holder.process)
    }

    fn place(&self, place: usize) -> &M::Word {
        self.words.word(HEAD + place)
    }
}
