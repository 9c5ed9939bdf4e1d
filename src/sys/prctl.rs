//! What a process says about itself to the kernel: what to send it when its
//! parent dies or a pipe is closed, that orphans below it come to it, its name.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, getpid, set_child_subreaper, set_parent_process_death_signal};

/// Has the kernel send SIGCONT to this process when its parent's thread ends.
///
/// Not SIGKILL: that would end this process and leave alive what it started.
/// SIGCONT wakes it even where it is stopped, and it then sees to its own end.
/// A parent that had died before is not noticed: look afterwards.
pub(crate) fn wake_when_parent_dies() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::CONT))?)
}

/// Has the kernel send SIGCONT to this process when the last writer of that pipe has closed it, or
/// has written: also to one that is stopped, and whoever its parent is.
pub(crate) fn wake_when_closed(pipe: BorrowedFd<'_>) -> io::Result<()> {
    signal_when_closed(pipe, libc::SIGCONT, getpid().as_raw_nonzero().get())
}

/// Has the kernel kill this process's group, which it leads, when the last writer of that pipe has
/// closed it.
pub(crate) fn kill_group_when_closed(pipe: BorrowedFd<'_>) -> io::Result<()> {
    signal_when_closed(pipe, libc::SIGKILL, -getpid().as_raw_nonzero().get())
}

/// Who is told is a process, or a group as a negative number.
fn signal_when_closed(
    pipe: BorrowedFd<'_>,
    signal: libc::c_int,
    who: libc::c_int,
) -> io::Result<()> {
    // The same on every architecture that we know; libc has it for some of them only.
    const F_SETSIG: libc::c_int = 10;
    for (what, value) in [(F_SETSIG, signal), (libc::F_SETOWN, who)] {
        // SAFETY: both commands take a number and no memory, and the descriptor is open for as
        // long as it is borrowed.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), what, value) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let asynchronous = OFlags::from_bits_retain(libc::O_ASYNC as u32);
    Ok(fcntl_setfl(pipe, fcntl_getfl(pipe)? | asynchronous)?)
}

/// Makes this process the new parent of its descendants' orphans.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Names the calling thread; for the first one this is the process's name in
/// `ps`. What is longer than 15 bytes is cut off by the kernel.
pub(crate) fn set_name(name: &str) {
    let name: Vec<u8> = name.bytes().filter(|&byte| byte != 0).collect();
    if let Ok(name) = CString::new(name) {
        // A name is for people; a kernel that refuses it costs nothing.
        let _ = rustix::thread::set_name(&name);
    }
}
