//! The Unix socket between a program and what it executes: whole messages
//! (SOCK_SEQPACKET) with descriptors beside them. Nothing here waits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};

/// The most bytes of one message; it stays well under the smallest send buffer
/// that a system is configured with.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// The most descriptors of one message, by the system's own rule.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Makes the two ends, both close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message, whole or not at all.
///
/// # Errors
///
/// `WouldBlock` where there is no room just now; `BrokenPipe` where the other
/// side has gone; `InvalidInput` where the
/// message is larger than [`MAX_MESSAGE`] or brings more than
/// [`MAX_DESCRIPTORS`].
pub(crate) fn send(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if message.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a message of {} bytes and {} descriptors is over the limit of \
                 {MAX_MESSAGE} and {MAX_DESCRIPTORS}",
                message.len(),
                descriptors.len(),
            ),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "the space is for as many as the check above admits");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, &[IoSlice::new(message)], &mut control, flags) {
            Err(errno) if is_passing(errno) => {}
            sent => return Ok(sent.map(|_| ())?),
        }
    }
}

/// One message as it arrived.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; zero is the end of the stream.
    pub(crate) length: usize,
    /// The descriptors beside it, close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether descriptors were lost on the way, because this process may have
    /// no more of them.
    pub(crate) truncated: bool,
}

/// Receives one message into `buffer`, which should be [`MAX_MESSAGE`] long.
///
/// # Errors
///
/// `WouldBlock` where there is none just now.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(errno) if is_passing(errno) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message was longer than any of ours",
        ));
    }
    Ok(Received {
        length: message.bytes,
        descriptors,
        truncated: message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Waits until something can be sent, or the other side has gone.
pub(crate) fn wait_for_room(socket: impl AsFd) -> io::Result<()> {
    let mut sockets = [PollFd::new(&socket, PollFlags::OUT)];
    loop {
        match poll(&mut sockets, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => return Ok(polled.map(|_| ())?),
        }
    }
}

/// Whether the same call should be made again at once.
///
/// A peer that ends with something unread leaves a reset behind, which hits the
/// next call once, whatever that is, and ahead of what the peer has sent: this
/// must not hide that. The call after it tells what there is.
pub(super) fn is_passing(errno: rustix::io::Errno) -> bool {
    matches!(
        errno,
        rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET
    )
}

/// Ends what this side sends, whoever else holds a copy of the socket. What was
/// sent before is still delivered, and the other side can go on sending.
pub(crate) fn end(socket: impl AsFd) {
    // A peer that has gone already needs no telling.
    let _ = shutdown(socket, Shutdown::Write);
}
