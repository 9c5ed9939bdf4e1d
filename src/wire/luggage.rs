//! Descriptors on their way between a program and its worker: by a socket beside the pipes, each
//! message under the name of the sending that it belongs to, and there before the frame is that
//! speaks of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::Ticket;
use crate::sys::socket;

/// The length of a name.
const NAME: usize = 10;

/// One end.
#[derive(Debug)]
pub(crate) struct Luggage(OwnedFd);

impl Luggage {
    /// Makes the two ends: this one, and the one for the other side.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (here, there) = socket::pair()?;
        Ok((Self(here), there))
    }

    /// The end that came from the other side.
    pub(crate) fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Sends what goes with a frame.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is no room just now.
    pub(crate) fn send(&self, ticket: Ticket, descriptors: &[OwnedFd]) -> io::Result<()> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        socket::send(&self.0, &name(ticket), &descriptors)
    }

    /// Receives what came with a frame: fewer where this process may have no more of them. What is
    /// there of others before it is nobody's, and closed.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it is not there.
    pub(crate) fn receive(&self, ticket: Ticket) -> io::Result<Vec<OwnedFd>> {
        let (wanted, mut bytes) = (name(ticket), [0; NAME]);
        loop {
            let received = socket::receive(&self.0, &mut bytes)?;
            if received.length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if bytes[..received.length] == wanted {
                return Ok(received.descriptors);
            }
        }
    }

    /// Waits until something can be sent.
    pub(crate) fn wait_for_room(&self) -> io::Result<()> {
        socket::wait_for_room(&self.0)
    }
}

fn name(ticket: Ticket) -> [u8; NAME] {
    let mut name = [0; NAME];
    name[..2].copy_from_slice(&ticket.lane.to_le_bytes());
    name[2..].copy_from_slice(&ticket.sequence.to_le_bytes());
    name
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 3, sequence }
    }

    fn files(count: usize) -> Vec<OwnedFd> {
        let file = || File::open("/dev/null").unwrap().into();
        (0..count).map(|_| file()).collect()
    }

    #[test]
    fn each_frame_gets_its_own_and_what_is_nobodys_is_closed() {
        let (here, there) = Luggage::pair().unwrap();
        let there = Luggage::new(there);
        for (sequence, count) in [(1, 1), (2, 253), (3, 2)] {
            here.send(ticket(sequence), &files(count)).unwrap();
        }
        assert_eq!(there.receive(ticket(2)).unwrap().len(), 253);
        assert_eq!(there.receive(ticket(3)).unwrap().len(), 2);
        let empty = there.receive(ticket(4)).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_socket_has_room_again_when_it_is_read() {
        let (here, there) = Luggage::pair().unwrap();
        let there = Luggage::new(there);
        let file = files(1);
        let mut sent = 0;
        while here.send(ticket(sent), &file).is_ok() {
            sent += 1;
        }
        there.receive(ticket(sent - 1)).unwrap();
        here.wait_for_room().unwrap();
        here.send(ticket(sent), &file).unwrap();
    }
}
