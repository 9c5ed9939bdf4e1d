//! Forking a process of one thread, and leaving without ceremony.

use std::io;

use rustix::process::Pid;

/// Which of the two came back.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The parent, with its new child.
    Parent(Pid),
    /// The child.
    Child,
}

/// Why there was no fork.
#[derive(Debug)]
pub(crate) enum ForkError {
    /// This process has more than one thread.
    Threads(u32),
    /// The system refused.
    Os(io::Error),
}

/// Forks, provided that the calling thread is the only one: then nobody else
/// can hold a lock whose release the child would wait for in vain.
///
/// This is libc's `fork`, never the bare system call, so that what libraries
/// registered with `pthread_atfork` runs and libc knows the child's thread id.
pub(crate) fn fork() -> Result<Forked, ForkError> {
    let threads = threads().map_err(ForkError::Os)?;
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: a child of a process with one thread may go on running any code.
    // The count above cannot be out of date: only a thread of this process can
    // start another, and the only one is here.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid => match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(Forked::Parent(pid)),
            _ => Err(ForkError::Os(io::Error::last_os_error())),
        },
    }
}

/// The number of threads of this process.
pub(crate) fn threads() -> io::Result<u32> {
    // A directory has a link for itself, one for its entry, and one for each
    // directory in it, and here there is one for each thread. One `stat` is
    // what this may cost: it runs before every fork.
    let links = rustix::fs::stat("/proc/self/task")?.st_nlink;
    u32::try_from(links)
        .ok()
        .and_then(|links| links.checked_sub(2))
        .ok_or_else(|| io::Error::other("/proc does not count threads"))
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Forks whatever threads there are, as a program might by itself, and runs
/// `body` in the copy.
#[cfg(test)]
pub(crate) fn copy(body: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: not proven, and that is the point of the tests that use it: glibc
    // keeps its own locks usable across a fork, and ours must be too.
    match unsafe { libc::fork() } {
        0 => {
            body();
            exit_now(0)
        }
        pid => Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error),
    }
}
