//! Chance and time, the only two things that drive the world: a seeded generator of numbers, and a
//! list of what is going to happen when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::sys::clock::Moment;

/// SplitMix64: small, fast, and every seed gives a sequence of its own.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; the bias of the remainder does not matter here.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True this often in a hundred times.
    pub(super) fn percent(&mut self, often: usize) -> bool {
        self.below(100) < often
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A length of up to `nanos`.
    pub(super) fn up_to(&mut self, nanos: u64) -> Duration {
        Duration::from_nanos(self.next() % (nanos + 1))
    }

    /// A length between the two whose magnitude is as random as its digits.
    pub(super) fn spread(&mut self, least: u64, most: u64) -> Duration {
        let doublings = (most / least.max(1)).max(1).ilog2() as usize;
        let low = least << self.below(doublings + 1);
        Duration::from_nanos(low.min(most)) + self.up_to(low.min(most - low.min(most)))
    }
}

/// What is going to happen, in the order of time; what is entered first happens first.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    heap: BinaryHeap<Reverse<(Moment, u64, E)>>,
    entered: u64,
}

impl<E: Ord> Agenda<E> {
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            entered: 0,
        }
    }

    pub(super) fn enter(&mut self, at: Moment, what: E) {
        self.entered += 1;
        self.heap.push(Reverse((at, self.entered, what)));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next thing, if it happens at `now` or before.
    pub(super) fn pop_until(&mut self, now: Moment) -> Option<E> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((.., what))| what)
    }
}
