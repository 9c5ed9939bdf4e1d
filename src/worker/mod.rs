//! The child's side: how a process becomes a worker, and what it does until it ends.
//!
//! ```text
//!   boot ──▶ (fork server ──▶ fork) ──▶ serve ──▶ run ──▶ the user's function
//!                                        │  ▲                      │
//!                              request pipe  └── outbox ◀──────────┘
//! ```
//!
//! - [`boot`]: a process that a pool has started never reaches `main`.
//! - [`serve`]: the loop: read, run, answer. [`prepare`]: what comes before it.
//! - [`preload`]: what a fork server does before it forks.
//! - [`room`]: async calls, many at once; [`guest`]: one of them.
//! - [`term`]: when a worker has run enough, and asks to be replaced.
//! - [`intake`]: calls out of the request pipe. [`outbox`]: responses into the response pipe.
//! - [`span`]: the call's span there. `log`: what is logged in the worker, on its way to the program.
//! - [`report`]: what a task says while it runs.
//! - [`alone`]: a process that runs one call and no more.
//! - [`watch`]: the second thread: ends the worker with its parent, flushes what waits too long.
//! - [`fitness`]: whether this process can have children of the program at all.
//!
//! The worker is a plain blocking loop on its main thread. It makes a runtime when the first async
//! call comes, and drives it while there are any.

pub(crate) mod alone;
pub(crate) mod boot;
mod chunk;
pub(crate) mod fitness;
mod guest;
mod intake;
#[cfg(feature = "tracing")]
mod log;
mod outbox;
mod preload;
mod prepare;
mod report;
mod room;
mod serve;
mod span;
#[cfg(test)]
pub(crate) mod stand_in;
mod term;
mod watch;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::process::Deeds;
use crate::wire::message::Role;

/// How many pools this process is inside of: zero for a program, one for a worker of its pool.
static DEPTH: AtomicU8 = AtomicU8::new(0);

/// How many pools this process is inside of.
pub(crate) fn depth() -> u8 {
    DEPTH.load(Ordering::Relaxed)
}

/// What an executed child does when it has booted: it becomes what its parent wants, or a fork
/// server, whose children do.
pub(crate) fn enter(socket: OwnedFd) -> ! {
    #[cfg(not(test))]
    let serve = play;
    #[cfg(test)]
    let serve = stand_in::serve;
    let preload = preload::preload;
    crate::process::enter(socket, Deeds { serve, preload })
}

/// Plays the role that is in a child's first words, to the end of its process.
pub(crate) fn play(first: &[u8], program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> ! {
    match postcard::from_bytes(first) {
        Ok(Role::Worker(start)) => serve::serve(*start, program, channel),
        Ok(Role::Process) => alone::run(program, channel),
        Err(error) => {
            eprintln!("procpool: a child that is told nothing: {error}");
            std::process::exit(serve::FAILED)
        }
    }
}
