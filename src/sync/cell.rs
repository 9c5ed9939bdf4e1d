//! What every primitive consists of: words that several processes see, and a bell for those who sleep
//! until one of them changes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sys::mapping::{Mapping, sealed_file};
use crate::sys::{bell, incarnation};
use crate::task::attached;

/// How many bytes a cell has: one page, which is the least there is.
const SIZE: usize = 4096;

/// The word that says in which namespace the processes have the numbers that are written down.
const NAMESPACE: usize = 0;

/// Where the words of the primitive begin: each primitive's own, on a cache line of their own.
const WORDS: usize = 64;

/// Words and a bell.
#[derive(Debug)]
pub(super) struct Cell {
    file: OwnedFd,
    memory: Mapping,
    bell: OwnedFd,
}

impl Cell {
    /// Makes one; all words are zero.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let file = sealed_file(name, SIZE)?;
        let cell = Self {
            memory: Mapping::new(&file, SIZE)?,
            file,
            bell: bell::bell()?,
        };
        let namespace = incarnation::namespace()?;
        cell.memory
            .word(NAMESPACE)
            .store(namespace, Ordering::Relaxed);
        Ok(cell)
    }

    fn open(file: OwnedFd, bell: OwnedFd) -> io::Result<Self> {
        let memory = Mapping::new(&file, SIZE)?;
        if memory.word(NAMESPACE).load(Ordering::Relaxed) != incarnation::namespace()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it comes from another namespace of process ids, where processes have other numbers",
            ));
        }
        Ok(Self { file, memory, bell })
    }

    /// One of its words.
    pub(super) fn word(&self, number: usize) -> &AtomicU64 {
        self.memory.word(WORDS + 8 * number)
    }

    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Wakes all who sleep.
    pub(super) fn ring(&self) {
        bell::ring(&self.bell);
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let places = (attached::attach(&self.file)?, attached::attach(&self.bell)?);
        places.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (file, bell) = <(u32, u32)>::deserialize(deserializer)?;
        Self::open(attached::take(file)?, attached::take(bell)?).map_err(de::Error::custom)
    }
}
