//! Whatever reads bytes of others, as one function each that takes any: for `fuzz/`, and for a test of
//! them all with bytes by chance. They panic if anything is wrong. No part of the crate as it is
//! used.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio_util::codec::Decoder;

use crate::connection::trial;
use crate::process;
use crate::sys::socket;
use crate::task::answer::{self, Answer};
#[cfg(feature = "tracing")]
use crate::task::record::Record;
use crate::task::{DecodeError, EncodeError, PanicInfo, head::CallHead, items, payload};
use crate::wire::Ticket;
use crate::wire::codec::FrameCodec;
use crate::wire::frame::HEADER;
use crate::wire::luggage::Luggage;
use crate::wire::packed::Packed;

/// A stream of frames from a worker. Whatever comes out was in it.
pub fn frames(data: &[u8]) {
    let mut codec = FrameCodec { max_frame: 4_096 };
    let (mut buffer, mut taken) = (BytesMut::new(), 0);
    for piece in data.chunks(100) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => taken += HEADER + frame.payload.len(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(taken + buffer.len() <= data.len());
    }
}

/// What stands before the argument of a call: what can be read says the same when it is written and read
/// again.
pub fn heads(data: &[u8]) {
    if let Some((head, rest)) = CallHead::read(data) {
        assert!(data.ends_with(rest));
        let written = head.pack();
        let (again, rest) = CallHead::read(&written).expect("it was written");
        assert!(rest.is_empty());
        assert_eq!(*again.pack(), *written);
    }
}

/// Arguments and results: what can be read says the same when it is written and read again.
pub fn values(data: &[u8]) {
    type Nested = Option<Vec<(String, BTreeMap<u8, Vec<Kind>>)>>;
    let _ = payload::decode::<Vec<()>>(data);
    let _ = payload::decode::<(Bytes, char, f64)>(data);
    if let Ok(value) = payload::decode::<Nested>(data) {
        let written = payload::pack(&value).expect("it was read");
        let again: Nested = payload::decode(&written).expect("it was written");
        assert_eq!(value, again);
    }
}

/// Some of each kind of thing.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(Box<Option<Kind>>),
    Tuple(u64, i128, bool),
    Struct { bytes: Bytes, text: Box<str> },
}

/// What a worker answers that is no result: an error, or the items of a chunk, or what was logged.
pub fn responses(data: &[u8]) {
    let _ = postcard::from_bytes::<PanicInfo>(data).map(|panic| panic.to_string());
    let _ = postcard::from_bytes::<DecodeError>(data).map(|error| error.to_string());
    let _ = postcard::from_bytes::<EncodeError>(data).map(|error| error.to_string());
    #[cfg(feature = "tracing")]
    let _ = postcard::from_bytes::<Record<'_>>(data).map(|record| record.is_sound());
    let (mut rest, mut count) = (data, 0);
    while let Some((_, behind)) = items::split_first(rest) {
        (rest, count) = (behind, count + 1);
    }
    assert_eq!(*items::skip(&Packed::copy_of(data), count), *rest);
}

/// What processes of one program tell each other beside the calls: how to start, how it went, and
/// whose the descriptors are.
pub fn packets(data: &[u8]) {
    process::trial::packets(data);
    let (here, there) = socket::pair().expect("a socket pair");
    if socket::send(&here, data, &[]).is_err() {
        return;
    }
    if let Ok(Answer::Returned(result)) = answer::receive(&there) {
        assert!(result.len() < data.len());
    }
    let (luggage, there) = Luggage::pair().expect("a socket pair");
    socket::send(&there, data, &[]).expect("it fits");
    let ticket = Ticket {
        lane: 0,
        sequence: 1,
    };
    if let Ok(descriptors) = luggage.receive(ticket) {
        assert!(descriptors.is_empty(), "none came beside it");
    }
}

/// What comes in on a connection.
pub fn messages(data: &[u8]) {
    trial::messages(data);
}

/// What somebody without the key says in a handshake.
pub fn handshake(data: &[u8]) {
    trial::handshake(data);
}

/// What somebody calls a pickle.
#[cfg(feature = "pickle")]
pub fn pickles(data: &[u8]) {
    trial::pickle(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::secret::fill_random;

    /// Bytes by chance are seldom the beginning of anything. These are, with some of them changed.
    const BEGINNINGS: [&[u8]; 5] = [
        b"",
        b"\x36#CHALLENGE#{sha256}forty bytes that nobody would guess, or so\x09#WELCOME#",
        b"\x31#PROCPOOL-AUTH-1#thirty-two bytes that are a nonce!\x20and thirty-two that are no code.",
        b"\x05\0\0\0\x04four\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi",
        b"\x80\x04](K\x01\x8c\x04text\x94h\0}(h\0Nue.",
    ];

    #[test]
    fn bytes_by_chance_do_no_harm() {
        let mut chance = [0; 512];
        for round in 0..4_000 {
            fill_random(&mut chance).unwrap();
            let beginning = BEGINNINGS[round % BEGINNINGS.len()];
            let mut data = [beginning, &chance[..usize::from(chance[0])]].concat();
            for change in chance[500..].chunks(3).take(usize::from(chance[1] % 4)) {
                let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
                if let Some(byte) = data.get_mut(place % 600) {
                    *byte = change[2];
                }
            }
            for target in [
                frames, heads, values, responses, packets, messages, handshake,
            ] {
                target(&data);
            }
            #[cfg(feature = "pickle")]
            pickles(&data);
        }
    }
}
