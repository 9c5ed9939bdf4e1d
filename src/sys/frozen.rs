//! Memory that processes share and nobody can change any more, so that plain references to it are
//! sound wherever it is mapped.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// With these a file's length and content are for ever what they are.
const FOR_EVER: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Makes an anonymous file of `length` bytes, which `fill` writes and nobody after it. They are zero
/// at first, and begin at a page.
pub(crate) fn frozen_file<E: From<io::Error>>(
    name: &str,
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<OwnedFd, E> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags).map_err(io::Error::from)?;
    rustix::fs::ftruncate(&file, length as u64).map_err(io::Error::from)?;
    let mut span = Span::map(&file, length, ProtFlags::READ | ProtFlags::WRITE)?;
    fill(span.bytes_mut())?;
    // The kernel seals no file that is mapped to be written.
    drop(span);
    let seals = FOR_EVER | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(io::Error::from)?;
    Ok(file)
}

/// A mapping of a frozen file, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Frozen(Span);

impl Frozen {
    /// Maps the first `length` bytes of a file that [`frozen_file`] made at least that long.
    ///
    /// # Errors
    ///
    /// When the file is shorter or can still be changed, or the system has no room for the mapping.
    pub(crate) fn new(file: impl AsFd, length: usize) -> io::Result<Self> {
        let frozen = rustix::fs::fcntl_get_seals(&file)?.contains(FOR_EVER);
        let size = rustix::fs::fstat(&file)?.st_size;
        if !frozen || u64::try_from(size).is_ok_and(|size| size < length as u64) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a frozen file of that size",
            ));
        }
        Span::map(file, length, ProtFlags::READ).map(Self)
    }
}

impl Deref for Frozen {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Span { start, length } = &self.0;
        // SAFETY: the span is mapped, readable and that long until drop, which ends the borrow. Its
        // file bears the seals of `FOR_EVER`: the kernel gave them when nobody had it mapped to be
        // written, and has since let nobody write it, cut it short or map it so. Thus the bytes are
        // there, initialised, and never change.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), *length) }
    }
}

/// Mapped memory, if it is any length at all.
#[derive(Debug)]
struct Span {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: it is memory of this process until drop, wherever the value is moved.
unsafe impl Send for Span {}
// SAFETY: what is given out of `&Span` is bytes that nobody changes (see `Frozen::deref`).
unsafe impl Sync for Span {}

/// Where nothing is mapped: as aligned as a page is.
const NOWHERE: usize = 4096;

impl Span {
    fn map(file: impl AsFd, length: usize, protection: ProtFlags) -> io::Result<Self> {
        if length == 0 {
            let start = NonNull::new(std::ptr::without_provenance_mut(NOWHERE));
            let start = start.expect("that is not zero");
            return Ok(Self { start, length });
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            let (nowhere, flags) = (std::ptr::null_mut(), MapFlags::SHARED);
            rustix::mm::mmap(nowhere, length, protection, flags, file, 0)
        }?;
        let start = NonNull::new(start).expect("a mapping is never at address zero");
        Ok(Self { start, length })
    }

    /// The bytes of a span that was mapped to be written, of a file that nobody else has.
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: called by `frozen_file` alone, which has just made the file, mapped it once and
        // given it to nobody: the bytes are there, zero, writable, and reached by this borrow alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: exactly the range that `map` mapped; all references into it borrow `self`.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(bytes: &[u8]) -> OwnedFd {
        let fill = |room: &mut [u8]| {
            assert!(room.iter().all(|byte| *byte == 0));
            room.copy_from_slice(bytes);
            Ok::<_, io::Error>(())
        };
        frozen_file("test", bytes.len(), fill).unwrap()
    }

    #[test]
    fn everybody_reads_it_and_nobody_changes_it() {
        let file = made(b"for all");
        let (one, two) = (Frozen::new(&file, 7), Frozen::new(&file, 3));
        assert_eq!(
            (&*one.unwrap(), &*two.unwrap()),
            (&b"for all"[..], &b"for"[..])
        );
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(Span::map(&file, 7, ProtFlags::READ | ProtFlags::WRITE).is_err());
    }

    #[test]
    fn nothing_at_all_can_be_frozen_too() {
        assert_eq!(&*Frozen::new(made(b""), 0).unwrap(), b"");
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let file = super::super::mapping::sealed_file("test", 4096).unwrap();
        assert!(Frozen::new(file, 4096).is_err());
        assert!(Frozen::new(made(b"short"), 6).is_err());
    }

    #[test]
    fn what_cannot_be_filled_is_not_made() {
        let fails = |_: &mut [u8]| Err(io::Error::other("no"));
        assert_eq!(frozen_file("test", 9, fails).unwrap_err().to_string(), "no");
    }
}
