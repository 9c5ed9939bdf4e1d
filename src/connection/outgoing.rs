//! What is being sent: a message on its way out, and the rest of one that was begun.
//!
//! A message belongs to whoever sends it until its first byte is written, and can be given up. From
//! then on it is here, and whoever comes next writes on: a message that was begun is sent whole.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;

use super::error::{ConnectionError, Fault};
use super::frame::Header;
use super::message::{self, Count};
use crate::process::unsent::{Beginning, Unsent};
use crate::sys::stream;
use crate::wire::packed::Packed;

/// One message with its header, and how much of it is written.
#[derive(Debug)]
pub(super) struct Frame {
    header: Header,
    /// Stands before the encoding of a value.
    count: Option<Count>,
    body: Packed,
    /// They go with the first byte.
    descriptors: Vec<OwnedFd>,
    written: usize,
}

impl Frame {
    /// A message of a value.
    pub(super) fn of_value<T: Serialize>(
        value: &T,
        carries_descriptors: bool,
    ) -> Result<Self, ConnectionError> {
        let body = message::encode(value).map_err(Fault::Encode)?;
        let descriptors = body.take_descriptors();
        if !descriptors.is_empty() && !carries_descriptors {
            return Err(Fault::Uncarried.into());
        }
        let count = Count::of(descriptors.len());
        let length = count.as_bytes().len() + body.len();
        Ok(Self {
            header: Header::announce(length as u64),
            count: Some(count),
            body,
            descriptors,
            written: 0,
        })
    }

    /// A message of bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            header: Header::announce(bytes.len() as u64),
            count: None,
            body: Packed::copy_of(bytes),
            descriptors: Vec::new(),
            written: 0,
        }
    }

    /// Writes once; tells whether all is written.
    fn write(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let count = self.count.as_ref().map_or(&[][..], Count::as_bytes);
        let pieces = [self.header.as_bytes(), count, &self.body];
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut slices = pieces.map(IoSlice::new);
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.written);
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        self.written += stream::send(socket, rest, &descriptors)?;
        self.descriptors = Vec::new();
        Ok(self.written == length)
    }
}

/// The outgoing half of one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Frame>,
    /// Whether somebody is at it who will not leave before all is written.
    tended: bool,
    /// What an orderly end of the process waits for.
    unsent: Option<Unsent>,
}

impl Outgoing {
    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether somebody is at it who will not leave before all is written.
    pub(super) fn is_tended(&self) -> bool {
        self.tended
    }

    /// Notes whether that is so.
    pub(super) fn set_tended(&mut self, tended: bool) {
        self.tended = tended;
        self.note();
    }

    /// Nothing of it will be written any more.
    pub(super) fn give_up(&mut self) {
        self.tended = false;
        self.unsent = None;
    }

    /// What was begun is written before the process ends, and what somebody has promised to write.
    fn note(&mut self) {
        let begun = |frame: &Frame| self.tended || frame.written > 0;
        if self.frames.front().is_some_and(begun) {
            self.unsent.get_or_insert_with(Unsent::begin).advanced();
        } else {
            self.unsent = None;
        }
    }

    /// Puts a message behind those that are there, to be sent whatever happens.
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Writes once: of what is here, then of `frame`, which comes here with its first byte. Tells
    /// whether all of both is written.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is no room. What was begun stays here also after other errors, because
    /// nothing can follow a torn message; not where nobody is there to receive it.
    pub(super) fn write(
        &mut self,
        socket: impl AsFd,
        frame: &mut Option<Frame>,
    ) -> io::Result<bool> {
        if let Some(begun) = self.frames.front_mut() {
            match begun.write(socket) {
                Ok(true) => drop(self.frames.pop_front()),
                Ok(false) => {}
                Err(error) => {
                    use io::ErrorKind::{BrokenPipe, ConnectionReset};
                    if matches!(error.kind(), BrokenPipe | ConnectionReset) {
                        self.frames.clear();
                        self.note();
                    }
                    return Err(error);
                }
            }
            self.note();
            return Ok(self.frames.is_empty() && frame.is_none());
        }
        if let Some(new) = frame {
            let beginning = Beginning::now();
            if beginning.is_none() {
                let ending = io::Error::new(io::ErrorKind::BrokenPipe, "this process is ending");
                return Err(ending);
            }
            let whole = new.write(socket)?;
            let new = frame.take().filter(|_| !whole);
            self.frames.extend(new);
            self.note();
        }
        Ok(self.frames.is_empty())
    }
}
