//! A process as a descriptor: whether it has ended, how, and signals to it and
//! to its group. A number can be given to a stranger once its process is
//! reaped; a pidfd cannot, which is why everything that is signalled is held
//! as one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Opens a pidfd of the process `pid`, close-on-exec.
///
/// The caller sees to it that `pid` still means the process it has in mind:
/// its own child, not yet reaped.
pub(crate) fn open(pid: Pid) -> io::Result<OwnedFd> {
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Opens a pidfd of the calling process, to be given to children so that they
/// can tell when it ends.
pub(crate) fn open_own() -> io::Result<OwnedFd> {
    open(rustix::process::getpid())
}

/// Whether the process has ended (all its threads have), reaped or not.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut entry = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut entry, Some(&Timespec::default())) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends `signal` to the process itself. An ended process is no error.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Makes the call that sends a signal, and sends none.
pub(crate) fn try_to_signal(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    send_with(pidfd, 0, 0)
}

/// Sends SIGKILL to every member of the process group that the process leads
/// or led, also after it has been reaped. An empty group is no error.
///
/// # Errors
///
/// `EINVAL` where the kernel cannot do it (before 6.9).
pub(crate) fn kill_group(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    match send_with(pidfd, libc::SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        done => done,
    }
}

fn send_with(pidfd: BorrowedFd<'_>, signal: libc::c_int, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: `pidfd_send_signal(int, int, siginfo_t *, unsigned)` reads no
    // memory of ours where the siginfo is null, and the descriptor is open for
    // as long as it is borrowed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The wait status of a process that somebody else has reaped; `None` while
/// nobody has.
///
/// # Errors
///
/// Where the kernel does not keep it (before 6.15).
pub(crate) fn wait_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = Info {
        mask: PIDFD_INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the request's number carries the size of `Info`, and the kernel
    // writes no more than that into it; `info` is a live, exclusive borrow of
    // plain integers, for which every bit pattern is valid.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // The kernel answers with what it knows, and says in the mask what that is.
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)` with the first published size of the
/// structure, which every later kernel goes on accepting.
const PIDFD_GET_INFO: libc::Ioctl =
    (3 << 30 | (size_of::<Info>() as u32) << 16 | 0xFF << 8 | 11) as libc::Ioctl;

/// `struct pidfd_info`, as first published.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid and the eight user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);
