//! One child process seen from its parent: how it is started, watched, killed
//! and reaped, and what is known of its end. Nothing here knows of calls, of
//! pools, or of what a worker does.
//!
//! ```text
//!   Launcher ──execute──> worker                          (Spawn)
//!      │
//!      └──────execute──> fork server ──fork──> worker     (ForkServer)
//!
//!   keeper    the one thread on which all of this runs in the parent
//!   executed  a program executed by us, and its reaper
//!   environment  how a child's differs from the program's
//!   errand    the first message to what was executed, and its descriptors
//!   enter     what an executed process does with it
//!   protocol  what launcher and fork server say to each other
//!   link      the fork server, seen from the parent
//!   server    the fork server itself
//!   forked    a copy of this very process
//!   unsent    what an orderly end of this process waits for
//!   private   descriptors that such a copy must not have
//!   child     a worker, seen from the parent, whichever way it was started
//!   lineage   who this process is among them
//!   key       what they have in common, and nobody else
//!   trial     what reads bytes here, for `src/fuzzing.rs`
//!   own       statics that a forked process does not share with its parent
//! ```
//!
//! Nothing waits for a signal or a number that others could take: a process is
//! a pidfd, and its end is the pidfd's becoming readable.

mod child;
mod enter;
mod environment;
mod errand;
mod error;
mod executed;
mod exit;
mod forked;
mod keeper;
pub(crate) mod key;
mod launcher;
pub(crate) mod lineage;
mod link;
mod method;
mod own;
pub(crate) mod private;
mod protocol;
mod server;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod trial;
pub(crate) mod unsent;

pub(crate) use child::Child;
pub(crate) use enter::{Deeds, enter};
pub(crate) use environment::Environment;
pub use error::StartError;
pub use exit::Exit;
pub(crate) use forked::Forked;
pub(crate) use keeper::{Keeper, Lent, Sleep, home};
pub(crate) use launcher::{Launcher, Order, Program};
pub use method::{StartMethod, UnknownStartMethod};
pub(crate) use own::Own;
#[cfg(test)]
pub(crate) use tests::{STEPS as TEST_STEPS, serve as test_serve};
