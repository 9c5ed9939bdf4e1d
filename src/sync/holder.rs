//! Who has something, as one word says it, and how it is handed to somebody who has waited for long.
//!
//! Who starves writes down his process. Who releases hands over to that process and strikes it out; where
//! it was struck out before, nobody there waits any more, and it is taken back. Who stops waiting, with it
//! or without, strikes his process out and then looks whether something was handed over: whichever of the
//! two is first, nothing is left with somebody who does not wait. Only a death in between leaves it there,
//! until it is stale.

use super::atom::Word;
use crate::sys::incarnation::Incarnation;

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) process: Incarnation,
    /// It was handed to that process, where nobody has taken it yet.
    pub(super) handed: bool,
}

/// After so many milliseconds what was handed to a process is anybody's: those there who waited for it
/// have stopped, or died.
pub(super) const STALE: u64 = 10;

const HANDED: u64 = 1;

impl Holder {
    /// Whom a word names, if anybody.
    pub(super) fn of(word: u64) -> Option<Self> {
        Some(Self {
            process: Incarnation::of_word(word >> 1)?,
            handed: word & HANDED != 0,
        })
    }

    /// The word that names him.
    pub(super) fn word(self) -> u64 {
        self.process.to_word() << 1 | u64::from(self.handed)
    }
}

/// The word that says that this process has it.
pub(super) fn held_by(process: Incarnation) -> u64 {
    process.to_word() << 1
}

/// The word that says that it was handed to this process.
pub(super) fn handed_to(process: Incarnation) -> u64 {
    held_by(process) | HANDED
}

/// Releases what `word` says, as `from`, that this process has: to who starves, or as `free`.
pub(super) fn hand_over<W: Word>(
    word: &W,
    from: u64,
    free: u64,
    starving: &W,
    handed_at: &W,
    now: impl Fn() -> u64,
) {
    let heir = match starving.glance() {
        0 => None,
        _ => Incarnation::of_word(starving.load()),
    };
    let Some(heir) = heir else {
        // Nobody takes it from a process that lives, and this one does.
        let _ = word.change(from, free);
        return;
    };
    handed_at.store(now());
    if word.change(from, handed_to(heir)).is_ok() && starving.change(heir.to_word(), 0).is_err() {
        let _ = word.change(handed_to(heir), free);
    }
}
