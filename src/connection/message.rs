//! A value as a message: how many descriptors are beside it, then its encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ConnectionError, Fault};
use super::inbox::Attachments;
use crate::task::{DecodeError, EncodeError, attached, payload};
use crate::wire::packed::Packed;

/// How a number of descriptors is written: seven bits a byte, the lowest first, and the eighth says
/// whether there are more. Two bytes are enough for as many as can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    bytes: [u8; 2],
    length: usize,
}

impl Count {
    /// Writes a number, which is no larger than [`attached::MOST`].
    pub(super) fn of(number: usize) -> Self {
        let low = (number & 0x7f) as u8;
        match number >> 7 {
            0 => Self {
                bytes: [low, 0],
                length: 1,
            },
            high => Self {
                bytes: [low | 0x80, high as u8],
                length: 2,
            },
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Reads a number, and what is behind it.
    fn read(bytes: &[u8]) -> Option<(usize, &[u8])> {
        match bytes {
            [low, rest @ ..] if *low < 0x80 => Some((usize::from(*low), rest)),
            [low, high, rest @ ..] if *high < 0x80 => {
                Some((usize::from(low & 0x7f) | usize::from(*high) << 7, rest))
            }
            _ => None,
        }
    }
}

/// Encodes a value.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Packed, EncodeError> {
    payload::pack(value)
}

/// Reads a value, which takes what came beside it. What it does not take is closed.
pub(super) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    beside: Attachments,
) -> Result<T, ConnectionError> {
    read(bytes, beside).map_err(|error| Fault::Decode(error).into())
}

fn read<T: DeserializeOwned>(bytes: &[u8], beside: Attachments) -> Result<T, DecodeError> {
    let Some((count, value)) = Count::read(bytes) else {
        return Err(DecodeError::without_bytes::<T>(
            "the message does not begin with the number of its descriptors",
        ));
    };
    let came = beside.descriptors.len();
    // Where some were lost the value says which it would have needed.
    if came != count && !beside.truncated {
        return Err(DecodeError::without_bytes::<T>(format_args!(
            "the message speaks of {count} descriptors, and {came} came"
        )));
    }
    attached::supply(beside.descriptors, || payload::decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_can_be_is_read_back() {
        for number in 0..=attached::MOST {
            let count = Count::of(number);
            let bytes = [count.as_bytes(), b"rest"].concat();
            assert_eq!(Count::read(&bytes), Some((number, &b"rest"[..])));
        }
        assert_eq!(Count::read(&[]), None);
        assert_eq!(Count::read(&[0x80]), None);
        assert_eq!(Count::read(&[0x80, 0x80, 0]), None);
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        let error = |bytes: &[u8]| decode::<String>(bytes, Attachments::default()).unwrap_err();
        assert!(error(b"").is_decode());
        assert!(error(b"hello").is_decode());
        assert!(error(&[0, 9, b'x']).is_decode());
        let text = decode::<String>(&[0, 1, b'x'], Attachments::default());
        assert_eq!(text.unwrap(), "x");
    }
}
