//! Descriptors of the items that are in a queue. They are in the kernel's hands meanwhile, in a socket
//! of which every process that has the queue has both ends: so they outlive whoever put them there.
//!
//! Each parcel is sent before its record counts, and received after its record has gone, all of it by
//! one who has the lock. So for every record in the ring its parcel is in the socket, in the same
//! order; what is found before it is of somebody who was killed, and thrown away.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sys::stream;
use crate::task::attached::{self, Attached};

/// Both ends. It is a stream, because the system lets that have a few hundred parcels at a time, and a
/// socket of messages ten.
#[derive(Debug)]
pub(super) struct Parcels {
    entry: OwnedFd,
    exit: OwnedFd,
}

impl Parcels {
    pub(super) fn new() -> io::Result<Self> {
        let (entry, exit) = stream::pair()?;
        Ok(Self { entry, exit })
    }

    /// Sends one, whole or not at all.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is no room just now.
    pub(super) fn send(&self, number: u64, descriptors: &[OwnedFd]) -> io::Result<()> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let number = number.to_le_bytes();
        // So few bytes are never divided.
        stream::send(&self.entry, &[IoSlice::new(&number)], &descriptors).map(drop)
    }

    /// Receives the one of that number, and throws away all before it. Of its descriptors some are
    /// lost where this process may have no more of them.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it is not there, which nobody can bring about who has the lock.
    pub(super) fn receive(&self, number: u64) -> io::Result<Attached> {
        loop {
            let mut found = [0; 8];
            let received = stream::receive(&self.exit, &mut found)?;
            if received.count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if u64::from_le_bytes(found) == number {
                return Ok(received.descriptors);
            }
        }
    }

    /// Throws away all that are there.
    pub(super) fn clear(&self) {
        // Nothing has this number.
        let _ = self.receive(0);
    }
}

impl Serialize for Parcels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ends = (
            attached::attach(&self.entry)?,
            attached::attach(&self.exit)?,
        );
        ends.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Parcels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (entry, exit) = <(u32, u32)>::deserialize(deserializer)?;
        let (entry, exit) = (attached::take(entry)?, attached::take(exit)?);
        for end in [&entry, &exit] {
            let fits = stream::carries_descriptors(end).map_err(de::Error::custom)?;
            if !fits {
                return Err(de::Error::custom("its socket carries no descriptors"));
            }
        }
        Ok(Self { entry, exit })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn files(count: usize) -> Vec<OwnedFd> {
        let file = || File::open("/dev/null").unwrap().into();
        (0..count).map(|_| file()).collect()
    }

    #[test]
    fn each_gets_its_own_and_what_is_nobodys_is_thrown_away() {
        let parcels = Parcels::new().unwrap();
        for (number, count) in [(1, 1), (2, attached::MOST), (3, 2), (4, 1)] {
            parcels.send(number, &files(count)).unwrap();
        }
        assert_eq!(parcels.receive(2).unwrap().len(), attached::MOST);
        assert_eq!(parcels.receive(3).unwrap().len(), 2);
        parcels.clear();
        let nothing = parcels.receive(4).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn there_is_room_for_a_hundred_and_again_when_they_are_gone() {
        let parcels = Parcels::new().unwrap();
        let (file, mut sent) = (files(1), 0);
        let full = loop {
            match parcels.send(sent + 1, &file) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(sent >= 100, "{sent}");
        assert_eq!(parcels.receive(sent).unwrap().len(), 1);
        parcels.send(sent + 1, &file).unwrap();
    }
}
