//! How long calls of a kind are expected to take, from how long they took.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// The table is emptied when a program uses more functions than this.
const KINDS: usize = 4096;
/// Nothing is believed to take longer. A worker may say what it likes, and sums must not overflow.
const LONGEST: Duration = Duration::from_secs(3600);

/// Expected run times in nanoseconds, by kind of call.
#[derive(Debug, Default)]
pub(super) struct Costs {
    by_kind: HashMap<u64, u64, BuildHasherDefault<KindHasher>>,
}

impl Costs {
    /// The expected run time, or `None` for a kind that has not been seen.
    pub(super) fn expected(&self, kind: u64) -> Option<u64> {
        self.by_kind.get(&kind).copied()
    }

    /// How many kinds are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.by_kind.len()
    }

    /// Learns from one run. Slow to believe that calls became short, quick to believe that they
    /// became long: the second mistake makes other calls wait.
    pub(super) fn learn(&mut self, kind: u64, took: Duration) {
        let took = took.min(LONGEST).as_nanos() as u64;
        if self.by_kind.len() >= KINDS && !self.by_kind.contains_key(&kind) {
            self.by_kind.clear();
        }
        let expected = self.by_kind.entry(kind).or_insert(took);
        *expected = if took > *expected * 4 {
            took
        } else {
            (*expected * 7 + took) / 8
        };
    }
}

/// Kinds are code addresses: one multiplication spreads them well enough.
#[derive(Debug, Default)]
struct KindHasher(u64);

impl Hasher for KindHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, kind: u64) {
        self.0 = (self.0 ^ kind)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_right(29);
    }
}
