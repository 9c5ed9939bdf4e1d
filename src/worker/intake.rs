//! Calls out of the request pipe: big reads, and each call's bytes used where they arrived.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::wire::frame::{BadFrame, HEADER, Header, Kind};

/// The buffer's size while calls are small.
const SMALL: usize = 64 * 1024;
/// A buffer that grew beyond this is not kept when it is empty.
const KEPT: usize = 64 * 1024 * 1024;

/// The request pipe and what has been read from it.
#[derive(Debug)]
pub(super) struct Intake {
    pipe: OwnedFd,
    max_frame: usize,
    buffer: Vec<u8>,
    /// What of the buffer has been read from the pipe and not been used.
    from: usize,
    to: usize,
}

impl Intake {
    pub(super) fn new(pipe: OwnedFd, max_frame: usize) -> Self {
        Self {
            pipe,
            max_frame,
            buffer: vec![0; SMALL],
            from: 0,
            to: 0,
        }
    }

    /// The next call that has arrived whole; `None` when more has to be read first.
    pub(super) fn next(&mut self) -> Result<Option<(Header, &[u8])>, BadFrame> {
        let Some(header) = Header::read(&self.buffer[self.from..self.to], self.max_frame)? else {
            return Ok(None);
        };
        let payload = self.from + HEADER;
        if self.to - payload < header.length {
            return Ok(None);
        }
        self.from = payload + header.length;
        Ok(Some((header, &self.buffer[payload..self.from])))
    }

    /// What the next call is that has arrived whole.
    pub(super) fn peek(&self) -> Result<Option<Kind>, BadFrame> {
        let arrived = &self.buffer[self.from..self.to];
        let header = Header::read(arrived, self.max_frame)?;
        let whole = header.filter(|header| arrived.len() - HEADER >= header.length);
        Ok(whole.map(|header| header.kind))
    }

    /// The pipe, to be watched for more; only this reads from it.
    pub(super) fn pipe(&self) -> io::Result<OwnedFd> {
        self.pipe.try_clone()
    }

    /// Reads what there is without waiting for it. False at the end of the stream; `None` if there
    /// is nothing now.
    pub(super) fn try_fill(&mut self) -> io::Result<Option<bool>> {
        let mut pipe = [PollFd::new(&self.pipe, PollFlags::IN)];
        match poll(&mut pipe, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => Ok(None),
            Ok(_) => self.fill().map(Some),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until there is something to read, or the end; false if that takes longer.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut pipe = [PollFd::new(&self.pipe, PollFlags::IN)];
        match poll(&mut pipe, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            // Whatever that was, it does not say that nobody wants anything.
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for more bytes. False at the end of the stream.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.make_room();
        loop {
            match rustix::io::read(&self.pipe, &mut self.buffer[self.to..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.to += count;
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves what is left to the front and grows the buffer when that fills it: by what has
    /// arrived, never by what a header promises.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        if self.to == self.buffer.len() {
            self.buffer.resize(self.to * 2, 0);
        } else if self.to == 0 && self.buffer.len() > KEPT {
            self.buffer = vec![0; SMALL];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::pipe;

    #[test]
    fn calls_of_any_size_come_out_whole_and_the_end_is_an_end() {
        let pipe = pipe().unwrap();
        let sizes = [0, 1, SMALL - HEADER, SMALL, 300_000, 5];
        let write = pipe.write;
        let writer = std::thread::spawn(move || {
            for size in sizes {
                let mut bytes = Header::control(Kind::Call, size).to_bytes().to_vec();
                bytes.resize(HEADER + size, size as u8);
                let mut left = &bytes[..];
                while !left.is_empty() {
                    let count = rustix::io::write(&write, &left[..left.len().min(7_777)]).unwrap();
                    left = &left[count..];
                }
            }
        });
        let mut intake = Intake::new(pipe.read, 1_000_000);
        let mut got = Vec::new();
        loop {
            while let Some((header, payload)) = intake.next().unwrap() {
                assert!(payload.iter().all(|byte| *byte == header.length as u8));
                got.push(payload.len());
            }
            if !intake.fill().unwrap() {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(got, sizes);
    }
}
