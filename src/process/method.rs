//! The ways to start a worker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a pool starts its workers, and how processes are started.
///
/// | | `ForkServer` | `Spawn` | `Fork` |
/// | --- | --- | --- | --- |
/// | for | pools and processes | pools and processes | processes |
/// | the program is executed | once for the pool, or for all processes | once for each child | never |
/// | a start takes about | 0.2 ms | 0.9 ms | 0.1 ms, and more with the program's memory |
/// | what a child has of the program's memory | nothing | nothing | a copy |
/// | in a program with threads | yes | yes | refused |
///
/// The first two never fork the running program. A child sees the program's own
/// command line arguments, and its environment with what is added to it.
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
    /// Forks the program itself, on the calling thread.
    ///
    /// For a [`Process`](crate::Process) alone: a pool refuses it. What the program has in memory
    /// the child has as well, and pays for when it is written to; the function and its argument go
    /// to it as they do elsewhere. It also has the program's signal handlers, and its open
    /// descriptors: an end of a pipe that stays with the parent is open in the child, too, and whoever
    /// has the other is told of no end before the child has ended.
    ///
    /// Its outputs can be sent elsewhere, and not taken in: [`Stdio::lines`](crate::Stdio::lines) and
    /// [`capture`](crate::Stdio::capture) are refused.
    ///
    /// What threads hold at that moment, a lock of the allocator's for example, would be held in the
    /// child for ever. So this is refused where the program has any other thread, is inside of a
    /// runtime, or is panicking ([`is_fork_refused`](crate::SpawnError::is_fork_refused)): it is for
    /// programs that have none, and for the time before a runtime is started. The crate's own thread
    /// is one as well, which everything asynchronous needs, and so do the other methods; and
    /// processes that were started by those have one that watches their parent. A forked process
    /// is reaped by whoever waits for it, or asks how it is; if its handle is dropped before, that
    /// thread sees to it.
    Fork,
}

impl StartMethod {
    /// Returns the methods that any program can use, for pools and processes, the default first.
    pub fn available() -> &'static [Self] {
        &[Self::ForkServer, Self::Spawn]
    }

    /// Returns all methods, the default first: those and [`Fork`](Self::Fork), which has conditions.
    pub fn all() -> &'static [Self] {
        &[Self::ForkServer, Self::Spawn, Self::Fork]
    }

    fn name(self) -> &'static str {
        match self {
            Self::ForkServer => "forkserver",
            Self::Spawn => "spawn",
            Self::Fork => "fork",
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
        let mut methods = Self::all().iter().copied();
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
/// let said = r#"unknown start method "thread", expected "forkserver", "spawn" or "fork""#;
/// assert_eq!(error.to_string(), said);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown start method {0:?}, expected \"forkserver\", \"spawn\" or \"fork\"")]
pub struct UnknownStartMethod(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// CF-264.
    #[test]
    fn a_method_is_read_from_the_name_it_shows() {
        for &method in StartMethod::all() {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        let unknown = "thread".parse::<StartMethod>().unwrap_err();
        assert!(unknown.to_string().contains("\"thread\""));
    }

    /// CF-266.
    #[test]
    fn the_default_comes_first() {
        assert_eq!(StartMethod::available()[0], StartMethod::default());
        assert_eq!(StartMethod::all()[0], StartMethod::default());
    }
}
