//! Who is at the other end of a connection that came about by an address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::sys::network;

/// Who is at the other end: of TCP its address, on this machine its process and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    address: Option<SocketAddr>,
    user: Option<User>,
}

/// What the kernel notes of a process that connects or listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    pid: i32,
    uid: u32,
    gid: u32,
}

impl Peer {
    /// Of TCP the address is known already.
    pub(super) fn of(socket: &OwnedFd, address: Option<SocketAddr>) -> io::Result<Self> {
        let user = match address {
            Some(_) => None,
            None => Some(network::credentials(socket)?),
        };
        let user = user.map(|user| User {
            pid: user.pid,
            uid: user.uid,
            gid: user.gid,
        });
        Ok(Self { address, user })
    }

    /// Returns the address that a TCP connection comes from.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the id of the process that connected to a Unix path, as the kernel has noted it then;
    /// `None` also where that process is in a namespace which cannot be seen from here. It may have
    /// ended since, and have handed the connection to another.
    pub fn pid(&self) -> Option<u32> {
        let user = self.user.filter(|user| user.pid > 0)?;
        user.pid.try_into().ok()
    }

    /// Returns the user in whose name that process acted.
    pub fn uid(&self) -> Option<u32> {
        self.user.map(|user| user.uid)
    }

    /// Returns that process's group.
    pub fn gid(&self) -> Option<u32> {
        self.user.map(|user| user.gid)
    }

    /// Whether it is the same user as this process, or root, who may do anything anyway. Of TCP that
    /// is not known, and nothing is said against it.
    pub(super) fn is_of_this_user(&self) -> bool {
        let own = || network::own_user();
        self.uid().is_none_or(|uid| uid == 0 || uid == own())
    }
}
