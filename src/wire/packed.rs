//! The bytes of one message at rest: few in place, many shared.
//!
//! Most calls carry a few bytes each way. They travel with what holds them and cost no memory of
//! their own.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// So many bytes lie in place: what the variant with shared bytes takes up anyway.
const FEW: usize = 38;

/// Bytes that are not changed any more.
#[derive(Clone)]
pub(crate) enum Packed {
    /// In place: the first so many of them.
    Few(u8, [u8; FEW]),
    /// Shared; a clone is another owner.
    Many(Bytes),
}

impl Packed {
    /// Copies bytes.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        Self::in_place(bytes).unwrap_or_else(|| Self::Many(Bytes::copy_from_slice(bytes)))
    }

    fn in_place(bytes: &[u8]) -> Option<Self> {
        let mut few = [0; FEW];
        few.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self::Few(bytes.len() as u8, few))
    }
}

impl From<Bytes> for Packed {
    fn from(bytes: Bytes) -> Self {
        Self::in_place(&bytes).unwrap_or(Self::Many(bytes))
    }
}

impl Deref for Packed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Few(length, bytes) => &bytes[..usize::from(*length)],
            Self::Many(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_in_place_and_shared() {
        for length in [0, 1, FEW - 1, FEW, FEW + 1, 10_000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(*Packed::copy_of(&bytes), *bytes);
            let packed = Packed::from(Bytes::from(bytes.clone()));
            assert_eq!(*packed, *bytes);
            assert_eq!(matches!(packed, Packed::Few(..)), length <= FEW);
        }
    }

    #[test]
    fn what_lies_in_place_takes_up_no_more_than_what_is_shared() {
        assert!(size_of::<Packed>() <= size_of::<Bytes>() + size_of::<usize>());
    }
}
