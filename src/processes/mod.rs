//! Processes of their own, beside pools: each runs one function of this program and ends with it.
//!
//! A [`Process`] is what Python's `multiprocessing.Process` is, with the value that the function
//! returns. It is started in the ways in which workers are, dies with its parent as they do, and is
//! told and asked through [connections](crate::connection).
//!
//! ```
//! use procpool::{Connection, Process, pipe};
//!
//! fn shout((mut connection, times): (Connection<String, String>, usize)) -> usize {
//!     for _ in 0..times {
//!         let text = connection.blocking_recv(None).expect("a word");
//!         connection.blocking_send(&text.to_uppercase(), None).expect("somebody listens");
//!     }
//!     times
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut here, there) = pipe()?;
//! let process = Process::spawn(shout, (there, 2)).await?;
//! for word in ["hello", "world"] {
//!     here.send(&word.to_owned()).await?;
//!     assert_eq!(here.recv().await?, word.to_uppercase());
//! }
//! assert_eq!(process.join().await?, 2);
//! assert!(process.exit().is_some_and(|exit| exit.success()));
//! # Ok(()) }
//! ```
//!
//! # How a process ends
//!
//! | what happens | [exit](Process::exit) | [join](Process::join) gives |
//! | --- | --- | --- |
//! | the function returns, an `Err` included | code 0 | the value |
//! | it panics, which is printed as any panic is | code 101 | an error with the [panic](ProcessError::panic) |
//! | it calls `std::process::exit(n)` | code `n` | an error that it [ended without a value](ProcessError::is_lost) |
//! | a signal ends it, that of [`terminate`](Process::terminate) or [`kill`](Process::kill) too | that signal | the same |
//!
//! Threads that the function leaves behind end with the process, as they do when `main` returns.
//!
//! # Who waits for whom
//!
//! Nobody waits behind anybody's back. Dropping a [`Process`] lets go of it: the process runs on, and
//! is reaped when it ends. When this program ends, however that comes about, all its processes are
//! killed within a second, each with what it has started in its process group. To wait for them is
//! what a [`scope`] is for, or [`join`](Process::join).
//!
//! A *daemon* is a process that nobody waits for, such as one that serves the others. A scope does not
//! wait for it: when the others have ended it is asked to end by SIGTERM, and killed half a second
//! later. The same is done for daemons without a scope when this program ends in order, by returning
//! from `main` or by `std::process::exit`. A process is a daemon if its builder
//! [says so](ProcessBuilder::daemon), else if its parent is one. Unlike in Python, a daemon may start
//! processes itself.

// - `builder`: the options; `spawn`: from options and a call to a process
// - `handle`: the process, seen by who has started it; `body`: what all of its handles share
// - `home`: where processes are started from; `registry`: those that run, and the program's end
// - `current`: this process and its parent; `scope`: waiting for all of them
// - `error`: how all of this fails
mod body;
mod builder;
mod current;
mod error;
mod handle;
mod home;
mod registry;
mod scope;
mod spawn;

pub use self::builder::ProcessBuilder;
pub use self::current::{CurrentProcess, ParentProcess, current_process, parent_process};
pub use self::error::{ProcessError, SpawnError};
pub use self::handle::{Process, StillRunning};
pub use self::registry::active_children;
pub use self::scope::{Scope, blocking_scope, scope};
pub use self::spawn::Spawning;
