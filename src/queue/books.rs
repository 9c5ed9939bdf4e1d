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
//! | `used` and `slabs` are the bound | not a word is left |
//! | `items` is its bound | no item more, whatever room there is |
//! | `finished` | nothing more comes in; what is in it comes out |
//!
//! What is large in an item may lie in slabs, beside the ring. It counts for the bound as if it were in it.
//!
//! A ring is as long as it has to be: so little is in use of a large bound, and stays in the caches, however
//! many items come and go. It is doubled when it is full, after what is at its beginning was copied
//! behind its end; it is halved when all that is in it lies in its first half.
//!
//! A queue that can be joined counts besides. An item that is put is unfinished until somebody says that it
//! is done, or dies with it in hand and it is lost. When nothing is unfinished everything was done, and
//! what is put next begins a new batch, of which nothing is lost yet.

/// What an item takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// How many words its record has in the ring.
    pub(super) words: u64,
    /// How many words of it lie elsewhere, in slabs.
    pub(super) slabs: u64,
    /// Whether there are descriptors beside it.
    pub(super) has_parcel: bool,
}

impl Extent {
    /// A record has a header, for a parcel its number, for slabs how many words are in them, and the bytes
    /// rounded up to whole words.
    pub(super) fn of(length: usize, slabs: u64, has_parcel: bool) -> Self {
        Self {
            words: 1 + u64::from(has_parcel) + u64::from(slabs > 0) + length.div_ceil(8) as u64,
            slabs,
            has_parcel,
        }
    }

    /// What counts for the bound.
    pub(super) fn total(self) -> u64 {
        self.words.saturating_add(self.slabs)
    }
}

/// How large a queue may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many items it takes.
    pub(super) items: u64,
    /// How many words its ring has, and what lies in slabs together with it.
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
    /// How many words of theirs lie in slabs.
    pub(super) slabs: u64,
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
pub(super) const WORDS: usize = 12;

