//! How the one call of a process ended, as the process tells its parent: one message on a socket,
//! which stays there until the parent wants it. So nobody has to listen while the process runs, and
//! what was said survives whoever said it.
//!
//! ```text
//!   Said │ result             small results
//!   Said │          + file    others
//!   ·               + descriptors that go with the result, if there are any
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::Verdict;
use super::error::{DecodeError, EncodeError};
use super::panic::PanicInfo;
use crate::sys::{mapping, socket};
use crate::wire::packed::Packed;

/// The largest result that a parent takes.
pub(crate) const MOST: usize = 1 << 30;

/// A result up to this length goes in the message, with room for what stands before it.
const IN_MESSAGE: usize = 32 * 1024;

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It returned this, still encoded.
    Returned(Packed),
    /// It has no result.
    Failed(Failure),
}

/// Why a call has no result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// It panicked.
    Panicked(PanicInfo),
    /// Its argument could not be read, and it was not run.
    Undecodable(DecodeError),
    /// Its result could not be encoded.
    Unencodable(EncodeError),
    /// Its result is so long.
    TooLarge(u64),
}

/// What stands at the beginning of the message.
#[derive(Serialize, Deserialize)]
enum Said {
    Returned { in_file: bool, beside: bool },
    Failed(Failure),
}

/// Says how the call ended.
///
/// # Errors
///
/// Where the system refuses; whatever has arrived then is no answer.
pub(crate) fn send(socket: &OwnedFd, verdict: Verdict<'_>) -> io::Result<()> {
    let failure = match verdict {
        Verdict::Returned(result, beside, _) if result.len() <= MOST => {
            return send_result(socket, result, &beside);
        }
        Verdict::Returned(result, ..) => Failure::TooLarge(result.len() as u64),
        Verdict::Panicked(panic) => Failure::Panicked(panic),
        Verdict::ArgumentUndecodable(error) => Failure::Undecodable(error),
        Verdict::ResultUnencodable(error) => Failure::Unencodable(error),
    };
    socket::send(socket, &encoded(&Said::Failed(failure)), &[])
}

fn send_result(socket: &OwnedFd, result: &[u8], beside: &[OwnedFd]) -> io::Result<()> {
    let in_file = result.len() > IN_MESSAGE;
    let mut message = encoded(&Said::Returned {
        in_file,
        beside: !beside.is_empty(),
    });
    if in_file {
        let file = mapping::sealed_copy("procpool-result", &[result])?;
        socket::send(socket, &message, &[file.as_fd()])?;
    } else {
        message.extend_from_slice(result);
        socket::send(socket, &message, &[])?;
    }
    send_beside(socket, beside)
}

/// Sends descriptors, if there are any, as a message of their own.
pub(crate) fn send_beside(socket: &OwnedFd, beside: &[OwnedFd]) -> io::Result<()> {
    if beside.is_empty() {
        return Ok(());
    }
    let beside: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
    socket::send(socket, &[0], &beside)
}

/// Takes what [`send_beside`] has sent; fewer where this process may have no more descriptors.
///
/// # Errors
///
/// Where it is not there.
pub(crate) fn receive_beside(socket: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let received = socket::receive(socket, &mut [0])?;
    match received.length {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(received.descriptors),
    }
}

/// Takes what a process that has ended has said.
///
/// # Errors
///
/// Where it has said nothing, or not all, or what is no answer.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Answer> {
    let mut buffer = vec![0; socket::MAX_MESSAGE];
    let received = socket::receive(socket, &mut buffer)?;
    if received.length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let nonsense = |_| io::Error::from(io::ErrorKind::InvalidData);
    let (said, rest) = postcard::take_from_bytes(&buffer[..received.length]).map_err(nonsense)?;
    match said {
        Said::Failed(failure) => Ok(Answer::Failed(failure)),
        Said::Returned { in_file, beside } => {
            let result = if in_file {
                let file = received.descriptors.into_iter().next();
                let file = file.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
                Packed::from(Bytes::from(mapping::read_sealed_copy(file, MOST)?))
            } else {
                Packed::copy_of(rest)
            };
            let beside = match beside {
                true => receive_beside(socket)?,
                false => Vec::new(),
            };
            Ok(Answer::Returned(Packed::beside(result, beside)))
        }
    }
}

/// Texts are cut where they are made, so that all of this fits in a message.
fn encoded(said: &Said) -> Vec<u8> {
    postcard::to_stdvec(said).expect("numbers and texts always encode")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn told(verdict: Verdict<'_>) -> io::Result<Answer> {
        let (here, there) = socket::pair().unwrap();
        send(&there, verdict)?;
        drop(there);
        receive(&here)
    }

    #[test]
    fn results_of_any_length_arrive_with_what_goes_beside_them() {
        for length in [0, 1, IN_MESSAGE, IN_MESSAGE + 1, 10 << 20] {
            for count in [0, 1, 253] {
                let beside = (0..count).map(|_| File::open("/dev/null").unwrap().into());
                let result = vec![7; length];
                let answer = told(Verdict::Returned(&result, beside.collect(), 0)).unwrap();
                let Answer::Returned(packed) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(
                    (packed.len(), packed.take_descriptors().len()),
                    (length, count)
                );
            }
        }
    }

    #[test]
    fn half_of_an_answer_is_none() {
        let (here, there) = socket::pair().unwrap();
        let (in_file, beside) = (false, true);
        socket::send(&there, &encoded(&Said::Returned { in_file, beside }), &[]).unwrap();
        assert!(receive(&here).is_err());
        socket::send(&there, &[0xff; 9], &[]).unwrap();
        assert!(receive(&here).is_err());
        drop(there);
        assert!(receive(&here).is_err());
    }

    /// Whoever could change the file later could do so while it is read.
    #[test]
    fn a_file_that_can_be_changed_is_no_result() {
        let (here, there) = socket::pair().unwrap();
        let (in_file, beside) = (true, false);
        let said = encoded(&Said::Returned { in_file, beside });
        let file = File::open("/dev/zero").unwrap();
        socket::send(&there, &said, &[file.as_fd()]).unwrap();
        assert!(receive(&here).is_err());
        socket::send(&there, &said, &[]).unwrap();
        assert!(receive(&here).is_err());
    }
}
