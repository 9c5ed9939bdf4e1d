//! The descriptor table of a child: what it must not have inherited, and the
//! three standard streams.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Puts `to` in the place of the standard stream `number`, where it stays open
/// across `exec`, as a standard stream does.
pub(crate) fn redirect(number: RawFd, to: BorrowedFd<'_>) -> io::Result<()> {
    debug_assert!((0..3).contains(&number));
    // SAFETY: `to` is open while it is borrowed, and the three standard places
    // are never owned by an `OwnedFd`, so that nobody's descriptor is closed.
    if unsafe { libc::dup2(to.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes a descriptor whose owner is never run again, because this process was forked off from
/// under it.
pub(crate) fn close_forsaken(number: RawFd) {
    // SAFETY: the number is open here, as it was in the parent. Its owner is in a frame or a static
    // of the parent's that this process, which goes its own way and never returns, does not use.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
}

/// Closes what the program let slip through `exec`: every descriptor from 3 up
/// without close-on-exec. What a library of this process has opened since with
/// the flag set, as it should, is left to it.
///
/// Must run in a freshly executed process, on its only thread, before anything
/// in it has taken charge of an inherited descriptor.
pub(crate) fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in open {
        // SAFETY: asking for the flags of a number is harmless whatever it is.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: the number is open, and came through `exec` without an
            // owner in this process: Rust code opens descriptors with
            // close-on-exec, and by contract nothing else has taken charge.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}
