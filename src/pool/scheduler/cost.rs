//! How long calls of a kind are expected to take, from how long they took.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The table is emptied when a program uses more functions than this.
const KINDS: usize = 4096;
/// Nothing is believed to take longer. A worker may say what it likes, and sums must not overflow.
const LONGEST: u64 = 3_600_000_000_000;

/// Expected run times in nanoseconds, by kind of call.
#[derive(Debug, Default)]
pub(super) struct Costs {
    by_kind: HashMap<u64, u64, BuildHasherDefault<KindHasher>>,
    /// The kind of which was learned last, which is mostly asked for next. The table has it, too,
    /// as it was before it came here.
    latest: Option<(u64, u64)>,
}

impl Costs {
    /// The expected run time, or `None` for a kind that has not been seen.
    pub(super) fn expected(&self, kind: u64) -> Option<u64> {
        match self.latest {
            Some((latest, expected)) if latest == kind => Some(expected),
            _ => self.by_kind.get(&kind).copied(),
        }
    }

    /// How many kinds are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.by_kind.len()
    }

    /// Learns from one run of so many nanoseconds. Slow to believe that calls became short, quick to
    /// believe that they became long: the second mistake makes other calls wait.
    pub(super) fn learn(&mut self, kind: u64, took: u64) {
        let took = took.min(LONGEST);
        let known = self.expected(kind);
        let expected = known.unwrap_or(took);
        let expected = if took > expected * 4 {
            took
        } else {
            (expected * 7 + took) / 8
        };
        if self.latest.is_none_or(|(latest, _)| latest != kind) {
            self.put_away(known.is_none());
            self.by_kind.insert(kind, expected);
        }
        self.latest = Some((kind, expected));
    }

    /// Writes the latest into the table, which is emptied before if one more would be too many.
    fn put_away(&mut self, one_more: bool) {
        if one_more && self.by_kind.len() >= KINDS {
            self.by_kind.clear();
        } else if let Some((latest, expected)) = self.latest {
            self.by_kind.insert(latest, expected);
        }
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
