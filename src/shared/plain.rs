//! Plain old data in memory that several processes have mapped: how it lies there, and how it travels.
//!
//! ```text
//!   0     8        16    24       32        64, or the elements' alignment if that is more
//!   kind  size of  its   number   lock, or  elements ..
//!         element  align of them  zero
//! ```
//!
//! What is written before the elements says what they may be taken for, and under which lock they are.
//! It is compared on arrival. A value with a lock that came as one without, or with another lock, would
//! be references to what others change at the same time; there is no such handle.

use std::any::type_name;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytemuck::Pod;
use serde::{Serialize, Serializer, de};

use super::granules;
use super::slice::size;
use crate::sys::mapping::{Atomic, Mapping, sealed_file};
use crate::task::attached;

/// What a handle is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    tag: [u8; 8],
    /// It has one element, and never another number of them.
    single: bool,
}

pub(super) const RAW_VALUE: Kind = Kind {
    name: "RawValue",
    tag: *b"rawvalue",
    single: true,
};
pub(super) const RAW_ARRAY: Kind = Kind {
    name: "RawArray",
    tag: *b"rawarray",
    single: false,
};
pub(super) const VALUE: Kind = Kind {
    name: "Value",
    tag: *b"value\0\0\0",
    single: true,
};
pub(super) const ARRAY: Kind = Kind {
    name: "Array",
    tag: *b"array\0\0\0",
    single: false,
};

/// Elements in shared memory; a clone is the same ones.
#[derive(Debug)]
pub(super) struct Plain<T> {
    block: Arc<Block>,
    element: PhantomData<fn() -> T>,
}

/// The memory of one handle and its clones.
#[derive(Debug)]
pub(super) struct Block {
    file: OwnedFd,
    memory: Mapping,
    length: usize,
}

/// Where the elements begin.
const fn begin<T>() -> usize {
    if align_of::<T>() > 64 {
        align_of::<T>()
    } else {
        64
    }
}

/// How much is mapped for so many elements: whole words.
fn mapped<T>(length: usize) -> io::Result<usize> {
    let bytes = size::<T>(length)?;
    let bytes = bytes.checked_add(begin::<T>() + 7);
    bytes
        .map(|bytes| bytes & !7)
        .ok_or(io::ErrorKind::OutOfMemory.into())
}

/// What is written before elements of that kind, but for the lock.
fn header<T>(kind: Kind, length: usize) -> [u64; 4] {
    let tag = u64::from_le_bytes(kind.tag);
    let numbers = [size_of::<T>(), align_of::<T>(), length];
    let [size, align, length] = numbers.map(|number| number as u64);
    [tag, size, align, length]
}

/// The word that says which lock they are under.
const LOCK: usize = 32;

impl<T: Pod> Plain<T> {
    /// Makes so many, whose bytes are all zero. `lock` is the number of the lock they are under, or zero.
    pub(super) fn new(kind: Kind, length: usize, lock: u64) -> io::Result<Self> {
        let name = format!("procpool-{}", kind.name.to_lowercase());
        let new = Self::open(sealed_file(&name, mapped::<T>(length)?)?, length)?;
        let memory = &new.block.memory;
        for (place, word) in header::<T>(kind, length).into_iter().enumerate() {
            memory.word(8 * place).store(word, Ordering::Relaxed);
        }
        memory.word(LOCK).store(lock, Ordering::Relaxed);
        Ok(new)
    }

    /// Makes some with this in them.
    pub(super) fn copy_of(kind: Kind, elements: &[T], lock: u64) -> io::Result<Self> {
        let new = Self::new(kind, elements.len(), lock)?;
        new.write(0, elements);
        Ok(new)
    }

    fn open(file: OwnedFd, length: usize) -> io::Result<Self> {
        let block = Block {
            memory: Mapping::new(&file, mapped::<T>(length)?)?,
            file,
            length,
        };
        Ok(Self {
            block: Arc::new(block),
            element: PhantomData,
        })
    }

    /// What comes from a process as some of that kind, under that lock.
    pub(super) fn arrive<E: de::Error>(
        kind: Kind,
        lock: u64,
        (place, length): (u32, u64),
    ) -> Result<Self, E> {
        let file = attached::take(place)?;
        let length = usize::try_from(length).map_err(E::custom)?;
        let arrived = Self::open(file, length);
        arrived
            .and_then(|arrived| arrived.checked(kind, lock))
            .map_err(|error| {
                let (name, element) = (kind.name, type_name::<T>());
                E::custom(format_args!("no {name}<{element}> came: {error}"))
            })
    }

