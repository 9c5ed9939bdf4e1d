//! The ways to start a worker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a pool starts its workers.
///
/// | | `ForkServer` | `Spawn` |
/// | --- | --- | --- |
/// | the program is executed | once for the pool | once for each worker |
/// | a start takes about | 0.2 ms | 0.9 ms |
/// | memory of the program's own start-up | shared by all workers | each worker's own |
/// | safe in a program with threads | yes | yes |
///
/// Neither ever forks the running program. A child sees the program's own
/// command line arguments, and its environment with what the pool adds.
///
/// ```
/// use procpool::{ProcessPool, StartMethod};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let method: StartMethod = "spawn".parse()?;
/// let pool = ProcessPool::builder().workers(1).start_method(method).build()?;
/// assert_eq!(pool.submit(|n: u32| n + 1, 1).await?, 2);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// Executes the program once as a fork server, which stays single-threaded
    /// and forks the workers.
    ///
    /// Where a library starts threads before `main`, so that forking would not
    /// be safe, the pool says so once and goes on with [`Spawn`](Self::Spawn).
    #[default]
    ForkServer,
    /// Executes the program anew for each worker.
    Spawn,
}

impl StartMethod {
    /// Returns the methods that this system has, the default first.
    pub fn available() -> &'static [Self] {
        &[Self::ForkServer, Self::Spawn]
    }

    fn name(self) -> &'static str {
        match self {
            Self::ForkServer => "forkserver",
            Self::Spawn => "spawn",
        }
    }
}

impl fmt::Display for StartMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StartMethod {
    type Err = UnknownStartMethod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut methods = Self::available().iter().copied();
        methods
            .find(|method| method.name() == text)
            .ok_or_else(|| UnknownStartMethod(text.to_owned()))
    }
}

/// The error of a text that names no start method.
///
/// ```
/// use procpool::{StartMethod, UnknownStartMethod};
///
/// let error: UnknownStartMethod = "thread".parse::<StartMethod>().unwrap_err();
/// let said = r#"unknown start method "thread", expected "forkserver" or "spawn""#;
/// assert_eq!(error.to_string(), said);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown start method {0:?}, expected \"forkserver\" or \"spawn\"")]
pub struct UnknownStartMethod(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// CF-264.
    #[test]
    fn a_method_is_read_from_the_name_it_shows() {
        for &method in StartMethod::available() {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        let unknown = "thread".parse::<StartMethod>().unwrap_err();
        assert!(unknown.to_string().contains("\"thread\""));
    }

    /// CF-266.
    #[test]
    fn the_default_comes_first() {
        assert_eq!(StartMethod::available()[0], StartMethod::default());
    }
}
