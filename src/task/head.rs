//! What stands before the encoded argument in a request: everything about the call that the
//! worker must know and the frame's header does not say.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identity::Target;
use crate::sys::clock::Moment;
use crate::wire::packed::Packed;

/// A call's particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallHead<'a> {
    /// What is to be called.
    pub(crate) target: Target,
    /// How many times the call has been started, with this one.
    pub(crate) attempt: u32,
    /// How many items the call carries; zero where it is no chunk.
    pub(crate) items: u32,
    /// How long it should run; of a chunk, each item.
    pub(crate) soft_timeout: Option<Duration>,
    /// When the call must be over, wherever it is by then.
    pub(crate) deadline: Option<Moment>,
    /// The call's name, where it was given one.
    pub(crate) name: Option<&'a str>,
}

impl<'a> CallHead<'a> {
    /// The head's bytes; the argument follows them.
    pub(crate) fn pack(self) -> Packed {
        let mut few = [0; 64];
        if let Ok(bytes) = postcard::to_slice(&self, &mut few) {
            return Packed::copy_of(bytes);
        }
        let bytes = postcard::to_stdvec(&self).expect("numbers and a text always encode");
        Packed::from(Bytes::from(bytes))
    }

    /// Splits a request's payload into head and argument; `None` if it has no head.
    pub(crate) fn read(payload: &'a [u8]) -> Option<(Self, &'a [u8])> {
        postcard::take_from_bytes(payload).ok()
    }
}
