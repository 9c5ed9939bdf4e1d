//! How much memory a process has to itself, as the kernel counts it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::pidfd;

/// A process's memory, to be asked about again and again: its `statm`, kept open, which speaks of
/// that process and never of one that has got its number since.
#[derive(Debug)]
pub(crate) struct Memory {
    statm: OwnedFd,
}

impl Memory {
    /// That of this process.
    pub(crate) fn of_self() -> io::Result<Self> {
        open("/proc/self/statm")
    }

    /// That of the process which both name.
    ///
    /// # Errors
    ///
    /// Where there is no `/proc`, and when the process has ended.
    pub(crate) fn of(pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = open(&format!("/proc/{pid}/statm"))?;
        // It lives, so its number was no other's when the file was opened.
        match pidfd::has_ended(pidfd)? {
            false => Ok(memory),
            true => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// How many bytes are resident and not shared: what was allocated and written to, without the
    /// program's code, mapped files and shared mappings.
    pub(crate) fn used(&self) -> io::Result<u64> {
        let mut bytes = [0; 128];
        let count = rustix::io::pread(&self.statm, &mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes[..count]).unwrap_or_default();
        let mut pages = text.split(' ').map(str::parse::<u64>).skip(1);
        match (pages.next(), pages.next()) {
            (Some(Ok(resident)), Some(Ok(shared))) => {
                Ok(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
            }
            // Of a process that has ended nothing is told.
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn open(path: &str) -> io::Result<Memory> {
    let statm = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Memory { statm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_and_written_to_counts() {
        const SIZE: usize = 64 << 20;
        let memory = Memory::of_self().expect("there is a /proc");
        let before = memory.used().expect("we live");
        let block = std::hint::black_box(vec![1u8; SIZE]);
        let after = memory.used().expect("we live");
        // Other tests of this process come and go.
        assert!(after > before + SIZE as u64 / 2, "{before} {after}");
        drop(block);
    }
}
