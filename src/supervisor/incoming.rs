//! Responses on their way from a worker: big reads, split into frames.

use std::io;
use std::os::fd::OwnedFd;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::sys::pipe::read_more;
use crate::wire::codec::{Frame, FrameCodec, StreamError};
use crate::wire::page::ControlPage;

/// How much is asked of the pipe at once, at least. A larger response grows the buffer with what
/// has arrived of it.
const READ: usize = 64 * 1024;

/// An empty buffer is kept up to this size.
const KEPT: usize = 1024 * 1024;

/// The response pipe's read end, and how far its stream has been read.
#[derive(Debug)]
pub(super) struct Incoming {
    codec: FrameCodec,
    buffer: BytesMut,
    /// How many bytes of the stream have been read.
    read: u64,
    /// The stream held something that is no frame: nothing after it can be made sense of.
    broken: bool,
    /// Frames split off and not yet handed on; kept for its memory.
    pub(super) frames: Vec<Frame>,
}

/// What a read has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipe {
    /// There may be more.
    More,
    /// There was nothing more.
    Empty,
    /// There never will be: nobody holds the other end, or nothing that comes is believed.
    Ended,
}

impl Incoming {
    pub(super) fn new(max_frame: usize) -> Self {
        let codec = FrameCodec { max_frame };
        Self {
            codec,
            buffer: BytesMut::new(),
            read: 0,
            broken: false,
            frames: Vec::new(),
        }
    }

    /// Reads once and splits what has come into `frames`.
    ///
    /// # Errors
    ///
    /// When the stream is broken. Frames that came before the break are there.
    pub(super) fn read(&mut self, pipe: &OwnedFd) -> Result<Pipe, StreamError> {
        if self.broken {
            return Ok(Pipe::Ended);
        }
        let room = READ.max(self.buffer.len());
        self.buffer.reserve(room);
        let asked = self.buffer.capacity() - self.buffer.len();
        let count = match read_more(pipe, &mut self.buffer) {
            Ok(0) => return Ok(Pipe::Ended),
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => return Ok(Pipe::Empty),
            Err(rustix::io::Errno::INTR) => return Ok(Pipe::More),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        self.read += count as u64;
        let capacity = self.buffer.capacity();
        self.split()?;
        if self.buffer.is_empty() && capacity > KEPT {
            // The large response owns that memory now, and is to free it when it is dropped.
            self.buffer = BytesMut::new();
        }
        // A pipe gives all it has: less than was asked for means that it is empty now. What comes
        // after this read is a new event.
        Ok(if count < asked {
            Pipe::Empty
        } else {
            Pipe::More
        })
    }

    /// Takes what the worker has made visible and not written, as one who looks for it awake; tells
    /// whether there was anything.
    ///
    /// # Errors
    ///
    /// When the stream is broken. Frames that came before the break are there.
    pub(super) fn take(&mut self, page: &ControlPage) -> Result<bool, StreamError> {
        if self.broken {
            return Ok(false);
        }
        let count = page.take_rest(self.read, &mut self.buffer);
        self.read += count as u64;
        if count > 0 {
            self.split()?;
        }
        Ok(count > 0)
    }

    /// Whether the worker has made anything visible that was not read.
    pub(super) fn has_more(&self, page: &ControlPage) -> bool {
        !self.broken && page.visible() != self.read
    }

    /// Takes up what a dead worker had finished and not written to its pipe.
    pub(super) fn read_outbox(&mut self, page: &ControlPage) -> Result<(), StreamError> {
        if self.broken {
            return Ok(());
        }
        let rest = page.rest(self.read);
        self.buffer.extend_from_slice(&rest);
        self.read += rest.len() as u64;
        self.split()
    }

    fn split(&mut self) -> Result<(), StreamError> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.broken = true;
                    self.buffer = BytesMut::new();
                    return Err(error);
                }
            }
        }
    }

    /// Stops believing anything that comes.
    pub(super) fn shut(&mut self) {
        self.broken = true;
        self.buffer = BytesMut::new();
        self.frames.clear();
    }
}
