//! Answers that are taken out of the page by somebody who waits for them awake, without a way
//! through the pipe.
//!
//! ```text
//!   parent: says that it looks ──▶ sees that more is visible ──▶ copies it ──▶ takes it
//!   worker: makes it visible ──▶ somebody looks? gives him a moment ──▶ takes what is left, writes it
//! ```
//!
//! The response stream is one, whichever way its bytes go, and a word in the page says up to where it
//! has been taken: by the worker, who then writes that to the pipe, or by the parent, who has copied
//! it before. Whoever's swap wins has those bytes. So that somebody looks is a hint and nothing more:
//! should he never look again, the worker writes a moment later.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{ControlPage, OUTBOX, RING};

// Each on a line of its own, as different sides write to them.
const TAKEN: usize = 128;
const LOOKING: usize = 192;
const RAN_ON: usize = 256;
const CALLED_FROM: usize = LOOKING + 4;

/// Whoever looks, until this is dropped.
pub(crate) struct Look<'a>(&'a AtomicU32);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl ControlPage {
    fn taken_word(&self) -> &AtomicU64 {
        self.mapping.word(TAKEN)
    }

    /// Up to where the stream has been taken, by either side.
    pub(crate) fn taken(&self) -> u64 {
        self.taken_word().load(Ordering::Acquire)
    }

    /// Takes the stream from one offset to another; `false` if the other side has taken some of it.
    pub(crate) fn take(&self, from: u64, to: u64) -> bool {
        // What was copied before this swap was whole, and what is put over it comes after.
        self.taken_word()
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Worker: it has written up to there by itself, and will show that.
    pub(crate) fn pass_over(&self, to: u64) {
        self.taken_word().store(to, Ordering::Release);
    }

    /// Says on which processor somebody is.
    fn note(&self, place: usize, processor: usize) -> &AtomicU32 {
        let word = self.mapping.half_word(place);
        word.store(number(processor), Ordering::Relaxed);
        word
    }

    /// Whether it was said last that he is on another processor than that.
    fn is_elsewhere(&self, place: usize, processor: usize) -> bool {
        let noted = self.mapping.half_word(place).load(Ordering::Relaxed);
        noted != 0 && noted != number(processor)
    }

    /// Parent: says that somebody looks, on that processor.
    pub(crate) fn look(&self, processor: usize) -> Look<'_> {
        Look(self.note(LOOKING, processor))
    }

    /// Worker: whether somebody looks who is on another processor than that.
    pub(crate) fn is_looked_at_from_elsewhere(&self, processor: usize) -> bool {
        self.is_elsewhere(LOOKING, processor)
    }

    /// Parent: says from which processor the worker is called.
    pub(crate) fn calls_from(&self, processor: usize) {
        self.note(CALLED_FROM, processor);
    }

    /// Worker: whether it was called last from another processor than that.
    pub(crate) fn is_called_from_elsewhere(&self, processor: usize) -> bool {
        self.is_elsewhere(CALLED_FROM, processor)
    }

    /// Worker: says on which processor it is.
    pub(crate) fn runs_on(&self, processor: usize) {
        self.note(RAN_ON, processor);
    }

    /// Parent: whether it was on another processor than that when it said so last.
    pub(crate) fn ran_elsewhere(&self, processor: usize) -> bool {
        self.is_elsewhere(RAN_ON, processor)
    }

    /// Parent: takes what the stream has after `read`, which is how much of it has been read; appends
    /// it to `out` and tells how much it was. Nothing if there is nothing, or the worker was first, or
    /// the page makes no sense.
    pub(crate) fn take_rest(&self, read: u64, out: &mut bytes::BytesMut) -> usize {
        let to = self.visible();
        let length = to
            .checked_sub(read)
            .and_then(|left| usize::try_from(left).ok())
            .filter(|length| *length <= OUTBOX && self.taken() == read);
        let (Some(length), before) = (length, out.len()) else {
            return 0;
        };
        let (at, first) = Self::ring(read, length);
        out.resize(before + length, 0);
        let (one, other) = out[before..].split_at_mut(first);
        self.mapping.copy_to(RING + at, one);
        self.mapping.copy_to(RING, other);
        if length > 0 && self.take(read, to) {
            return length;
        }
        out.truncate(before);
        0
    }
}

/// A processor as the page has it, where zero is none.
fn number(processor: usize) -> u32 {
    processor as u32 + 1
}
