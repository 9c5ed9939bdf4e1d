//! Changing a queue: what only one who has its lock does, and each of which is one change.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;

use super::books::{Books, Extent, Hand};
use super::core::{Core, GETTERS, JOINERS, PUTTERS, Side, damaged};
use super::encoded::{Buffer, Encoded};
use crate::sync::{Held, LockError};
use crate::sys::clock::Moment;
use crate::sys::incarnation::Incarnation;

/// For so many milliseconds others step back for one who has waited for long. Whoever gives up or dies
/// meanwhile has them wait no longer than this.
const COURTESY: u64 = 5;

/// The lowest bit of a record's header: whether the number of a parcel follows.
const HAS_PARCEL: u64 = 1;

/// The next bit: whether it follows, behind that, how many words are in the slabs of the parcel.
const HAS_SLABS: u64 = 2;

/// The other bits are its length in bytes.
const LENGTH: u32 = 2;

/// How the lock was acquired.
pub(super) type Locked<'a> = Result<Held<'a>, LockError<Held<'a>>>;

/// Somebody's turn, while he has the lock.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    core: &'a Core,
    books: Books,
    /// Released last.
    _held: Held<'a>,
}

impl<'a> Turn<'a> {
    /// Begins, with the lock; also after one who has died with it, since he has left nothing half done.
    pub(super) fn begin(core: &'a Core, locked: Locked<'a>) -> io::Result<Self> {
        let (held, tainted) = match locked {
            Ok(held) => (held, false),
            Err(error) => (error.split().map_err(io::Error::other)?, true),
        };
        let books = core.books()?;
        core.note(books.hand);
        // A parcel may be left over, which can be told from the others when there are none.
        if tainted && books.parcels == 0 {
            core.parcels.clear();
            held.mark_sound();
        }
        Ok(Self {
            core,
            books,
            _held: held,
        })
    }

    /// Whether nothing more comes in.
    pub(super) fn is_finished(&self) -> bool {
        self.books.finished
    }

    /// Puts an item into it, if there is room.
    pub(super) fn put(&mut self, item: &Encoded) -> io::Result<bool> {
        let extent = item.extent();
        if !self.books.has_room(extent, self.core.bounds) {
            return Ok(false);
        }
        self.wake(GETTERS);
        let mut books = self.books;
        if let Some(moved) = books.lengthen(extent.words, self.core.bounds) {
            self.core.move_up(moved, books.length);
        }
        let (length, mut place) = (books.length, books.tail());
        let mut header = (item.len() as u64) << LENGTH;
        if extent.has_parcel {
            header |= HAS_PARCEL;
        }
        if extent.slabs > 0 {
            header |= HAS_SLABS;
        }
        self.core.write(length, place, &header.to_le_bytes());
        if extent.has_parcel {
            let Some(number) = self.send(item)? else {
                return Ok(false);
            };
            place += 1;
            self.core.write(length, place, &number.to_le_bytes());
        }
        if extent.slabs > 0 {
            place += 1;
            self.core.write(length, place, &extent.slabs.to_le_bytes());
        }
        self.core.write(length, place + 1, item);
        books.bring_in(extent);
        if self.core.counts {
            books.count_put();
        }
        self.books = books;
        self.commit();
        Ok(true)
    }

