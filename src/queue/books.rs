//! The books of a queue: what is where in its ring, and whether more may come. They do no I/O and know
//! no memory; how they are kept where processes that share them are killed at any instant is in
//! [`core`](super::core).
//!
//! ```text
//!   places are words of the memory, which the ring has from zero up to its length
//!
//!   0        tail          head                       length           bound
//!   ├──────────┼─────────────┼──────────┬────────┬───────┤ ─ ─ ─ ─ ─ ─ ─ ─ ┤
//!   │ … record │    room     │  record  │ record │ rec…  │   not in use     │
//!   └──────────┴─────────────┴──────────┴────────┴───────┘
//! ```
//!
//! | state | means |
//! | --- | --- |
//! | nothing is `used` | empty; the next record is at the beginning, where the memory is warm |
//! | `used` is the length | the ring is made longer for the next record, up to the bound |
//! | `used` is the bound | not a word is left |
//! | `items` is its bound | no item more, whatever room there is |
//! | `finished` | nothing more comes in; what is in it comes out |
//!
//! A ring is as long as it has to be: so little is in use of a large bound, and stays in the caches, however
//! many items come and go. It is doubled when it is full, after what is at its beginning was copied
//! behind its end; it is halved when all that is in it lies in its first half.
//!
//! A queue that can be joined counts besides. An item that is put is unfinished until somebody says that it
//! is done, or dies with it in hand and it is lost. When nothing is unfinished everything was done, and
//! what is put next begins a new batch, of which nothing is lost yet.

/// How long a record is: its header, and the rest rounded up to whole words.
pub(super) fn footprint(length: usize, has_parcel: bool) -> u64 {
    1 + u64::from(has_parcel) + length.div_ceil(8) as u64
}

/// How large a queue may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many items it takes.
    pub(super) items: u64,
    /// How many words its ring has.
    pub(super) words: u64,
}

/// A ring is never shorter than this, unless its bound is: 256 KiB.
const LEAST: u64 = 1 << 15;

impl Bounds {
    /// How long a ring is before anything is in it.
    fn least(self) -> u64 {
        let mut length = self.words;
        while half(length) >= LEAST {
            length = half(length);
        }
        length
    }
}

/// All lengths of a ring are its bound, halved so many times. Twice the half is never less than the
/// whole.
fn half(length: u64) -> u64 {
    length.div_ceil(2)
}

/// The place in a ring of that length that is so far from its beginning, or once around it. A division
/// would take longer than everything else that is done to books.
pub(super) fn wrap(place: u64, length: u64) -> u64 {
    if place < length {
        place
    } else {
        place - length
    }
}

/// Words at the beginning of a ring that are to be copied to where it ended before it was made longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) words: u64,
    pub(super) to: u64,
}

/// Everything that changes with an item, and changes as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// How long the ring is.
    pub(super) length: u64,
    /// The place of the oldest record.
    pub(super) head: u64,
    /// How many words of the ring have records in them.
    pub(super) used: u64,
    /// How many items are in it.
    pub(super) items: u64,
    /// How many of them have descriptors beside them.
    pub(super) parcels: u64,
    /// Whether nothing more comes in.
    pub(super) finished: bool,
    /// How many items were put and are neither done nor lost.
    pub(super) unfinished: u64,
    /// How many of this batch are lost.
    pub(super) lost: u64,
    /// The last change of anybody's hand, to be made again by whoever comes next.
    pub(super) hand: Hand,
}

/// What a process has taken and not done yet, in its place in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hand {
    /// The number of the place, from one on.
    pub(super) place: u64,
    /// The word that stands for the process.
    pub(super) owner: u64,
    /// How many items.
    pub(super) count: u64,
}

/// How many words books are, written down.
pub(super) const WORDS: usize = 11;

/// How many of them come first and change where what is done is not counted.
pub(super) const WORDS_UNCOUNTED: usize = 6;

