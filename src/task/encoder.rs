//! Writes values as postcard bytes, within the limits of [`limits`](super::limits).
//!
//! postcard writes every number, string, byte buffer, length and tag. What nests is walked here,
//! for the same two reasons as in [`decoder`](super::decoder), and one more: a value that would
//! be refused at the other end is refused here, where the caller can see why.

mod open;

use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::ser::{Serialize, Serializer};

use self::open::Open;
use super::error::Fault;
use super::limits::Budget;

/// Appends one value to a buffer.
pub(super) struct Encoder<'a> {
    leaf: postcard::Serializer<Tail<'a>>,
    budget: Budget,
}

impl<'a> Encoder<'a> {
    /// Starts behind what `out` holds already.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            leaf: postcard::Serializer { output: Tail(out) },
            budget: Budget::new(),
        }
    }

    /// How long the buffer is.
    #[inline]
    fn written(&self) -> usize {
        self.leaf.output.0.len()
    }

    /// Writes one thing that holds exactly one other.
    #[inline]
    fn around<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.budget.enter()?;
        value.serialize(&mut *self)?;
        self.budget.leave();
        Ok(())
    }

    /// Opens one thing that holds others.
    #[inline]
    fn open(&mut self) -> Result<Open<'_, 'a>, Fault> {
        self.budget.enter()?;
        Ok(Open::new(self))
    }

    /// Opens a sequence or a map, whose length stands in front of it.
    #[inline]
    fn open_counted(&mut self, length: Option<usize>) -> Result<Open<'_, 'a>, Fault> {
        let length = length.ok_or_else(|| {
            Fault::needs_self_describing("a sequence or map whose length is not known beforehand")
        })?;
        self.leaf.serialize_u64(length as u64)?;
        self.open()
    }
}

macro_rules! leaves {
    ($($serialize:ident: $type:ty,)*) => {$(
        #[inline]
        fn $serialize(self, value: $type) -> Result<(), Fault> {
            Ok(self.leaf.$serialize(value)?)
        }
    )*};
}

impl<'e, 'a> Serializer for &'e mut Encoder<'a> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Open<'e, 'a>;
    type SerializeTuple = Open<'e, 'a>;
    type SerializeTupleStruct = Open<'e, 'a>;
    type SerializeTupleVariant = Open<'e, 'a>;
    type SerializeMap = Open<'e, 'a>;
    type SerializeStruct = Open<'e, 'a>;
    type SerializeStructVariant = Open<'e, 'a>;

    leaves! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Fault> {
        Ok(self.leaf.collect_str(value)?)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Fault> {
        Ok(self.leaf.serialize_none()?)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        // A unit inside is nothing, which leaves the tag.
        self.leaf.serialize_some(&())?;
        self.around(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), Fault> {
        Ok(self.leaf.serialize_u32(index)?)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.around(value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.leaf.serialize_u32(index)?;
        self.around(value)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Open<'e, 'a>, Fault> {
        self.open_counted(length)
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Open<'e, 'a>, Fault> {
        self.open()
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Open<'e, 'a>, Fault> {
        self.open()
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Open<'e, 'a>, Fault> {
        self.leaf.serialize_u32(index)?;
        self.open()
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Open<'e, 'a>, Fault> {
        self.open_counted(length)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Open<'e, 'a>, Fault> {
        self.open()
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Open<'e, 'a>, Fault> {
        self.leaf.serialize_u32(index)?;
        self.open()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Lets postcard write behind what a kept buffer already holds. Its own flavour for that goes
/// through `Extend`, byte by byte.
struct Tail<'a>(&'a mut Vec<u8>);

impl Flavor for Tail<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
