//! Open files, sockets and whatever else is a descriptor, as a part of arguments and results.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attached;

/// Carries what owns a descriptor to another process: a file, a socket, a listener, a pipe's end.
///
/// The other process has a descriptor of its own for the same open file, so that both share its
/// position and its status flags; one that is made non-blocking is so for both. What is sent is
/// copied when it is encoded: the original stays with the sender until he drops it, which for an
/// argument is at once. In the other process it is closed when it is dropped there, and if nobody
/// there ever reads the message.
///
/// It may stand anywhere in a value: in structs, vectors and options, beside others. A value carries
/// at most 253.
///
/// # Errors
///
/// Serialising fails, with a text that says so, wherever the descriptor could not go along: into a
/// file, say, or a JSON text outside of a call. Deserialising fails where the descriptor did not
/// arrive, because this process may have no more of them.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use procpool::{Fd, ProcessPool};
///
/// fn shout(Fd(mut from): Fd<UnixStream>) -> String {
///     let mut text = String::new();
///     from.read_to_string(&mut text).expect("a text");
///     text.to_uppercase()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let (mut here, there) = UnixStream::pair()?;
/// let heard = pool.submit(shout, Fd(there));
/// here.write_all(b"hello")?;
/// drop(here);
/// assert_eq!(heard.await?, "HELLO");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd<T>(pub T);

impl<T> Fd<T> {
    /// Returns what owns the descriptor.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Fd<T> {
    fn from(owner: T) -> Self {
        Self(owner)
    }
}

impl<T> Deref for Fd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Fd<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsFd> AsFd for Fd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> Serialize for Fd<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(attached::attach(&self.0)?)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Fd<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = u32::deserialize(deserializer)?;
        Ok(Self(T::from(attached::take(place)?)))
    }
}
