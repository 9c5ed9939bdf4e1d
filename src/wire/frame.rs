//! The header that stands before every payload, in both directions.
//!
//! ```text
//!  0        1              2                 4                    8
//!  +--------+--------------+-----------------+--------------------+
//!  | mark   | kind, flags  | lane, and a flag | length of payload |
//!  +--------+--------------+-----------------+--------------------+
//!  | sequence: which sending to this worker                       |
//!  +--------------------------------------------------------------+
//!  | call: the number of the call in its pool                     |
//!  +--------------------------------------------------------------+
//!  | time: nanoseconds; what they measure depends on the kind     |
//!  +--------------------------------------------------------------+
//!  | payload …
//! ```
//!
//! All numbers are little-endian. Everything that tells whose frame it is stands outside the
//! payload, so a payload that does not decode costs its own call and no other. The mark, the kind
//! and the sequence make a stray byte in the stream show at once.

use thiserror::Error;

use super::Ticket;

/// The length of every header.
pub(crate) const HEADER: usize = 32;
/// The longest payload of a frame that carries no call's bytes.
pub(crate) const CONTROL_LIMIT: usize = 64 * 1024;
/// The flags, in the high bits of the kind's byte.
const SHORT: u8 = 0x20;
const PART: u8 = 0x40;
const LAST: u8 = 0x80;
/// And one in the high bit of the lane.
const BESIDE: u16 = 0x8000;
/// The first byte of every header.
const MARK: u8 = 0xC5;

/// What a frame is; up to 31, the flags have the other bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Request: run this call. Time: its limit, zero for none.
    Call = 1,
    /// Request: nothing comes after this; end when everything before it is done.
    Leave = 2,
    /// Request, in the lane of a call: until none is left, run the async calls that come.
    Host = 3,
    /// Request: run this async call beside the others. Time: its limit, zero for none.
    Enter = 4,
    /// Request: drop this async call where it is.
    Drop = 5,
    /// Response, always the first: who speaks (`message::Hello`).
    Hello = 16,
    /// Response: the worker takes calls, or why it cannot (`message::Readiness`).
    Ready = 17,
    /// Response: the function returned this. Time, here and below: how long it ran.
    Returned = 18,
    /// Response: the function panicked (a `PanicInfo`).
    Panicked = 19,
    /// Response: the argument did not decode (a `DecodeError`).
    Undecodable = 20,
    /// Response: the result did not encode (an `EncodeError`).
    Unencodable = 21,
    /// Response: the result is longer than a frame may be (its length).
    TooLarge = 22,
    /// Response: the call was not run, or its result thrown away, because it is not ours any more.
    Passed = 23,
    /// Response: the function's address is not in the image (a text).
    Unknown = 24,
    /// Response, before the others to its call: that was begun, with the descriptors beside it.
    Taken = 25,
    /// Something that the function says while it runs: as many of them as it was granted.
    Update = 28,
    /// Response, before the one to its call: something was logged there (`task::record::Record`);
    /// empty for nothing. Time: how many records before it were thrown away.
    Log = 30,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Call,
            2 => Self::Leave,
            3 => Self::Host,
            4 => Self::Enter,
            5 => Self::Drop,
            16 => Self::Hello,
            17 => Self::Ready,
            18 => Self::Returned,
            19 => Self::Panicked,
            20 => Self::Undecodable,
            21 => Self::Unencodable,
            22 => Self::TooLarge,
            23 => Self::Passed,
            24 => Self::Unknown,
            25 => Self::Taken,
            28 => Self::Update,
            30 => Self::Log,
            _ => return None,
        })
    }

    /// How long a payload of this kind may be where calls may have `max_frame` bytes.
    fn limit(self, max_frame: usize) -> usize {
        match self {
            // A call's particulars stand before its argument.
            Self::Call | Self::Enter => max_frame.saturating_add(CONTROL_LIMIT),
            Self::Returned | Self::Update => max_frame,
            _ => CONTROL_LIMIT,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// What the frame is.
    pub(crate) kind: Kind,
    /// Which sending it belongs to; all zero where it belongs to none.
    pub(crate) ticket: Ticket,
    /// The length of the payload.
    pub(crate) length: usize,
    /// The number of the call in its pool.
    pub(crate) call: u64,
    /// Nanoseconds.
    pub(crate) time: u64,
    /// A call that is expected to take so little time that responses may wait for its end.
    pub(crate) short: bool,
    /// A response to one item of a chunk: more will follow. `call` is the item's place in it.
    pub(crate) part: bool,
    /// A response after which this worker will run nothing more: it is to be replaced.
    pub(crate) last: bool,
    /// Descriptors go with it, by the socket beside the pipes: they are there before the frame is.
    pub(crate) beside: bool,
}

/// Bytes that are no frame, or a frame that may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadFrame {
    /// The mark or the kind is wrong.
    #[error("no frame begins with the bytes {0:02x?}")]
    Header([u8; 4]),
    /// The payload would be longer than allowed.
    #[error("a frame of {length} bytes is announced where {limit} are allowed")]
    TooLong {
        /// The announced length.
        length: usize,
        /// The allowed length.
        limit: usize,
    },
}

