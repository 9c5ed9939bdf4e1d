//! Who has the permits, as the words of a semaphore say it: one word for each permit that there may be,
//! every change of which is one swap that names what it expects. It does no I/O, does not sleep and does
//! not look at the clock, so that it can be played in all orders.
//!
//! ```text
//!         place                settle                 acquire
//!   gone ───────▶ on its way ─────────▶ free ─────────────────▶ had by one
//!    ▲                 │                 ▲  ▲                    │  │   ▲ inherit
//!    │                 └─ died: anybody ─┘  └────── release ─────┘  │   │
//!    └──────────────────────── forget ──────────────────────────────┤  its process has died:
//!                                                                   └── the next is told
//! ```
//!
//! A permit is where its word says, and nowhere else, so a process may die between any two stores. What
//! remains is that nobody is left asleep. Who is to sleep says so first (`SLEEPERS`) and then looks at
//! all slots; who changes a slot does that first and then looks whether anybody sleeps: at least one of
//! them sees the other. One that dies between the slot and the bell had its permit when the sleepers
//! looked, so they attend to its end. One that had none says before that it is about to (*on its way*),
//! and has them look; if it dies before that, it is as if it had not begun.
//!
//! How a permit is handed to who starves is told in `holder.rs`.

use crate::sync::atom::{Memory, Word};
use crate::sync::holder::{Holder, STALE, hand_over, handed_to, held_by};
use crate::sys::incarnation::Incarnation;

/// Whether anybody may sleep.
const SLEEPERS: usize = 0;
/// Zero, or a process in which somebody has waited for long.
const STARVING: usize = 1;
/// When a permit was handed to somebody the last time, in milliseconds.
const HANDED_AT: usize = 2;
/// How often one became free.
const RELEASES: usize = 3;
/// From here on no slot was ever used.
const USED: usize = 4;
/// Where the slots begin: on a cache line of their own.
pub(super) const HEAD: usize = 8;

/// No permit: it was forgotten, or there was none yet.
const GONE: u64 = 0;
/// A permit for anybody: handed, and to nobody.
const FREE: u64 = 1;

/// The words of a semaphore with so many slots.
#[derive(Debug)]
pub(super) struct Slots<'a, M> {
    pub(super) words: &'a M,
    pub(super) count: usize,
}

/// A permit was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    pub(super) slot: usize,
    /// A process has died that had it.
    pub(super) orphaned: bool,
}

