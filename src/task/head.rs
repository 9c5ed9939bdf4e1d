//! What stands before the encoded argument in a request: everything about the call that the
//! worker must know and the frame's header does not say.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identity::Target;
use crate::sys::clock::Moment;
use crate::wire::packed::{FEW, Packed};

/// The length of a plain call's particulars at the most: two numbers of 64 bits, two of 32, three tags.
const PLAIN: usize = 2 * 10 + 2 * 5 + 3;

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
    /// What it is called, and by whom.
    #[serde(borrow)]
    pub(crate) labels: Labels<'a>,
}

/// What a call is called, and by whom; as short on the wire as an optional name where nobody wants
/// to know more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Labels<'a> {
    /// Nothing is known.
    None,
    /// The name that it was given.
    Name(&'a str),
    /// Its name, and where it comes from: somebody traces it.
    Traced(Option<&'a str>, #[serde(borrow)] Caller<'a>),
}

/// The `tracing` span in which a call was made; nothing and zero if there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller<'a> {
    /// Its number in the program.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its target.
    pub(crate) target: &'a str,
    /// Its level, one for errors.
    pub(crate) level: u8,
}

impl<'a> Labels<'a> {
    /// Those of a call with this name and origin.
    pub(crate) fn new(name: Option<&'a str>, caller: Option<Caller<'a>>) -> Self {
        match (name, caller) {
            (name, Some(caller)) => Self::Traced(name, caller),
            (Some(name), None) => Self::Name(name),
            (None, None) => Self::None,
        }
    }

    /// The call's name, where it was given one.
    pub(crate) fn name(self) -> Option<&'a str> {
        match self {
            Self::None => None,
            Self::Name(name) => Some(name),
            Self::Traced(name, _) => name,
        }
    }

    /// Where it comes from, if somebody traces it.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    pub(crate) fn caller(self) -> Option<Caller<'a>> {
        match self {
            Self::Traced(_, caller) => Some(caller),
            Self::None | Self::Name(_) => None,
        }
    }
}

impl<'a> CallHead<'a> {
    /// The head's bytes; the argument follows them.
    pub(crate) fn pack(self) -> Packed {
        if let Some(plain) = self.pack_plain() {
            return plain;
        }
        let mut few = [0; 64];
        if let Ok(bytes) = postcard::to_slice(&self, &mut few) {
            return Packed::copy_of(bytes);
        }
        let bytes = postcard::to_stdvec(&self).expect("numbers and a text always encode");
        Packed::from(Bytes::from(bytes))
    }

    /// The same bytes, written by hand for what most calls are, since each call pays for it: numbers,
    /// then nothing three times. `None` for a call of which more is to be said.
    fn pack_plain(&self) -> Option<Packed> {
        let limits = self.soft_timeout.is_some() || self.deadline.is_some();
        if limits || self.labels != Labels::None {
            return None;
        }
        let (entry, function) = self.target.offsets();
        let numbers = [entry, function, self.attempt.into(), self.items.into()];
        const { assert!(PLAIN <= FEW, "it lies in place") }
        let (mut bytes, mut length) = ([0; FEW], 0);
        for mut number in numbers {
            while number > 0x7f {
                bytes[length] = number as u8 | 0x80;
                number >>= 7;
                length += 1;
            }
            bytes[length] = number as u8;
            length += 1;
        }
        // No soft limit, no deadline, no labels: zeros.
        Some(Packed::few(length + 3, bytes))
    }

    /// Splits a request's payload into head and argument; `None` if it has no head.
    pub(crate) fn read(payload: &'a [u8]) -> Option<(Self, &'a [u8])> {
        postcard::take_from_bytes(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(labels: Labels<'_>) -> Packed {
        let function: fn(u8) -> u8 = |n| n;
        let head = CallHead {
            target: Target::of::<_, u8>(function).expect("it is ours"),
            attempt: 1,
            items: 0,
            deadline: None,
            soft_timeout: None,
            labels,
        };
        head.pack()
    }

    #[test]
    fn a_plain_head_is_written_by_hand_as_it_would_be_by_the_encoder() {
        let function: fn(u8) -> u8 = |n| n;
        let ours = Target::of::<_, u8>(function).expect("it is ours");
        let far = postcard::from_bytes(&postcard::to_stdvec(&(u64::MAX, 1_u64 << 63)).unwrap());
        for target in [ours, far.expect("two numbers")] {
            for (attempt, items) in [(1, 0), (127, 128), (u32::MAX, u32::MAX)] {
                let (soft_timeout, deadline, labels) = (None, None, Labels::None);
                let head = CallHead {
                    target,
                    attempt,
                    items,
                    soft_timeout,
                    deadline,
                    labels,
                };
                let encoded = postcard::to_stdvec(&head).expect("numbers always encode");
                assert_eq!(*head.pack_plain().expect("it is plain"), *encoded);
            }
        }
    }

    #[test]
    fn a_call_that_nobody_traces_has_no_byte_more_for_it() {
        let caller = Caller {
            id: 7,
            name: "request",
            target: "service",
            level: 3,
        };
        let traced = head(Labels::new(Some("resize"), Some(caller)));
        let (read, rest) = CallHead::read(&traced).expect("it was just written");
        assert_eq!((read.labels.name(), rest), (Some("resize"), &[][..]));
        assert_eq!(read.labels.caller(), Some(caller));
        let named = head(Labels::new(Some("resize"), None));
        let bare = head(Labels::new(None, None));
        // The tag is there in any case, and the name has its length.
        assert_eq!(named.len(), bare.len() + 1 + "resize".len());
        assert!(bare.ends_with(&[0, 0]), "no deadline, no labels");
    }
}
