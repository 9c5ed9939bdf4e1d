//! Who has something, as one word says it.

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