    fn checked(self, kind: Kind, lock: u64) -> io::Result<Self> {
        let word = |place| self.block.memory.word(place).load(Ordering::Relaxed);
        let found = [0, 8, 16, 24].map(word);
        let expected = header::<T>(kind, self.len());
        let wrong = match found == expected && (!kind.single || self.len() == 1) {
            true if word(LOCK) == lock => return Ok(self),
            true => "it is under another lock",
            false => "it is something else",
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, wrong))
    }

    pub(super) fn len(&self) -> usize {
        self.block.length
    }

    /// Copies elements from that one on, which are there, out of memory that others may write.
    pub(super) fn read(&self, index: usize, target: &mut [T]) {
        let (memory, place) = (&self.block.memory, self.place(index));
        copy_out(
            memory,
            place,
            align_of::<T>(),
            bytemuck::cast_slice_mut(target),
        );
    }

    /// Copies elements to that one and those behind it, which are there, in memory that others may read
    /// and write.
    pub(super) fn write(&self, index: usize, elements: &[T]) {
        let (memory, place) = (&self.block.memory, self.place(index));
        copy_in(
            memory,
            place,
            align_of::<T>(),
            bytemuck::cast_slice(elements),
        );
    }

    /// What keeps them mapped.
    pub(super) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Where the first of them is, aligned, for as long as this lives.
    pub(super) fn start(&self) -> *mut T {
        let start = self.block.memory.start();
        start.wrapping_byte_add(begin::<T>()).cast()
    }

    fn place(&self, index: usize) -> usize {
        begin::<T>() + index * size_of::<T>()
    }

    /// The elements as atomics of their size, which are the granules in which they are copied.
    pub(super) fn atomics<A: Atomic>(&self) -> &[A] {
        const { assert!(size_of::<A>() == size_of::<T>() && align_of::<A>() == align_of::<T>()) }
        self.block.memory.atomics(begin::<T>(), self.len())
    }
}

// Not generic, so that they are compiled with this crate, which may be optimised where a program is not.

/// Copies elements so aligned out of memory, by granules of that size where there are such.
fn copy_out(memory: &Mapping, place: usize, align: usize, target: &mut [u8]) {
    match align {
        4 => granules::read::<AtomicU32>(memory, place, target),
        _ => granules::read::<AtomicU64>(memory, place, target),
    }
}

/// Copies elements so aligned into memory, in the same way.
fn copy_in(memory: &Mapping, place: usize, align: usize, elements: &[u8]) {
    match align {
        4 => granules::write::<AtomicU32>(memory, place, elements),
        _ => granules::write::<AtomicU64>(memory, place, elements),
    }
}

impl<T> Clone for Plain<T> {
    fn clone(&self) -> Self {
        Self {
            block: self.block.clone(),
            element: PhantomData,
        }
    }
}

impl<T> AsFd for Plain<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.block.file.as_fd()
    }
}

impl<T> Serialize for Plain<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (attached::attach(self)?, self.block.length as u64).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::Error;

    use super::*;

    /// What arrives where that was sent.
    fn sent<T: Pod>(
        from: &Plain<u64>,
        kind: Kind,
        lock: u64,
        length: u64,
    ) -> Result<Plain<T>, Error> {
        let file = from.as_fd().try_clone_to_owned().unwrap();
        attached::supply(vec![file], || Plain::arrive(kind, lock, (0, length)))
    }

    #[test]
    fn what_is_under_a_lock_is_taken_for_nothing_else() {
        let value = Plain::copy_of(VALUE, &[7_u64], 5).unwrap();
        let mut seen = [0_u64];
        sent(&value, VALUE, 5, 1).unwrap().read(0, &mut seen);
        assert_eq!(seen, [7]);
        let other_lock = sent::<u64>(&value, VALUE, 6, 1).unwrap_err().to_string();
        assert_eq!(other_lock, "no Value<u64> came: it is under another lock");
        for wrong in [
            sent::<u64>(&value, RAW_VALUE, 0, 1).map(drop),
            sent::<u64>(&value, ARRAY, 5, 1).map(drop),
            sent::<[u32; 2]>(&value, VALUE, 5, 1).map(drop),
            sent::<u64>(&value, VALUE, 5, 0).map(drop),
            sent::<u64>(&value, VALUE, 5, 2).map(drop),
            sent::<u64>(&Plain::new(VALUE, 0, 5).unwrap(), VALUE, 5, 0).map(drop),
        ] {
            assert!(wrong.is_err());
        }
    }

    #[test]
    fn elements_are_aligned_however_large_that_is() {
        #[repr(C, align(256))]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct Wide([u8; 256]);

        let wide = Plain::copy_of(ARRAY, &[Wide([1; 256]), Wide([2; 256])], 5).unwrap();
        assert!(wide.start().is_aligned());
        let mut second = [Wide([0; 256])];
        wide.read(1, &mut second);
        assert_eq!(second[0].0, [2; 256]);
    }
}
