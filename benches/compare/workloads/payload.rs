//! What both ways of carrying bytes have in common: the bytes, and the limit.

use std::hint::black_box;
use std::time::Instant;

use super::Setting;
use crate::subjects::Timed;

/// So many bytes, none of which says much.
pub(super) fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place >> 6) as u8).collect()
}

/// Reads a byte of each cache line, so that the memory itself has been read.
pub(crate) fn look(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum()
}

/// So many bytes, or fewer where nothing depends on that.
pub(super) fn sized(setting: &Setting, size: usize) -> usize {
    setting.by_care(size / 64, size, size)
}

/// GiB in a second, of so many bytes there and as many back.
pub(super) fn rate(size: usize) -> impl Fn(f64) -> f64 + Copy + 'static {
    move |seconds| 2.0 * size as f64 / f64::from(1 << 30) / seconds
}

/// The limit: one process copies the bytes, looks at the copy, copies that, and looks at it.
pub(super) fn memcpy(size: usize) -> Timed {
    let (here, mut there, mut back) = (bytes(size), vec![1; size], vec![1; size]);
    let expected = look(&here);
    let timed = move |count| {
        let begun = Instant::now();
        for _ in 0..count {
            there.copy_from_slice(black_box(&here));
            assert_eq!(look(black_box(&there)), expected);
            back.copy_from_slice(black_box(&there));
            assert_eq!(look(black_box(&back)), expected);
        }
        begun.elapsed()
    };
    ("memcpy", Box::new(timed))
}
