//! The options of a process.

use std::ffi::OsString;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{SpawnError, SpawnFault};
use super::scope::Members;
use super::spawn::{Spawning, spawn};
use crate::process::{Environment, lineage};
use crate::task::hook::{self, NoHook};
use crate::{AuthKey, Call, HookOutcome, StartMethod, Stdio};

/// What a process is to be like. Made by [`Process::builder`](super::Process::builder).
///
/// ```
/// use procpool::{Process, StartMethod, Stdio, processes::current_process};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let process = Process::builder()
///     .name("greeter")
///     .start_method(StartMethod::Spawn)
///     .env("GREETING", "hello")
///     .stderr(Stdio::null())
///     .spawn(|name: String| format!("{} {name}", std::env::var("GREETING").unwrap()), "you".to_owned())
///     .await?;
/// assert_eq!(process.name(), "greeter");
/// assert_eq!(process.join().await?, "hello you");
/// # Ok(()) }
/// ```
///
/// What is only described is no process: it cannot be joined, and it is started once. These do not
/// compile:
///
/// ```compile_fail,E0599
/// procpool::Process::builder().name("greeter").join();
/// ```
///
/// ```compile_fail,E0382
/// let builder = procpool::Process::builder();
/// let once = builder.spawn(|n: u8| n, 1);
/// let twice = builder.spawn(|n: u8| n, 1); // a clone could be
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder starts nothing until it is told to"]
pub struct ProcessBuilder {
    pub(super) name: Option<String>,
    pub(super) daemon: Option<bool>,
    pub(super) method: Option<StartMethod>,
    pub(super) environment: Environment,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
    pub(super) scope: Option<Members>,
    pub(super) preload: Vec<Result<Vec<u8>, NoHook>>,
    pub(super) authkey: Option<AuthKey>,
}

impl ProcessBuilder {
    /// Sets the name, which [`current_process`](super::current_process) tells there, and `ps` and
    /// errors show. Default: `Process-` and a number; for a process of such a process its name, a
    /// colon and a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets whether it is a daemon, which nobody waits for: see [there](super#who-waits-for-whom).
    /// Default: as the current process.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Sets how the process is started. Default: as the current process was, and in a program that
    /// was not started by this crate [`StartMethod::ForkServer`].
    ///
    /// [`StartMethod::Fork`] has conditions, under which it is [refused](SpawnError::is_fork_refused).
    ///
    /// All processes of the program that are started by a fork server come from the same one, which
    /// is there while any of them is, and a moment longer. It has the environment and the directory
    /// that the program had when it was started.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Sets an environment variable, beside those that the process inherits. May be called
    /// repeatedly. A key that is empty or has `=` or a zero byte in it, and a value that has a zero
    /// byte, are [errors](SpawnError::is_invalid_argument) of starting.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.set(key.into(), value.into());
        self
    }

    /// Keeps an environment variable from the process.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.environment.remove(key.into());
        self
    }

    /// Keeps all environment variables from the process, but for those that are [set](Self::env)
    /// after this.
    pub fn env_clear(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// Sets what becomes of its standard output. Default: [`Stdio::inherit`].
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = stdout;
        self
    }

    /// Sets what becomes of its standard error, where a panic is printed. Default:
    /// [`Stdio::inherit`].
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stderr = stderr;
        self
    }

    /// Sets the [key](super::CurrentProcess::authkey) that the process has in common with those that it
    /// starts itself. Default: that of the current process.
    pub fn authkey(mut self, key: AuthKey) -> Self {
        self.authkey = Some(key);
        self
    }

    /// Has the fork server run this once, before it forks: what it leaves in statics its processes
    /// have, and share its memory for as long as nobody writes to it. May be called repeatedly. See
    /// [`ProcessPoolBuilder::preload`](crate::ProcessPoolBuilder::preload).
    ///
    /// Processes with the same functions and arguments to preload come from the same server, which is
    /// there while any of them is, and a moment longer. It may take a minute for that.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use procpool::Process;
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let load = |length: u64| drop(TABLE.set((0..length).collect()));
    /// let builder = Process::builder().preload(load, 1_000);
    /// let process = builder.spawn(|n: usize| TABLE.get().map(|table| table[n]), 12).await?;
    /// assert_eq!(process.join().await?, Some(12));
    /// # Ok(()) }
    /// ```
    pub fn preload<A, R>(mut self, function: fn(A) -> R, argument: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        R: HookOutcome,
    {
        self.preload.push(hook::encode(function, &argument));
        self
    }

    /// Starts a process that calls `function` with `argument`.
    ///
    /// The function is any function, or a closure that captures nothing. The argument is encoded
    /// here; it may be of any size, and have descriptors in it. The start begins at once: await what
    /// this returns, or [wait](Spawning::blocking_wait) for it on a thread.
    ///
    /// # Errors
    ///
    /// They come when that is awaited: see [`SpawnError`].
    pub fn spawn<A, R>(self, function: fn(A) -> R, argument: A) -> Spawning<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.spawn_call(Call::of(function, &argument))
    }

    /// Starts a process that runs a [call](crate::call!), which may have several arguments.
    ///
    /// ```
    /// use procpool::{Process, call};
    ///
    /// fn add(a: i32, b: i32) -> i32 {
    ///     a + b
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let process = Process::builder().spawn_call(call!(add(1, 2))).await?;
    /// assert_eq!(process.join().await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_call<R>(self, call: Call<R>) -> Spawning<R> {
        spawn(self, call)
    }

    /// Starts a process that runs an `async fn` to its end, on a runtime of its own of one thread.
    /// What the function has spawned there and not waited for is dropped when it returns.
    ///
    /// ```
    /// use procpool::Process;
    /// use std::time::Duration;
    ///
    /// async fn nap(millis: u64) -> u64 {
    ///     tokio::time::sleep(Duration::from_millis(millis)).await;
    ///     millis
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let process = Process::builder().spawn_async(nap, 1).await?;
    /// assert_eq!(process.join().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_async<A, F>(self, function: fn(A) -> F, argument: A) -> Spawning<F::Output>
    where
        A: Serialize + DeserializeOwned,
        F: Future + 'static,
        F::Output: Serialize + DeserializeOwned,
    {
        self.spawn_call(Call::of_async(function, &argument))
    }

    /// Refuses what no process can have.
    pub(super) fn check(&self) -> Result<(), SpawnError> {
        let named = self.name.as_ref();
        if named.is_some_and(|name| name.is_empty() || name.contains('\0')) {
            let why = "a process's name must be a text without zero bytes";
            return Err(SpawnFault::Invalid(why).into());
        }
        if !self.environment.is_possible() {
            let why = "an environment variable has an impossible name or value";
            return Err(SpawnFault::Invalid(why).into());
        }
        if !self.preload.is_empty() && self.settled_method() != StartMethod::ForkServer {
            let why = "what is preloaded can only be shared by processes of a fork server";
            return Err(SpawnFault::Invalid(why).into());
        }
        Ok(())
    }

    /// How it is to be started.
    pub(super) fn settled_method(&self) -> StartMethod {
        let own = || lineage::standing().map(|own| own.lineage.method);
        self.method.or_else(own).unwrap_or_default()
    }

    /// Whether it is to be a daemon.
    pub(super) fn settled_daemon(&self) -> bool {
        let own = || lineage::standing().is_some_and(|own| own.lineage.daemon);
        self.daemon.unwrap_or_else(own)
    }
}
