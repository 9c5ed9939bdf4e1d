//! The control page: a small mapping that a worker and its parent both see.
//!
//! ```text
//!      0   outbox: how many bytes of the response stream are visible
//!   4096   lane 0: word, time of start              64 bytes a lane
//!   8192   outbox: a ring of 64 KiB
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
//! **Outbox.** Responses are put into the ring before they are made visible, and made visible
//! before they are written to the pipe; the ring's offset is the offset in the response stream. A
//! ring byte is free again once `write` has returned. So when the worker is dead, every response
//! that it finished is in the pipe or here, or both, and the parent, who knows how many bytes it
//! has read, takes up the stream at just that byte.
//!
//! The parent believes nothing in here beyond its own bookkeeping: a page full of garbage makes
//! its worker's calls fail, and no other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ticket;
use crate::sys::clock::Moment;
use crate::sys::mapping::{self, Mapping};

/// How many calls a worker may hold at once.
pub(crate) const LANES: usize = 64;
/// The size of the outbox's ring.
pub(crate) const OUTBOX: usize = 64 * 1024;

const VISIBLE: usize = 0;
const FIRST_LANE: usize = 4096;
const LANE: usize = 64;
const RING: usize = 8192;
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
}

/// How far a call has come, as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not been started.
    Waiting,
    /// It was started at this moment and runs.
    Running(Moment),
    /// It is over.
    Over,
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

