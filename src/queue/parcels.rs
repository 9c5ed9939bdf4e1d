//! Descriptors of the items that are in a queue. They are in the kernel's hands meanwhile, in a socket
//! of which every process that has the queue has both ends: so they outlive whoever put them there.
//!
//! Each parcel is sent before its record counts, and thrown away after its record has gone, all of it by
//! one who has the lock; whoever takes the item has copies of what was in it by then. So for every record
//! in the ring its parcel is in the socket, in the same order; what is found before it is of somebody who
//! was killed, and thrown away.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
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

    /// Gives copies of what is in the one of that number, which stays there, and throws away all before
    /// it.
    ///
    /// # Errors
    ///
    /// Where this process may have no more descriptors. `WouldBlock` where the parcel is not there, which
    /// nobody can bring about who has the lock.
    pub(super) fn open(&self, number: u64) -> io::Result<Attached> {
        loop {
            let mut found = [0; 8];
            let seen = stream::peek(&self.exit, &mut found)?;
            if seen.count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if u64::from_le_bytes(found) == number {
                return match seen.truncated {
                    true => Err(Errno::MFILE.into()),
                    false => Ok(seen.descriptors),
                };
            }
            drop(seen);
            self.throw_away()?;
        }
    }

    /// Throws away the first one.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is none.
    pub(super) fn throw_away(&self) -> io::Result<()> {
        // What came with it is closed at once.
        match stream::receive(&self.exit, &mut [0; 8])?.count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Throws away all that are there.
    pub(super) fn clear(&self) {
        while self.throw_away().is_ok() {}
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
        for _ in 0..2 {
            assert_eq!(parcels.open(2).unwrap().len(), attached::MOST);
        }
        parcels.throw_away().unwrap();
        assert_eq!(parcels.open(3).unwrap().len(), 2);
        parcels.clear();
        let nothing = parcels.open(4).unwrap_err();
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
        assert_eq!(parcels.open(sent).unwrap().len(), 1);
        parcels.throw_away().unwrap();
        parcels.send(sent + 1, &file).unwrap();
    }
}
