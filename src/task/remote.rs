//! An error that a task can return whatever went wrong in it: what there was to say about it, as
//! text, because the error itself cannot travel.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::panic::cut;

/// How much of each text of a chain travels; the rest is cut off …
const MESSAGE: usize = 16 * 1024;
/// … how many texts there may be, which also ends a chain that leads back to itself …
const LINKS: usize = 64;
/// … and how much of a backtrace travels.
const BACKTRACE: usize = 32 * 1024;

/// An error for tasks to return: the texts of any error and of its sources, and a backtrace.
///
/// The error types of most crates can be neither encoded nor decoded, so a task cannot return them.
/// `?` turns them into this, which holds what they say: their texts, not their types. What the
/// caller has to tell apart belongs in an error type of your own that implements `Serialize` and
/// `Deserialize`.
///
/// ```
/// use procpool::RemoteError;
///
/// fn sum(text: String) -> Result<i64, RemoteError> {
///     let mut sum = 0;
///     for number in text.split(' ') {
///         sum += number.parse::<i64>()?;
///     }
///     Ok(sum)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// // The first `?` is for what became of the task, the second for what it returned.
/// assert_eq!(pool.submit(sum, "1 2 3".to_owned()).await??, 6);
///
/// let error = pool.submit(sum, "1 two 3".to_owned()).await?.unwrap_err();
/// assert_eq!(error.message(), "invalid digit found in string");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// It is made of every error by `?`, and for that it implements no
/// [`Error`](std::error::Error) itself. [`as_error`](Self::as_error) and the conversions into
/// `Box<dyn Error>` give one that does; with the feature `anyhow`, `?` makes an `anyhow::Error` of
/// it.
///
/// `{}` shows the message, `{:#}` the whole chain in one line, `{:?}` the chain in lines, and the
/// backtrace.
///
/// # Backtrace
///
/// Where `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` of the worker asks for one
/// ([`Backtrace::capture`]), it is that of the place where this was made: of the `?`.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteError(Box<Link>);

impl RemoteError {
    /// Makes an error of a text.
    ///
    /// ```
    /// use procpool::RemoteError;
    ///
    /// fn half(n: u32) -> Result<u32, RemoteError> {
    ///     if n % 2 == 0 { Ok(n / 2) } else { Err(RemoteError::msg(format!("{n} is odd"))) }
    /// }
    ///
    /// assert_eq!(half(7).unwrap_err().message(), "7 is odd");
    /// ```
    pub fn msg(message: impl fmt::Display) -> Self {
        Self(Box::new(Link {
            backtrace: backtrace(),
            ..Link::new(&message.to_string())
        }))
    }

    /// Makes an error of what is already a `dyn Error`, which `?` cannot: a `Box<dyn Error>`, say,
    /// or an `anyhow::Error`.
    ///
    /// ```
    /// use procpool::RemoteError;
    ///
    /// fn old() -> Result<u8, Box<dyn std::error::Error>> {
    ///     Ok("300".parse()?)
    /// }
    ///
    /// fn task(_: ()) -> Result<u8, RemoteError> {
    ///     old().map_err(|error| RemoteError::from_dyn(&*error))
    /// }
    ///
    /// assert_eq!(task(()).unwrap_err().message(), "number too large to fit in target type");
    /// ```
    pub fn from_dyn(error: &dyn Error) -> Self {
        let mut texts = vec![error.to_string()];
        let mut next = error.source();
        while let Some(source) = next.filter(|_| texts.len() < LINKS) {
            texts.push(source.to_string());
            next = source.source();
        }
        Self::of_texts(texts, backtrace()).expect("the error itself has a text")
    }

