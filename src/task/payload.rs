//! Values to bytes and back: arguments on their way to a worker, results on their way home.
//!
//! The format is postcard's, without names or type tags; what a message may ask of its reader is
//! in [`limits`](super::limits). Panics of the user's `Serialize` and `Deserialize` pass through.

use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attached;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::error::{DecodeError, EncodeError};
use super::slabs::Use;
use super::transit;
use crate::wire::packed::Packed;

/// What was encoded in the thread's scratch and is no larger is copied out of it.
const COPIED: usize = 4 * 1024;

thread_local! {
    /// Where small values are encoded, so that one costs at most one allocation, of its own size.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The encoding of `value`, with the descriptors in it beside that.
pub(crate) fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Packed, EncodeError> {
    let (packed, descriptors) = attached::collect(|| pack_bytes(value));
    Ok(Packed::beside(packed?, descriptors))
}

/// The same for the arguments of a call: what is large in them goes in slabs, where there are any.
pub(crate) fn pack_call<T: Serialize + ?Sized>(value: &T) -> Result<Packed, EncodeError> {
    let (packed, descriptors, slabs) =
        attached::collect_with_slabs(Use::Calls, || pack_bytes(value));
    Ok(Packed::beside(packed?, descriptors).and_slabs(slabs))
}

/// Reads a `T`, which takes the descriptors that it has from beside the bytes.
pub(crate) fn unpack<T: DeserializeOwned>(packed: &Packed) -> Result<T, DecodeError> {
    attached::supply(packed.take_descriptors(), || decode(packed))
}

fn pack_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Packed, EncodeError> {
    // Taken and not borrowed: the value's own code may come here as well.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    encode(value, &mut scratch)?;
    if scratch.len() > COPIED {
        return Ok(Packed::from(Bytes::from(scratch)));
    }
    let packed = Packed::copy_of(&scratch);
    // On a thread that is ending there is nothing to keep it in.
    let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    Ok(packed)
}

/// Appends the encoding of `value` to `out`, or leaves `out` as it was.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let encoded = transit::during(|| value.serialize(&mut Encoder::new(out)));
    encoded.map_err(|fault| {
        out.truncate(start);
        EncodeError::new::<T>(fault)
    })
}

/// Reads a `T` out of `bytes`, which must hold it and nothing behind it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let decoded = transit::during(|| T::deserialize(&mut decoder));
    let value = decoded.and_then(|value| {
        decoder.finish()?;
        Ok(value)
    });
    value.map_err(|fault| DecodeError::new::<T>(fault, bytes.len() - decoder.remaining()))
}

#[cfg(test)]
mod tests;
