//! What stands before each message: its length, as CPython's `multiprocessing.connection` writes it.
//!
//! ```text
//!   length up to 0x7fff_ffff      length: i32, big-endian | message
//!   longer                        -1: i32 | length: u64, big-endian | message
//! ```

/// The most bytes of a header.
pub(super) const LONGEST: usize = 12;

/// The longest message that the short header can announce.
const SHORT: u64 = i32::MAX as u64;

/// A header in the buffer that it was written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Header {
    /// Announces a message of so many bytes.
    pub(super) fn announce(message: u64) -> Self {
        let mut bytes = [0; LONGEST];
        if message <= SHORT {
            bytes[..4].copy_from_slice(&(message as i32).to_be_bytes());
            return Self { bytes, length: 4 };
        }
        bytes[..4].copy_from_slice(&(-1_i32).to_be_bytes());
        bytes[4..].copy_from_slice(&message.to_be_bytes());
        Self { bytes, length: 12 }
    }

    /// The bytes of it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// How long the message behind it is.
    pub(super) message: u64,
    /// How long the header itself is.
    pub(super) header: usize,
}

/// The header that `bytes` begin with; `None` where there is not yet all of it.
///
/// # Errors
///
/// The length in it, where no message can have that.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Announced>, i32> {
    let Some((short, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let announced = match i32::from_be_bytes(*short) {
        -1 => rest.first_chunk().map(|long| Announced {
            message: u64::from_be_bytes(*long),
            header: LONGEST,
        }),
        length => Some(Announced {
            message: u64::try_from(length).map_err(|_| length)?,
            header: 4,
        }),
    };
    Ok(announced)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by CPython: `struct.pack("!i", n)`, and `struct.pack("!i", -1) + struct.pack("!Q", n)`.
    const GOLDEN: [(u64, &[u8]); 5] = [
        (0, &[0, 0, 0, 0]),
        (11, &[0, 0, 0, 11]),
        (0x7fff_ffff, &[0x7f, 0xff, 0xff, 0xff]),
        (
            0x8000_0000,
            &[255, 255, 255, 255, 0, 0, 0, 0, 0x80, 0, 0, 0],
        ),
        (
            5_000_000_000,
            &[255, 255, 255, 255, 0, 0, 0, 1, 0x2a, 5, 0xf2, 0],
        ),
    ];

    #[test]
    fn headers_are_those_of_python() {
        for (message, bytes) in GOLDEN {
            assert_eq!(Header::announce(message).as_bytes(), bytes);
            let header = bytes.len();
            let announced = Announced { message, header };
            assert_eq!(read(bytes), Ok(Some(announced)));
            for part in 0..header {
                assert_eq!(read(&bytes[..part]), Ok(None));
            }
        }
    }

    #[test]
    fn no_other_negative_length_is_one() {
        for length in [-2, i32::MIN] {
            assert_eq!(read(&length.to_be_bytes()), Err(length));
        }
    }
}
