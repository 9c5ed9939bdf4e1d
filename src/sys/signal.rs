//! Signal masks, dispositions and handlers, and SIGCHLD as a descriptor.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::{io, mem, ptr};

#[cfg(test)]
use rustix::process::Signal;

/// Undoes what an `exec` or a fork hands down: signals that the parent ignored have their default
/// effect again, but for SIGPIPE, and none is blocked. Handlers stay, since after an `exec` they can only be the program's
/// own (a library's constructor may have set one).
pub(crate) fn reset_inherited() {
    for number in (1..=libc::SIGRTMAX()).filter(|number| *number != libc::SIGPIPE) {
        if disposition(number).is_some_and(|now| now.sa_sigaction == libc::SIG_IGN) {
            set_disposition(number, libc::SIG_DFL);
        }
    }
    // SAFETY: an all-zero set is a valid argument to fill, it is filled before it is used, and the
    // old mask is not asked for.
    unsafe {
        let mut none = mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Ignores `signal` in the whole process.
#[cfg(test)]
pub(crate) fn ignore(signal: i32) {
    set_disposition(signal, libc::SIG_IGN);
}

/// Blocks these signals on the calling thread: what is sent waits until they are not blocked.
pub(crate) fn block(signals: &[i32]) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others then read; a null pointer says that
    // the old mask is not wanted.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// Blocks, on the calling thread, every signal but those that report its own
/// faults: no handler of the program will run there.
pub(crate) fn block_all_on_this_thread() {
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGABRT,
    ];
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set it is given; `sigdelset` and
    // `pthread_sigmask` are then given an initialised one, and a null pointer
    // says that the old mask is not wanted.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for fault in faults {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// A descriptor that is readable when a child has changed its state. SIGCHLD
/// gets its default disposition (an ignored one would throw statuses away) and
/// is blocked on this thread, which must be the process's only one.
pub(crate) fn child_changes() -> io::Result<OwnedFd> {
    set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others then read; a
    // null pointer says that the old mask is not wanted, -1 asks for a new
    // descriptor.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes what is pending on a descriptor from [`child_changes`]. One entry can
/// stand for many children, so its content says nothing worth reading.
pub(crate) fn drain(changes: BorrowedFd<'_>) {
    let mut buffer = [0_u8; 4 * size_of::<libc::signalfd_siginfo>()];
    while matches!(rustix::io::read(changes, &mut buffer), Ok(read) if read > 0) {}
}

/// Gives a signal its default effect, whatever it had.
#[cfg(test)]
fn restore_default(signal: Signal) {
    reset(signal.as_raw());
}

/// The same by number. It may be called from a handler.
pub(super) fn reset(number: libc::c_int) {
    set_disposition(number, libc::SIG_DFL);
}

/// Makes a write to a closed pipe an error and no signal, as std does before `main`.
pub(crate) fn ignore_sigpipe() {
    set_disposition(libc::SIGPIPE, libc::SIG_IGN);
}

/// What happens on a signal; none for the numbers that libc keeps to itself.
pub(super) fn disposition(number: libc::c_int) -> Option<libc::sigaction> {
    // SAFETY: an all-zero `sigaction` is a valid place to write to; without a new action the call
    // only reads.
    unsafe {
        let mut now = mem::zeroed();
        (libc::sigaction(number, ptr::null(), &mut now) == 0).then_some(now)
    }
}

fn set_disposition(number: libc::c_int, to: libc::sighandler_t) {
    debug_assert!(to == libc::SIG_DFL || to == libc::SIG_IGN);
    // SAFETY: an all-zero `sigaction` is a valid one: no flags, an empty mask. Neither of the two
    // dispositions is a function that could be wrong. (SIGKILL, SIGSTOP and libc's own numbers are
    // refused, and stay as they are.)
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = to;
        libc::sigaction(number, &action, ptr::null_mut());
    }
}

/// Calls a function of ours on a signal, on the thread's alternate stack where it has one.
///
/// # Safety
///
/// The handler may be called between any two instructions of the process: it must be
/// async-signal-safe.
pub(super) unsafe fn handle(number: libc::c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid one, and the handler has the type that SA_SIGINFO
    // promises; the rest is the caller's promise.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(number, &action, ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A signal handler that is told more than the number.
pub(super) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_gets_its_default_back() {
        // Nobody else in the tests looks at this one.
        let number = Signal::URG.as_raw();
        set_disposition(number, libc::SIG_IGN);
        restore_default(Signal::URG);
        let now = disposition(number).expect("an ordinary signal");
        assert_eq!(now.sa_sigaction, libc::SIG_DFL);
    }

    #[test]
    fn numbers_that_libc_keeps_to_itself_have_no_disposition() {
        assert!(disposition(libc::SIGRTMIN() - 1).is_none());
        assert!(disposition(0).is_none());
    }
}