    /// Sends the descriptors of an item ahead of it; `None` where there is no room, until another
    /// item with descriptors is taken.
    fn send(&self, item: &Encoded) -> io::Result<Option<u64>> {
        let parcels = &self.core.parcels;
        let number = self.core.number_parcel();
        let mut sent = parcels.send(number, &item.descriptors);
        if sent.is_err() && self.books.parcels == 0 {
            // What is there is of somebody who has died.
            parcels.clear();
            sent = parcels.send(number, &item.descriptors);
        }
        let is_full = |error: &io::Error| {
            // The second is the system's limit for each user.
            error.kind() == io::ErrorKind::WouldBlock
                || error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
        };
        match sent {
            Ok(()) => Ok(Some(number)),
            Err(error) if self.books.parcels > 0 && is_full(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the oldest item out of it, if there is one.
    pub(super) fn take(&mut self) -> io::Result<Option<Encoded>> {
        if self.books.items == 0 {
            return Ok(None);
        }
        let (length, mut place) = (self.books.length, self.books.head);
        let word = |place| u64::from_le_bytes(self.core.read_word(length, place));
        let header = word(place);
        let has_parcel = header & HAS_PARCEL != 0;
        let mut following = |there: bool| {
            there.then(|| {
                place += 1;
                word(place)
            })
        };
        let number = following(has_parcel);
        let slabs = following(header & HAS_SLABS != 0).unwrap_or(0);
        let count = usize::try_from(header >> LENGTH).map_err(|_| damaged())?;
        let hand = match self.core.counts {
            true => self.hand_with_one_more()?,
            false => Hand::default(),
        };
        let mut books = Books { hand, ..self.books };
        if !books.take_out(Extent::of(count, slabs, has_parcel)) {
            return Err(damaged());
        }
        let parcels = &self.core.parcels;
        let descriptors = match number.map(|number| parcels.open(number)) {
            None => Vec::new(),
            Some(Ok(descriptors)) => descriptors,
            // Somebody has damaged the queue; the item does not decode.
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Vec::new(),
            // The item stays where it is.
            Some(Err(error)) => return Err(error),
        };
        let mut bytes = Buffer::take();
        self.core.read(length, place + 1, count, &mut bytes.0);
        self.wake(PUTTERS);
        self.books = books;
        self.commit();
        if has_parcel {
            // Should it fail, whoever comes next does it.
            let _ = parcels.throw_away();
        }
        self.core.give_back(self.books.length);
        Ok(Some(Encoded {
            bytes,
            descriptors,
            slabs,
        }))
    }

    /// Says that nothing more comes in.
    pub(super) fn finish(&mut self) {
        self.wake(GETTERS);
        self.wake(PUTTERS);
        self.books.finished = true;
        self.commit();
    }

    /// What this process has in hand when it has taken one item more.
    fn hand_with_one_more(&mut self) -> io::Result<Hand> {
        let me = Incarnation::own()?;
        if let Some(hand) = self.core.hand_of(me) {
            return Ok(Hand {
                count: hand.count + 1,
                ..hand
            });
        }
        // Those who sleep until everything is done have one more to attend to.
        self.wake(JOINERS);
        if self.core.free_hand().is_none() {
            if let Some(dead) = self.core.dead_hand()? {
                self.bury(dead);
            }
        }
        let free = self.core.free_hand();
        let free = free.ok_or_else(|| io::Error::other("too many processes have items in hand"))?;
        Ok(Hand {
            owner: me.to_word(),
            count: 1,
            ..free
        })
    }

    /// How many items are neither done nor lost, and how many are lost of those that were put since
    /// everything was done.
    pub(super) fn unfinished_and_lost(&self) -> (u64, u64) {
        (self.books.unfinished, self.books.lost)
    }

    /// Says that an item is done, or lost, which this process has taken, or another; `false` where all
    /// are done.
    pub(super) fn give_up_one(&mut self, done: bool) -> io::Result<bool> {
        let hand = self.core.hand_of(Incarnation::own()?);
        let mut books = self.books;
        if let Some(hand) = hand.filter(|hand| hand.count > 0) {
            books.hand = Hand {
                count: hand.count - 1,
                ..hand
            };
        }
        if !done {
            books.count_lost(1);
        } else if !books.count_done() {
            return Ok(false);
        }
        if books.unfinished == 0 {
            self.wake(JOINERS);
        }
        self.books = books;
        self.commit();
        Ok(true)
    }

    /// Counts as lost what a process had in hand that has died.
    pub(super) fn bury(&mut self, dead: Incarnation) {
        let Some(hand) = self.core.hand_of(dead) else {
            return;
        };
        self.books.count_lost(hand.count);
        self.books.hand = Hand {
            place: hand.place,
            ..Hand::default()
        };
        self.wake(JOINERS);
        self.commit();
    }

    /// All whose death is to be known to those who sleep on that side.
    pub(super) fn attended(&self, side: Side) -> Vec<Incarnation> {
        match side == JOINERS {
            true => self.core.holders(),
            false => Vec::new(),
        }
    }

    /// Makes it so.
    fn commit(&self) {
        self.core.commit(self.books);
        self.core.note(self.books.hand);
    }

    /// Wakes those who sleep on that side, before what they sleep for is changed. They wait for the
    /// lock then, and inherit it if this process is killed.
    fn wake(&self, side: Side) {
        let sleepers = side.sleepers(self.core);
        if sleepers.load(Relaxed) != 0 {
            self.core.cell.ring(side.bell);
            sleepers.store(0, Relaxed);
        }
    }

    /// Says that somebody is about to sleep on that side: the next change wakes him.
    pub(super) fn mind(&self, side: Side) {
        side.sleepers(self.core).store(1, Relaxed);
    }

    /// How long somebody who has come just now leaves things to one who has waited for long.
    pub(super) fn courtesy(&self, side: Side) -> Option<Duration> {
        let until = side.courtesy(self.core).load(Relaxed);
        if until == 0 {
            return None;
        }
        let left = until.saturating_sub(now());
        // Nobody asks for more.
        (1..=COURTESY)
            .contains(&left)
            .then(|| Duration::from_millis(left))
    }

    /// Asks that others step back.
    pub(super) fn ask_for_courtesy(&self, side: Side) {
        side.courtesy(self.core).store(now() + COURTESY, Relaxed);
    }

    /// Thanks those who did.
    pub(super) fn thank(&self, side: Side) {
        side.courtesy(self.core).store(0, Relaxed);
        self.wake(side);
    }
}

/// What all processes agree on, in milliseconds.
fn now() -> u64 {
    Moment::now().0 / 1_000_000
}
