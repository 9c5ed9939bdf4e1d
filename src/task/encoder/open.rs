//! What is written one part at a time: sequences, maps, tuples, structs and variants.

use serde::ser::{self, Serialize};

use super::super::error::Fault;
use super::Encoder;

/// A sequence, map, tuple, struct or variant that is being written.
pub(in crate::task) struct Open<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    /// Where the last key of a map began.
    entry_at: usize,
}

impl<'e, 'a> Open<'e, 'a> {
    /// The next parts, until closed.
    #[inline]
    pub(super) fn new(encoder: &'e mut Encoder<'a>) -> Self {
        Self {
            encoder,
            entry_at: 0,
        }
    }

    /// Writes a part that the type promises.
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(&mut *self.encoder)
    }

    /// Pays for the element that began at `start`, if it took no bytes.
    #[inline]
    fn account(&mut self, start: usize) -> Result<(), Fault> {
        if self.encoder.written() == start {
            self.encoder.budget.spend_empty()?;
        }
        Ok(())
    }

    #[inline]
    fn close(self) -> Result<(), Fault> {
        self.encoder.budget.leave();
        Ok(())
    }
}

impl ser::SerializeSeq for Open<'_, '_> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let start = self.encoder.written();
        self.field(value)?;
        self.account(start)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

impl ser::SerializeMap for Open<'_, '_> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.entry_at = self.encoder.written();
        self.field(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.field(value)?;
        self.account(self.entry_at)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

macro_rules! positional {
    ($($trait:ident: $serialize:ident,)*) => {$(
        impl ser::$trait for Open<'_, '_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn $serialize<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.field(value)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
}

positional! {
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! named {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Open<'_, '_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.field(value)
            }

            /// Refuses `skip_serializing_if`: the reader counts fields and has no names to see
            /// that one is missing, so it would take the next field's bytes for this one.
            fn skip_field(&mut self, name: &'static str) -> Result<(), Fault> {
                Err(Fault::needs_self_describing(format_args!(
                    "leaving out the field `{name}` (skip_serializing_if)"
                )))
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }
