//! The control page: a small mapping that a worker and its parent both see.
//!
//! ```text
//!      0   outbox: how many bytes of the response stream are visible
//!     64   bell: how often it was rung, how many sleep
//!   4096   lane 0: word, time of start, asked, credit; 64 bytes a lane
//!          …   64 lanes for calls, then 1,024 berths for what runs beside each other in a call
//!  73728   outbox: a ring of 64 KiB
//! ```
//!
//! **Lanes.** A call that was sent ahead has a lane; its word holds the sending's sequence number
//! and a state. Every swap names the sequence, so it never hits the lane's next tenant.
//!
//! ```text
//!                 worker: begin            worker: finish
//!      waiting ──────────────────▶ running ───────────────▶ done
//!         │                           │
//!         │ parent: take_back         │ parent: end
//!         ▼                           ▼
//!     taken back                    ended
//! ```
//!
//! Whoever's swap wins owns the call. Both orders of each pair are fine:
//!
//! - *take_back before begin*: the parent has the call, unstarted, and may send it elsewhere; the
//!   worker's `begin` fails when it comes to the frame, and it passes by. *begin before
//!   take_back*: the call runs here, and the parent is told so.
//! - *end before finish*: the parent has answered the caller; the worker's `finish` fails and it
//!   throws the response away. *finish before end*: the response counts; the parent's `end` fails,
//!   and nobody is killed.
//!
//! The worker leaves *running* only by a swap that names the call. With a plain store there, a
//! worker that is late would overwrite the word of the lane's next tenant and lose it.
//!
//! **Chunks.** A call may carry many items, which the worker runs one by one. The word then names
//! the item as well, and every item is begun and finished by swaps of its own:
//!
//! ```text
//!                begin              finish_item              next_item
//!      waiting ────────▶ running k ─────────────▶ between k ───────────▶ running k+1 …
//!                           │ │                      │
//!                parent: end│ │cut                   │ cut
//!                           ▼ ▼                      ▼
//!                     ended k last k ──▶ done       done        (no item after k is run here)
//! ```
//!
//! So a chunk can be cut short behind the item that runs, and the end of one item never hits the
//! next. A result is made visible between the two swaps: a death costs the item that was running.
//!
//! **Outbox.** Responses are put into the ring before they are made visible, and made visible
//! before they are written to the pipe; the ring's offset is the offset in the response stream. A
//! ring byte is free again once `write` has returned. So when the worker is dead, every response
//! that it finished is in the pipe or here, or both, and the parent, who knows how many bytes it
//! has read, takes up the stream at just that byte.
//!
//! The parent believes nothing in here beyond its own bookkeeping: a page full of garbage makes
//! its worker's calls fail, and no other.

mod asked;
mod awake;
mod credit;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::asked::Request;
pub(crate) use self::credit::{Count, Credit, MOST_UPDATES};
use super::Ticket;
use crate::sys::clock::Moment;
use crate::sys::mapping::{self, Mapping};

/// How many calls a worker may hold at once.
pub(crate) const LANES: usize = 64;
/// How many async calls it may hold beside those; their lanes come after the calls'.
pub(crate) const BERTHS: usize = 1024;
/// The size of the outbox's ring.
pub(crate) const OUTBOX: usize = 64 * 1024;

const VISIBLE: usize = 0;
const FIRST_LANE: usize = 4096;
const LANE: usize = 64;
const RING: usize = FIRST_LANE + (LANES + BERTHS) * LANE;
const SIZE: usize = RING + OUTBOX;

/// How far a call has come, as the low bits of its lane's word say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum State {
    Waiting = 1,
    Running = 2,
    Done = 3,
    TakenBack = 4,
    Ended = 5,
    /// An item is over and the next has not been begun.
    Between = 6,
    /// An item runs, and none after it will.
    Last = 7,
}

/// The most items that one call may carry.
pub(crate) const ITEMS: u32 = 1 << 24;

/// How often a swap is tried again because the worker has gone on to another item meanwhile. A
/// worker that is still ahead after that has short items, and there will be another time.
const TRIES: usize = 100;

/// How far a call has come, as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not been started.
    Waiting,
    /// It was started at this moment and runs; of a chunk, the item that was begun last.
    Running(Moment),
    /// The item that was begun last, at this moment, is over, and the next was not begun yet.
    Between(Moment),
    /// It is over.
    Over,
}

/// What became of an item whose worker has run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its result counts, and the next one may be begun.
    On,
    /// Its result counts, and there is no next one.
    Last,
    /// It was ended: its result is thrown away.
    Ended,
}

/// The page, from either side.
#[derive(Debug)]
pub(crate) struct ControlPage {
    mapping: Mapping,
}

/// Makes the file for a new page.
pub(crate) fn create() -> io::Result<OwnedFd> {
    mapping::sealed_file("procpool-control", SIZE)
}

