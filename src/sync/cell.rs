//! What every primitive consists of: words that several processes see, and bells for those who sleep
//! until one of them changes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sys::bell;
use crate::sys::incarnation::{self, Incarnation};
use crate::sys::mapping::{Mapping, clear, sealed_file};
use crate::task::attached;

/// The word that says in which namespace the processes have the numbers that are written down.
const NAMESPACE: usize = 0;

/// The word that says which primitive it is.
const KIND: usize = 8;

/// Where the words of the primitive begin: each primitive's own, on a cache line of their own.
const WORDS: usize = 64;

/// Words, and bells.
#[derive(Debug)]
pub(crate) struct Cell {
    file: OwnedFd,
    number: u64,
    memory: Mapping,
    size: usize,
    bells: Vec<OwnedFd>,
}

impl Cell {
    /// Makes one for a primitive of that kind, with so many words, all zero, and bells.
    pub(crate) fn new(kind: &str, words: usize, bells: usize) -> io::Result<Self> {
        let size = WORDS + 8 * words;
        let file = sealed_file(&format!("procpool-{kind}"), size)?;
        let cell = Self {
            memory: Mapping::new(&file, size)?,
            number: number(&file)?,
            file,
            size,
            bells: (0..bells)
                .map(|_| bell::bell())
                .collect::<io::Result<_>>()?,
        };
        let namespace = own_namespace()?;
        cell.memory
            .word(NAMESPACE)
            .store(namespace, Ordering::Relaxed);
        cell.memory.word(KIND).store(tag(kind), Ordering::Relaxed);
        Ok(cell)
    }

    fn open(kind: &str, file: OwnedFd, size: usize, bells: Vec<OwnedFd>) -> io::Result<Self> {
        let memory = Mapping::new(&file, size.max(WORDS))?;
        if memory.word(KIND).load(Ordering::Relaxed) != tag(kind) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is no {kind}"),
            ));
        }
        if memory.word(NAMESPACE).load(Ordering::Relaxed) != own_namespace()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it comes from another namespace of process ids, where processes have other numbers",
            ));
        }
        Ok(Self {
            number: number(&file)?,
            file,
            memory,
            size,
            bells,
        })
    }

    /// What comes from a process as one of that kind, with so many words and bells at least.
    pub(crate) fn arrive<'de, D: Deserializer<'de>>(
        kind: &str,
        (words, least_bells): (usize, usize),
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (file, size, bells) = <(u32, u64, Vec<u32>)>::deserialize(deserializer)?;
        let file = attached::take(file)?;
        let bells = bells.into_iter().map(attached::take);
        let bells = bells.collect::<Result<_, D::Error>>()?;
        let size = usize::try_from(size).map_err(de::Error::custom)?;
        let cell = Self::open(kind, file, size, bells).map_err(de::Error::custom)?;
        let whole = cell.has(words, least_bells).then_some(cell);
        whole.ok_or_else(|| de::Error::custom(format_args!("it is no whole {kind}")))
    }

    /// The number of its memory, which no other has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// One of its words.
    pub(crate) fn word(&self, number: usize) -> &AtomicU64 {
        self.memory.word(WORDS + 8 * number)
    }

    /// So many of its words, from one on.
    pub(crate) fn words_from(&self, first: usize, count: usize) -> &[AtomicU64] {
        self.memory.atomics(WORDS + 8 * first, count)
    }

    /// Whether it has at least so many words and bells, where it comes from somebody else.
    pub(crate) fn has(&self, words: usize, bells: usize) -> bool {
        self.size >= WORDS + 8 * words && self.bells.len() >= bells
    }

    /// Copies bytes to where that word begins, and on. Those are never asked for as words.
    pub(crate) fn copy_in(&self, word: usize, bytes: &[u8]) {
        self.memory.copy_in(WORDS + 8 * word, bytes);
    }

    /// Copies bytes from where that word begins to `target`, as many as that holds.
    pub(crate) fn copy_to(&self, word: usize, target: &mut [u8]) {
        self.memory.copy_to(WORDS + 8 * word, target);
    }

    /// Appends a copy of `length` bytes from where that word begins.
    pub(crate) fn copy_out(&self, word: usize, length: usize, out: &mut Vec<u8>) {
        self.memory.copy_out(WORDS + 8 * word, length, out);
    }

    /// Gives back the memory from that word on: what is there is zero from now on.
    pub(crate) fn give_back(&self, word: usize) {
        // Where it cannot be it is kept.
        let _ = clear(&self.file, WORDS + 8 * word, self.size);
    }

    /// How many words it has.
    pub(crate) fn words(&self) -> usize {
        self.size.saturating_sub(WORDS) / 8
    }

    /// One of its bells.
    pub(crate) fn bell(&self, number: usize) -> &OwnedFd {
        &self.bells[number]
    }

    /// Wakes all who sleep at that bell.
    pub(crate) fn ring(&self, bell: usize) {
        bell::ring(&self.bells[bell]);
    }
}

/// The namespace of this process's number. From here on this process knows who it is, so that what needs
/// no sleep cannot fail for want of a descriptor.
fn own_namespace() -> io::Result<u64> {
    Incarnation::own()?;
    incarnation::namespace()
}

/// What the kernel calls a file, for as long as anybody has it: all are in its one file system for
/// anonymous files.
fn number(file: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_ino)
}

/// The word that stands for a kind.
fn tag(kind: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes
        .iter_mut()
        .zip(kind.bytes())
        .for_each(|(to, from)| *to = from);
    u64::from_le_bytes(bytes)
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = attached::attach(&self.file)?;
        let bells = self.bells.iter().map(attached::attach);
        let bells = bells.collect::<Result<Vec<u32>, S::Error>>()?;
        (file, self.size as u64, bells).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Barrier, Condition, Event, Lock, Semaphore};

    fn arrives<T: for<'de> Deserialize<'de>>(sent: &impl Serialize) -> bool {
        let (bytes, attached) = attached::collect(|| postcard::to_stdvec(sent).unwrap());
        attached::supply(attached, || postcard::from_bytes::<T>(&bytes)).is_ok()
    }

    #[test]
    fn a_handle_of_another_kind_is_refused() {
        let (lock, event) = (Lock::new().unwrap(), Event::new().unwrap());
        assert!(arrives::<Lock>(&lock) && arrives::<Event>(&event));
        assert!(!arrives::<Event>(&lock) && !arrives::<Lock>(&event));
        assert!(!arrives::<Condition>(&(&lock, &lock)));
    }

    #[test]
    fn a_handle_without_all_that_belongs_to_it_is_refused() {
        for (words, bells) in [(0, 1), (100, 0)] {
            let cell = |kind| Cell::new(kind, words, bells).unwrap();
            assert!(!arrives::<Lock>(&cell("lock")));
            assert!(!arrives::<Event>(&cell("event")));
            assert!(!arrives::<Semaphore>(&cell("semaphore")));
            assert!(!arrives::<Barrier>(&cell("barrier")));
        }
    }
}
