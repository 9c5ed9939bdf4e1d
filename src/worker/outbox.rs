//! Responses into the response pipe, by way of the control page's ring.
//!
//! A response is put into the ring, the call is swapped to *done*, and only then is the response
//! made visible. It is written to the pipe when the input is drained, before a call that may be
//! long, or by the watcher. One too large for the ring is written straight to the pipe, and its
//! call is done when it is written whole.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::frame::{HEADER, Header};
use crate::wire::page::{ControlPage, OUTBOX};

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
    /// Up to where the stream is in the pipe; written by whoever holds `pipe`.
    written: AtomicU64,
    pipe: Mutex<OwnedFd>,
}

impl Outbox {
    pub(super) fn new(page: Arc<ControlPage>, pipe: OwnedFd) -> Self {
        let (visible, written) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            page,
            adding: Mutex::new(()),
            visible,
            written,
            pipe: Mutex::new(pipe),
        }
    }

    /// Adds a response if `claim` says that it counts; tells whether it did.
    pub(super) fn respond(
        &self,
        header: Header,
        payload: &[u8],
        claim: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let _adding = lock(&self.adding);
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
        if end - self.written.load(Ordering::Acquire) > OUTBOX as u64 {
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
        let pipe = self.lock();
        self.flush_into(&pipe)?;
        write_all(&pipe, &header.to_bytes())?;
        write_all(&pipe, payload)?;
        claim();
        let end = self.visible.load(Ordering::Relaxed) + (HEADER + payload.len()) as u64;
        self.visible.store(end, Ordering::SeqCst);
        self.written.store(end, Ordering::Release);
        self.page.show(end);
        // The frame is in the pipe either way; if the call was ended, the parent passes it by.
        Ok(true)
    }

    /// Whether anything is visible that is not yet in the pipe.
    pub(super) fn waits(&self) -> bool {
        self.unwritten() > 0
    }

    /// Up to where the stream is in the pipe.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn unwritten(&self) -> u64 {
        self.visible
            .load(Ordering::SeqCst)
            .saturating_sub(self.written.load(Ordering::Acquire))
    }

    /// Writes everything that is visible to the pipe.
    pub(super) fn flush(&self) -> io::Result<()> {
        if self.waits() {
            self.flush_into(&self.lock())
        } else {
            Ok(())
        }
    }

    /// The same, unless another thread is at it.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self.pipe.try_lock() {
            Ok(pipe) => self.flush_into(&pipe),
            Err(_) => Ok(()),
        }
    }

    fn flush_into(&self, pipe: &OwnedFd) -> io::Result<()> {
        loop {
            let left = self.unwritten() as usize;
            if left == 0 {
                return Ok(());
            }
            let written = self.written.load(Ordering::Relaxed);
            match self.page.write_to(pipe, written, left) {
                Ok(count) => self
                    .written
                    .store(written + count as u64, Ordering::Release),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, OwnedFd> {
        lock(&self.pipe)
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
    use crate::sys::pipe::pipe;
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
