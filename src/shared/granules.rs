//! Copying out of memory that others may write meanwhile, and into it.
//!
//! Bytes that one thread writes while another reads them must be atomics, or the program has no meaning;
//! that the other thread is in another process changes nothing, since there may be two in this one, too.
//! So such memory consists of *granules*, atomic integers that are always accessed whole: a copy loads or
//! stores one after the other, without order among them, and a part of one is changed by a swap that
//! leaves the rest of it as it was. What is within a granule is never torn.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bytemuck::Pod;

use crate::sys::mapping::{Atomic, Mapping};

/// An atomic integer, as a piece of memory.
pub(super) trait Granule: Atomic {
    /// What is in it.
    type Bits: Pod;

    fn load(&self) -> Self::Bits;
    fn store(&self, bits: Self::Bits);
    /// Changes some of its bytes.
    fn change(&self, change: impl Fn(&mut [u8]));
}

impl Granule for AtomicU64 {
    type Bits = u64;

    fn load(&self) -> u64 {
        self.load(Relaxed)
    }

    fn store(&self, bits: u64) {
        self.store(bits, Relaxed);
    }

    fn change(&self, change: impl Fn(&mut [u8])) {
        let _ = self.fetch_update(Relaxed, Relaxed, |mut bits| {
            change(bytemuck::bytes_of_mut(&mut bits));
            Some(bits)
        });
    }
}

impl Granule for AtomicU32 {
    type Bits = u32;

    fn load(&self) -> u32 {
        self.load(Relaxed)
    }

    fn store(&self, bits: u32) {
        self.store(bits, Relaxed);
    }

    fn change(&self, change: impl Fn(&mut [u8])) {
        let _ = self.fetch_update(Relaxed, Relaxed, |mut bits| {
            change(bytemuck::bytes_of_mut(&mut bits));
            Some(bits)
        });
    }
}

/// Copies bytes out of memory, from an offset on.
pub(super) fn read<G: Granule>(memory: &Mapping, offset: usize, target: &mut [u8]) {
    let touched = touched::<G>(memory, offset, target.len());
    let (head, rest) = target.split_at_mut(touched.head.len());
    if let Some(first) = touched.first {
        head.copy_from_slice(&bytemuck::bytes_of(&first.load())[touched.head]);
    }
    let (middle, tail) = rest.split_at_mut(size_of_val(touched.whole));
    let chunks = middle.chunks_exact_mut(size_of::<G>());
    for (chunk, granule) in chunks.zip(touched.whole) {
        chunk.copy_from_slice(bytemuck::bytes_of(&granule.load()));
    }
    if let Some(last) = touched.last {
        tail.copy_from_slice(&bytemuck::bytes_of(&last.load())[..tail.len()]);
    }
}

/// Copies bytes into memory, from an offset on.
pub(super) fn write<G: Granule>(memory: &Mapping, offset: usize, bytes: &[u8]) {
    let touched = touched::<G>(memory, offset, bytes.len());
    let (head, rest) = bytes.split_at(touched.head.len());
    if let Some(first) = touched.first {
        first.change(|old| old[touched.head.clone()].copy_from_slice(head));
    }
    let (middle, tail) = rest.split_at(size_of_val(touched.whole));
    let chunks = middle.chunks_exact(size_of::<G>());
    for (chunk, granule) in chunks.zip(touched.whole) {
        granule.store(bytemuck::pod_read_unaligned(chunk));
    }
    if let Some(last) = touched.last {
        last.change(|old| old[..tail.len()].copy_from_slice(tail));
    }
}

/// The granules that a copy touches.
struct Touched<'a, G> {
    /// The first, if it is only a part of it.
    first: Option<&'a G>,
    /// Which of its bytes.
    head: Range<usize>,
    whole: &'a [G],
    /// The last, if it is only its beginning.
    last: Option<&'a G>,
}

fn touched<G: Granule>(memory: &Mapping, offset: usize, bytes: usize) -> Touched<'_, G> {
    let size = size_of::<G>();
    let skip = offset % size;
    let all = memory.atomics::<G>(offset - skip, (skip + bytes).div_ceil(size));
    let head = match skip > 0 || bytes < size {
        true => skip..skip + bytes.min(size - skip),
        false => 0..0,
    };
    let (first, rest) = all.split_at(usize::from(!head.is_empty()));
    let (whole, last) = rest.split_at((bytes - head.len()) / size);
    Touched {
        first: first.first(),
        head,
        whole,
        last: last.first(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mapping::sealed_file;

    fn memory(bytes: &[u8]) -> Mapping {
        let file = sealed_file("test", 64).unwrap();
        let memory = Mapping::new(file, 64).unwrap();
        memory.copy_in(0, bytes);
        memory
    }

    fn content(memory: &Mapping) -> Vec<u8> {
        let mut all = Vec::new();
        memory.copy_out(0, 64, &mut all);
        all
    }

    /// Each range of a small memory, beside a plain copy of it.
    fn agrees<G: Granule>() {
        let bytes: Vec<u8> = (1..=64).collect();
        for from in 0..bytes.len() {
            for to in from..=bytes.len() {
                let mut target = vec![0; to - from];
                read::<G>(&memory(&bytes), from, &mut target);
                assert_eq!(target, bytes[from..to], "{from}..{to}");

                let mut expected = bytes.clone();
                expected[from..to].fill(0xff);
                let written = memory(&bytes);
                write::<G>(&written, from, &vec![0xff; to - from]);
                assert_eq!(content(&written), expected, "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_copy_touches_what_a_plain_copy_touches() {
        agrees::<AtomicU64>();
        agrees::<AtomicU32>();
    }

    #[test]
    fn neighbours_in_one_granule_leave_each_other_alone() {
        let memory = &memory(&[]);
        std::thread::scope(|scope| {
            for place in [1, 2] {
                scope.spawn(move || {
                    for value in 1..=u8::MAX {
                        write::<AtomicU64>(memory, place, &[value]);
                        let mut seen = [0];
                        read::<AtomicU64>(memory, place, &mut seen);
                        assert_eq!(seen, [value]);
                    }
                });
            }
        });
        assert_eq!(content(memory)[..4], [0, 255, 255, 0]);
    }
}