/// What the word of a call's lane says: sequence, item, state.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const STATE: u32 = 3;
    const ITEM: u32 = 24;

    fn new(ticket: Ticket, item: u32, state: State) -> Self {
        let item = u64::from(item % ITEMS);
        Self(ticket.sequence << (Self::STATE + Self::ITEM) | item << Self::STATE | state as u64)
    }

    /// The item, if this word is that call's and in that state.
    fn item_if(self, ticket: Ticket, state: State) -> Option<u32> {
        let item = (self.0 >> Self::STATE) as u32 % ITEMS;
        (self == Self::new(ticket, item, state)).then_some(item)
    }
}

/// Where in the page a call's lane begins.
fn place_of(ticket: Ticket) -> usize {
    FIRST_LANE + usize::from(ticket.lane) % (LANES + BERTHS) * LANE
}

impl ControlPage {
    /// Maps the page in that file.
    pub(crate) fn new(file: impl AsFd) -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::new(file, SIZE)?,
        })
    }

    /// Keeps the page out of the processes that this one forks.
    pub(crate) fn keep_from_forks(&self) -> io::Result<()> {
        self.mapping.keep_from_forks()
    }

    fn lane(&self, ticket: Ticket) -> &AtomicU64 {
        self.mapping.word(place_of(ticket))
    }

    fn start_time(&self, ticket: Ticket) -> &AtomicU64 {
        self.mapping.word(place_of(ticket) + 8)
    }

    fn word(&self, ticket: Ticket) -> Word {
        Word(self.lane(ticket).load(Ordering::Acquire))
    }

    /// Swaps the state of a call that carries no items.
    fn change(&self, ticket: Ticket, from: State, to: State) -> bool {
        self.change_item(ticket, (0, from), (0, to))
    }

    fn change_item(&self, ticket: Ticket, from: (u32, State), to: (u32, State)) -> bool {
        // Both orderings matter: the winner must see what the other side wrote before its own last
        // swap (the time of start), and what it writes next must not be seen before this swap. And
        // who looks for sleepers after it must not have looked before it.
        let old = Word::new(ticket, from.0, from.1).0;
        let new = Word::new(ticket, to.0, to.1).0;
        self.lane(ticket)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::Acquire)
            .is_ok()
    }

    /// Parent: puts a call into its lane, before its frame is sent.
    pub(crate) fn offer(&self, ticket: Ticket) {
        self.start_time(ticket).store(0, Ordering::Relaxed);
        self.lane(ticket)
            .store(Word::new(ticket, 0, State::Waiting).0, Ordering::Release);
    }

    /// Parent: takes a call back. True if it had not been started and never will be.
    pub(crate) fn take_back(&self, ticket: Ticket) -> bool {
        self.change(ticket, State::Waiting, State::TakenBack)
    }

    /// Parent: ends what is running of a call, if that was begun at `begun_by` or before. True if
    /// it was running and its response will never count. Nothing after it will be run either.
    pub(crate) fn end(&self, ticket: Ticket, begun_by: Moment) -> bool {
        for _ in 0..TRIES {
            let now = self.word(ticket);
            let running = [State::Running, State::Last]
                .into_iter()
                .find_map(|state| Some((now.item_if(ticket, state)?, state)));
            let Some((item, state)) = running else {
                return false;
            };
            // The time is written before the swap that begins an item: read after the word, it is
            // this item's or a later one's.
            if self.start_time(ticket).load(Ordering::Relaxed) > begun_by.0 {
                return false;
            }
            if self.change_item(ticket, (item, state), (item, State::Ended)) {
                self.bell().ring();
                return true;
            }
        }
        false
    }

    /// Parent: cuts a chunk short. Names the last item that has been begun: none after it will be
    /// run here. `None` if the chunk has not been started, or has been cut, or is over.
    pub(crate) fn cut(&self, ticket: Ticket) -> Option<u32> {
        for _ in 0..TRIES {
            let now = self.word(ticket);
            let (item, from, to) = if let Some(item) = now.item_if(ticket, State::Running) {
                (item, State::Running, State::Last)
            } else {
                (
                    now.item_if(ticket, State::Between)?,
                    State::Between,
                    State::Done,
                )
            };
            if self.change_item(ticket, (item, from), (item, to)) {
                return Some(item);
            }
        }
        None
    }

    /// Parent: how far a call has come.
    pub(crate) fn progress(&self, ticket: Ticket) -> Progress {
        let now = self.word(ticket);
        let is = |state| now.item_if(ticket, state).is_some();
        let since = || Moment(self.start_time(ticket).load(Ordering::Relaxed));
        if is(State::Waiting) {
            Progress::Waiting
        } else if is(State::Running) || is(State::Last) {
            Progress::Running(since())
        } else if is(State::Between) {
            Progress::Between(since())
        } else {
            Progress::Over
        }
    }

    /// Parent: how many items of a chunk have been begun. All that came before the last of them
    /// were finished.
    pub(crate) fn begun(&self, ticket: Ticket) -> u32 {
        let now = self.word(ticket);
        [
            State::Running,
            State::Between,
            State::Last,
            State::Done,
            State::Ended,
        ]
        .into_iter()
        .find_map(|state| now.item_if(ticket, state))
        .map_or(0, |item| item + 1)
    }

    /// Worker: starts a call. False if it was taken back.
    pub(crate) fn begin(&self, ticket: Ticket, now: Moment) -> bool {
        self.begin_from(ticket, (0, State::Waiting), 0, now)
    }

    /// Worker: begins the item after this one. False if the chunk was cut or ended there.
    pub(crate) fn next_item(&self, ticket: Ticket, item: u32, now: Moment) -> bool {
        self.begin_from(ticket, (item, State::Between), item + 1, now)
    }

    fn begin_from(&self, ticket: Ticket, from: (u32, State), item: u32, now: Moment) -> bool {
        if self.word(ticket) != Word::new(ticket, from.0, from.1) {
            return false;
        }
        // If the lane goes to its next tenant between the look and this store, that tenant has not
        // been started and has this field overwritten when it is.
        self.start_time(ticket).store(now.0, Ordering::Relaxed);
        self.change_item(ticket, from, (item, State::Running))
    }

    /// Worker: finishes a call. False if it was ended, and the response must be thrown away.
    pub(crate) fn finish(&self, ticket: Ticket) -> bool {
        self.change(ticket, State::Running, State::Done)
            || self.change(ticket, State::Last, State::Done)
    }

    /// Worker: finishes an item of a chunk.
    pub(crate) fn finish_item(&self, ticket: Ticket, item: u32) -> Step {
        if self.change_item(ticket, (item, State::Running), (item, State::Between)) {
            Step::On
        } else if self.change_item(ticket, (item, State::Last), (item, State::Done)) {
            Step::Last
        } else {
            Step::Ended
        }
    }

    /// Worker: closes a chunk of which nothing is left. Whether it was cut just now is the same.
    pub(crate) fn close(&self, ticket: Ticket, item: u32) {
        self.change_item(ticket, (item, State::Between), (item, State::Done));
    }

    /// Worker: whether the call, or the item of a chunk, that it runs was ended.
    pub(crate) fn is_ended(&self, ticket: Ticket, item: u32) -> bool {
        let now = self.word(ticket);
        ![State::Running, State::Last]
            .into_iter()
            .any(|state| now == Word::new(ticket, item, state))
    }

    /// Worker: whether the parent has taken the call back, or has ended it, and waits for nothing but
    /// the word that it is passed by.
    pub(crate) fn is_given_up(&self, ticket: Ticket) -> bool {
        let now = self.word(ticket);
        [State::TakenBack, State::Ended]
            .into_iter()
            .any(|state| now == Word::new(ticket, 0, state))
    }

    /// How many bytes of the response stream have been made visible.
    pub(crate) fn visible(&self) -> u64 {
        self.mapping.word(VISIBLE).load(Ordering::Acquire)
    }

    /// Worker: makes the stream visible up to this offset.
    pub(crate) fn show(&self, offset: u64) {
        self.mapping.word(VISIBLE).store(offset, Ordering::Release);
    }

    /// Worker: puts bytes into the ring at an offset of the stream.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        let (at, first) = Self::ring(offset, bytes.len());
        self.mapping.copy_in(RING + at, &bytes[..first]);
        self.mapping.copy_in(RING, &bytes[first..]);
    }

    /// Worker: writes what is in the ring from an offset on, at most to the ring's seam.
    pub(crate) fn write_to(&self, fd: impl AsFd, offset: u64, length: usize) -> io::Result<usize> {
        let (at, first) = Self::ring(offset, length);
        self.mapping.write_to(fd, RING + at, first)
    }

    /// Parent, when the worker is dead: the bytes of the stream from `read` on that are only here.
    /// Nothing if the page makes no sense.
    pub(crate) fn rest(&self, read: u64) -> Vec<u8> {
        let mut rest = Vec::new();
        let length = self
            .visible()
            .checked_sub(read)
            .and_then(|left| usize::try_from(left).ok());
        if let Some(length) = length.filter(|length| *length <= OUTBOX) {
            let (at, first) = Self::ring(read, length);
            self.mapping.copy_out(RING + at, first, &mut rest);
            self.mapping.copy_out(RING, length - first, &mut rest);
        }
        rest
    }

    /// Where an offset of the stream is in the ring, and how much of `length` lies before the seam.
    fn ring(offset: u64, length: usize) -> (usize, usize) {
        let at = (offset % OUTBOX as u64) as usize;
        (at, length.min(OUTBOX - at))
    }
}

#[cfg(test)]
mod tests;
