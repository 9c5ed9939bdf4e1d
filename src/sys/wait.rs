//! Waiting for children: looking at one that has ended without taking its
//! status, and taking it. Never "any child" where the process is not ours
//! alone: that would take statuses from the program's own children.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

/// Takes the status of the child behind `pidfd`; `None` if there is none to
/// take yet.
///
/// # Errors
///
/// `ECHILD` where somebody else has taken it, or SIGCHLD is ignored.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<WaitIdStatus>> {
    take(WaitId::PidFd(pidfd))
}

/// The same by number, for the parent alone: until it is reaped, the number of
/// a child means that child.
pub(crate) fn reap_pid(pid: Pid) -> io::Result<Option<WaitIdStatus>> {
    take(WaitId::Pid(pid))
}

/// Whether the process behind `pidfd` is a child of ours that nobody has reaped.
pub(crate) fn is_unreaped_child(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd), options).is_ok()
}

/// Sends SIGKILL to the group of `leader`, a child that has not been reaped:
/// until then its number cannot belong to anybody else.
pub(crate) fn kill_group_of_unreaped(leader: Pid) {
    // An empty group is what was wanted.
    let _ = kill_process_group(leader, Signal::KILL);
}

fn take(id: WaitId<'_>) -> io::Result<Option<WaitIdStatus>> {
    loop {
        match waitid(id.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Any child that has ended, left as it is; `None` if none has.
///
/// # Errors
///
/// `ECHILD` where there are no children at all.
pub(crate) fn any_ended() -> io::Result<Option<Pid>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: `info` is exclusively borrowed memory of the right size and
        // alignment for the one `siginfo_t` that `waitid` may write.
        if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: all zeroes is a valid `siginfo_t`, and so is what `waitid` wrote;
    // `si_pid` is the member that `waitid` sets, zero where there was nothing.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok(Pid::from_raw(pid))
}
