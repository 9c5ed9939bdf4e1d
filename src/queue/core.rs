//! What the processes that have a queue share of it: books, a ring of records, sleepers and descriptors.
//!
//! # Why a kill at any instant does no harm
//!
//! The memory has two copies of the [books](super::books) and a version, whose lowest bit says which of
//! the two is valid. Whoever has the lock writes the other copy, and then the version: that one store is
//! the change. So these are all the instants at which somebody may be gone:
//!
//! | killed | what is in the queue | what is left over |
//! | --- | --- | --- |
//! | while a record is written | as before: it lies behind the tail | garbage, where the next record will be |
//! | while the ring is made longer | as before: it ends where it did | copies beyond its end |
//! | after its descriptors were sent | as before | a parcel with a number that no record has: thrown away, and with it what lies in slabs |
//! | after those who sleep were woken | as before | nothing: they find nothing, and sleep again |
//! | while the other books are written | as before | garbage in books that are not valid |
//! | after the version was stored | the item is in it, or out of it | nothing |
//! | out of it, its parcel still there | it was in the hand of the dead | a parcel of a record that is gone: thrown away |
//! | before the change was noted in the table of hands | the item is in it, or out of it | nothing: the change is in the books, and noted again by whoever comes next |
//!
//! The lock is left with a dead owner; who waits for it watches him, and inherits it. Those who sleep
//! until there is an item, or room, need to watch nobody, since they are woken *before* the change and
//! under the lock: from then on they wait for the lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::books::{self, Books, Bounds, Moved};
use super::parcels::Parcels;
use super::upkeep;
use crate::sync::Lock;
use crate::sync::cell::Cell;
use crate::task::slabs;

const KIND: &str = "queue";

/// Where the lock is in the cell's words, and which bell is its.
const LOCK: (usize, usize) = (0, 0);

/// Where the bounds are written down: items and words.
const BOUNDS: usize = 8;

/// Whether it is counted what was put and is not done.
const COUNTS: usize = 10;

/// Which of the books are valid.
const VERSION: usize = 16;

/// The number of the parcel that was sent last.
const PARCEL: usize = 17;

/// How long the ring was at most since its memory was given back.
const TOUCHED: usize = 18;

/// Where the two copies of the books are.
const BANKS: [usize; 2] = [24, 40];

/// Where the table of hands is: two words each.
pub(super) const HANDS: usize = 80;

/// How many places it has: so many processes have items in hand at a time.
pub(super) const PLACES: usize = 1024;

/// Where the records are.
const RING: usize = HANDS + 2 * PLACES;

/// So many words keep their memory when the ring gets shorter, because fresh memory costs more than
/// copying does: 4 MiB.
const WARM: u64 = 1 << 19;

/// Those who sleep for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// What they sleep at.
    pub(super) bell: usize,
    /// The first of their words.
    first: usize,
}

/// Until there is an item.
pub(super) const GETTERS: Side = Side { bell: 1, first: 56 };

/// Until there is room.
pub(super) const PUTTERS: Side = Side { bell: 2, first: 64 };

/// Until everything is done.
pub(super) const JOINERS: Side = Side { bell: 3, first: 72 };

/// How many bells there are; and one more where it can be joined.
const BELLS: usize = 3;

impl Side {
    /// Whether anybody may sleep. Changes under the lock alone.
    pub(super) fn sleepers(self, core: &Core) -> &AtomicU64 {
        core.cell.word(self.first)
    }

    /// Until when somebody who has waited for long goes first, in milliseconds.
    pub(super) fn courtesy(self, core: &Core) -> &AtomicU64 {
        core.cell.word(self.first + 1)
    }
}

/// One queue, as this process has it.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) cell: Arc<Cell>,
    pub(super) lock: Lock,
    pub(super) parcels: Parcels,
    pub(super) bounds: Bounds,
    /// Whether it is counted what was put and is not done.
    pub(super) counts: bool,
}