/// How many of them come first and change where what is done is not counted: no more than a cache line has.
pub(super) const WORDS_UNCOUNTED: usize = 7;

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
            slabs,
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
            length, head, used, items, parcels, slabs, finished, unfinished, lost, place, owner,
            count,
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
            slabs,
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
            slabs,
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
            && self.slabs <= bounds.words - self.used
            // Slabs are in parcels.
            && (self.slabs == 0 || self.parcels > 0)
    }

    /// Whether an item can come in now.
    pub(super) fn has_room(&self, item: Extent, bounds: Bounds) -> bool {
        self.items < bounds.items && item.total() <= bounds.words - self.used - self.slabs
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

    /// Brings in an item for which the ring is long enough. Its record was written at the tail.
    pub(super) fn bring_in(&mut self, item: Extent) {
        self.used += item.words;
        self.items += 1;
        self.parcels += u64::from(item.has_parcel);
        self.slabs += item.slabs;
    }

    /// Takes out the oldest item. Tells `false`, and changes nothing, where there is none like it.
    #[must_use]
    pub(super) fn take_out(&mut self, item: Extent) -> bool {
        let left = self.used.checked_sub(item.words);
        let parcels = self.parcels.checked_sub(item.has_parcel.into());
        let slabs = self.slabs.checked_sub(item.slabs);
        let (Some(used), Some(parcels), Some(slabs)) = (left, parcels, slabs) else {
            return false;
        };
        if self.items == 0 || (self.items == 1) != (used == 0) || (slabs > 0 && parcels == 0) {
            return false;
        }
        (self.items, self.parcels, self.slabs) = (self.items - 1, parcels, slabs);
        self.head = wrap(self.head + item.words, self.length);
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

    /// An item that is in the ring, all of it.
    fn item(words: u64, has_parcel: bool) -> Extent {
        Extent {
            words,
            has_parcel,
            ..Extent::default()
        }
    }

    #[test]
    fn a_record_has_a_header_and_whole_words() {
        for (length, words) in [(0, 1), (1, 2), (8, 2), (9, 3), (1 << 20, (1 << 17) + 1)] {
            assert_eq!(Extent::of(length, 0, false).total(), words);
            assert_eq!(Extent::of(length, 0, true).total(), words + 1);
            let with_slabs = Extent::of(length, 100, true);
            assert_eq!(with_slabs.words, words + 2);
            assert_eq!(with_slabs.total(), words + 102);
        }
    }

    #[test]
    fn what_lies_in_slabs_counts_for_the_bound_and_takes_nothing_of_the_ring() {
        let mut books = Books::new(BOUNDS);
        let large = |slabs| Extent {
            slabs,
            ..item(3, true)
        };
        assert!(books.has_room(large(17), BOUNDS) && !books.has_room(large(18), BOUNDS));
        assert!(!books.has_room(large(u64::MAX), BOUNDS));
        books.bring_in(large(10));
        assert_eq!((books.used, books.slabs), (3, 10));
        assert!(books.has_room(item(7, false), BOUNDS) && !books.has_room(item(8, false), BOUNDS));
        books.bring_in(item(7, true));
        assert!(books.are_sound(BOUNDS) && !books.has_room(item(1, false), BOUNDS));
        for wrong in [large(9), large(11), item(3, true), item(3, false)] {
            let mut books = books;
            // What is left has to be the other item's.
            let taken = books.take_out(wrong) && books.take_out(item(7, true));
            assert!(!taken || !books.are_sound(BOUNDS), "{wrong:?}");
        }
        assert!(books.take_out(large(10)) && books.take_out(item(7, true)));
        assert_eq!(books, Books::new(BOUNDS));
    }

    #[test]
    fn both_bounds_are_exact() {
        let mut books = Books::new(BOUNDS);
        for _ in 0..4 {
            assert!(books.has_room(item(5, false), BOUNDS));
            books.bring_in(item(5, false));
        }
        assert!(
            !books.has_room(item(1, false), BOUNDS),
            "four items, and not a word"
        );
        assert!(books.take_out(item(5, false)));
        assert!(books.has_room(item(5, false), BOUNDS) && !books.has_room(item(6, false), BOUNDS));
        let few = |items| Books {
            items,
            used: items,
            ..Books::new(BOUNDS)
        };
        assert!(
            few(3).has_room(item(1, false), BOUNDS) && !few(4).has_room(item(1, false), BOUNDS)
        );
    }

    #[test]
    fn what_is_empty_begins_anew() {
        let mut books = Books::new(BOUNDS);
        books.bring_in(item(7, true));
        books.bring_in(item(3, false));
        assert!(books.take_out(item(7, true)) && books.take_out(item(3, false)));
        assert_eq!(books, Books::new(BOUNDS));
        assert!(!books.take_out(item(1, false)));
    }

    #[test]
    fn what_nobody_of_this_build_wrote_is_found_out() {
        let sound = Books {
            length: 20,
            head: 10,
            used: 12,
            items: 3,
            parcels: 1,
            slabs: 8,
            ..Books::default()
        };
        assert!(sound.are_sound(BOUNDS) && Books::new(BOUNDS).are_sound(BOUNDS));
        let mut unsound = [sound; 9];
        unsound[0].head = 20;
        unsound[1].used = 21;
        unsound[2].items = 5;
        unsound[3].parcels = 4;
        unsound[4].items = 0;
        unsound[5].length = 21;
        unsound[6] = Books::default();
        unsound[7].slabs = 9;
        unsound[8].parcels = 0;
        for books in unsound {
            assert!(!books.are_sound(BOUNDS), "{books:?}");
        }
        for (words, has_parcel) in [(13, false), (12, false), (u64::MAX / 2, true)] {
            assert!(!{ sound }.take_out(item(words, has_parcel)));
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
                books.bring_in(item(least / 2, false));
            }
            assert!(
                books.take_out(item(least / 2, false)) && books.take_out(item(least / 2, false))
            );
        }
        assert_eq!(books.length, least, "whatever comes and goes");
        books.bring_in(item(least, false));
        let moved = Moved {
            words: 0,
            to: least,
        };
        assert_eq!(books.lengthen(bounds.words - least, bounds), Some(moved));
        assert_eq!(books.length, bounds.words);
        books.bring_in(item(1, false));
        assert!(books.take_out(item(least, false)));
        assert_eq!(
            books.length,
            half(half(bounds.words)),
            "no longer than to its end"
        );
        assert!(books.take_out(item(1, false)));
        assert_eq!(books, Books::new(bounds));
    }

    #[test]
    fn what_was_put_is_done_or_lost_and_nothing_twice() {
        let mut books = Books::new(BOUNDS);
        assert!(!books.count_done());
        for _ in 0..4 {
            books.bring_in(item(1, false));
            books.count_put();
        }
        assert!(books.take_out(item(1, false)) && books.take_out(item(1, false)));
        assert!(books.count_done());
        books.count_lost(2);
        assert_eq!(
            (books.unfinished, books.lost),
            (2, 1),
            "two are still in it"
        );
        assert!(books.take_out(item(1, false)) && books.take_out(item(1, false)));
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
                let used: u64 = list
                    .iter()
                    .map(|(_, item): &(_, Extent)| item.total())
                    .sum();
                if next(20) < 11 {
                    let has_parcel = next(3) == 0;
                    let in_slabs = has_parcel && next(2) == 0;
                    let item = Extent {
                        words: 1 + next(words / 5),
                        slabs: if in_slabs { next(words / 3) } else { 0 },
                        has_parcel,
                    };
                    let room = list.len() < 40 && used + item.total() <= bounds.words;
                    assert_eq!(books.has_room(item, bounds), room);
                    if room {
                        if let Some(moved) = books.lengthen(item.words, bounds) {
                            memory.copy_within(..moved.words as usize, moved.to as usize);
                        }
                        for word in 0..item.words {
                            memory[((books.tail() + word) % books.length) as usize] = number;
                        }
                        books.bring_in(item);
                        list.push_back((number, item));
                    }
                } else if let Some((number, item)) = list.pop_front() {
                    let place = |word| ((books.head + word) % books.length) as usize;
                    assert!((0..item.words).all(|word| memory[place(word)] == number));
                    assert!(books.take_out(item));
                }
                assert!(books.are_sound(bounds));
                assert_eq!(books, Books::of_words(books.to_words()));
                assert_eq!(books.items, list.len() as u64);
                let parcels = list.iter().filter(|(_, item)| item.has_parcel);
                assert_eq!(books.parcels, parcels.count() as u64);
                let slabs = list.iter().map(|(_, item)| item.slabs);
                assert_eq!(books.slabs, slabs.sum::<u64>());
            }
        }
    }
}
