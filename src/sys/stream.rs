//! A stream socket between two processes: bytes in order, with descriptors beside them. Nothing here
//! waits, and by a flag of each call rather than of the socket: whoever has a copy of a socket shares
//! its flags, also in another process.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};

use super::socket::{MAX_DESCRIPTORS, is_passing};

/// Makes the two ends, both close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Tells of a stream socket whether descriptors can go beside its bytes.
///
/// # Errors
///
/// Where this is no stream socket.
pub(crate) fn carries_descriptors(socket: impl AsFd) -> io::Result<bool> {
    if sockopt::socket_type(&socket)? != SocketType::STREAM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a stream socket",
        ));
    }
    Ok(sockopt::socket_domain(socket)? == AddressFamily::UNIX)
}

/// Sends what there is room for, the descriptors with the first byte of it; tells how many bytes.
///
/// # Errors
///
/// `WouldBlock` where there is no room just now; `BrokenPipe` where the other side has gone. Of TCP
/// also `ConnectionReset` and others, once.
pub(crate) fn send(
    socket: impl AsFd,
    pieces: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, pieces, &mut control, flags) {
            Err(errno) if passes(&socket, errno) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Tells how many bytes have come that nobody has read.
pub(crate) fn unread(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// Tells of a TCP socket how many bytes were sent that the other machine has not said to have.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: for a socket this request (`SIOCOUTQ`, by its other name) writes one `int`, and `bytes` is a
    // live, exclusive borrow of one.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Has the other end of a TCP socket told of a reset when this one is closed.
pub(crate) fn reset_when_closed(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Whether the same call should be made again at once. A reset is the end of a TCP connection.
fn passes(socket: impl AsFd, errno: Errno) -> bool {
    let is_unix = || carries_descriptors(socket).unwrap_or(false);
    is_passing(errno) && (errno != Errno::CONNRESET || is_unix())
}

/// What one read has brought.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// How many bytes; zero is the end.
    pub(crate) count: usize,
    /// The descriptors beside the last of them, close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether some were lost on the way, because this process may have no more of them.
    pub(crate) truncated: bool,
}

/// Receives into `buffer`, never beyond the first bytes that have descriptors beside them: what was
/// sent by one call with descriptors begins at most one read before its end.
///
/// # Errors
///
/// `WouldBlock` where there is nothing just now. Of TCP also `ConnectionReset` and others, once.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_by(socket, buffer, RecvFlags::empty())
}

/// The same, and leaves all of it there: the descriptors are copies of those that are received next.
///
/// # Errors
///
/// As [`receive`].
pub(crate) fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_by(socket, buffer, RecvFlags::PEEK)
}

fn receive_by(socket: impl AsFd, buffer: &mut [u8], how: RecvFlags) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = how | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        let pieces = &mut [IoSliceMut::new(buffer)];
        match recvmsg(&socket, pieces, &mut control, flags) {
            Err(errno) if passes(&socket, errno) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    Ok(Received {
        count: message.bytes,
        descriptors,
        truncated: message.flags.contains(ReturnFlags::CTRUNC),
    })
}
