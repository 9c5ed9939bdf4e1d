//! How sending and receiving fail.

use std::error::Error;
use std::fmt;
use std::io;

use crate::task::{DecodeError, EncodeError, write_sources};

/// Why a message was not sent or not received.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut here, there) = procpool::pipe::<u32, u32>()?;
/// assert!(here.try_recv().unwrap_err().is_empty());
/// drop(there);
/// assert!(here.recv().await.unwrap_err().is_closed());
/// assert!(here.send(&1).await.unwrap_err().is_broken_pipe());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ConnectionError(pub(super) Fault);

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("end of file: the other end is closed")]
    Closed,
    #[error("broken pipe: the other end is closed")]
    BrokenPipe,
    #[error("connection can be read no further: {0}")]
    Broken(Break),
    #[error("message of {length} bytes is longer than the buffer of {buffer}")]
    BufferTooShort { length: usize, buffer: usize },
    #[error("no message is there")]
    Empty,
    #[error("there is no room for a message just now")]
    Full,
    #[error("limit of time has passed")]
    TimedOut,
    #[error("message could not be encoded")]
    Encode(#[source] EncodeError),
    #[error("message could not be encoded: this connection carries no descriptors")]
    Uncarried,
    #[error("message could not be decoded")]
    Decode(#[source] DecodeError),
    #[error("connection failed")]
    System(#[source] io::Error),
}

/// Why nothing more can be read. It is told each time, and so can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Break {
    #[error("bad message length: {length} bytes, of at most {limit}")]
    TooLong { length: u64, limit: usize },
    #[error("bad message length: {0}")]
    Malformed(i32),
    #[error("the other end was closed in the middle of a message")]
    Torn,
    #[error("descriptors came in the middle of a message")]
    Misplaced,
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Lost(i32),
}

impl ConnectionError {
    /// Tells whether the other end is closed, with all of its copies, and everything that was sent
    /// has been received. From then on every receive says so.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Fault::Closed)
    }

    /// Tells whether nobody is there any more to receive what was to be sent.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self.0, Fault::BrokenPipe)
    }

    /// Tells whether nothing more can be read from this connection, because it is not known any
    /// more where a message begins: one was [too long](Self::is_too_long), the other end was closed
    /// in the middle of one, or sent what is none; or the connection was [reset](Self::is_reset). From
    /// then on every receive says so; sending is not touched.
    pub fn is_broken(&self) -> bool {
        matches!(self.0, Fault::Broken(_))
    }

    /// Tells whether a message was longer than allowed. It was not read, and nothing behind it can
    /// be: the connection [is broken](Self::is_broken).
    pub fn is_too_long(&self) -> bool {
        matches!(self.0, Fault::Broken(Break::TooLong { .. }))
    }

    /// Tells whether the network has taken the connection away: the other end has reset it, because it
    /// was closed with something unread or its machine knows nothing of it any more; or nothing has
    /// come from there for too long. The connection [is broken](Self::is_broken): what was on its way is
    /// lost. What one of this crate's ends had sent when it was dropped is not, and comes first. So it can
    /// be with TCP alone.
    pub fn is_reset(&self) -> bool {
        matches!(self.0, Fault::Broken(Break::Lost(_)))
    }

    /// Tells whether the buffer was too short for the message, which is still there:
    /// [`needed`](Self::needed) says for how long a buffer.
    pub fn is_buffer_too_short(&self) -> bool {
        matches!(self.0, Fault::BufferTooShort { .. })
    }

    /// Returns how long the message is that the [buffer was too short](Self::is_buffer_too_short)
    /// for.
    pub fn needed(&self) -> Option<usize> {
        match self.0 {
            Fault::BufferTooShort { length, .. } => Some(length),
            _ => None,
        }
    }

    /// Tells whether no whole message is there yet, which is all that a `try_` form waits for.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Fault::Empty)
    }

    /// Tells whether there was no room for even the beginning of a message, so that a `try_` form
    /// has sent nothing of it.
    pub fn is_full(&self) -> bool {
        matches!(self.0, Fault::Full)
    }

    /// Tells whether the limit of a `blocking_` form has passed: nothing was received, or nothing of
    /// the message was sent.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Fault::TimedOut)
    }

    /// Tells whether a value could not be turned into a message; the source says why. Nothing of it
    /// was sent.
    pub fn is_encode(&self) -> bool {
        matches!(self.0, Fault::Encode(_) | Fault::Uncarried)
    }

    /// Tells whether a message could not be turned into a value; the source says why. The next
    /// message can be received.
    pub fn is_decode(&self) -> bool {
        matches!(self.0, Fault::Decode(_))
    }

    /// Says that sending failed.
    pub(super) fn sending(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Fault::BrokenPipe,
            _ => Fault::System(error),
        })
    }

    /// Tells whether nobody is at the other end any more, however that came.
    pub(super) fn is_gone(&self) -> bool {
        matches!(
            self.0,
            Fault::Closed | Fault::BrokenPipe | Fault::Broken(Break::Torn | Break::Lost(_))
        )
    }

    /// Says that receiving failed.
    pub(super) fn receiving(error: io::Error) -> Self {
        Self(Fault::System(error))
    }
}

impl From<ConnectionError> for io::Error {
    /// Keeps the error as its source, and gives it the kind that it has elsewhere.
    fn from(error: ConnectionError) -> Self {
        use io::ErrorKind;
        let kind = match &error.0 {
            Fault::Closed => ErrorKind::UnexpectedEof,
            Fault::BrokenPipe => ErrorKind::BrokenPipe,
            Fault::Broken(Break::Lost(why)) => Self::from_raw_os_error(*why).kind(),
            Fault::Broken(_) | Fault::Decode(_) => ErrorKind::InvalidData,
            Fault::BufferTooShort { .. } | Fault::Encode(_) | Fault::Uncarried => {
                ErrorKind::InvalidInput
            }
            Fault::Empty | Fault::Full => ErrorKind::WouldBlock,
            Fault::TimedOut => ErrorKind::TimedOut,
            Fault::System(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

impl From<Fault> for ConnectionError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        write_sources(f, self)
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
