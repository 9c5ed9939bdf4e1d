//! Who has a lock, as its words say it: every change is one swap that names what it expects. It does no
//! I/O, does not sleep and does not look at the clock, so that it can be played in all orders.
//!
//! ```text
//!        acquire                 release
//!   free ───────▶ held by one ───────────▶ free ─▶ the bell, if anybody may sleep
//!                  │   ▲    ▲  └── to who starves ──▶ handed to one ──claim──▶ held by that one
//!                  │   │    └─────────────────── stale: anybody ──────┘
//!                  ▼   │ inherit
//!                 its process has died: the state is tainted
//! ```
//!
//! Who is to sleep says so first (`sleepers`), and then looks once more; who releases does it first, and
//! then looks whether anybody sleeps. Both are sequentially consistent, so at least one of them sees the
//! other. A holder that dies between its release and the bell is noticed by his death, which everybody
//! watches who sleeps for what he held. So a sleeper is woken whatever happens, and the marks of one that
//! has died cost one ring for nothing.

use crate::sync::atom::Word;
use crate::sync::holder::{Holder, STALE, hand_over, handed_to, held_by};
use crate::sys::incarnation::Incarnation;

/// The words of a lock.
#[derive(Debug)]
pub(super) struct Words<'a, W> {
    /// Zero, or who has it; with the lowest bit, to whom it was handed.
    pub(super) owner: &'a W,
    /// Whether anybody may sleep.
    pub(super) sleepers: &'a W,
    /// Whether a process has died that had it.
    pub(super) tainted: &'a W,
    /// Zero, or a process in which somebody has waited for long.
    pub(super) starving: &'a W,
    /// When it was handed to somebody the last time, in milliseconds.
    pub(super) handed_at: &'a W,
}

/// It was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    /// A process has died that had it, and nobody has said since that all is well.
    pub(super) tainted: bool,
}

impl<W: Word> Words<'_, W> {
    /// Who has it at this moment.
    pub(super) fn holder(&self) -> Option<Holder> {
        Holder::of(self.owner.load())
    }

    /// Acquires it if it is free.
    pub(super) fn try_acquire(&self, me: Incarnation, now: impl Fn() -> u64) -> Option<Acquired> {
        match self.owner.change(0, held_by(me)) {
            Ok(()) => Some(self.acquired()),
            Err(found) => self.take_stale(me, found, &now),
        }
    }

    /// Acquires it if it is free, or was handed to this process; else tells who has it. From then on
    /// its next release rings the bell.
    pub(super) fn claim(&self, me: Incarnation, now: impl Fn() -> u64) -> Result<Acquired, Holder> {
        self.sleepers.store(1);
        W::in_order();
        loop {
            let found = self.owner.load();
            let free = found == 0 || found == handed_to(me);
            if free && self.owner.change(found, held_by(me)).is_ok() {
                return Ok(self.acquired());
            }
            if let Some(acquired) = self.take_stale(me, found, &now) {
                return Ok(acquired);
            }
            // What is no holder was never written by anybody of this build.
            if let Some(holder) = Holder::of(found).filter(|_| !free) {
                return Err(holder);
            }
        }
    }

    /// Takes what was handed to somebody who does not take it.
    fn take_stale(&self, me: Incarnation, found: u64, now: impl Fn() -> u64) -> Option<Acquired> {
        let handed = Holder::of(found).is_some_and(|holder| holder.handed);
        let stale = handed && now().abs_diff(self.handed_at.glance()) > STALE;
        (stale && self.owner.change(found, held_by(me)).is_ok()).then(|| self.acquired())
    }

    /// Asks that it be handed to this process, because somebody here has waited for long.
    pub(super) fn starve(&self, me: Incarnation) {
        // One at a time: who is second asks again.
        let _ = self.starving.change(0, me.to_word());
    }

    /// Takes it from a process that has died. Fails where somebody else has been faster.
    pub(super) fn inherit(&self, me: Incarnation, dead: Holder) -> Option<Acquired> {
        // It may have released it before it died, after we had looked.
        if self.owner.load() != dead.word() {
            return None;
        }
        if !dead.handed {
            // First, so that it is known even if this process dies next.
            self.tainted.store(1);
        }
        let inherited = self.owner.change(dead.word(), held_by(me));
        inherited.ok().map(|()| self.acquired())
    }

    /// Whether a process has died that had it, and nobody has said since that all is well.
    pub(super) fn is_tainted(&self) -> bool {
        self.tainted.load() != 0
    }

    /// Says that what it protects is sound again. Only for who has it.
    pub(super) fn mark_sound(&self) {
        self.tainted.store(0);
    }

    /// Releases it; tells whether the bell is to be rung.
    pub(super) fn release(&self, me: Incarnation, now: impl Fn() -> u64) -> bool {
        hand_over(
            self.owner,
            held_by(me),
            0,
            self.starving,
            self.handed_at,
            now,
        );
        self.has_sleepers()
    }

    /// For one who has asked and waits no more, be it that he has it: lets go of it if it was handed to
    /// this process; tells whether the bell is to be rung. Others who wait here ask again.
    pub(super) fn decline(&self, me: Incarnation) -> bool {
        let _ = self.starving.change(me.to_word(), 0);
        self.owner.change(handed_to(me), 0).is_ok() && self.has_sleepers()
    }

    fn has_sleepers(&self) -> bool {
        W::in_order();
        self.sleepers.load() != 0 && self.sleepers.swap(0) != 0
    }

    fn acquired(&self) -> Acquired {
        Acquired {
            tainted: self.tainted.glance() != 0,
        }
    }
}
