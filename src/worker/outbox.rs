//! Responses into the response pipe, by way of the control page's ring.
//!
//! A response is put into the ring, the call is swapped to *done*, and only then is the response
//! made visible. It is written to the pipe when the input is drained, before a call that may be
//! long, or by the watcher. One too large for the ring is written straight to the pipe, and its
//! call is done when it is written whole.
//!
//! Where the program wants to hear what is logged, that takes the same way: a record is put into the
//! ring as a frame of its own, by whatever thread has logged it, so it arrives before the response
//! to its call and survives the worker as a response does. Records have half of the ring; what finds
//! no room there is thrown away and counted, and nobody waits.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::thread::sched_getcpu;

use super::watch::Watcher;
use crate::sys::clock::Moment;
use crate::wire::frame::{HEADER, Header, Kind};
use crate::wire::page::{ControlPage, OUTBOX};

/// How much of the ring may be taken when a record is put there: a response finds the other half,
/// and waits for no more than this to be written before it.
#[cfg(feature = "tracing")]
const RECORDS: usize = OUTBOX / 2;

/// Nothing was taken that is not written.
const NOTHING: u64 = u64::MAX;
/// How long somebody who looks at the page is given to take what he finds there. He needs a tenth of
/// it, and the write that is saved costs half of it.
const MOMENT: Duration = Duration::from_micros(2);

/// The response stream. The serving thread adds responses to it, and whatever threads a task has
/// add what they have to say meanwhile; the serving thread and the watcher flush it.
#[derive(Debug)]
pub(super) struct Outbox {
    page: Arc<ControlPage>,
    /// Held by whoever adds to the stream. What a task says is never added behind its response:
    /// who adds holds this from before it is known that the call runs until it is visible.
    adding: Mutex<()>,
    /// Up to where the stream is visible; written by whoever holds `adding`.
    visible: AtomicU64,
    /// Where the part begins that was taken to be written and is not written; changed by whoever
    /// holds `pipe`.
    held: AtomicU64,
    pipe: Mutex<Pipe>,
    /// Made before the first call, or never.
    records: OnceLock<Records>,
}

/// The response pipe, and the part of the stream that was taken to be written there and is not.
#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    taken: Range<u64>,
}

/// What is logged, on its way.
#[derive(Debug)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
struct Records {
    state: Mutex<RecordState>,
    /// Flushes them while a call runs.
    watcher: Watcher,
    /// Our process id. A process that a task forks has no page.
    process: u32,
}

#[derive(Debug)]
struct RecordState {
    /// What stands before a record: whose it is.
    header: Header,
    /// How many were thrown away since that was told last.
    dropped: u64,
}

/// A call runs, for those who log, until this is dropped.
pub(super) struct Runs<'a>(&'a Outbox);

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.name(Header::control(Kind::Log, 0));
    }
}

impl Outbox {
    pub(super) fn new(page: Arc<ControlPage>, pipe: OwnedFd) -> Self {
        let pipe = Pipe {
            end: pipe,
            taken: 0..0,
        };
        Self {
            page,
            adding: Mutex::new(()),
            visible: AtomicU64::new(0),
            held: AtomicU64::new(NOTHING),
            pipe: Mutex::new(pipe),
            records: OnceLock::new(),
        }
    }

    /// From now on what is logged can be added. Before the first call.
    #[cfg(feature = "tracing")]
    pub(super) fn take_records(&self, watcher: Watcher) {
        let header = Header::control(Kind::Log, 0);
        let records = Records {
            state: Mutex::new(RecordState { header, dropped: 0 }),
            watcher,
            process: std::process::id(),
        };
        // Asked for once; a second time would change nothing.
        let _ = self.records.set(records);
    }

