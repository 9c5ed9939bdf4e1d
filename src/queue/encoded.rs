//! An item as bytes, and the buffers that they lie in, which each thread keeps: fresh memory costs more
//! than the copying.

use std::cell::Cell;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::books::Extent;
use crate::task::attached::{self, Origin};
use crate::task::slabs::Use;
use crate::task::{DecodeError, EncodeError, payload};

/// A buffer that has grown beyond this is not kept.
const KEPT: usize = 2 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread's buffer, empty at first, which goes back to the thread where it is dropped.
#[derive(Debug)]
pub(super) struct Buffer(pub(super) Vec<u8>);

impl Buffer {
    pub(super) fn take() -> Self {
        // Another, where the thread's is in use or the thread is ending.
        let mut bytes = BUFFER.try_with(Cell::take).unwrap_or_default();
        bytes.clear();
        Self(bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() <= KEPT {
            let bytes = std::mem::take(&mut self.0);
            let _ = BUFFER.try_with(|kept| kept.set(bytes));
        }
    }
}

/// An item.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Buffer,
    pub(super) descriptors: Vec<OwnedFd>,
    /// How many words of it lie in slabs, which are among the descriptors.
    pub(super) slabs: u64,
}

impl Encoded {
    /// What is large goes in slabs, where there is room for them.
    pub(super) fn of<T: Serialize>(item: &T) -> Result<Self, EncodeError> {
        Self::by(item, |encode| {
            attached::collect_with_slabs(Use::Queues, encode)
        })
    }

    /// All of it as bytes, however large.
    pub(super) fn without_slabs<T: Serialize>(item: &T) -> Result<Self, EncodeError> {
        Self::by(item, |encode| {
            let (encoded, descriptors) = attached::collect(encode);
            (encoded, descriptors, 0)
        })
    }

    fn by<T: Serialize>(
        item: &T,
        collect: impl FnOnce(&mut dyn FnMut() -> Result<(), EncodeError>) -> Collected,
    ) -> Result<Self, EncodeError> {
        let mut bytes = Buffer::take();
        let (encoded, descriptors, slabs) = collect(&mut || payload::encode(item, &mut bytes.0));
        encoded?;
        Ok(Self {
            bytes,
            descriptors,
            slabs: slabs.div_ceil(8) as u64,
        })
    }

    pub(super) fn decode<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        attached::supply_from(Origin::Queue, self.descriptors, || {
            payload::decode(&self.bytes.0)
        })
    }

    /// What it takes of a queue.
    pub(super) fn extent(&self) -> Extent {
        Extent::of(self.len(), self.slabs, !self.descriptors.is_empty())
    }
}

/// What came of encoding, with descriptors, and how many bytes lie in slabs.
type Collected = (Result<(), EncodeError>, Vec<OwnedFd>, usize);

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes.0
    }
}
