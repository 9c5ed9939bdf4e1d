//! Requests on their way to a worker: queued by whoever sends, written by whoever flushes.
//!
//! Two locks, so that a sender never waits for a write: the queue's is held to append, the
//! writer's while bytes go to the pipe.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::wire::Ticket;
use crate::wire::frame::Header;
use crate::wire::luggage::Luggage;
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
pub(crate) struct Outgoing {
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
    /// What goes beside the frame behind it.
    Luggage(Ticket, Packed),
}

#[derive(Debug)]
struct Writer {
    pipe: Arc<OwnedFd>,
    luggage: Arc<Luggage>,
    /// The pipe has failed: what is still sent is thrown away.
    broken: bool,
    pieces: VecDeque<Piece>,
    /// How much of the first piece is written.
    written: usize,
}

/// Where a flush has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything is in the pipe.
    All,
    /// There is more, but others should have a turn first.
    More,
    /// The pipe is full.
    Blocked,
    /// There is no room for descriptors until the worker has taken some.
    Crowded,
    /// The pipe has failed.
    Broken,
}

impl Outgoing {
    pub(crate) fn new(pipe: Arc<OwnedFd>, luggage: Arc<Luggage>) -> Self {
        let writer = Writer {
            pipe,
            luggage,
            broken: false,
            pieces: VecDeque::new(),
            written: 0,
        };
        Self {
            queue: Mutex::default(),
            writer: Mutex::new(writer),
        }
    }

    /// Queues one frame: its header, its head, and an argument behind that.
    pub(crate) fn push(&self, mut header: Header, head: &[u8], argument: &Packed) {
        header.beside = argument.has_descriptors();
        let mut queue = lock(&self.queue);
        if header.beside {
            let luggage = Piece::Luggage(header.ticket, argument.clone());
            queue.pieces.push_back(luggage);
        }
        if !matches!(queue.pieces.back(), Some(Piece::Frames(_))) {
            let spare = std::mem::take(&mut queue.spare);
            queue.pieces.push_back(Piece::Frames(spare));
        }
        let Some(Piece::Frames(frames)) = queue.pieces.back_mut() else {
            return;
        };
        frames.extend_from_slice(&header.to_bytes());
        frames.extend_from_slice(head);
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
    pub(crate) fn flush(&self) -> Flushed {
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
            match writer.hand_over_luggage() {
                Some(Ok(())) => continue,
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Flushed::Crowded;
                }
                // This user has too many on their way, by whatever socket: nobody tells when that is
                // over.
                Some(Err(error)) if is_too_many(&error) => return Flushed::More,
                Some(Err(_)) => {
                    writer.broken = true;
                    continue;
                }
                None => {}
            }
            match writer.write() {
                Ok(spare) => self.keep(spare),
                Err(Errno::AGAIN) => return Flushed::Blocked,
                Err(Errno::INTR) => {}
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
    /// Sends the descriptors that are next, if such are.
    fn hand_over_luggage(&mut self) -> Option<io::Result<()>> {
        let Some(Piece::Luggage(ticket, packed)) = self.pieces.front() else {
            return None;
        };
        let sent = packed.descriptors().map_or(Ok(()), |descriptors| {
            self.luggage.send(*ticket, &descriptors)
        });
        if sent.is_ok() {
            self.pieces.pop_front();
        }
        Some(sent)
    }

    /// Writes once, up to what has descriptors of its own; gives back a buffer that has been written whole.
    fn write(&mut self) -> rustix::io::Result<Option<Vec<u8>>> {
        let mut count = {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            let written = |piece: &&Piece| !matches!(piece, Piece::Luggage(..));
            let pieces = self.pieces.iter().take_while(written);
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                let skip = if used == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&piece.bytes()[skip..]);
                used += 1;
            }
            rustix::io::writev(&*self.pipe, &slices[..used])?
        };
        let mut spare = None;
        while let Some(first) = self.pieces.front() {
            if matches!(first, Piece::Luggage(..)) {
                break;
            }
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
            Self::Luggage(..) => &[],
        }
    }
}

fn is_too_many(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs and nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::{pipe, set_nonblocking};
    use crate::wire::frame::{HEADER, Kind};

    /// What goes into a pipe; nothing goes beside it.
    fn outgoing(pipe: OwnedFd) -> Outgoing {
        let (luggage, _) = Luggage::pair().unwrap();
        Outgoing::new(Arc::new(pipe), Arc::new(luggage))
    }

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 0, sequence }
    }

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
        let outgoing = outgoing(pipe.write);
        let mut sent = Vec::new();
        for round in 0..60u8 {
            let argument = Packed::copy_of(&vec![round; usize::from(round) * 997]);
            let header = Header::control(Kind::Call, 1 + argument.len());
            outgoing.push(header, &[round], &argument);
            sent.extend_from_slice(&header.to_bytes());
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

    /// Descriptors are there before the frame that speaks of them; where there is no room for them,
    /// that waits.
    #[test]
    fn descriptors_go_before_their_frames() {
        let pipe = pipe().unwrap();
        let (here, there) = Luggage::pair().unwrap();
        let outgoing = Outgoing::new(Arc::new(pipe.write), Arc::new(here));
        let there = Luggage::new(there);
        let file = || std::fs::File::open("/dev/null").unwrap().into();
        let mut pushed = 0;
        let crowded = loop {
            let argument = Packed::beside(Packed::copy_of(b"x"), vec![file()]);
            let mut header = Header::control(Kind::Call, 1);
            header.ticket.sequence = pushed;
            outgoing.push(header, &[], &argument);
            pushed += 1;
            match outgoing.flush() {
                Flushed::All => {}
                other => break other,
            }
        };
        assert_eq!(crowded, Flushed::Crowded);
        let mut got = Vec::new();
        for sequence in 0..pushed {
            assert_eq!(there.receive(ticket(sequence)).unwrap().len(), 1);
            outgoing.flush();
        }
        while got.len() < pushed as usize * (HEADER + 1) {
            read_some(&pipe.read, &mut got).unwrap();
        }
        let header = Header::read(&got, 100).unwrap().unwrap();
        assert!(header.beside && header.length == 1);
    }

    #[test]
    fn a_pipe_that_fails_says_so_and_keeps_nothing() {
        let pipe = pipe().unwrap();
        set_nonblocking(&pipe.write).unwrap();
        let outgoing = outgoing(pipe.write);
        drop(pipe.read);
        let header = Header::control(Kind::Call, 4);
        outgoing.push(header, b"lost", &Packed::copy_of(b""));
        assert_eq!(outgoing.flush(), Flushed::Broken);
    }
}
