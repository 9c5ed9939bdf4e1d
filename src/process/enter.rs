//! What an executed process does before it is what it was executed for, and
//! what every worker does, executed or forked, before it serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::errand::{self, Errand, Posting};
use super::{key, server};
use crate::sys::{descriptors, fork, pidfd, prctl, signal};

/// The worker's own program: gets the order's first words, the pidfd of the
/// program to die with, and the order's channel. It owns the rest of the
/// process's life.
pub(crate) type Serve = fn(first: &[u8], program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> !;

/// What a fork server does once, before it forks, with the hooks that it was given. It comes to an end
/// by itself when the program does, and leaves no thread.
pub(crate) type Preload = fn(program: &OwnedFd, hooks: Vec<OwnedFd>) -> Result<(), String>;

/// What the module above does in children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deeds {
    /// In each of them.
    pub(crate) serve: Serve,
    /// In a fork server.
    pub(crate) preload: Preload,
}

/// Takes over an executed process for good. `socket` is what it was given as
/// its standard input.
pub(crate) fn enter(socket: OwnedFd, deeds: Deeds) -> ! {
    // The thread that executed this process had its signals blocked.
    signal::reset_inherited();
    if let Err(error) = prctl::wake_when_parent_dies() {
        leave(&error);
    }
    match errand::receive(&socket, PATIENCE) {
        Ok((Errand::ForkServer, program, beside)) => server::run(socket, program, beside, deeds),
        Ok((Errand::Serve(posting), program, rest)) => {
            drop(socket);
            begin(posting, program, rest, deeds.serve)
        }
        // The program has gone, or does not want this process any more.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => fork::exit_now(FAILED),
        Err(error) => leave(&error),
    }
}

/// Begins the life of a worker: its process already leads its own group, has
/// its signals in order and asked to be woken when its parent dies.
pub(crate) fn begin(posting: Posting, program: OwnedFd, rest: Vec<OwnedFd>, serve: Serve) -> ! {
    let Some(places) = posting.place(rest) else {
        leave(&io::ErrorKind::InvalidData.into());
    };
    let streams = [(1, places.stdout), (2, places.stderr)];
    for (number, stream) in streams {
        if let Some(stream) = stream {
            if let Err(error) = descriptors::redirect(number, stream.as_fd()) {
                leave(&error);
            }
        }
    }
    prctl::set_name(&posting.lineage.name);
    leave_with(&program);
    let program = Arc::new(program);
    posting.lineage.take_on(&program);
    if let Err(error) = key::take_on(places.key) {
        leave(&error);
    }
    serve(&posting.first, program, places.channel)
}

/// Leaves if the program has ended. A process that asks to be told of its
/// parent's death looks afterwards, lest it happened just before.
pub(crate) fn leave_with(program: &OwnedFd) {
    if !matches!(pidfd::has_ended(program.as_fd()), Ok(false)) {
        fork::exit_now(FAILED);
    }
}

/// Leaves, and says why on the standard error: there is nobody else to tell.
pub(crate) fn leave(error: &io::Error) -> ! {
    eprintln!("procpool: a child could not begin: {error}");
    fork::exit_now(FAILED)
}

/// The exit code of a process that could not begin.
pub(super) const FAILED: i32 = 70;

/// How long an executed process waits to be told what it is for. The message
/// follows the execution at once; this is for a program that was stopped in
/// between, and ends before anybody would call it a leak.
const PATIENCE: Duration = Duration::from_secs(30);