impl Header {
    /// A header of a frame that belongs to no call.
    pub(crate) fn control(kind: Kind, length: usize) -> Self {
        let ticket = Ticket {
            lane: 0,
            sequence: 0,
        };
        Self {
            kind,
            ticket,
            length,
            call: 0,
            time: 0,
            short: false,
            part: false,
            last: false,
            beside: false,
        }
    }

    /// The header's bytes.
    pub(crate) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let flags =
            (self.short as u8 * SHORT) | (self.part as u8 * PART) | (self.last as u8 * LAST);
        bytes[..2].copy_from_slice(&[MARK, self.kind as u8 | flags]);
        let lane = self.ticket.lane | (self.beside as u16 * BESIDE);
        bytes[2..4].copy_from_slice(&lane.to_le_bytes());
        let length = u32::try_from(self.length).expect("frames are shorter than 4 GiB");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ticket.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.call.to_le_bytes());
        bytes[24..].copy_from_slice(&self.time.to_le_bytes());
        bytes
    }

    /// Reads a header from the front of `bytes`; `None` if there are too few.
    ///
    /// # Errors
    ///
    /// When no frame begins like this, or one that is longer than it may be.
    pub(crate) fn read(bytes: &[u8], max_frame: usize) -> Result<Option<Self>, BadFrame> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [mark, flags, low, high, ..] = *bytes;
        let kind = flags & !(SHORT | PART | LAST);
        let Some(kind) = Kind::from_byte(kind).filter(|_| mark == MARK) else {
            return Err(BadFrame::Header([mark, flags, low, high]));
        };
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
        let limit = kind.limit(max_frame);
        if length > limit {
            return Err(BadFrame::TooLong { length, limit });
        }
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let lane = u16::from_le_bytes([low, high]);
        let ticket = Ticket {
            lane: lane & !BESIDE,
            sequence: number(8),
        };
        Ok(Some(Self {
            kind,
            ticket,
            length,
            call: number(16),
            time: number(24),
            short: flags & SHORT != 0,
            part: flags & PART != 0,
            last: flags & LAST != 0,
            beside: lane & BESIDE != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let ticket = Ticket {
            lane: 0x1234,
            sequence: u64::MAX - 1,
        };
        Header {
            kind: Kind::Returned,
            ticket,
            length: 77,
            call: 12,
            time: 5,
            short: true,
            part: true,
            last: true,
            beside: true,
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        assert_eq!(Header::read(&header().to_bytes(), 100), Ok(Some(header())));
    }

    #[test]
    fn too_few_bytes_are_no_header_yet() {
        for count in 0..HEADER {
            assert_eq!(Header::read(&header().to_bytes()[..count], 100), Ok(None));
        }
    }

    #[test]
    fn every_wrong_first_byte_shows_at_once() {
        for byte in 0..=255u8 {
            let mut bytes = header().to_bytes();
            bytes[0] = byte;
            assert_eq!(Header::read(&bytes, 100).is_ok(), byte == MARK);
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_by_the_header_alone() {
        let refused = BadFrame::TooLong {
            length: 77,
            limit: 76,
        };
        assert_eq!(Header::read(&header().to_bytes(), 76), Err(refused));
    }

    #[test]
    fn control_frames_have_a_limit_of_their_own() {
        let header = Header::control(Kind::Panicked, CONTROL_LIMIT + 1);
        assert!(Header::read(&header.to_bytes(), usize::MAX).is_err());
    }
}
