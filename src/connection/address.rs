//! Where a listener is to be found.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The longest path of a socket: the system's field less the zero at its end.
const LONGEST_PATH: usize = 107;

/// Where a [`Listener`](crate::Listener) is to be found: a path in the file system, on this machine,
/// or an IP address with a port.
///
/// Made of a path, of a [`SocketAddr`], or of a text: one with a slash is a path, any other has to be
/// an address like `127.0.0.1:6000` or `[::1]:6000`. Names of hosts are for whoever can wait for
/// their resolution, such as `tokio::net::lookup_host`. There are no abstract Unix addresses: anybody
/// on the machine can take or reach one.
///
/// ```
/// use procpool::Address;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let here: Address = "/run/service/socket".parse()?;
/// assert_eq!(here, Address::unix("/run/service/socket")?);
/// assert!("127.0.0.1:6000".parse::<Address>()?.is_tcp());
/// assert!("service".parse::<Address>().is_err());
/// assert!(r"\\.\pipe\service".parse::<Address>().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub(super) Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Path(PathBuf),
    Port(SocketAddr),
}

impl Address {
    /// Makes an address of a path.
    ///
    /// # Errors
    ///
    /// Where no socket can have it: it is empty, longer than 107 bytes, or has a zero byte in it.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        let path = path.into();
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(Fault::Empty.into());
        }
        if bytes.contains(&0) {
            return Err(Fault::Abstract.into());
        }
        if bytes.len() > LONGEST_PATH {
            let length = bytes.len();
            return Err(Fault::TooLong { length }.into());
        }
        Ok(Self(Place::Path(path)))
    }

    /// Returns the path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Path(path) => Some(path),
            Place::Port(_) => None,
        }
    }

    /// Returns the IP address and port, if it is that.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Place::Path(_) => None,
            Place::Port(address) => Some(*address),
        }
    }

    /// Tells whether it is an IP address and port.
    pub fn is_tcp(&self) -> bool {
        self.socket_addr().is_some()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') || text.contains('\0') || text.is_empty() {
            return Self::unix(text);
        }
        let port = text.parse().map_err(|_| Fault::Neither(text.to_owned()))?;
        Ok(Self(Place::Port(port)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Path(path) => path.display().fmt(f),
            Place::Port(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Place::Port(address))
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&Path> for Address {
    type Error = AddressError;

    fn try_from(path: &Path) -> Result<Self, AddressError> {
        Self::unix(path)
    }
}

impl TryFrom<PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: PathBuf) -> Result<Self, AddressError> {
        Self::unix(path)
    }
}

impl TryFrom<&PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: &PathBuf) -> Result<Self, AddressError> {
        Self::unix(path)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

/// Why something is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct AddressError(#[from] Fault);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("path of a socket is empty")]
    Empty,
    #[error("path of a socket has a zero byte in it; abstract addresses are not supported")]
    Abstract,
    #[error("path of a socket is too long: {length} bytes, of at most {LONGEST_PATH}")]
    TooLong { length: usize },
    #[error("{0:?} is neither a path, for want of a slash, nor an IP address with a port")]
    Neither(String),
}

impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CF-258.
    #[test]
    fn what_is_no_address_says_why() {
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        for (text, why) in [
            ("", "empty"),
            ("\0name", "abstract"),
            ("/a\0b", "abstract"),
            (&long, "too long: 108 bytes"),
            (r"\\.\pipe\name", "neither"),
            ("localhost:6000", "neither"),
            ("127.0.0.1", "neither"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(why), "{text:?}: {error}");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
        }
        assert!(Address::unix(&long[..LONGEST_PATH]).is_ok());
    }

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in ["./socket", "/run/socket", "127.0.0.1:0", "[::1]:80"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
