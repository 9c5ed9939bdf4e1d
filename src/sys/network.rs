//! Stream sockets with an address: listening, taking in who comes, and going to one. Nothing here
//! waits.
//!
//! What comes out are blocking sockets, as all that connections have: see `stream`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind,
    connect, getsockname, listen, shutdown, socket_with, sockopt,
};

/// Listens at a path that nothing is at. The socket there has this mode from the first moment.
pub(crate) fn listen_at_path(path: &Path, mode: u32, backlog: u32) -> io::Result<OwnedFd> {
    let socket = stream(AddressFamily::UNIX)?;
    // What is at the path will have the mode of the socket, less the umask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listening = widen(path, mode).and_then(|()| Ok(listen(&socket, length(backlog))?));
    if let Err(error) = listening {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Gives a file what the umask has taken of its mode.
fn widen(path: &Path, mode: u32) -> io::Result<()> {
    if fs::symlink_metadata(path)?.mode() & 0o777 == mode & 0o777 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Listens at an address of this machine.
pub(crate) fn listen_at_port(address: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    let socket = stream(family(address))?;
    // A port whose last listener is gone can be had at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, length(backlog))?;
    Ok(socket)
}

/// The address that a listening socket has been given.
pub(crate) fn port_of(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

/// Listens no more, whoever else has a copy of the socket.
pub(crate) fn end_listening(socket: impl AsFd) {
    // Where somebody else has ended it, it is ended.
    let _ = shutdown(socket, Shutdown::Both);
}

/// Takes in the next who has come, and tells from where if that has an address.
///
/// # Errors
///
/// `WouldBlock` where nobody has.
pub(crate) fn accept(socket: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (socket, address) = acceptfrom_with(socket, SocketFlags::CLOEXEC)?;
    Ok((
        socket,
        address.and_then(|address| SocketAddr::try_from(address).ok()),
    ))
}

/// Begins to go to a path. See [`arrive`].
///
/// # Errors
///
/// `WouldBlock` where so many wait at that path that there is no room; nothing tells when there is.
pub(crate) fn go_to_path(path: &Path) -> io::Result<OwnedFd> {
    let socket = stream(AddressFamily::UNIX)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Begins to go to an address. When the socket can be written to, it has [arrived](arrive) or not.
pub(crate) fn go_to_port(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream(family(address))?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Tells how going somewhere has ended.
pub(crate) fn arrive(socket: impl AsFd) -> io::Result<()> {
    sockopt::socket_error(&socket)??;
    // From here on each call says by itself that it does not wait.
    Ok(rustix::io::ioctl_fionbio(socket, false)?)
}

/// Tells who was at the other end of a Unix socket when it came about. The process id is zero where
/// that process is in a namespace that this one cannot see.
pub(crate) fn credentials(socket: impl AsFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is writable for the `length` that is given with it, and any bytes are a value
    // of it; the descriptor is open while it is borrowed.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match asked {
        0 => Ok(peer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user in whose name this process acts.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Has small messages sent at once; and has the system ask the other side, if nothing has come for
/// `keepalive`, whether it is still there: three times more, at a third of that.
pub(crate) fn tune(socket: impl AsFd, keepalive: Option<Duration>) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(idle) = keepalive {
        let second = Duration::from_secs(1);
        sockopt::set_tcp_keepidle(&socket, idle.max(second))?;
        sockopt::set_tcp_keepintvl(&socket, (idle / 3).max(second))?;
        sockopt::set_tcp_keepcnt(&socket, 3)?;
        sockopt::set_socket_keepalive(&socket, true)?;
    }
    Ok(())
}

/// Which file is at a path: not what has got its name since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// That of the socket at a path.
    pub(crate) fn of_socket(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        if !file.file_type().is_socket() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            device: file.dev(),
            number: file.ino(),
        })
    }
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn length(backlog: u32) -> i32 {
    backlog.try_into().unwrap_or(i32::MAX)
}
