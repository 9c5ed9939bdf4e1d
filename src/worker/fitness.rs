//! Whether this process can have children of the program at all: workers, and others.

use thiserror::Error;

use super::boot::{self, Readiness};
use super::depth;
use crate::sys::required::{self, Refused};

/// How many pools may be nested in each other's tasks.
const MAX_DEPTH: u8 = 4;

/// Why it cannot.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    /// Children would reach `main`.
    #[error(
        "this program cannot start workers: the crate's start-up code has not run; call \
         `procpool::init()` first thing in `main`, or enable the feature `auto-init`"
    )]
    NotInitialised,
    /// The crate is part of a shared library.
    #[error(
        "this copy of the crate is part of a shared library, and workers are started from the \
         program that loaded it; start them in a program of your own that contains the crate"
    )]
    NotInMainImage,
    /// The program has more rights than its caller.
    #[error(
        "this program runs with raised privileges (set-user-id, file capabilities) and must not \
         obey its environment, by which workers are told what they are"
    )]
    RaisedPrivileges,
    /// It is inside of so many pools.
    #[error("pools are nested {0} deep already, which is as deep as they may be")]
    TooDeep(u8),
    /// The system refuses a call.
    #[error(
        "this system refuses what no pool can do without (Linux 5.4 has it, if no filter forbids \
         it), {0}"
    )]
    Unsupported(Refused),
}

/// Finds out whether this process can have workers.
pub(crate) fn check_for_a_pool() -> Result<(), Unfit> {
    if depth() >= MAX_DEPTH {
        return Err(Unfit::TooDeep(depth()));
    }
    check()
}

/// Finds out whether this process can have children of its program.
pub(crate) fn check() -> Result<(), Unfit> {
    match boot::readiness() {
        Readiness::Ready => {}
        Readiness::NotInitialised => return Err(Unfit::NotInitialised),
        Readiness::NotInMainImage => return Err(Unfit::NotInMainImage),
        Readiness::RaisedPrivileges => return Err(Unfit::RaisedPrivileges),
    }
    required::check().map_err(Unfit::Unsupported)
}