impl Books {
    /// Of a queue with nothing in it.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            length: bounds.least(),
            ..Self::default()
        }
    }

    /// As they are written down.
    pub(super) fn to_words(self) -> [u64; WORDS] {
        let Self {
            length,
            head,
            used,
            items,
            parcels,
            finished,
            unfinished,
            lost,
            hand:
                Hand {
                    place,
                    owner,
                    count,
                },
        } = self;
        let finished = finished.into();
        [
            length, head, used, items, parcels, finished, unfinished, lost, place, owner, count,
        ]
    }

    /// As they were written down.
    pub(super) fn of_words(words: [u64; WORDS]) -> Self {
        let [
            length,
            head,
            used,
            items,
            parcels,
            finished,
            unfinished,
            lost,
            place,
            owner,
            count,
        ] = words;
        Self {
            length,
            head,
            used,
            items,
            parcels,
            finished: finished != 0,
            unfinished,
            lost,
            hand: Hand {
                place,
                owner,
                count,
            },
        }
    }

    /// Whether books like these can have been written for a queue of those bounds.
    pub(super) fn are_sound(&self, bounds: Bounds) -> bool {
        self.length <= bounds.words
            && self.head < self.length
            && self.used <= self.length
            // Each record has a header.
            && self.items <= self.used
            && (self.items == 0) == (self.used == 0)
            && self.items <= bounds.items
            && self.parcels <= self.items
    }

    /// Whether a record of so many words can come in now.
    pub(super) fn has_room(&self, words: u64, bounds: Bounds) -> bool {
        self.items < bounds.items && words <= bounds.words - self.used
    }

    /// Makes the ring longer, if a record of so many words needs it, for which there is room within the
    /// bounds. What is to be moved then is at its beginning and finds room behind its old end.
    pub(super) fn lengthen(&mut self, words: u64, bounds: Bounds) -> Option<Moved> {
        let needed = self.used + words;
        if needed <= self.length {
            return None;
        }
        let mut length = bounds.words;
        while half(length) > self.length && half(length) >= needed {
            length = half(length);
        }
        let moved = Moved {
            words: (self.head + self.used).saturating_sub(self.length),
            to: self.length,
        };
        self.length = length;
        Some(moved)
    }

    /// Where the next record will begin.
    pub(super) fn tail(&self) -> u64 {
        wrap(self.head + self.used, self.length)
    }

    /// Brings in a record of so many words, for which the ring is long enough. It was written at the
    /// tail.
    pub(super) fn bring_in(&mut self, words: u64, has_parcel: bool) {
        self.used += words;
        self.items += 1;
        self.parcels += u64::from(has_parcel);
    }

    /// Takes out the oldest record. Tells `false`, and changes nothing, where there is none like it.
    #[must_use]
    pub(super) fn take_out(&mut self, words: u64, has_parcel: bool) -> bool {
        let left = self.used.checked_sub(words);
        let parcels = self.parcels.checked_sub(has_parcel.into());
        let (Some(used), Some(parcels)) = (left, parcels) else {
            return false;
        };
        if self.items == 0 || (self.items == 1) != (used == 0) {
            return false;
        }
        (self.items, self.parcels) = (self.items - 1, parcels);
        self.head = wrap(self.head + words, self.length);
        self.used = used;
        if used == 0 {
            self.head = 0;
        }
        while half(self.length) >= LEAST && self.head + used <= half(self.length) {
            self.length = half(self.length);
        }
        true
    }

    /// Counts an item that is put.
    pub(super) fn count_put(&mut self) {
        if self.unfinished == 0 {
            self.lost = 0;
        }
        self.unfinished += 1;
    }

    /// Counts an item that is done; `false` where none is left that could be.
    #[must_use]
    pub(super) fn count_done(&mut self) -> bool {
        let left = self.unfinished.checked_sub(1);
        self.unfinished = left.unwrap_or(0);
        left.is_some()
    }

    /// Counts items that were in a hand and will never be done. Others may have said of some that they
    /// are, and no item that is still in the queue is meant.
    pub(super) fn count_lost(&mut self, count: u64) {
        let lost = count.min(self.unfinished.saturating_sub(self.items));
        self.unfinished -= lost;
        self.lost += lost;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        items: 4,
        words: 20,
    };

    #[test]
    fn a_record_has_a_header_and_whole_words() {
        for (length, words) in [(0, 1), (1, 2), (8, 2), (9, 3), (1 << 20, (1 << 17) + 1)] {
            assert_eq!(footprint(length, false), words);
            assert_eq!(footprint(length, true), words + 1);
        }
    }

    #[test]
    fn both_bounds_are_exact() {
        let mut books = Books::new(BOUNDS);
        for _ in 0..4 {
            assert!(books.has_room(5, BOUNDS));
            books.bring_in(5, false);
        }
        assert!(!books.has_room(1, BOUNDS), "four items, and not a word");
        assert!(books.take_out(5, false));
        assert!(books.has_room(5, BOUNDS) && !books.has_room(6, BOUNDS));
        let few = |items| Books {
            items,
            used: items,
            ..Books::new(BOUNDS)
        };
        assert!(few(3).has_room(1, BOUNDS) && !few(4).has_room(1, BOUNDS));
    }

    #[test]
    fn what_is_empty_begins_anew() {
        let mut books = Books::new(BOUNDS);
        books.bring_in(7, true);
        books.bring_in(3, false);
        assert!(books.take_out(7, true) && books.take_out(3, false));
        assert_eq!(books, Books::new(BOUNDS));
        assert!(!books.take_out(1, false));
    }

    #[test]
    fn what_nobody_of_this_build_wrote_is_found_out() {
        let sound = Books {
            length: 20,
            head: 10,
            used: 12,
            items: 3,
            parcels: 1,
            ..Books::default()
        };
        assert!(sound.are_sound(BOUNDS) && Books::new(BOUNDS).are_sound(BOUNDS));
        let mut unsound = [sound; 7];
        unsound[0].head = 20;
        unsound[1].used = 21;
        unsound[2].items = 5;
        unsound[3].parcels = 4;
        unsound[4].items = 0;
        unsound[5].length = 21;
        unsound[6] = Books::default();
        for books in unsound {
            assert!(!books.are_sound(BOUNDS), "{books:?}");
        }
        for (words, has_parcel) in [(13, false), (12, false), (u64::MAX / 2, true)] {
            assert!(!{ sound }.take_out(words, has_parcel));
        }
    }

    #[test]
    fn a_ring_is_as_long_as_it_has_to_be() {
        let bounds = Bounds {
            items: u64::MAX,
            words: LEAST * 8 - 3,
        };
        let mut books = Books::new(bounds);
        assert!((LEAST..2 * LEAST).contains(&books.length), "{books:?}");
        let least = books.length;
        for _ in 0..100 {
            for _ in 0..2 {
                assert_eq!(books.lengthen(least / 2, bounds), None);
                books.bring_in(least / 2, false);
            }
            assert!(books.take_out(least / 2, false) && books.take_out(least / 2, false));
        }
        assert_eq!(books.length, least, "whatever comes and goes");
        books.bring_in(least, false);
        let moved = Moved {
            words: 0,
            to: least,
        };
        assert_eq!(books.lengthen(bounds.words - least, bounds), Some(moved));
        assert_eq!(books.length, bounds.words);
        books.bring_in(1, false);
        assert!(books.take_out(least, false));
        assert_eq!(
            books.length,
            half(half(bounds.words)),
            "no longer than to its end"
        );
        assert!(books.take_out(1, false));
        assert_eq!(books, Books::new(bounds));
    }

    #[test]
    fn what_was_put_is_done_or_lost_and_nothing_twice() {
        let mut books = Books::new(BOUNDS);
        assert!(!books.count_done());
        for _ in 0..4 {
            books.bring_in(1, false);
            books.count_put();
        }
        assert!(books.take_out(1, false) && books.take_out(1, false));
        assert!(books.count_done());
        books.count_lost(2);
        assert_eq!(
            (books.unfinished, books.lost),
            (2, 1),
            "two are still in it"
        );
        assert!(books.take_out(1, false) && books.take_out(1, false));
        assert!(books.count_done());
        books.count_lost(1);
        assert_eq!((books.unfinished, books.lost), (0, 2));
        assert!(!books.count_done());
        books.count_put();
        assert_eq!((books.unfinished, books.lost), (1, 0), "a new batch");
    }

    /// All that can happen, in all orders that a small generator comes upon, beside a list that is
    /// plainly right, and with a memory in which each word says whose it is.
    #[test]
    fn whatever_happens_they_agree_with_a_list() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for words in [20, 7 * LEAST + 5] {
            let bounds = Bounds { items: 40, words };
            let (mut books, mut list) = (Books::new(bounds), VecDeque::new());
            let mut memory = vec![0; words as usize];
            for number in 1..5_000 {
                let used: u64 = list.iter().map(|(_, words, _)| words).sum();
                if next(20) < 11 {
                    let (words, has_parcel) = (1 + next(words / 5), next(3) == 0);
                    let room = list.len() < 40 && used + words <= bounds.words;
                    assert_eq!(books.has_room(words, bounds), room);
                    if room {
                        if let Some(moved) = books.lengthen(words, bounds) {
                            memory.copy_within(..moved.words as usize, moved.to as usize);
                        }
                        for word in 0..words {
                            memory[((books.tail() + word) % books.length) as usize] = number;
                        }
                        books.bring_in(words, has_parcel);
                        list.push_back((number, words, has_parcel));
                    }
                } else if let Some((number, words, has_parcel)) = list.pop_front() {
                    let place = |word| ((books.head + word) % books.length) as usize;
                    assert!((0..words).all(|word| memory[place(word)] == number));
                    assert!(books.take_out(words, has_parcel));
                }
                assert!(books.are_sound(bounds));
                assert_eq!(books, Books::of_words(books.to_words()));
                assert_eq!(books.items, list.len() as u64);
                let parcels = list.iter().filter(|(_, _, has)| *has);
                assert_eq!(books.parcels, parcels.count() as u64);
            }
        }
    }
}
