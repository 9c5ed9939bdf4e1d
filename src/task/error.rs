//! How encoding and decoding fail: two errors that travel between processes as text, and the
//! one that serde carries while a value is on its way in or out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::panic::{PanicInfo, cut};

/// A value could not be turned into bytes.
///
/// Names the type and the reason; where a `Serialize` implementation failed with a text of its
/// own, that text is the reason.
///
/// ```
/// use std::error::Error;
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
/// use std::path::PathBuf;
/// use procpool::task::EncodeError;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let path = PathBuf::from(OsStr::from_bytes(b"\xff")); // no UTF-8, which serde asks of paths
/// let error = pool.submit(|path: PathBuf| path.exists(), path).await.unwrap_err();
/// assert!(error.is_encode());
/// let cause = error.source().and_then(|cause| cause.downcast_ref::<EncodeError>());
/// println!("{}", cause.expect("it says why").reason());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeError {
    type_name: Box<str>,
    reason: Box<str>,
}

impl EncodeError {
    /// Says that a `T` could not be encoded.
    pub(super) fn new<T: ?Sized>(fault: Fault) -> Self {
        Self {
            type_name: cut(std::any::type_name::<T>(), TYPE_NAME).into(),
            reason: fault.0,
        }
    }

    /// Says why a `T` could not be encoded in another format than the crate's own.
    #[cfg(feature = "pickle")]
    pub(crate) fn because<T: ?Sized>(reason: impl fmt::Display) -> Self {
        Self::new::<T>(Fault::new(reason))
    }

    /// Says that the `Serialize` implementation of a `T` panicked.
    pub(super) fn panicked<T: ?Sized>(panic: &PanicInfo) -> Self {
        Self::new::<T>(Fault::new(format_args!("its Serialize panicked: {panic}")))
    }

    /// Names the type whose value was to be encoded.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// Says what was wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_name, reason } = self;
        write!(f, "value of type `{type_name}` cannot be encoded: {reason}")
    }
}

impl std::error::Error for EncodeError {}

/// Bytes could not be turned into a value.
///
/// Names the type, the reason and the place in the bytes; where a `Deserialize` implementation
/// failed with a text of its own, that text is the reason.
///
/// ```
/// use std::error::Error;
/// use procpool::task::DecodeError;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(untagged)] // to read this back, the bytes would have to say which of the two it is
/// enum Answer {
///     Number(u32),
///     Text(String),
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let answer = pool.submit(|n: u32| if n > 9 { Answer::Number(n) } else { Answer::Text("few".into()) }, 7);
/// let error = answer.await.err().expect("it was encoded, and cannot be decoded here");
/// assert!(error.is_decode());
/// let cause = error.source().and_then(|cause| cause.downcast_ref::<DecodeError>());
/// let cause = cause.expect("it says why");
/// assert!(cause.type_name().ends_with("Answer"));
/// assert!(cause.reason().starts_with("a self-describing format is needed"));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeError {
    type_name: Box<str>,
    reason: Box<str>,
    position: Option<u64>,
}

impl DecodeError {
    /// Says that no `T` could be read, and that reading stopped `position` bytes in.
    pub(super) fn new<T: ?Sized>(fault: Fault, position: usize) -> Self {
        Self {
            type_name: cut(std::any::type_name::<T>(), TYPE_NAME).into(),
            reason: fault.0,
            position: Some(position as u64),
        }
    }

    /// Says that there were no bytes of which a `T` could be read.
    pub(crate) fn without_bytes<T: ?Sized>(reason: impl fmt::Display) -> Self {
        Self {
            type_name: cut(std::any::type_name::<T>(), TYPE_NAME).into(),
            reason: Fault::new(reason).0,
            position: None,
        }
    }

    /// Says that the `Deserialize` implementation of a `T` panicked.
    pub(crate) fn panicked<T: ?Sized>(panic: &PanicInfo) -> Self {
        Self {
            type_name: cut(std::any::type_name::<T>(), TYPE_NAME).into(),
            reason: format!("its Deserialize panicked: {panic}").into(),
            position: None,
        }
    }

    /// Names the type that was to be read.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// Says what was wrong with the bytes.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Counts the bytes that had been read when it went wrong, where that is known.
    pub fn position(&self) -> Option<u64> {
        self.position
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (type_name, reason) = (&self.type_name, &self.reason);
        write!(f, "bytes cannot be decoded as `{type_name}`: {reason}")?;
        match self.position {
            Some(position) => write!(f, ", at byte {position}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What serde carries from where coding failed to where it was begun.
///
/// postcard's own error is a bare kind and drops the text of `Error::custom`, which is the
/// user's own message; so this holds text and nothing else. Failing is the cold path, and one
/// boxed string keeps every `Result` on the hot one at two words.
#[derive(Debug)]
pub(super) struct Fault(Box<str>);

/// How much of a reason travels; the rest is cut off …
const REASON: usize = 16 * 1024;
/// … and of a type's name, which can be a page long for a type made of others.
const TYPE_NAME: usize = 16 * 1024;

impl Fault {
    /// Keeps the text of `reason`.
    #[cold]
    pub(super) fn new(reason: impl fmt::Display) -> Self {
        Self(cut(&reason.to_string(), REASON).into())
    }

    /// Says that only a format that describes itself could carry this.
    #[cold]
    pub(super) fn needs_self_describing(what: impl fmt::Display) -> Self {
        Self::new(format_args!(
            "a self-describing format is needed for {what}; this one has no field names and no \
             type tags, so serde_json::Value and the serde attributes flatten, untagged and tag \
             cannot be used with it, unless within a procpool::Json (feature `json`)"
        ))
    }
}

impl From<postcard::Error> for Fault {
    #[cold]
    fn from(error: postcard::Error) -> Self {
        use postcard::Error::*;
        match error {
            DeserializeUnexpectedEnd => Self::new("the bytes end too early"),
            DeserializeBadVarint => Self::new("a number is longer than its type"),
            DeserializeBadBool => Self::new("a bool is neither 0 nor 1"),
            DeserializeBadChar => Self::new("a char is not one"),
            DeserializeBadUtf8 => Self::new("a string is not UTF-8"),
            DeserializeBadOption => Self::new("an option is neither 0 nor 1"),
            CollectStrError => Self::new("its Display failed"),
            other => Self::new(other),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl serde::ser::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

/// Adds to an error's own text those of its sources, where the whole was asked for (`{:#}`).
pub(crate) fn write_sources(
    f: &mut fmt::Formatter<'_>,
    error: &dyn std::error::Error,
) -> fmt::Result {
    let mut behind = error.source().filter(|_| f.alternate());
    while let Some(error) = behind {
        write!(f, ": {error}")?;
        behind = error.source();
    }
    Ok(())
}
