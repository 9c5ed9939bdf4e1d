//! What a visitor takes one at a time: fields, elements of a sequence, entries of a map.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};

use super::super::error::Fault;
use super::Decoder;

/// The parts of a tuple, a struct or a variant: as many as its type says.
pub(super) struct Fields<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'a, 'de> Fields<'a, 'de> {
    /// The next `left` parts.
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<'de>, left: usize) -> Self {
        Self { decoder, left }
    }
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The elements of a sequence or the entries of a map: as many as the message says.
pub(super) struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'a, 'de> Elements<'a, 'de> {
    /// The next `left` elements.
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<'de>, left: usize) -> Self {
        Self { decoder, left }
    }

    /// Pays for the element that began where `before` bytes remained, if it took none of them.
    #[inline]
    fn account(&mut self, before: usize) -> Result<(), Fault> {
        if self.decoder.rest.len() == before {
            self.decoder.budget.spend_empty()?;
        }
        Ok(())
    }

    /// No more than this: a promise only where each element can have a byte of its own, so that
    /// who reserves on the word of it reserves no more than the input justifies.
    fn hint(&self) -> Option<usize> {
        (self.left <= self.decoder.rest.len()).then_some(self.left)
    }

    /// Refuses a visitor's taking fewer than there are: the rest would be read as what follows.
    #[inline]
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.left {
            0 => Ok(()),
            left => Err(Fault::new(format_args!("{left} elements were not read"))),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let before = self.decoder.rest.len();
        let element = seed.deserialize(&mut *self.decoder)?;
        self.account(before)?;
        Ok(Some(element))
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// The entries of a map, each accounted for when its value has been read.
pub(super) struct Entries<'e, 'a, 'de> {
    elements: &'e mut Elements<'a, 'de>,
    /// How many bytes remained where the last key began.
    key_at: usize,
}

impl<'e, 'a, 'de> Entries<'e, 'a, 'de> {
    /// The next entries, as many as there are `elements`.
    #[inline]
    pub(super) fn new(elements: &'e mut Elements<'a, 'de>) -> Self {
        Self {
            elements,
            key_at: 0,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        if self.elements.left == 0 {
            return Ok(None);
        }
        self.elements.left -= 1;
        self.key_at = self.elements.decoder.rest.len();
        seed.deserialize(&mut *self.elements.decoder).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let value = seed.deserialize(&mut *self.elements.decoder)?;
        self.elements.account(self.key_at)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.elements.hint()
    }
}
