//! How large bytes look on their way: as they are, or as a place beside the message.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytemuck::Pod;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sys::slab::{Lent, Window};
use crate::task::attached::{self, Origin, SlabTaken};
use crate::task::slabs::{self, Borrowed};
use crate::task::transit;

/// Fewer bytes than this go with the others: for them, descriptors cost more than the pipe.
pub(super) const LARGE: usize = 64 * 1024;

/// What is written where a value is on its way between processes.
#[derive(Serialize, Deserialize)]
enum Form<'a> {
    Here(#[serde(borrow)] Plain<'a>),
    /// In the slab that is at that place beside the message: its first bytes.
    Slab {
        place: u32,
        length: u64,
    },
}

/// Bytes as any format writes them.
struct Plain<'a>(Cow<'a, [u8]>);

/// Writes bytes, as they are or into a slab.
pub(super) fn write<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if !transit::in_transit() {
        return serializer.serialize_bytes(bytes);
    }
    let place = (bytes.len() >= LARGE).then(|| attached::attach_slab(bytes));
    match place.flatten() {
        Some(place) => {
            let length = bytes.len() as u64;
            Form::Slab { place, length }
        }
        None => Form::Here(Plain(bytes.into())),
    }
    .serialize(serializer)
}

/// Bytes that have come.
pub(super) enum Arrived<'de> {
    /// With the message.
    Here(Cow<'de, [u8]>),
    /// In a slab that may be read in place.
    Lent(Lent),
    /// The first bytes of a slab that is only to be copied: its sender may be anybody.
    Shown(Shown, usize),
}

/// A slab on which there is a window, while it is lent.
pub(super) struct Shown {
    window: Arc<Window>,
    _taken: SlabTaken,
}

impl<'de> Arrived<'de> {
    /// Reads what [`write`] has written.
    pub(super) fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !transit::in_transit() {
            return Plain::deserialize(deserializer).map(|plain| Self::Here(plain.0));
        }
        match Form::deserialize(deserializer)? {
            Form::Here(plain) => Ok(Self::Here(plain.0)),
            Form::Slab { place, length } => {
                let length = usize::try_from(length).map_err(de::Error::custom)?;
                let taken = attached::take_slab(place, length)?;
                Self::open(taken, length).map_err(|error| {
                    de::Error::custom(format_args!("no large payload came: {error}"))
                })
            }
        }
    }

    fn open(taken: SlabTaken, length: usize) -> io::Result<Self> {
        let window = match slabs::window(&taken.file) {
            Ok(window) => window,
            // A slab, but there are no addresses for the whole of it.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                return read_file(taken, length).map(|bytes| Self::Here(bytes.into()));
            }
            Err(error) => return Err(error),
        };
        if length > window.length() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if taken.origin != Origin::Parent {
            let shown = Shown {
                window,
                _taken: taken,
            };
            return Ok(Self::Shown(shown, length));
        }
        let lent = Lent::by_our_parent(window, length, taken.lease);
        lent.map(Self::Lent)
            .ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// The elements, copied.
    pub(super) fn into_elements<T: Pod, E: de::Error>(self) -> Result<Vec<T>, E> {
        let length = match &self {
            Self::Here(bytes) => bytes.len(),
            Self::Lent(lent) => lent.len(),
            Self::Shown(_, length) => *length,
        };
        if length % size_of::<T>() != 0 {
            return Err(E::custom(format_args!(
                "{length} bytes are no whole number of elements of {} bytes",
                size_of::<T>()
            )));
        }
        let mut elements = vec![T::zeroed(); length / size_of::<T>()];
        let room = bytemuck::cast_slice_mut(&mut elements);
        match self {
            Self::Here(bytes) => room.copy_from_slice(&bytes),
            Self::Lent(lent) => room.copy_from_slice(&lent),
            Self::Shown(shown, _) => shown.window.copy_to(room),
        }
        Ok(elements)
    }
}

/// A copy of the first bytes of a slab in memory that is used again.
pub(super) fn borrowed_copy(shown: &Shown, length: usize) -> io::Result<Borrowed> {
    let mut copy = slabs::buffer(length)?;
    shown.window.copy_to(copy.bytes_mut());
    Ok(copy)
}

/// What is in a slab, by reading its file.
fn read_file(taken: SlabTaken, length: usize) -> io::Result<Vec<u8>> {
    let file = File::from(taken.file);
    if file.metadata()?.len() < length as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Plain<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes).map(Self)
    }
}

/// Takes bytes however a format gives them.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(bytes.into())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(bytes.to_vec().into())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(bytes.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}
