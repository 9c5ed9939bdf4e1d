//! Frames out of a stream of bytes, and into one: the parent's side.
//!
//! A codec of our own because the well-known one reserves a whole frame on the word of its length
//! field. Here memory grows only with the bytes that have arrived.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::frame::{BadFrame, HEADER, Header};
use super::packed::Packed;

/// Payloads up to this size are copied out of the read buffer, so that a small result does not
/// keep a large buffer alive.
const COPIED: usize = 4 * 1024;

/// A header and its payload.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Whose frame it is and what.
    pub(crate) header: Header,
    /// What it carries.
    pub(crate) payload: Packed,
}

/// Splits and joins frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameCodec {
    /// The longest payload of a call or a result.
    pub(crate) max_frame: usize,
}

/// A stream that holds no frames.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The bytes are wrong.
    #[error(transparent)]
    Bad(#[from] BadFrame),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = StreamError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        let Some(header) = Header::read(buffer, self.max_frame)? else {
            return Ok(None);
        };
        if buffer.len() < HEADER + header.length {
            return Ok(None);
        }
        buffer.advance(HEADER);
        let payload = if header.length <= COPIED {
            let payload = Packed::copy_of(&buffer[..header.length]);
            buffer.advance(header.length);
            payload
        } else {
            Packed::from(buffer.split_to(header.length).freeze())
        };
        Ok(Some(Frame { header, payload }))
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = StreamError;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), StreamError> {
        buffer.reserve(HEADER + frame.payload.len());
        buffer.put_slice(&frame.header.to_bytes());
        buffer.put_slice(&frame.payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::*;

    fn frame(payload: &'static [u8]) -> Frame {
        let header = Header::control(Kind::Returned, payload.len());
        Frame {
            header,
            payload: Packed::copy_of(payload),
        }
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let mut codec = FrameCodec { max_frame: 100 };
        let mut stream = BytesMut::new();
        codec.encode(frame(b"first"), &mut stream).unwrap();
        codec.encode(frame(b""), &mut stream).unwrap();
        codec.encode(frame(b"third"), &mut stream).unwrap();
        for step in 1..stream.len() {
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                    got.push(frame.payload);
                }
            }
            let got: Vec<&[u8]> = got.iter().map(|payload| &**payload).collect();
            assert_eq!(got, [&b"first"[..], b"", b"third"], "in pieces of {step}");
        }
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut codec = FrameCodec {
            max_frame: usize::MAX,
        };
        let header = Header::control(Kind::Returned, u32::MAX as usize);
        let mut buffer = BytesMut::from(&header.to_bytes()[..]);
        assert!(codec.decode(&mut buffer).unwrap().is_none());
        assert!(
            buffer.capacity() < 1024,
            "{} bytes reserved",
            buffer.capacity()
        );
    }

    #[test]
    fn garbage_is_an_error_at_its_first_header() {
        let mut codec = FrameCodec { max_frame: 100 };
        assert!(
            codec
                .decode(&mut BytesMut::from(&[7u8; HEADER][..]))
                .is_err()
        );
    }
}