fn word(ticket: Ticket, state: State) -> u64 {
    ticket.sequence << 3 | state as u64
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
        self.mapping
            .word(FIRST_LANE + usize::from(ticket.lane) % LANES * LANE)
    }

    fn start_time(&self, ticket: Ticket) -> &AtomicU64 {
        self.mapping
            .word(FIRST_LANE + usize::from(ticket.lane) % LANES * LANE + 8)
    }

    fn swap(&self, ticket: Ticket, from: State, to: State) -> bool {
        // Both orderings matter: the winner must see what the other side wrote before its own last
        // swap (the time of start), and what it writes next must not be seen before this swap.
        let (old, new) = (word(ticket, from), word(ticket, to));
        self.lane(ticket)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Parent: puts a call into its lane, before its frame is sent.
    pub(crate) fn offer(&self, ticket: Ticket) {
        self.start_time(ticket).store(0, Ordering::Relaxed);
        self.lane(ticket)
            .store(word(ticket, State::Waiting), Ordering::Release);
    }

    /// Parent: takes a call back. True if it had not been started and never will be.
    pub(crate) fn take_back(&self, ticket: Ticket) -> bool {
        self.swap(ticket, State::Waiting, State::TakenBack)
    }

    /// Parent: ends a call. True if it was running and its response will never count.
    pub(crate) fn end(&self, ticket: Ticket) -> bool {
        self.swap(ticket, State::Running, State::Ended)
    }

    /// Parent: how far a call has come.
    pub(crate) fn progress(&self, ticket: Ticket) -> Progress {
        let now = self.lane(ticket).load(Ordering::Acquire);
        if now == word(ticket, State::Waiting) {
            Progress::Waiting
        } else if now == word(ticket, State::Running) {
            Progress::Running(Moment(self.start_time(ticket).load(Ordering::Relaxed)))
        } else {
            Progress::Over
        }
    }

    /// Worker: starts a call. False if it was taken back.
    pub(crate) fn begin(&self, ticket: Ticket, now: Moment) -> bool {
        if self.lane(ticket).load(Ordering::Acquire) != word(ticket, State::Waiting) {
            return false;
        }
        // If the lane goes to its next tenant between the look and this store, that tenant has not
        // been started and has this field overwritten when it is.
        self.start_time(ticket).store(now.0, Ordering::Relaxed);
        self.swap(ticket, State::Waiting, State::Running)
    }

    /// Worker: finishes a call. False if it was ended, and the response must be thrown away.
    pub(crate) fn finish(&self, ticket: Ticket) -> bool {
        self.swap(ticket, State::Running, State::Done)
    }

    /// Worker: whether a call that it runs was ended.
    pub(crate) fn is_ended(&self, ticket: Ticket) -> bool {
        self.lane(ticket).load(Ordering::Relaxed) != word(ticket, State::Running)
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
mod tests {
    use super::*;

    fn pages() -> (ControlPage, ControlPage) {
        let file = create().unwrap();
        (
            ControlPage::new(&file).unwrap(),
            ControlPage::new(&file).unwrap(),
        )
    }

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 5, sequence }
    }

    #[test]
    fn a_call_taken_back_is_not_begun() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        assert!(parent.take_back(ticket(1)));
        assert!(!worker.begin(ticket(1), Moment(9)));
    }

    #[test]
    fn a_call_begun_is_not_taken_back_but_can_be_ended() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        assert_eq!(parent.progress(ticket(1)), Progress::Waiting);
        assert!(worker.begin(ticket(1), Moment(9)));
        assert_eq!(parent.progress(ticket(1)), Progress::Running(Moment(9)));
        assert!(!parent.take_back(ticket(1)));
        assert!(!worker.is_ended(ticket(1)));
        assert!(parent.end(ticket(1)));
        assert!(worker.is_ended(ticket(1)));
        assert!(!worker.finish(ticket(1)), "its response is thrown away");
    }

    #[test]
    fn a_call_finished_is_not_ended() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        assert!(worker.begin(ticket(1), Moment(9)) && worker.finish(ticket(1)));
        assert!(!parent.end(ticket(1)));
        assert_eq!(parent.progress(ticket(1)), Progress::Over);
    }

    #[test]
    fn a_late_swap_never_hits_the_lane_s_next_tenant() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        parent.offer(ticket(2));
        assert!(!parent.take_back(ticket(1)) && !parent.end(ticket(1)));
        assert!(!worker.begin(ticket(1), Moment(9)) && !worker.finish(ticket(1)));
        assert_eq!(parent.progress(ticket(2)), Progress::Waiting);
    }

    #[test]
    fn every_race_for_a_call_has_one_winner() {
        let (parent, worker) = pages();
        for round in 1..1_000 {
            let ticket = ticket(round);
            parent.offer(ticket);
            let (taken, begun) = race(
                || parent.take_back(ticket),
                || worker.begin(ticket, Moment(1)),
            );
            assert!(
                taken != begun,
                "round {round}: taken {taken}, begun {begun}"
            );
            if begun {
                let (ended, finished) = race(|| parent.end(ticket), || worker.finish(ticket));
                assert!(
                    ended != finished,
                    "round {round}: ended {ended}, finished {finished}"
                );
            }
        }
    }

    /// Runs both at once, `a` on this thread and `b` on another that is already awake.
    fn race(a: impl FnOnce() -> bool, b: impl FnOnce() -> bool + Send) -> (bool, bool) {
        let gate = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                gate.wait();
                b()
            });
            gate.wait();
            (a(), other.join().unwrap())
        })
    }

    #[test]
    fn what_was_visible_and_not_read_is_found_across_the_seam() {
        let (parent, worker) = pages();
        let start = OUTBOX as u64 * 3 - 4;
        worker.put(start, b"abcdefgh");
        assert_eq!(parent.rest(start), b"", "nothing is visible yet");
        worker.show(start + 8);
        assert_eq!(parent.rest(start), b"abcdefgh");
        assert_eq!(parent.rest(start + 6), b"gh");
        assert_eq!(parent.rest(start + 8), b"");
    }

    #[test]
    fn a_page_that_makes_no_sense_gives_nothing() {
        let (parent, worker) = pages();
        worker.show(u64::MAX);
        assert_eq!(parent.rest(0), b"");
        assert_eq!(
            parent.rest(u64::MAX - 5).len(),
            5,
            "lengths within the ring are only bytes"
        );
        worker.show(3);
        assert_eq!(parent.rest(4), b"", "less than was read");
    }
}
