//! What has come in and was not taken yet: bytes that become messages, and the descriptors beside
//! them. It reads nothing by itself.
//!
//! Memory grows with what has arrived, never on the word of a header.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::error::{Break, Fault};
use super::frame;
use crate::sys::stream::Received;

/// How much is read at once, unless a longer message is coming.
const CHUNK: usize = 16 * 1024;
/// How much more may be kept for later than that.
const KEPT: usize = 4 * CHUNK;

/// The incoming half of one connection.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Used from `start` to `filled`; behind that is room.
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    /// How long the message is whose header was taken off.
    message: Option<usize>,
    /// How many bytes have come in all.
    received: u64,
    beside: VecDeque<Beside>,
    end: Option<End>,
}

/// Descriptors that came with one read.
#[derive(Debug)]
struct Beside {
    /// The number of the byte that they came with. That belongs to their message.
    byte: u64,
    descriptors: Vec<OwnedFd>,
    truncated: bool,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Broken(Break),
}

/// The descriptors of one message.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    /// Those that are there.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Whether some could not be received.
    pub(super) truncated: bool,
}

impl Inbox {
    /// Continues where another was, with what had come in there.
    pub(super) fn of_unread(bytes: Vec<u8>) -> Self {
        Self {
            filled: bytes.len(),
            received: bytes.len() as u64,
            bytes,
            ..Self::default()
        }
    }

    /// Room for what comes next.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        let end = match self.message {
            // It gets all the room to itself, so that it can be given away without a copy.
            Some(message) if message > CHUNK => {
                let grown = message.min((2 * self.filled).max(KEPT));
                self.resize(self.bytes.len().max(grown));
                self.bytes.len().min(message)
            }
            _ => {
                let end = CHUNK.max(2 * self.filled);
                self.resize(end);
                end
            }
        };
        &mut self.bytes[self.filled..end]
    }

    fn resize(&mut self, length: usize) {
        if self.bytes.len() < length {
            self.bytes.reserve_exact(length - self.bytes.len());
            self.bytes.resize(length, 0);
        }
    }

    /// Notes what was read into the room.
    pub(super) fn fill(&mut self, received: Received) {
        if received.count == 0 {
            let torn = self.start < self.filled || self.message.is_some();
            self.end = Some(if torn {
                End::Broken(Break::Torn)
            } else {
                End::Closed
            });
            return;
        }
        self.filled += received.count;
        self.received += received.count as u64;
        if !received.descriptors.is_empty() || received.truncated {
            self.beside.push_back(Beside {
                byte: self.received - 1,
                descriptors: received.descriptors,
                truncated: received.truncated,
            });
        }
    }

    /// Notes that the connection is lost, by the system's number for the error.
    pub(super) fn lose(&mut self, errno: i32) {
        self.breaks(Break::Lost(errno));
    }

    /// Whether something came that was not taken yet, be it the end or the beginning of a message.
    pub(super) fn has_something(&self) -> bool {
        self.end.is_some() || self.start < self.filled || self.message.is_some()
    }

    /// Whether descriptors came that were not taken yet.
    pub(super) fn has_descriptors(&self) -> bool {
        !self.beside.is_empty()
    }

    /// The length of the next message if all of it is there; `None` where more has to be read.
    ///
    /// # Errors
    ///
    /// Where there is no next message, and one is longer than `limit`: then nothing more is read.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<usize>, Fault> {
        if let Some(End::Broken(why)) = self.end {
            return Err(Fault::Broken(why));
        }
        let next = self.look(limit).map_err(|why| self.breaks(why))?;
        match (next, self.end) {
            (None, Some(End::Closed)) => Err(Fault::Closed),
            (next, _) => Ok(next),
        }
    }

    fn look(&mut self, limit: usize) -> Result<Option<usize>, Break> {
        let message = match self.message {
            Some(message) => message,
            None => {
                let header = frame::read(self.unread()).map_err(Break::Malformed)?;
                let Some(header) = header else {
                    return self.await_the_rest();
                };
                self.start += header.header;
                let fits = usize::try_from(header.message).unwrap_or(usize::MAX);
                *self.message.insert(fits)
            }
        };
        if message > limit {
            let length = message as u64;
            return Err(Break::TooLong { length, limit });
        }
        if self.unread().len() >= message {
            return Ok(Some(message));
        }
        self.await_the_rest()
    }

    /// All that has come belongs to one message, whose descriptors are sent with its first byte.
    fn await_the_rest(&self) -> Result<Option<usize>, Break> {
        match self.beside.len() {
            0 | 1 => Ok(None),
            _ => Err(Break::Misplaced),
        }
    }

    fn breaks(&mut self, why: Break) -> Fault {
        *self = Self {
            end: Some(End::Broken(why)),
            ..Self::default()
        };
        Fault::Broken(why)
    }

    /// Takes the message that [`next`](Self::next) has found, and has it read in place.
    pub(super) fn take<T>(&mut self, read: impl FnOnce(&[u8], Attachments) -> T) -> T {
        let (range, attachments) = self.pass();
        read(&self.bytes[range], attachments)
    }

    /// The same, as bytes of its own. Descriptors that came beside it are closed.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        let (range, _) = self.pass();
        if range == (0..self.filled) && range.len() > CHUNK {
            (self.start, self.filled) = (0, 0);
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.truncate(range.len());
            return bytes;
        }
        self.bytes[range].to_vec()
    }

    /// Goes on behind the message. Whoever reads it may panic and has taken it.
    fn pass(&mut self) -> (std::ops::Range<usize>, Attachments) {
        let message = self.message.take().unwrap_or(0);
        let range = self.start..self.start + message;
        self.start = range.end;
        let behind = self.received - self.unread().len() as u64;
        let mut attachments = Attachments::default();
        while self.beside.front().is_some_and(|one| one.byte < behind) {
            let Some(one) = self.beside.pop_front() else {
                break;
            };
            attachments.descriptors.extend(one.descriptors);
            attachments.truncated |= one.truncated;
        }
        (range, attachments)
    }

    /// Gives back memory that a long message has needed.
    pub(super) fn shrink(&mut self) {
        if self.start == self.filled && self.message.is_none() {
            (self.start, self.filled) = (0, 0);
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    /// Bytes that could be read by another [`Inbox`] in place of this one, beginning with a header.
    ///
    /// # Errors
    ///
    /// Where that cannot be: descriptors are among it, or nothing more comes.
    pub(super) fn to_unread(&self) -> Result<Vec<u8>, &'static str> {
        if !self.beside.is_empty() {
            return Err("descriptors were received on it that were not taken yet");
        }
        if let Some(End::Broken(_)) = self.end {
            return Err("it is broken");
        }
        let mut bytes = Vec::new();
        if let Some(message) = self.message {
            bytes.extend_from_slice(frame::Header::announce(message as u64).as_bytes());
        }
        bytes.extend_from_slice(self.unread());
        Ok(bytes)
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }
}

#[cfg(test)]
mod tests;