impl Core {
    /// Makes one with nothing in it, which counts what was put and is not done, or does not.
    pub(super) fn new(bounds: Bounds, counts: bool) -> io::Result<Self> {
        let words = usize::try_from(bounds.words).ok();
        let words = words.filter(|words| *words <= MOST && bounds.items > 0 && *words > 0);
        let words = words.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "no queue can be that large or small",
            )
        })?;
        let cell = Cell::new(KIND, RING + words, BELLS + usize::from(counts))?;
        cell.word(BOUNDS).store(bounds.items, Relaxed);
        cell.word(BOUNDS + 1).store(bounds.words, Relaxed);
        cell.word(COUNTS).store(counts.into(), Relaxed);
        let core = Self::of(cell, Parcels::new()?);
        core.commit(Books::new(bounds));
        Ok(core)
    }

    fn of(cell: Cell, parcels: Parcels) -> Self {
        slabs::keep_by(upkeep::keep);
        let cell = Arc::new(cell);
        Self {
            lock: Lock::within(&cell, LOCK.0, LOCK.1),
            parcels,
            bounds: Bounds {
                items: cell.word(BOUNDS).load(Relaxed),
                words: cell.word(BOUNDS + 1).load(Relaxed),
            },
            counts: cell.word(COUNTS).load(Relaxed) != 0,
            cell,
        }
    }

    /// All for which anybody sleeps.
    pub(super) fn sides(&self) -> impl Iterator<Item = Side> {
        let joiners = self.counts.then_some(JOINERS);
        [GETTERS, PUTTERS].into_iter().chain(joiners)
    }

    /// The books of some moment between the call and its return. Takes no lock.
    pub(super) fn glance(&self) -> Books {
        let version = self.cell.word(VERSION);
        let mut before = version.load(Acquire);
        loop {
            let books = self.read_bank(before);
            // Before these can have been overwritten, the version was changed.
            fence(Acquire);
            let after = version.load(Relaxed);
            if before == after {
                return books;
            }
            before = version.load(Acquire);
        }
    }

    /// Another number whenever anything has changed.
    pub(super) fn version(&self) -> u64 {
        self.cell.word(VERSION).load(Relaxed)
    }

    /// The books, for one who has the lock.
    ///
    /// # Errors
    ///
    /// Where they are not as this build writes them.
    pub(super) fn books(&self) -> io::Result<Books> {
        let books = self.read_bank(self.cell.word(VERSION).load(Acquire));
        match books.are_sound(self.bounds) {
            true => Ok(books),
            false => Err(damaged()),
        }
    }

    /// Makes these the books, for one who has the lock.
    pub(super) fn commit(&self, books: Books) {
        let version = self.cell.word(VERSION);
        let next = version.load(Relaxed).wrapping_add(1);
        // Who glances at what is overwritten now sees that the version is not the one that had it.
        fence(Release);
        for (place, word) in self.bank(next).iter().zip(books.to_words()) {
            place.store(word, Relaxed);
        }
        version.store(next, Release);
    }

    /// What is written down there.
    fn read_bank(&self, version: u64) -> Books {
        let mut words = [0; books::WORDS];
        for (word, place) in words.iter_mut().zip(self.bank(version)) {
            *word = place.load(Relaxed);
        }
        Books::of_words(words)
    }

    /// Where the books of that version are: of those that a queue that counts nothing never changes from
    /// zero it has none.
    fn bank(&self, version: u64) -> &[AtomicU64] {
        let count = match self.counts {
            true => books::WORDS,
            false => books::WORDS_UNCOUNTED,
        };
        self.cell.words_from(BANKS[(version & 1) as usize], count)
    }

    /// The number of the next parcel, which no other has ever had. For one who has the lock.
    pub(super) fn number_parcel(&self) -> u64 {
        let last = self.cell.word(PARCEL);
        last.store(last.load(Relaxed) + 1, Relaxed);
        last.load(Relaxed)
    }

    /// Writes bytes into a ring of that length from a place on, for one who has the lock.
    pub(super) fn write(&self, length: u64, place: u64, bytes: &[u8]) {
        let (place, until_end) = Self::place(length, place);
        let (first, second) = bytes.split_at(bytes.len().min(until_end));
        self.cell.copy_in(RING + place, first);
        self.cell.copy_in(RING, second);
    }

    /// Appends so many bytes that are in a ring of that length from a place on, for one who has the
    /// lock. They are no more than the ring has.
    pub(super) fn read(&self, length: u64, place: u64, bytes: usize, out: &mut Vec<u8>) {
        let (place, until_end) = Self::place(length, place);
        let first = bytes.min(until_end);
        self.cell.copy_out(RING + place, first, out);
        self.cell.copy_out(RING, bytes - first, out);
    }

    /// The bytes of a word of a ring of that length, for one who has the lock.
    pub(super) fn read_word(&self, length: u64, place: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        let (place, _) = Self::place(length, place);
        self.cell.copy_to(RING + place, &mut bytes);
        bytes
    }

    /// Which of the ring's words it is, and how many bytes there are from there to its end.
    fn place(length: u64, place: u64) -> (usize, usize) {
        let place = books::wrap(place, length);
        (place as usize, (length - place) as usize * 8)
    }

    /// Copies what is at the beginning of a ring to behind its end, because that is to be longer from
    /// now on. For one who has the lock.
    pub(super) fn move_up(&self, moved: Moved, longer: u64) {
        let mut chunk = Vec::new();
        let (mut from, mut to, end) = (0, moved.to as usize, moved.words as usize);
        while from < end {
            let words = (end - from).min(CHUNK);
            chunk.clear();
            self.cell.copy_out(RING + from, words * 8, &mut chunk);
            self.cell.copy_in(RING + to, &chunk);
            (from, to) = (from + words, to + words);
        }
        let touched = self.cell.word(TOUCHED);
        touched.store(touched.load(Relaxed).max(longer), Relaxed);
    }

    /// Gives back the memory beyond the end of a ring, for one who has the lock.
    pub(super) fn give_back(&self, length: u64) {
        let (touched, kept) = (self.cell.word(TOUCHED), length.max(WARM));
        if touched.load(Relaxed) > kept {
            self.cell.give_back(RING + kept as usize);
            touched.store(kept, Relaxed);
        }
    }
}

