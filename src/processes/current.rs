//! This process and its parent, as they are among the processes of the program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::process::key;
use crate::process::lineage::{self, Standing};
use crate::sys::pidfd;
use crate::{AuthKey, StartMethod};

/// Returns what the current process is among those of its program; as Python's `current_process()`.
///
/// ```
/// use procpool::{Process, current_process};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let who = |_: ()| (current_process().name().to_owned(), current_process().pid());
/// let process = Process::builder().name("worker bee").spawn(who, ()).await?;
/// assert_eq!(process.join().await?, ("worker bee".to_owned(), process.pid()));
/// assert_eq!(current_process().name(), "MainProcess");
/// # Ok(()) }
/// ```
pub fn current_process() -> CurrentProcess {
    CurrentProcess {
        standing: lineage::standing(),
        name: lineage::own_name(),
    }
}

/// Returns the process that has started the current one; `None` in a program that was not started by
/// this crate. As Python's `parent_process()`.
///
/// It is the process that asked for the start, also where a fork server forked it. In a worker of a
/// pool it is the pool's.
pub fn parent_process() -> Option<ParentProcess> {
    lineage::standing().map(ParentProcess)
}

/// The current process. Got from [`current_process`].
#[derive(Clone, Debug)]
pub struct CurrentProcess {
    standing: Option<Arc<Standing>>,
    name: String,
}

impl CurrentProcess {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Returns its name: that of its [builder](super::ProcessBuilder::name), a worker's in a worker of
    /// a pool, and `MainProcess` in a program that was not started by this crate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether it is a [daemon](super::ProcessBuilder::daemon). Workers of pools are.
    pub fn is_daemon(&self) -> bool {
        let own = self.standing.as_ref();
        own.is_some_and(|own| own.lineage.daemon)
    }

    /// Returns how it was to be started; `None` if this crate did not start it.
    pub fn start_method(&self) -> Option<StartMethod> {
        self.standing.as_ref().map(|own| own.lineage.method)
    }

    /// Returns the key that this program's processes have in common, workers of pools too: 32 bytes of
    /// chance, made when they are first needed, which each process hands down to those that it starts.
    /// As Python's `current_process().authkey`.
    ///
    /// It is for a [`Listener`](crate::Listener) that is there for the program's own processes, at a
    /// port for instance. Neither it nor a [`Client`](crate::Client) takes it by itself. A copy of the
    /// process that something else has forked has a key of its own.
    ///
    /// As every [`AuthKey`] it is in no core dump; and in no argument, environment or log.
    ///
    /// ```
    /// use procpool::{Client, Connection, Listener, Process, current_process};
    ///
    /// fn call_home(port: String) {
    ///     let key = current_process().authkey().expect("it was handed down");
    ///     let client = Client::builder().authkey(key);
    ///     let mut home: Connection<String, ()> = client.blocking_connect(&*port).expect("a listener");
    ///     home.blocking_send(&current_process().name().to_owned(), None).expect("somebody listens");
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = current_process().authkey()?;
    /// let mut listener: Listener<(), String> = Listener::builder().authkey(key).bind("127.0.0.1:0")?;
    /// let port = listener.address().to_string();
    /// let process = Process::builder().name("prodigal").spawn(call_home, port).await?;
    /// let mut connection = listener.accept().await?;
    /// assert_eq!(connection.recv().await?, "prodigal");
    /// process.join().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// At the limits of the system, where it has to be made.
    pub fn authkey(&self) -> io::Result<AuthKey> {
        key::own().map(AuthKey::of)
    }

    /// Makes it another, for this process and those that it starts from now on, be it that a pool
    /// replaces a worker. Those that there are keep theirs. For one process alone:
    /// [`ProcessBuilder::authkey`](super::ProcessBuilder::authkey).
    pub fn set_authkey(&self, key: AuthKey) {
        key::replace(key.into_bytes());
    }
}

/// The parent of the current process. Got from [`parent_process`].
///
/// Its descriptor is a pidfd, which is readable when the parent has ended. A process sees that
/// seldom: it is about to be killed then.
#[derive(Clone, Debug)]
pub struct ParentProcess(Arc<Standing>);

impl ParentProcess {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.lineage.parent.pid
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.0.lineage.parent.name
    }

    /// Tells whether it has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(pidfd::has_ended(self.as_fd()), Ok(false))
    }
}

impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
