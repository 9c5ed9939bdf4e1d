//! What a payload may ask of whoever decodes it, beyond the bytes it brings.
//!
//! Almost everything that decoding costs is bounded by the length of the input, which the frame
//! cap bounds. Two things are not: how deep values nest (each level is a stack frame or more,
//! and a stack overflow ends the process) and how many elements take no bytes at all (ten bytes
//! can announce 2^60 of them). Both have a limit here, and both ends keep it, so that what one
//! end sends the other accepts.
//!
//! *Depth* counts the values that are open around each other at one moment: sequences, maps,
//! tuples, structs, newtypes, `Some`, and enum variants that hold something. Numbers, strings,
//! byte buffers, `None`, unit and bare variants stand at a depth without adding to it. `Box` and
//! the like are transparent, as they are to serde. A value at depth 128 is fine, one at 129 is
//! refused.
//!
//! *Empty elements* are those of sequences and maps (a key and its value count once) whose
//! encoding has no bytes, such as `()`, `PhantomData` and unit structs. They are counted over
//! the whole message. Fields of tuples and structs are not counted: their number comes from the
//! type, not from the sender.

use super::error::Fault;

/// How many values may be open around each other. Serde's usual figure: far above what people
/// nest on purpose, and 128 frames of a large `Deserialize` fit a 2 MiB stack many times over.
pub(super) const MAX_DEPTH: u32 = 128;

/// How many elements of a message may take no bytes. A `Vec<()>` of this length decodes in
/// microseconds; who really counts further sends the count.
pub(super) const MAX_EMPTY: u32 = 65_536;

/// What is left of both limits while one message is encoded or decoded.
#[derive(Debug)]
pub(super) struct Budget {
    depth: u32,
    empty: u32,
}

impl Budget {
    /// The whole allowance, for a new message.
    pub(super) const fn new() -> Self {
        Self {
            depth: MAX_DEPTH,
            empty: MAX_EMPTY,
        }
    }

    /// Opens a value inside those that are open. Each `Ok` owes one [`leave`](Self::leave).
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        match self.depth.checked_sub(1) {
            Some(left) => {
                self.depth = left;
                Ok(())
            }
            None => Err(too_deep()),
        }
    }

    /// Closes the innermost open value.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth += 1;
    }

    /// Pays for an element that took no bytes.
    #[inline]
    pub(super) fn spend_empty(&mut self) -> Result<(), Fault> {
        match self.empty.checked_sub(1) {
            Some(left) => {
                self.empty = left;
                Ok(())
            }
            None => Err(too_many_empty()),
        }
    }

    /// Whether `elements` could still be read out of `bytes`: each takes a byte or is paid for.
    #[inline]
    pub(super) fn covers(&self, elements: usize, bytes: usize) -> bool {
        elements <= bytes.saturating_add(self.empty as usize)
    }
}

#[cold]
fn too_deep() -> Fault {
    Fault::new(format_args!("it nests more than {MAX_DEPTH} levels deep"))
}

#[cold]
fn too_many_empty() -> Fault {
    Fault::new(format_args!(
        "it holds more than {MAX_EMPTY} elements that take no bytes"
    ))
}