/// How many words are copied at a time.
const CHUNK: usize = 1 << 13;

/// How many words a ring has at most: no mapping is larger than half of all addresses.
const MOST: usize = isize::MAX as usize / 8 - 1024;

/// Somebody has written to the memory who should not have.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the queue's memory is damaged")
}

impl Serialize for Core {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.cell, &self.parcels).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Core {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Arrived(cell), parcels) = Deserialize::deserialize(deserializer)?;
        let core = Self::of(cell, parcels);
        let bells = BELLS + usize::from(core.counts);
        let words = usize::try_from(core.bounds.words).unwrap_or(usize::MAX);
        let whole = (1..=MOST).contains(&words) && core.cell.has(RING + words, bells);
        let refused = || de::Error::custom("it is no whole queue");
        whole.then_some(core).ok_or_else(refused)
    }
}

struct Arrived(Cell);

impl<'de> Deserialize<'de> for Arrived {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cell::arrive(KIND, (RING, BELLS), deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::books::Extent;
    use super::*;

    fn core(words: u64) -> Core {
        Core::new(Bounds { items: 8, words }, false).unwrap()
    }

    #[test]
    fn what_is_written_across_the_end_of_the_ring_is_read_back() {
        let core = core(9);
        for place in 0..5 {
            for length in 0..=40 {
                let bytes: Vec<u8> = (0..length).map(|n| n + place as u8).collect();
                core.write(5, place, &bytes);
                let mut read = b">".to_vec();
                core.read(5, place, bytes.len(), &mut read);
                assert_eq!(read, [b">", &bytes[..]].concat());
            }
        }
    }

    #[test]
    fn what_is_at_the_beginning_continues_behind_the_end() {
        let core = core(9);
        core.write(5, 3, &[7; 32]);
        core.move_up(Moved { words: 2, to: 5 }, 9);
        let mut read = Vec::new();
        core.read(9, 3, 32, &mut read);
        assert_eq!(read, [7; 32]);
    }

    #[test]
    fn a_change_is_one_store() {
        let core = core(5);
        let before = core.books().unwrap();
        let mut books = before;
        books.bring_in(Extent::of(16, 0, false));
        // All but the last store: as if it had been killed there.
        let bank = BANKS[(core.version() & 1 ^ 1) as usize];
        for (place, word) in (bank..).zip(books.to_words()) {
            core.cell.word(place).store(word, Relaxed);
        }
        assert_eq!(core.books().unwrap(), before);
        core.commit(books);
        assert_eq!((core.books().unwrap(), core.glance()), (books, books));
    }

    #[test]
    fn books_that_make_no_sense_are_an_error() {
        let core = core(5);
        core.commit(Books {
            used: 6,
            items: 1,
            ..Books::new(core.bounds)
        });
        assert_eq!(core.books().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn one_that_arrives_without_all_that_belongs_to_it_is_refused() {
        use crate::task::{attached, payload};
        let arrives = |words: u64, counts: u64, bells| {
            let cell = Cell::new(KIND, RING + 8, bells).unwrap();
            cell.word(BOUNDS).store(1, Relaxed);
            cell.word(BOUNDS + 1).store(words, Relaxed);
            cell.word(COUNTS).store(counts, Relaxed);
            let sent = payload::pack(&(cell, Parcels::new().unwrap())).unwrap();
            let descriptors = sent.take_descriptors();
            attached::supply(descriptors, || payload::decode::<Core>(&sent)).is_ok()
        };
        assert!(arrives(8, 0, 3) && arrives(8, 1, 4));
        for (words, counts, bells) in [(0, 0, 3), (9, 0, 3), (u64::MAX, 0, 3), (8, 1, 3)] {
            assert!(!arrives(words, counts, bells), "{words} {counts} {bells}");
        }
    }

    #[test]
    fn no_two_parcels_have_one_number() {
        let core = core(1);
        assert_eq!([(); 3].map(|()| core.number_parcel()), [1, 2, 3]);
    }
}