    /// Puts a message in front that says what was being done.
    ///
    /// ```
    /// use procpool::RemoteError;
    ///
    /// fn read(path: String) -> Result<String, RemoteError> {
    ///     std::fs::read_to_string(&path)
    ///         .map_err(|error| RemoteError::from(error).context(format!("could not read {path}")))
    /// }
    ///
    /// let error = read("/nowhere".to_owned()).unwrap_err();
    /// assert_eq!(error.message(), "could not read /nowhere");
    /// assert!(format!("{error:#}").starts_with("could not read /nowhere: No such file"));
    /// ```
    pub fn context(self, context: impl fmt::Display) -> Self {
        let mut texts = vec![context.to_string()];
        texts.extend(self.chain().map(str::to_owned));
        Self::of_texts(texts, self.0.backtrace).expect("the context is a text")
    }

    /// Returns the message: what the error said of itself, or the context put in front last.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the texts one by one: the message, then each source's, the cause of all last.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.0.chain().map(|link| &*link.message)
    }

    /// Returns the backtrace of the place where this was made, where one was asked for.
    pub fn backtrace(&self) -> Option<&str> {
        self.0.backtrace.as_deref()
    }

    /// Returns this as an error, whose sources are the texts of the chain.
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Links texts, the first in front; `None` if there are none.
    fn of_texts(mut texts: Vec<String>, backtrace: Option<Box<str>>) -> Option<Self> {
        texts.truncate(LINKS);
        let link = texts.iter().rev().fold(None, |source, text| {
            Some(Box::new(Link {
                source,
                ..Link::new(text)
            }))
        });
        link.map(|first| {
            Self(Box::new(Link {
                backtrace,
                ..*first
            }))
        })
    }
}

impl<E: Error> From<E> for RemoteError {
    fn from(error: E) -> Self {
        Self::from_dyn(&error)
    }
}

impl From<RemoteError> for Box<dyn Error + Send + Sync> {
    fn from(error: RemoteError) -> Self {
        error.0
    }
}

impl From<RemoteError> for Box<dyn Error + Send> {
    fn from(error: RemoteError) -> Self {
        error.0
    }
}

impl From<RemoteError> for Box<dyn Error> {
    fn from(error: RemoteError) -> Self {
        error.0
    }
}

#[cfg(feature = "anyhow")]
impl From<RemoteError> for anyhow::Error {
    fn from(error: RemoteError) -> Self {
        anyhow::Error::new(*error.0)
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let sources = self.chain().skip(1);
            f.write_str(self.message())?;
            return sources
                .into_iter()
                .try_for_each(|text| write!(f, ": {text}"));
        }
        f.pad(self.message())
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One text of a chain; as an error, what the chain from here on says.
#[derive(Clone, PartialEq, Eq)]
struct Link {
    message: Box<str>,
    source: Option<Box<Link>>,
    /// The first link's alone.
    backtrace: Option<Box<str>>,
}

impl Link {
    fn new(message: &str) -> Self {
        Self {
            message: cut(message, MESSAGE).into(),
            source: None,
            backtrace: None,
        }
    }

    fn chain(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(Some(self), |link| link.source.as_deref())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

/// In lines, because this is what a `main` shows that returns the error.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (nth, source) in self.chain().skip(1).enumerate() {
            let title = if nth == 0 { "\n\nCaused by:" } else { "" };
            write!(f, "{title}\n    {nth}: {}", source.message)?;
        }
        match &self.backtrace {
            Some(backtrace) => write!(f, "\n\nBacktrace in the worker:\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

fn backtrace() -> Option<Box<str>> {
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    captured.then(|| cut(&backtrace.to_string(), BACKTRACE).into())
}

/// A chain is encoded as a list: links within links would soon be nested too deep.
impl Serialize for RemoteError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<&str> = self.chain().collect();
        (texts, self.backtrace()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RemoteError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (texts, backtrace) = Deserialize::deserialize(deserializer)?;
        Self::of_texts(texts, backtrace)
            .ok_or_else(|| serde::de::Error::custom("an error without a text"))
    }
}

#[cfg(test)]
mod tests;
