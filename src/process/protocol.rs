//! What a launcher and its fork server say to each other after the errand. Each
//! message is one packet; descriptors travel beside it.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Exit;
use super::errand::Posting;
use crate::sys::build_id::BuildId;

/// The version of everything in this folder that crosses a process border.
pub(crate) const VERSION: u32 = 3;

/// What tells the workers of one fork server apart; never used twice.
pub(crate) type Id = u64;

/// What the launcher asks for. The end of the stream asks the server to end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Fork a worker; its descriptors are beside this.
    Fork {
        /// What to call it from now on.
        id: Id,
        /// What to tell it.
        posting: Posting,
    },
}

/// What the server answers and reports, in the order in which it happens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The server's first word. The place of this variant and of its first
    /// field never change, so that any two versions can compare theirs.
    Ready {
        /// Its [`VERSION`].
        version: u32,
        /// Its build.
        build: BuildId,
    },
    /// The worker is there. Beside this are its pidfd and the end of a pipe for
    /// which it waits: it begins when a byte is written there, and leaves when
    /// that is closed. Closed later, it wakes a worker that is stopped.
    Forked {
        /// Which.
        id: Id,
        /// Its number.
        pid: i32,
    },
    /// There is no such worker.
    Refused {
        /// Which.
        id: Id,
        /// Why.
        why: Refusal,
    },
    /// The worker has ended, its group has been killed, it has been reaped.
    Exited {
        /// Which.
        id: Id,
        /// How.
        exit: Exit,
    },
    /// The server's second word, if it had something to preload: that is done.
    Loaded,
    /// Or it failed, and the server ends.
    Failed {
        /// Why.
        text: String,
    },
}

/// Why a fork server did not fork.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It has this many threads.
    Threads(u32),
    /// The system refused with this error number.
    Errno(i32),
}

/// Encodes one message.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Decodes one message, which must be all of `packet`.
pub(crate) fn decode<T: DeserializeOwned>(packet: &[u8]) -> Option<T> {
    let (message, rest) = postcard::take_from_bytes(packet).ok()?;
    rest.is_empty().then_some(message)
}

/// The version in a first word, which may be any version's.
pub(crate) fn version_of(first_word: &[u8]) -> Option<u32> {
    let ((variant, version), _) = postcard::take_from_bytes::<(u32, u32)>(first_word).ok()?;
    (variant == 0).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::image::main_image;

    #[test]
    fn the_version_of_a_first_word_can_be_read_whatever_follows() {
        let build = main_image().build_id().clone();
        let mut word = encode(&Reply::Ready { version: 7, build }).unwrap();
        assert_eq!(version_of(&word), Some(7));
        word.truncate(2);
        assert_eq!(version_of(&word), Some(7));
        let other = encode(&Reply::Forked { id: 1, pid: 2 }).unwrap();
        assert_eq!(version_of(&other), None);
    }

    #[test]
    fn bytes_behind_a_message_are_not_a_message() {
        let mut packet = encode(&Reply::Forked { id: 1, pid: 2 }).unwrap();
        assert!(decode::<Reply>(&packet).is_some());
        packet.push(0);
        assert!(decode::<Reply>(&packet).is_none());
        assert!(decode::<Reply>(&[]).is_none());
    }
}