impl<M: Memory> Slots<'_, M> {
    /// Has that many permits, before anybody else sees them.
    pub(super) fn fill(&self, permits: usize) {
        self.words.word(USED).store(permits as u64);
        (0..permits).for_each(|slot| self.slot(slot).store(FREE));
    }

    /// How many are to be had.
    pub(super) fn value(&self, now: impl Fn() -> u64) -> usize {
        let is_free = |slot: &usize| {
            let found = self.slot(*slot).load();
            found == FREE || self.is_stale(Holder::of(found), &now)
        };
        self.used().filter(is_free).count()
    }

    /// Acquires one if there was one at some moment of this.
    pub(super) fn try_acquire(&self, me: Incarnation, now: impl Fn() -> u64) -> Option<Acquired> {
        loop {
            let releases = self.words.word(RELEASES).load();
            let mut slots = self.used();
            let taken = slots.find(|slot| self.take(*slot, me, false, &now).is_ok());
            // One may have become free where this had passed, and another been taken where it came to.
            if taken.is_some() || self.words.word(RELEASES).load() == releases {
                return taken.map(had);
            }
        }
    }

    /// Acquires one if there is one, or one was handed to this process; else tells who has them. From
    /// then on the next that becomes free rings the bell.
    pub(super) fn claim(
        &self,
        me: Incarnation,
        now: impl Fn() -> u64,
    ) -> Result<Acquired, Vec<Holder>> {
        self.words.word(SLEEPERS).store(1);
        M::Word::in_order();
        let mut holders = Vec::new();
        for slot in self.used() {
            match self.take(slot, me, true, &now) {
                Ok(()) => return Ok(had(slot)),
                Err(Some(holder)) if !holders.contains(&holder) => holders.push(holder),
                Err(_) => {}
            }
        }
        Err(holders)
    }

    fn take(
        &self,
        slot: usize,
        me: Incarnation,
        waits: bool,
        now: &impl Fn() -> u64,
    ) -> Result<(), Option<Holder>> {
        let word = self.slot(slot);
        loop {
            let found = word.load();
            let holder = Holder::of(found);
            let for_me = found == FREE || (waits && found == handed_to(me));
            if !for_me && !self.is_stale(holder, now) {
                return Err(holder);
            }
            if word.change(found, held_by(me)).is_ok() {
                return Ok(());
            }
        }
    }

    /// Whether it was handed to somebody who does not take it.
    fn is_stale(&self, holder: Option<Holder>, now: &impl Fn() -> u64) -> bool {
        let handed = holder.is_some_and(|holder| holder.handed);
        handed && now().abs_diff(self.words.word(HANDED_AT).glance()) > STALE
    }

    /// Asks that one be handed to this process, because somebody here has waited for long.
    pub(super) fn starve(&self, me: Incarnation) {
        // One at a time: who is second asks again.
        let _ = self.words.word(STARVING).change(0, me.to_word());
    }

    /// Takes one from a process that has died. Fails where others have been faster.
    pub(super) fn inherit(&self, me: Incarnation, dead: Incarnation) -> Option<Acquired> {
        self.used().find_map(|slot| {
            let holder = Holder::of(self.slot(slot).load()).filter(|one| one.process == dead)?;
            let inherited = self.slot(slot).change(holder.word(), held_by(me));
            inherited.ok().map(|()| Acquired {
                slot,
                orphaned: !holder.handed,
            })
        })
    }

    /// Releases the permit of that slot; tells whether the bell is to be rung.
    pub(super) fn release(&self, slot: usize, me: Incarnation, now: impl Fn() -> u64) -> bool {
        self.give(slot, held_by(me), now)
    }

    /// Forgets the permit of that slot.
    pub(super) fn forget(&self, slot: usize, me: Incarnation) {
        // Nobody takes it from a process that lives, and this one does.
        let _ = self.slot(slot).change(held_by(me), GONE);
    }

    /// Says that there is to be one more, and where, if there may be. It is to be settled as soon as
    /// those who sleep had an occasion to see that.
    pub(super) fn place(&self, me: Incarnation) -> Option<usize> {
        (0..self.count).find(|slot| {
            // Before, so that it is never where nobody looks.
            self.words.word(USED).raise(*slot as u64 + 1);
            let word = self.slot(*slot);
            word.load() == GONE && word.change(GONE, handed_to(me)).is_ok()
        })
    }

    /// Has what was placed there be had by anybody, if nobody has it yet; tells whether the bell is to
    /// be rung.
    pub(super) fn settle(&self, slot: usize, me: Incarnation, now: impl Fn() -> u64) -> bool {
        self.give(slot, handed_to(me), now)
    }

    fn give(&self, slot: usize, from: u64, now: impl Fn() -> u64) -> bool {
        hand_over(
            self.slot(slot),
            from,
            FREE,
            self.words.word(STARVING),
            self.words.word(HANDED_AT),
            now,
        );
        self.words.word(RELEASES).count();
        self.has_sleepers()
    }

    /// For one who has asked and waits no more, be it that he has one: lets go of what was handed to this
    /// process; tells whether the bell is to be rung. Others who wait here ask again.
    pub(super) fn decline(&self, me: Incarnation) -> bool {
        let _ = self.words.word(STARVING).change(me.to_word(), 0);
        let handed = |slot: &usize| self.slot(*slot).change(handed_to(me), FREE).is_ok();
        let declined = self.used().filter(handed).count();
        declined > 0 && {
            self.words.word(RELEASES).count();
            self.has_sleepers()
        }
    }

    /// Whether anybody may sleep.
    pub(super) fn may_sleep(&self) -> bool {
        M::Word::in_order();
        self.words.word(SLEEPERS).load() != 0
    }

    fn has_sleepers(&self) -> bool {
        self.may_sleep() && self.words.word(SLEEPERS).swap(0) != 0
    }

    fn used(&self) -> std::ops::Range<usize> {
        0..self.count.min(self.words.word(USED).load() as usize)
    }

    fn slot(&self, slot: usize) -> &M::Word {
        self.words.word(HEAD + slot)
    }
}

fn had(slot: usize) -> Acquired {
    Acquired {
        slot,
        orphaned: false,
    }
}
