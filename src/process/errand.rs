//! The first message to a process that was executed, and the order of the
//! descriptors beside it:
//!
//! ```text
//!   Errand::ForkServer    program, and key, hook .. if there is any
//!   Errand::Serve         program, key, channel .., stdout?, stderr?
//! ```
//!
//! `program` is a pidfd of the program that the process is to die with, and `key` a file with what
//! `super::key` hands down.

use std::io;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::Order;
use super::lineage::Lineage;
use crate::sys::socket;

/// What a process was executed for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// To fork workers on request, over the same socket, after the hooks beside this.
    ForkServer,
    /// To be a worker itself.
    Serve(Posting),
}

/// What a worker is told of its place, however it was started. Which
/// descriptors came with it stands here, the descriptors beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Posting {
    /// Who the process is.
    pub(crate) lineage: Lineage,
    /// Words for the worker that mean nothing here.
    pub(crate) first: Vec<u8>,
    channel: usize,
    stdout: bool,
    stderr: bool,
}

/// The descriptors of a worker, each in its place.
#[derive(Debug)]
pub(crate) struct Places {
    /// Its key.
    pub(crate) key: OwnedFd,
    /// What the worker was given to work with.
    pub(crate) channel: Vec<OwnedFd>,
    /// What becomes its standard output, if not what the program has.
    pub(crate) stdout: Option<OwnedFd>,
    /// What becomes its standard error, if not what the program has.
    pub(crate) stderr: Option<OwnedFd>,
}

impl Posting {
    /// The posting of an order; its descriptors are [`descriptors`].
    pub(crate) fn of(order: &Order) -> Self {
        Self {
            lineage: order.lineage.clone(),
            first: order.first.clone(),
            channel: order.channel.len(),
            stdout: order.stdout.is_some(),
            stderr: order.stderr.is_some(),
        }
    }

    /// Puts the descriptors that came with the posting into their places;
    /// `None` if they are not as many as it says.
    pub(crate) fn place(&self, descriptors: Vec<OwnedFd>) -> Option<Places> {
        let streams = usize::from(self.stdout) + usize::from(self.stderr);
        if self.channel.checked_add(streams)?.checked_add(1)? != descriptors.len() {
            return None;
        }
        let mut rest = descriptors.into_iter();
        Some(Places {
            key: rest.next()?,
            channel: rest.by_ref().take(self.channel).collect(),
            stdout: rest.by_ref().take(usize::from(self.stdout)).next(),
            stderr: rest.next(),
        })
    }
}

/// The descriptors of an order, in the order in which they travel.
pub(crate) fn descriptors(order: &Order) -> Vec<BorrowedFd<'_>> {
    let streams = order.stdout.iter().chain(&order.stderr);
    let rest = order.channel.iter().chain(streams);
    iter::once(&order.key)
        .chain(rest)
        .map(AsFd::as_fd)
        .collect()
}

/// Waits, at most for `limit`, for the first message on `socket`. Returns the
/// errand, the program's pidfd, and the other descriptors.
pub(crate) fn receive(
    socket: &OwnedFd,
    limit: Duration,
) -> io::Result<(Errand, OwnedFd, Vec<OwnedFd>)> {
    let mut buffer = vec![0; socket::MAX_MESSAGE];
    wait_readable(socket.as_fd(), limit)?;
    let mut received = socket::receive(socket, &mut buffer)?;
    if received.length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.truncated {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    let errand = postcard::from_bytes(&buffer[..received.length])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if received.descriptors.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let program = received.descriptors.remove(0);
    Ok((errand, program, received.descriptors))
}

fn wait_readable(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut entry = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        match poll(&mut entry, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
