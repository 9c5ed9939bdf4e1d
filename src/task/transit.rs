//! Whether a value is on its way between processes, for types that travel otherwise than they are
//! kept.

use std::cell::Cell;

thread_local! {
    static IN_TRANSIT: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this thread is encoding or decoding a value for another process: an argument or a
/// result, an item, an update, a message of values on a connection, an item of a queue.
///
/// It is for a type's own `Serialize` and `Deserialize`, where it is to travel in another form than it
/// is written to a file, say. It goes by the thread: what such code writes in another format meanwhile
/// is in transit with it. Of a [`ThreadPool`](crate::ThreadPool) nothing is, since nothing there is
/// encoded.
///
/// ```
/// use std::{fs, io, path::PathBuf};
/// use procpool::{ProcessPool, task};
/// use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
///
/// /// A text that has been read. A process that gets it reads it as well: only its path travels.
/// struct Document { path: PathBuf, text: String }
///
/// impl Document {
///     fn read(path: PathBuf) -> io::Result<Self> {
///         Ok(Self { text: fs::read_to_string(&path)?, path })
///     }
/// }
///
/// impl Serialize for Document {
///     fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
///         let text = (!task::in_transit()).then_some(&self.text);
///         (&self.path, text).serialize(serializer)
///     }
/// }
///
/// impl<'de> Deserialize<'de> for Document {
///     fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
///         match <(PathBuf, Option<String>)>::deserialize(deserializer)? {
///             (path, Some(text)) => Ok(Self { path, text }),
///             (path, None) => Self::read(path).map_err(de::Error::custom),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let document = Document::read("Cargo.toml".into())?;
/// assert!(serde_json::to_string(&document)?.contains("[package]")); // whole
/// assert!(pool.submit(|document: Document| document.text.len(), document).await? > 0);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub fn in_transit() -> bool {
    IN_TRANSIT.get()
}

/// Encodes or decodes a value for another process.
pub(super) fn during<T>(coding: impl FnOnce() -> T) -> T {
    let _before = Before(IN_TRANSIT.replace(true));
    coding()
}

/// What was true before, and is again when this is dropped: a value's own code may come here, and may
/// panic.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        IN_TRANSIT.set(self.0);
    }
}
