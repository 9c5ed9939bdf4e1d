//! The key that both ends of a connection have to have, and which handshake shows that they do.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::{fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::sys::secret::Secret;
use crate::task::attached;

/// A key that a [`Listener`](crate::Listener) and a [`Client`](crate::Client) share, as Python's
/// `authkey` is. Each proves to the other that it has it, and neither tells.
///
/// The key is in memory of its own, which is left out of core dumps and wiped when the last clone is
/// dropped; `Debug` says nothing of it. The crate writes it nowhere. It can be a part of a task's
/// argument or result, or of a message on a connection between processes of one machine: then it is
/// in a sealed memory file beside the bytes, never in them. Serialised anywhere else it is an error.
///
/// ```
/// use procpool::AuthKey;
///
/// # fn main() -> std::io::Result<()> {
/// let key = AuthKey::new(b"secret password")?; // what the Python program has, too
/// assert_eq!(format!("{key:?}"), "AuthKey(..)");
/// let other = AuthKey::random()?; // for processes that are given it
/// # let _ = other;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AuthKey(Arc<Secret>);

impl AuthKey {
    /// Makes a key of these bytes, which may be of any length. The strength of all that depends on
    /// it is that of the bytes: short ones can be found by trying.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) where there are none. At the limits of the
    /// system.
    pub fn new(bytes: impl AsRef<[u8]>) -> io::Result<Self> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            let why = "an empty authkey would prove nothing";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self(Arc::new(Secret::copy_of(bytes)?)))
    }

    /// Makes a key of 32 bytes of the system's randomness.
    ///
    /// # Errors
    ///
    /// At the limits of the system.
    pub fn random() -> io::Result<Self> {
        Ok(Self(Arc::new(Secret::random()?)))
    }

    /// Returns the bytes of the key, for whoever has to hand it to a program of another kind.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The key that these bytes are.
    pub(crate) fn of(bytes: Arc<Secret>) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever keeps them longer than this.
    pub(crate) fn into_bytes(self) -> Arc<Secret> {
        self.0
    }

    /// A copy for another process.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        self.0.to_file()
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}

impl Serialize for AuthKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let copy = self.to_file().map_err(ser::Error::custom)?;
        serializer.serialize_u32(attached::attach(copy)?)
    }
}

impl<'de> Deserialize<'de> for AuthKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = u32::deserialize(deserializer)?;
        let copy = attached::take(place)?;
        let bytes = Secret::read(copy).map_err(de::Error::custom)?;
        Ok(Self(Arc::new(bytes)))
    }
}

/// How the two ends of a connection prove to each other that they have the [`AuthKey`]. Both have to
/// choose the same; only [`Python`](Self::Python) and [`PythonMd5`](Self::PythonMd5) understand each other.
///
/// All of them protect the beginning of a conversation: neither end says a word to one that does not
/// have the key. None protects what follows, which is neither encrypted nor signed. Over networks
/// that others can change, put it into a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMode {
    /// As `multiprocessing.connection` does it since Python 3.12, with HMAC-SHA-256. The default.
    ///
    /// An answer in it says nothing of who gave it. Whoever gets two clients of one key to connect to
    /// him can show each the other's answer, and so pass for their listener without the key. Between
    /// programs that both have this crate, [`Procpool`](Self::Procpool) is better.
    #[default]
    Python,
    /// The same, and also as Python 3.8 to 3.11 do it, with HMAC-MD5. Whoever is at the other end
    /// chooses, so use it only where such a Python has to be spoken with.
    PythonMd5,
    /// Only between programs that have this crate. One message less, one algorithm, HMAC-SHA-256;
    /// what is signed names the role of who signs and has both ends' random numbers in it, so that
    /// no answer is of use anywhere else. The listener signs nothing for a client that has not
    /// proved itself.
    Procpool,
}