    /// This request is being run, of a chunk as the call of that number.
    pub(super) fn runs(&self, request: Header, call: u64) -> Option<Runs<'_>> {
        self.records.get()?;
        let header = Header::control(Kind::Log, 0);
        let ticket = request.ticket;
        self.name(Header {
            ticket,
            call,
            ..header
        });
        Some(Runs(self))
    }

    fn name(&self, header: Header) {
        if let Some(records) = self.records.get() {
            lock(&records.state).header = header;
        }
    }

    /// Adds a record, if there is room. From any thread; waits for nothing but another addition.
    #[cfg(feature = "tracing")]
    pub(super) fn log(&self, record: &[u8]) {
        let Some(records) = self.records.get() else {
            return;
        };
        if records.process != std::process::id() {
            return;
        }
        let adding = lock(&self.adding);
        let mut state = lock(&records.state);
        if !self.put_record(&mut state, record, RECORDS) {
            state.dropped += 1;
        }
        drop((state, adding));
        records.watcher.wake();
    }

    /// Adds a record if no more of the ring is taken then than that.
    fn put_record(&self, state: &mut RecordState, record: &[u8], room: usize) -> bool {
        let at = self.visible.load(Ordering::Relaxed);
        let end = at + (HEADER + record.len()) as u64;
        if end.saturating_sub(self.free()) > room as u64 {
            return false;
        }
        let header = Header {
            length: record.len(),
            time: std::mem::take(&mut state.dropped),
            ..state.header
        };
        self.page.put(at, &header.to_bytes());
        self.page.put(at + HEADER as u64, record);
        self.visible.store(end, Ordering::SeqCst);
        self.page.show(end);
        true
    }

    /// Keeps records out while a response is added. What was thrown away is told before it.
    fn hold_records(&self) -> Option<MutexGuard<'_, RecordState>> {
        let mut state = lock(&self.records.get()?.state);
        if state.dropped > 0 {
            // In the half of the responses: after this one there may be no other to tell it.
            self.put_record(&mut state, &[], OUTBOX);
        }
        Some(state)
    }

    /// Adds a response if `claim` says that it counts; tells whether it did.
    pub(super) fn respond(
        &self,
        header: Header,
        payload: &[u8],
        claim: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let _adding = lock(&self.adding);
        let _held = self.hold_records();
        if HEADER + payload.len() > OUTBOX {
            return self.write_through(header, payload, claim);
        }
        self.put(header, payload, claim)
    }

    /// Adds what a task says while it runs, if `admit` says that it may; tells whether it did. One
    /// larger than the ring is written straight to the pipe as well, but once it is admitted
    /// nothing takes it back.
    pub(super) fn report(
        &self,
        header: Header,
        payload: &[u8],
        admit: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let _adding = lock(&self.adding);
        if HEADER + payload.len() > OUTBOX {
            return if admit() {
                self.write_through(header, payload, || true)
            } else {
                Ok(false)
            };
        }
        self.put(header, payload, admit)
    }

    /// Puts what fits there into the ring, and makes it visible if it counts.
    fn put(
        &self,
        header: Header,
        payload: &[u8],
        claim: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let at = self.visible.load(Ordering::Relaxed);
        let end = at + (HEADER + payload.len()) as u64;
        if end.saturating_sub(self.free()) > OUTBOX as u64 {
            self.flush()?;
        }
        self.page.put(at, &header.to_bytes());
        self.page.put(at + HEADER as u64, payload);
        if !claim() {
            return Ok(false);
        }
        self.visible.store(end, Ordering::SeqCst);
        self.page.show(end);
        Ok(true)
    }

    /// Writes a response that is larger than the ring. It counts when it is written whole, so the
    /// claim comes after: until then the call is still running, and can be ended.
    fn write_through(
        &self,
        header: Header,
        payload: &[u8],
        claim: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let mut pipe = lock(&self.pipe);
        self.flush_into(&mut pipe)?;
        write_all(&pipe.end, &header.to_bytes())?;
        write_all(&pipe.end, payload)?;
        claim();
        let end = self.visible.load(Ordering::Relaxed) + (HEADER + payload.len()) as u64;
        self.visible.store(end, Ordering::SeqCst);
        self.page.pass_over(end);
        self.page.show(end);
        // The frame is in the pipe either way; if the call was ended, the parent passes it by.
        Ok(true)
    }

    /// Whether anything is visible that nobody has taken yet.
    pub(super) fn waits(&self) -> bool {
        self.visible.load(Ordering::SeqCst) > self.page.taken()
    }

    /// Up to where the stream was taken: to be written to the pipe, or by somebody who looks.
    pub(super) fn taken(&self) -> u64 {
        self.page.taken()
    }

    /// Up to where the ring may be used again.
    fn free(&self) -> u64 {
        // In this order: what is seen to be taken is seen to be held, too, while it is.
        let taken = self.page.taken();
        taken.min(self.held.load(Ordering::Acquire))
    }

    /// Has everything that is visible go its way: whoever looks at the page for it may have it, else it
    /// is written to the pipe.
    pub(super) fn hand_over(&self) -> io::Result<()> {
        if self.waits() && self.page.is_looked_at_from_elsewhere(sched_getcpu()) {
            let until = Moment::now() + MOMENT;
            while self.waits() && Moment::now() < until {
                std::hint::spin_loop();
            }
        }
        self.flush()
    }

    /// Writes everything that is visible to the pipe.
    ///
    /// # Errors
    ///
    /// Those of the pipe, and if the page says that more was taken than there was: a task has written
    /// there, and nobody would hear of anything any more.
    pub(super) fn flush(&self) -> io::Result<()> {
        let taken = self.page.taken();
        let visible = self.visible.load(Ordering::SeqCst);
        if taken > visible {
            return Err(io::Error::other("its page makes no sense"));
        }
        if taken < visible || self.held.load(Ordering::Acquire) != NOTHING {
            return self.flush_into(&mut lock(&self.pipe));
        }
        Ok(())
    }

    /// The same, unless another thread is at it.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self.pipe.try_lock() {
            Ok(mut pipe) => self.flush_into(&mut pipe),
            Err(_) => Ok(()),
        }
    }

    fn flush_into(&self, pipe: &mut Pipe) -> io::Result<()> {
        loop {
            let Range { start, end } = pipe.taken.clone();
            if start == end {
                self.held.store(NOTHING, Ordering::Release);
                let (from, to) = (self.page.taken(), self.visible.load(Ordering::SeqCst));
                if from >= to {
                    return Ok(());
                }
                // Before it is taken: the ring is not used again there until it is written.
                self.held.store(from, Ordering::Release);
                if self.page.take(from, to) {
                    pipe.taken = from..to;
                }
                continue;
            }
            match self.page.write_to(&pipe.end, start, (end - start) as usize) {
                Ok(count) => {
                    pipe.taken.start += count as u64;
                    self.held.store(pipe.taken.start, Ordering::Release);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a lock is held; if it did, the offsets would still be right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_all(pipe: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(pipe, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::{pipe, read_more, set_nonblocking};
    use crate::wire::frame::Kind;
    use crate::wire::page;

    fn outbox() -> (Outbox, Arc<ControlPage>, OwnedFd) {
        let file = page::create().unwrap();
        let parent = Arc::new(ControlPage::new(&file).unwrap());
        let pipe = pipe().unwrap();
        let worker = Arc::new(ControlPage::new(&file).unwrap());
        (Outbox::new(worker, pipe.write), parent, pipe.read)
    }

    fn respond(outbox: &Outbox, payload: &[u8], counts: bool) -> bool {
        let header = Header::control(Kind::Returned, payload.len());
        outbox.respond(header, payload, || counts).unwrap()
    }

    #[test]
    fn what_was_not_flushed_is_found_in_the_page() {
        let (outbox, parent, _pipe) = outbox();
        assert!(respond(&outbox, b"one", true));
        assert!(parent.rest(0).ends_with(b"one"));
    }

    #[test]
    fn a_response_that_does_not_count_is_never_visible() {
        let (outbox, parent, _pipe) = outbox();
        assert!(!respond(&outbox, b"lost", false));
        assert!(respond(&outbox, b"kept", true));
        assert_eq!(parent.rest(0).len(), HEADER + 4);
        assert!(parent.rest(0).ends_with(b"kept"));
    }

    #[test]
    fn the_stream_in_the_pipe_is_the_stream_in_the_page() {
        let (outbox, parent, pipe) = outbox();
        let (mut sent, mut got) = (0, Vec::new());
        for round in 0..200u32 {
            let payload = vec![round as u8; (round as usize * 37) % 1_000];
            assert!(respond(&outbox, &payload, true));
            sent += HEADER + payload.len();
            if round % 3 == 0 {
                outbox.flush().unwrap();
                let mut bytes = [0; 16 * 1024];
                let count = rustix::io::read(&pipe, &mut bytes).unwrap();
                got.extend_from_slice(&bytes[..count]);
            }
        }
        got.extend(parent.rest(got.len() as u64));
        assert_eq!(got.len(), sent);
        let mut left = &got[..];
        for round in 0..200u32 {
            let header = Header::read(left, 1_000).unwrap().unwrap();
            let payload = &left[HEADER..HEADER + header.length];
            assert_eq!(payload.len(), (round as usize * 37) % 1_000);
            assert!(payload.iter().all(|byte| *byte == round as u8));
            left = &left[HEADER + header.length..];
        }
    }

    #[test]
    fn a_page_that_says_that_more_was_taken_than_there_was_is_an_error() {
        let (outbox, parent, _pipe) = outbox();
        assert!(respond(&outbox, b"one", true));
        parent.pass_over(u64::MAX / 2);
        assert!(outbox.hand_over().is_err());
    }

    #[test]
    fn what_was_taken_out_of_the_page_is_not_written_and_what_was_written_is_not_taken() {
        let (outbox, parent, pipe) = outbox();
        let mut got = bytes::BytesMut::new();
        assert!(respond(&outbox, b"taken", true));
        assert_eq!(parent.take_rest(0, &mut got), HEADER + 5);
        assert!(!outbox.waits());
        assert!(respond(&outbox, b"written", true));
        outbox.flush().unwrap();
        let read = got.len() as u64;
        assert_eq!(parent.take_rest(read, &mut got), 0);
        got.reserve(OUTBOX);
        read_more(&pipe, &mut got).unwrap();
        assert_eq!(got.len(), 2 * HEADER + 12);
        assert!(got.ends_with(b"written"));
    }

    /// Parts of it are taken by who looks, parts come through the pipe, and what is larger than the ring
    /// is among it.
    #[test]
    fn whoever_takes_which_part_the_stream_is_one() {
        let (outbox, parent, pipe) = outbox();
        set_nonblocking(&pipe).unwrap();
        let large = |round: usize| round % 2_000 == 0;
        let size = |round| if large(round) { OUTBOX } else { 0 } + round * 37 % 700;
        let sizes: Vec<usize> = (0..30_000).map(size).collect();
        let length: usize = sizes.iter().map(|size| HEADER + size).sum();
        let mut got = bytes::BytesMut::new();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                for (round, size) in sizes.iter().enumerate() {
                    assert!(respond(&outbox, &vec![round as u8; *size], true));
                    match round % 5 {
                        0..=2 => outbox.hand_over().unwrap(),
                        3 => outbox.flush().unwrap(),
                        _ => {}
                    }
                }
                outbox.flush().unwrap();
            });
            while got.len() < length {
                let _look = (got.len() % 7 > 0).then(|| parent.look(12_345));
                let read = got.len() as u64;
                parent.take_rest(read, &mut got);
                got.reserve(OUTBOX);
                let count = read_more(&pipe, &mut got);
                assert!(!matches!(count, Ok(0)) && got.len() <= length);
            }
            worker.join().unwrap();
        });
        assert_eq!(
            (parent.visible(), parent.taken()),
            (length as u64, length as u64)
        );
        let mut left = &got[..];
        for (round, size) in sizes.iter().enumerate() {
            let header = Header::read(left, usize::MAX).unwrap().unwrap();
            assert_eq!(header.length, *size);
            let payload = &left[HEADER..HEADER + size];
            assert!(payload.iter().all(|byte| *byte == round as u8));
            left = &left[HEADER + size..];
        }
    }

    #[cfg(feature = "tracing")]
    fn frames(stream: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let (mut left, mut frames) = (stream, Vec::new());
        while let Some(header) = Header::read(left, OUTBOX).unwrap() {
            let payload = &left[HEADER..HEADER + header.length];
            frames.push((header, payload.to_vec()));
            left = &left[HEADER + header.length..];
        }
        frames
    }

    #[cfg(feature = "tracing")]
    fn logging() -> (Arc<Outbox>, Arc<ControlPage>, OwnedFd) {
        let (outbox, parent, pipe) = outbox();
        let outbox = Arc::new(outbox);
        let program = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        );
        // Only for its bell: nobody asks this thread to flush, as it has not been told of the outbox.
        let (other, _, _unread) = self::outbox();
        let watcher =
            crate::worker::watch::watch(Arc::new(program.unwrap()), Arc::new(other)).unwrap();
        outbox.take_records(watcher);
        (outbox, parent, pipe)
    }

    #[test]
    #[cfg(feature = "tracing")]
    fn a_record_belongs_to_the_call_that_runs_and_comes_before_its_response() {
        let (outbox, parent, _pipe) = logging();
        let ticket = crate::wire::Ticket {
            lane: 3,
            sequence: 9,
        };
        let request = Header {
            ticket,
            ..Header::control(Kind::Call, 0)
        };
        let runs = outbox.runs(request, 77);
        outbox.log(b"inside");
        assert!(respond(&outbox, b"response", true));
        drop(runs);
        outbox.log(b"after");
        let frames = frames(&parent.rest(0));
        let [(inside, text), (_, response), (after, _)] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(
            (inside.kind, inside.ticket, inside.call),
            (Kind::Log, ticket, 77)
        );
        assert_eq!((&**text, &**response), (&b"inside"[..], &b"response"[..]));
        assert_eq!(
            (after.kind, after.ticket.sequence, after.call),
            (Kind::Log, 0, 0)
        );
    }

    #[test]
    #[cfg(feature = "tracing")]
    fn records_leave_half_of_the_ring_and_what_was_dropped_is_told_before_the_response() {
        let (outbox, parent, _pipe) = logging();
        let record = [7; 1_000];
        for _ in 0..100 {
            outbox.log(&record);
        }
        let kept = RECORDS / (HEADER + record.len());
        assert_eq!(frames(&parent.rest(0)).len(), kept);
        // The response finds room without anybody reading.
        assert!(respond(&outbox, &[1; OUTBOX / 2 - 2 * HEADER], true));
        assert_eq!(outbox.taken(), 0);
        let all = frames(&parent.rest(0));
        assert_eq!(all.len(), kept + 2);
        let told = &all[kept].0;
        assert_eq!((told.kind, told.length), (Kind::Log, 0));
        assert_eq!(told.time as usize, 100 - kept);
    }

    #[test]
    fn a_response_larger_than_the_ring_goes_straight_to_the_pipe() {
        let (outbox, parent, pipe) = outbox();
        assert!(respond(&outbox, b"before", true));
        let large = vec![7; 3 * OUTBOX];
        let length = 2 * HEADER + 6 + large.len();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            while got.len() < length {
                let mut bytes = [0; 8192];
                let count = rustix::io::read(&pipe, &mut bytes).unwrap();
                got.extend_from_slice(&bytes[..count]);
            }
            got
        });
        assert!(respond(&outbox, &large, true));
        let got = reader.join().unwrap();
        assert!(got.ends_with(&large));
        assert_eq!(parent.visible(), got.len() as u64);
        assert!(!outbox.waits());
    }
}
