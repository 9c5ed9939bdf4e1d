//! Requests on their way to a worker: queued by whoever sends, written by whoever flushes.
//!
//! Two locks, so that a sender never waits for a write: the queue's is held to append, the
//! writer's while bytes go to the pipe.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::packed::Packed;

/// Arguments up to this size are copied behind their headers, so that many calls are one write.
const COPIED: usize = 16 * 1024;
/// How many pieces go into one write.
const PIECES: usize = 16;
/// How many writes one flush may take before others on the runtime have a turn.
const WRITES: usize = 16;
/// The buffer for small frames is kept up to this size.
const KEPT: usize = 256 * 1024;

/// The request pipe's write end and what is to go through it.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    /// Whole small frames, and headers of large ones.
    Frames(Vec<u8>),
    /// A large argument, shared with its job.
    Argument(Packed),
}

#[derive(Debug)]
struct Writer {
    pipe: Arc<OwnedFd>,
    /// The pipe has failed: what is still sent is thrown away.
    broken: bool,
    pieces: VecDeque<Piece>,
    /// How much of the first piece is written.
    written: usize,
}

/// Where a flush has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is in the pipe.
    All,
    /// There is more, but others should have a turn first.
    More,
    /// The pipe is full.
    Blocked,
    /// The pipe has failed.
    Broken,
}

impl Outgoing {
    pub(super) fn new(pipe: Arc<OwnedFd>) -> Self {
        let writer = Writer {
            pipe,
            broken: false,
            pieces: VecDeque::new(),
            written: 0,
        };
        Self {
            queue: Mutex::default(),
            writer: Mutex::new(writer),
        }
    }

    /// Queues one frame: its first part, and an argument behind it.
    pub(super) fn push(&self, front: &[&[u8]], argument: &Packed) {
        let mut queue = lock(&self.queue);
        if !matches!(queue.pieces.back(), Some(Piece::Frames(_))) {
            let spare = std::mem::take(&mut queue.spare);
            queue.pieces.push_back(Piece::Frames(spare));
        }
        let Some(Piece::Frames(frames)) = queue.pieces.back_mut() else {
            return;
        };
        front.iter().for_each(|part| frames.extend_from_slice(part));
        if argument.len() <= COPIED {
            frames.extend_from_slice(argument);
        } else {
            queue.pieces.push_back(Piece::Argument(argument.clone()));
        }
    }

    /// Writes until everything is written or the pipe is full, unless somebody is at it already.
    pub(super) fn try_flush(&self) -> Option<Flushed> {
        match self.writer.try_lock() {
            Ok(writer) => Some(self.flush_with(writer)),
            Err(_) => None,
        }
    }

    /// Writes until everything is written or the pipe is full.
    pub(super) fn flush(&self) -> Flushed {
        self.flush_with(lock(&self.writer))
    }

    fn flush_with(&self, mut writer: MutexGuard<'_, Writer>) -> Flushed {
        for _ in 0..WRITES {
            if writer.pieces.is_empty() {
                std::mem::swap(&mut lock(&self.queue).pieces, &mut writer.pieces);
                if writer.pieces.is_empty() {
                    return Flushed::All;
                }
            }
            if writer.broken {
                writer.pieces.clear();
                return Flushed::Broken;
            }
            match writer.write() {
                Ok(spare) => self.keep(spare),
                Err(rustix::io::Errno::AGAIN) => return Flushed::Blocked,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => writer.broken = true,
            }
        }
        Flushed::More
    }

    fn keep(&self, spare: Option<Vec<u8>>) {
        if let Some(mut spare) = spare.filter(|spare| spare.capacity() <= KEPT) {
            spare.clear();
            lock(&self.queue).spare = spare;
        }
    }
}

impl Writer {
    /// Writes once; gives back a buffer that has been written whole.
    fn write(&mut self) -> rustix::io::Result<Option<Vec<u8>>> {
        let mut count = {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                let skip = if used == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&piece.bytes()[skip..]);
                used += 1;
            }
            rustix::io::writev(&*self.pipe, &slices[..used])?
        };
        let mut spare = None;
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.written;
            if count < left {
                self.written += count;
                break;
            }
            count -= left;
            self.written = 0;
            if let Some(Piece::Frames(buffer)) = self.pieces.pop_front() {
                spare = Some(buffer);
            }
        }
        Ok(spare)
    }
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frames(bytes) => bytes,
            Self::Argument(bytes) => bytes,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs and nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::{pipe, set_nonblocking};

    fn read_some(pipe: &OwnedFd, out: &mut Vec<u8>) -> std::io::Result<usize> {
        let mut bytes = [0; 8192];
        let count = rustix::io::read(pipe, &mut bytes)?;
        out.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    #[test]
    fn frames_of_every_size_come_out_in_order_through_a_full_pipe() {
        let pipe = pipe().unwrap();
        set_nonblocking(&pipe.write).unwrap();
        let outgoing = Outgoing::new(Arc::new(pipe.write));
        let mut sent = Vec::new();
        for round in 0..60u8 {
            let argument = Packed::copy_of(&vec![round; usize::from(round) * 997]);
            outgoing.push(&[b"head", &[round]], &argument);
            sent.extend_from_slice(b"head");
            sent.push(round);
            sent.extend_from_slice(&argument);
        }
        let mut got = Vec::new();
        loop {
            match outgoing.flush() {
                Flushed::Blocked => assert!(read_some(&pipe.read, &mut got).unwrap() > 0),
                Flushed::More => {}
                ended => break assert_eq!(ended, Flushed::All),
            }
        }
        drop(outgoing);
        while read_some(&pipe.read, &mut got).unwrap() > 0 {}
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    }

    #[test]
    fn a_pipe_that_fails_says_so_and_keeps_nothing() {
        let pipe = pipe().unwrap();
        set_nonblocking(&pipe.write).unwrap();
        let outgoing = Outgoing::new(Arc::new(pipe.write));
        drop(pipe.read);
        outgoing.push(&[b"lost"], &Packed::copy_of(b""));
        assert_eq!(outgoing.flush(), Flushed::Broken);
    }
}
