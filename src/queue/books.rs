//! The books of a queue: what is where in its ring, and whether more may come. They do no I/O and know
//! no memory; how they are kept where processes that share them are killed at any instant is in
//! [`core`](super::core).
//!
//! ```text
//!   positions count words on and on; the ring has them in turn
//!
//!        head                          tail
//!         │                             │
//!   ──────┼─────────┬────────┬──────────┼──────────▶
//!         │ record  │ record │ record   │  room
//!         └─────────┴────────┴──────────┘
//!   │◀──────────── the ring's length ─────────────▶│
//! ```
//!
//! | state | means |
//! | --- | --- |
//! | `head == tail`, no items | empty; both go back to zero, where the memory is warm |
//! | `tail - head` is the ring's length | not a word is left |
//! | `items` is the limit | no item more, whatever room there is |
//! | `finished` | nothing more comes in; what is in it comes out |
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

/// Everything that changes with an item, and changes as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// The position of the oldest record.
    pub(super) head: u64,
    /// Where the next record will begin.
    pub(super) tail: u64,
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
pub(super) const WORDS: usize = 10;

impl Books {
    /// As they are written down.
    pub(super) fn to_words(self) -> [u64; WORDS] {
        let Self {
            head,
            tail,
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
            head, tail, items, parcels, finished, unfinished, lost, place, owner, count,
        ]
    }

    /// As they were written down.
    pub(super) fn of_words(words: [u64; WORDS]) -> Self {
        let [
            head,
            tail,
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
            head,
            tail,
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
        let used = self.tail.checked_sub(self.head);
        let used = used.filter(|used| *used <= bounds.words);
        // Each record has a header.
        used.is_some_and(|used| self.items <= used && (self.items == 0) == (used == 0))
            && self.items <= bounds.items
            && self.parcels <= self.items
    }

    /// Whether a record of so many words can come in now.
    pub(super) fn has_room(&self, words: u64, bounds: Bounds) -> bool {
        self.items < bounds.items && words <= bounds.words - (self.tail - self.head)
    }

    /// Brings in a record of so many words, for which there is room. It was written at `tail`.
    pub(super) fn bring_in(&mut self, words: u64, has_parcel: bool) {
        self.tail += words;
        self.items += 1;
        self.parcels += u64::from(has_parcel);
    }

    /// Takes out the oldest record. Tells `false`, and changes nothing, where there is none like it.
    #[must_use]
    pub(super) fn take_out(&mut self, words: u64, has_parcel: bool) -> bool {
        let head = self.head + words;
        let is_last = self.items == 1;
        if self.items == 0 || head > self.tail || is_last != (head == self.tail) {
            return false;
        }
        let Some(parcels) = self.parcels.checked_sub(has_parcel.into()) else {
            return false;
        };
        (self.head, self.items, self.parcels) = (head, self.items - 1, parcels);
        if is_last {
            (self.head, self.tail) = (0, 0);
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
        let mut books = Books::default();
        for _ in 0..4 {
            assert!(books.has_room(5, BOUNDS));
            books.bring_in(5, false);
        }
        assert!(!books.has_room(1, BOUNDS), "four items, and not a word");
        assert!(books.take_out(5, false));
        assert!(books.has_room(5, BOUNDS) && !books.has_room(6, BOUNDS));
        let few = |items| Books {
            items,
            tail: items,
            ..Books::default()
        };
        assert!(few(3).has_room(1, BOUNDS) && !few(4).has_room(1, BOUNDS));
    }

    #[test]
    fn what_is_empty_begins_anew() {
        let mut books = Books::default();
        books.bring_in(7, true);
        books.bring_in(3, false);
        assert!(books.take_out(7, true) && books.take_out(3, false));
        assert_eq!(books, Books::default());
        assert!(!books.take_out(1, false));
    }

    #[test]
    fn what_nobody_of_this_build_wrote_is_found_out() {
        let sound = Books {
            head: 30,
            tail: 42,
            items: 3,
            parcels: 1,
            ..Books::default()
        };
        assert!(sound.are_sound(BOUNDS) && Books::default().are_sound(BOUNDS));
        let mut unsound = [sound; 5];
        unsound[0].head = 43;
        unsound[1].tail = 51;
        unsound[2].items = 5;
        unsound[3].parcels = 4;
        unsound[4].items = 0;
        for books in unsound {
            assert!(!books.are_sound(BOUNDS), "{books:?}");
        }
        for (words, has_parcel) in [(13, false), (12, false), (u64::MAX / 2, true)] {
            assert!(!{ sound }.take_out(words, has_parcel));
        }
    }

    #[test]
    fn what_was_put_is_done_or_lost_and_nothing_twice() {
        let mut books = Books::default();
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
    /// plainly right.
    #[test]
    fn whatever_happens_they_agree_with_a_list() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut books, mut list) = (Books::default(), VecDeque::new());
        for _ in 0..100_000 {
            let used: u64 = list.iter().map(|(words, _)| words).sum();
            if next(2) == 0 {
                let (words, has_parcel) = (1 + next(9), next(3) == 0);
                let room = list.len() < 4 && used + words <= 20;
                assert_eq!(books.has_room(words, BOUNDS), room);
                if room {
                    books.bring_in(words, has_parcel);
                    list.push_back((words, has_parcel));
                }
            } else if let Some((words, has_parcel)) = list.pop_front() {
                assert!(books.take_out(words, has_parcel));
            }
            assert!(books.are_sound(BOUNDS));
            assert_eq!(books, Books::of_words(books.to_words()));
            assert_eq!(books.items, list.len() as u64);
            assert_eq!(
                books.parcels,
                list.iter().filter(|(_, has)| *has).count() as u64
            );
        }
    }
}
