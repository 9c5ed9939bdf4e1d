//! One message at rest: its bytes, few in place, many shared; and the descriptors beside them.
//!
//! Most calls carry a few bytes each way. They travel with what holds them and cost no memory of
//! their own.

use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// So many bytes lie in place: what the variant with shared bytes takes up anyway.
pub(crate) const FEW: usize = 38;

/// Bytes that are not changed any more.
#[derive(Clone)]
pub(crate) enum Packed {
    /// In place: the first so many of them.
    Few(u8, [u8; FEW]),
    /// Shared; a clone is another owner.
    Many(Bytes),
    /// The same, with descriptors.
    Beside(Arc<Parcel>),
}

/// Bytes and what travels beside them.
pub(crate) struct Parcel {
    bytes: Bytes,
    descriptors: Mutex<Vec<OwnedFd>>,
    /// How many bytes are in memory that goes as descriptors.
    slabs: usize,
}

impl Packed {
    /// Copies bytes.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        Self::in_place(bytes).unwrap_or_else(|| Self::Many(Bytes::copy_from_slice(bytes)))
    }

    /// Puts descriptors beside bytes.
    pub(crate) fn beside(bytes: Self, descriptors: Vec<OwnedFd>) -> Self {
        if descriptors.is_empty() {
            return bytes;
        }
        let bytes = bytes.to_bytes();
        let descriptors = Mutex::new(descriptors);
        Self::Beside(Arc::new(Parcel {
            bytes,
            descriptors,
            slabs: 0,
        }))
    }

    /// Notes how many bytes are in memory that goes as descriptors. For who has just put them there.
    pub(crate) fn and_slabs(mut self, bytes: usize) -> Self {
        if let Self::Beside(parcel) = &mut self {
            if let Some(parcel) = Arc::get_mut(parcel) {
                parcel.slabs = bytes;
            }
        }
        self
    }

    /// How many bytes it is, with those that go beside.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Beside(parcel) => parcel.bytes.len() + parcel.slabs,
            Self::Few(..) | Self::Many(_) => self.len(),
        }
    }

    /// Whether it was made with descriptors, also when they are not there any more.
    pub(crate) fn has_descriptors(&self) -> bool {
        matches!(self, Self::Beside(_))
    }

    /// The descriptors beside it, while they are held.
    pub(crate) fn descriptors(&self) -> Option<MutexGuard<'_, Vec<OwnedFd>>> {
        match self {
            Self::Beside(parcel) => Some(parcel.lock()),
            Self::Few(..) | Self::Many(_) => None,
        }
    }

    /// Takes the descriptors from beside it, for all owners.
    pub(crate) fn take_descriptors(&self) -> Vec<OwnedFd> {
        let held = self.descriptors();
        held.map(|mut held| std::mem::take(&mut *held))
            .unwrap_or_default()
    }

    /// The bytes, shared where they are many.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Few(..) => Bytes::copy_from_slice(self),
            Self::Many(bytes) => bytes.clone(),
            Self::Beside(parcel) => parcel.bytes.clone(),
        }
    }

    /// The first bytes of these, in place.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub(crate) fn few(length: usize, bytes: [u8; FEW]) -> Self {
        assert!(length <= FEW, "more bytes than there are");
        Self::Few(length as u8, bytes)
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
            Self::Beside(parcel) => &parcel.bytes,
        }
    }
}

impl Parcel {
    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        // Nothing panics under it.
        self.descriptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())?;
        if let Some(held) = self.descriptors() {
            write!(f, " and {} descriptors", held.len())?;
        }
        Ok(())
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
    fn descriptors_are_taken_for_all_owners() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let packed = Packed::beside(Packed::copy_of(b"few"), vec![file.into()]);
        let other = packed.clone();
        assert!(packed.has_descriptors() && *other == *b"few");
        assert_eq!(format!("{other:?}"), "3 bytes and 1 descriptors");
        assert_eq!(other.take_descriptors().len(), 1);
        assert!(packed.take_descriptors().is_empty() && packed.has_descriptors());
        assert!(!Packed::beside(Packed::copy_of(b"few"), Vec::new()).has_descriptors());
    }

    #[test]
    fn what_lies_in_place_takes_up_no_more_than_what_is_shared() {
        assert!(size_of::<Packed>() <= size_of::<Bytes>() + size_of::<usize>());
    }
}
