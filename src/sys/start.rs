//! What a process asks and does once, while it becomes a worker: whether it may, whose socket it
//! was given, and how it leaves if it must not go on.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::{env, io, mem};

use rustix::fs::{Mode, OFlags};
use rustix::process::Uid;

use super::fork;

/// Tells whether the kernel gave this program more rights than its caller has (set-user-id, file
/// capabilities), so that the caller's environment must not be trusted.
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: `getauxval` only looks a number up.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes a variable out of the environment, for this process and all that it starts.
///
/// This is for the moment before `main`.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: the danger is a thread that reads the environment through libc meanwhile. Before
    // `main` there is none but what a shared library's constructor may have started. It would find
    // sound pointers all the same: taking out what was there at the exec moves the pointers behind
    // it up by one, a word at a time, and frees nothing, in glibc and in musl.
    unsafe { env::remove_var(name) };
}

/// Sets variables, and removes those without a value, for this process and all that it starts.
///
/// # Errors
///
/// Where there are variables and other threads.
pub(crate) fn change_environment(changes: Vec<(OsString, Option<OsString>)>) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    if fork::threads()? != 1 {
        return Err(io::Error::other(
            "the environment cannot be changed where there are other threads",
        ));
    }
    for (name, value) in changes {
        // SAFETY: the danger is another thread that reads or changes the environment meanwhile.
        // There is none, and only this one could start any.
        unsafe {
            match value {
                Some(value) => env::set_var(name, value),
                None => env::remove_var(name),
            }
        }
    }
    Ok(())
}

/// Lets go of the terminal that the program was started at, if there is one; the program keeps it.
///
/// The kernel stops a process that reads there, changes its settings, or writes while `tostop` is set, if
/// its group is not the one in front, and a worker's group never is. To one that has no terminal, an
/// inherited descriptor of it is a file like any other, and `/dev/tty` cannot be opened.
pub(crate) fn leave_terminal() {
    // SAFETY: both calls take numbers alone.
    if unsafe { libc::getsid(0) == libc::getpid() } {
        // With the leader the whole session would lose it. No child of ours leads one.
        return;
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(terminal) = rustix::fs::open("/dev/tty", flags, Mode::empty()) {
        // SAFETY: this request takes nothing, and the descriptor is open.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    }
}

/// Returns the user to whom the other end of a Unix socket belongs: of a pair, its creator.
///
/// rustix has this call, but reads the peer's process id too as a number that is never zero. It is
/// zero for a peer in another pid namespace, and for a socket that is not connected.
pub(crate) fn peer_user(socket: impl AsFd) -> io::Result<Uid> {
    // SAFETY: a `ucred` is three plain integers, for which zero is a value; the kernel writes at
    // most as many bytes as it is told there are.
    let (failed, peer) = unsafe {
        let mut peer: libc::ucred = mem::zeroed();
        let mut len = mem::size_of_val(&peer) as libc::socklen_t;
        let result = libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        );
        (result != 0, peer)
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    // No user: the socket is not connected.
    if peer.uid == libc::uid_t::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(Uid::from_raw(peer.uid))
}

/// Ends the process at once: no destructors, and nothing that was registered for `exit`.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: the call has no conditions.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn the_creator_of_a_pair_is_its_peer() {
        let (one, _other) = UnixStream::pair().expect("a pair of sockets");
        let user = peer_user(&one).expect("the peer of a pair");
        assert_eq!(user, rustix::process::geteuid());
    }

    #[test]
    fn a_socket_that_is_not_connected_has_no_peer() {
        let socket = UnixDatagram::unbound().expect("a socket");
        assert!(peer_user(&socket).is_err());
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        assert!(peer_user(&file).is_err());
    }

    #[test]
    fn tests_do_not_run_with_raised_privileges() {
        assert!(!has_raised_privileges());
    }
}
