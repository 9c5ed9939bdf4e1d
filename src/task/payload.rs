//! Values to bytes and back: arguments on their way to a worker, results on their way home.
//!
//! The format is postcard's, without names or type tags; what a message may ask of its reader is
//! in [`limits`](super::limits). Panics of the user's `Serialize` and `Deserialize` pass through.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::error::{DecodeError, EncodeError};

/// Appends the encoding of `value` to `out`, or leaves `out` as it was.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    value.serialize(&mut Encoder::new(out)).map_err(|fault| {
        out.truncate(start);
        EncodeError::new::<T>(fault)
    })
}

/// Reads a `T` out of `bytes`, which must hold it and nothing behind it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder).and_then(|value| {
        decoder.finish()?;
        Ok(value)
    });
    value.map_err(|fault| DecodeError::new::<T>(fault, bytes.len() - decoder.remaining()))
}

#[cfg(test)]
mod tests;
