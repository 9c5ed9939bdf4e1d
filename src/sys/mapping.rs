//! A small piece of memory that two processes see, and the only ways to touch it.
//!
//! The other process may write anything there at any time. So nobody gets a plain reference to the
//! memory: words are atomics, and bytes are copied in and out.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A shared mapping, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping is memory of this process until drop, wherever the value is moved; every
// access goes through atomics or through raw copies that the methods below bound.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives atomics and copies only, no plain reference to the memory.
unsafe impl Sync for Mapping {}

/// Makes an anonymous file of `length` zero bytes that nobody can shrink or grow, so that no
/// access to a mapping of it can fault because another process cut it short.
pub(crate) fn sealed_file(name: &str, length: usize) -> io::Result<OwnedFd> {
    let file = open_file(name, length)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL)?;
    Ok(file)
}

/// The same, which can still be given more seals.
pub(crate) fn open_file(name: &str, length: usize) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, length as u64)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// Gives back the memory of an anonymous file from one offset to another. Those bytes are zero then.
pub(crate) fn clear(file: impl AsFd, from: usize, to: usize) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let length = to.saturating_sub(from) as u64;
    Ok(rustix::fs::fallocate(file, flags, from as u64, length)?)
}

/// Makes an anonymous file of these bytes, one part behind the other, that nobody can change.
pub(crate) fn sealed_copy(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(file);
    for part in parts {
        file.write_all(part)?;
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

/// Reads what [`sealed_copy`] has put into a file, whoever else reads it.
pub(crate) fn read_copy(file: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    // Not from the position, which all copies of the descriptor share.
    let length = file.metadata()?.len() as usize;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The same where the file may be another: it must be one that nobody can change any more, and no
/// longer than `limit`.
pub(crate) fn read_sealed_copy(file: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let seals = rustix::fs::fcntl_get_seals(&file)?;
    let length = rustix::fs::fstat(&file)?.st_size;
    let fits = usize::try_from(length).is_ok_and(|length| length <= limit);
    if !fits || !seals.contains(SealFlags::SHRINK | SealFlags::WRITE) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    read_copy(file)
}

impl Mapping {
    /// Maps the first `length` bytes of a file that [`sealed_file`] made at least that long.
    ///
    /// # Errors
    ///
    /// When the file is shorter or may be cut short, or the system has no room for the mapping.
    pub(crate) fn new(file: impl AsFd, length: usize) -> io::Result<Self> {
        let sealed = rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        let size = rustix::fs::fstat(&file)?.st_size;
        if !sealed || size < length as i64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a sealed file of that size",
            ));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let start = NonNull::new(start).expect("a mapping is never at address zero");
        Ok(Self { start, length })
    }

    /// Keeps the mapping out of the processes that this one forks.
    pub(crate) fn keep_from_forks(&self) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping; the advice changes nothing in this process.
        unsafe {
            rustix::mm::madvise(self.start.as_ptr(), self.length, Advice::LinuxDontFork)?;
        }
        Ok(())
    }

    /// The word at a byte offset.
    ///
    /// # Panics
    ///
    /// When the offset is not that of an aligned word within the mapping.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset % 8 == 0 && offset + 8 <= self.length,
            "no word at {offset}"
        );
        // SAFETY: in bounds and aligned (mappings begin at a page), valid until drop, and both
        // processes access these bytes only as an atomic word.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    /// The half word at a byte offset. Whole words and halves of them are never asked for at the
    /// same place.
    ///
    /// # Panics
    ///
    /// When the offset is not that of an aligned half word within the mapping.
    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset % 4 == 0 && offset + 4 <= self.length,
            "no half word at {offset}"
        );
        // SAFETY: in bounds and aligned (mappings begin at a page), valid until drop, and both
        // processes access these bytes only as an atomic half word.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    /// So many atomics, one behind the other, from a byte offset on. Those of different sizes are never
    /// asked for at the same place.
    ///
    /// # Panics
    ///
    /// When they are not aligned there, or not all within the mapping.
    #[inline]
    pub(crate) fn atomics<A: Atomic>(&self, offset: usize, count: usize) -> &[A] {
        let end = count.checked_mul(size_of::<A>());
        let end = end.and_then(|bytes| bytes.checked_add(offset));
        assert!(
            offset % align_of::<A>() == 0 && end.is_some_and(|end| end <= self.length),
            "no {count} atomics at {offset}"
        );
        // SAFETY: in bounds and aligned (mappings begin at a page), valid until drop, and initialised,
        // since any bits are an atomic integer. What others write there is as if a thread did by atomics.
        unsafe {
            let first = self.start.as_ptr().byte_add(offset).cast::<A>();
            std::slice::from_raw_parts(first, count)
        }
    }

    /// Copies `bytes` to an offset.
    ///
    /// # Panics
    ///
    /// When they do not fit there.
    #[inline]
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset <= self.length && bytes.len() <= self.length - offset,
            "copy out of bounds"
        );
        // SAFETY: the destination is in bounds; `bytes` is not part of the mapping, of which no
        // reference is ever given out. Whoever reads there while we write reads garbage bytes,
        // and readers are told by an atomic word which bytes are whole.
        unsafe {
            let target = self.start.as_ptr().byte_add(offset).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    /// Copies bytes from an offset to `target`, as many as that holds.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    #[inline]
    pub(crate) fn copy_to(&self, offset: usize, target: &mut [u8]) {
        assert!(
            offset <= self.length && target.len() <= self.length - offset,
            "copy out of bounds"
        );
        // SAFETY: the source is in bounds; `target` is not part of the mapping, of which no plain
        // reference is given out to bytes that are copied. Any bytes that are found there are bytes.
        unsafe {
            let source = self.start.as_ptr().byte_add(offset).cast::<u8>();
            std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
        }
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr().cast()
    }

    /// Appends a copy of `length` bytes from an offset to `out`.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    pub(crate) fn copy_out(&self, offset: usize, length: usize, out: &mut Vec<u8>) {
        assert!(
            offset <= self.length && length <= self.length - offset,
            "copy out of bounds"
        );
        out.reserve(length);
        // SAFETY: the source is in bounds, and `out` has room for `length` more bytes, which are
        // initialised by the copy before its length says so.
        unsafe {
            let source = self.start.as_ptr().byte_add(offset).cast::<u8>();
            std::ptr::copy_nonoverlapping(source, out.as_mut_ptr().add(out.len()), length);
            out.set_len(out.len() + length);
        }
    }

    /// Writes up to `length` bytes from an offset to a descriptor without copying them first.
    ///
    /// # Panics
    ///
    /// When the range is not within the mapping.
    pub(crate) fn write_to(
        &self,
        fd: impl AsFd,
        offset: usize,
        length: usize,
    ) -> io::Result<usize> {
        assert!(
            offset <= self.length && length <= self.length - offset,
            "write out of bounds"
        );
        // SAFETY: in bounds and alive during the call. The slice exists only for the duration of
        // the call, in which this process does not write to the range: it is the unflushed part
        // of an outbox, which its owner leaves alone until `write` has returned.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().byte_add(offset).cast::<u8>(), length)
        };
        Ok(rustix::io::write(fd, bytes)?)
    }
}

/// An atomic integer.
///
/// # Safety
///
/// Of no more than its bits, which may be any, and all of whose changes through a shared reference are
/// atomic.
pub unsafe trait Atomic: Send + Sync + 'static {}

// SAFETY: that is what they are.
unsafe impl Atomic for AtomicU32 {}
// SAFETY: as above.
unsafe impl Atomic for AtomicI32 {}
// SAFETY: as above.
unsafe impl Atomic for AtomicU64 {}
// SAFETY: as above.
unsafe impl Atomic for AtomicI64 {}
// SAFETY: as above.
unsafe impl Atomic for AtomicUsize {}
// SAFETY: as above.
unsafe impl Atomic for AtomicIsize {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, and nothing refers to it any more: all
        // references into it borrow `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_of_one_file_show_the_same_bytes() {
        let file = sealed_file("test", 8192).unwrap();
        let (one, two) = (
            Mapping::new(&file, 8192).unwrap(),
            Mapping::new(&file, 8192).unwrap(),
        );
        one.word(64).store(7, Ordering::Release);
        one.copy_in(4096, b"hello");
        let mut bytes = b">".to_vec();
        two.copy_out(4096, 5, &mut bytes);
        assert_eq!(
            (two.word(64).load(Ordering::Acquire), &bytes[..]),
            (7, &b">hello"[..])
        );
    }

    #[test]
    fn a_sealed_file_cannot_be_cut_short() {
        let file = sealed_file("test", 4096).unwrap();
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(rustix::fs::ftruncate(&file, 8192).is_err());
    }

    #[test]
    fn a_sealed_copy_is_read_by_everybody_and_changed_by_nobody() {
        let file = sealed_copy("test", &[b"for", b" all"]).unwrap();
        for _ in 0..2 {
            let other = file.try_clone().unwrap();
            assert_eq!(read_copy(other).unwrap(), b"for all");
        }
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
    }

    #[test]
    fn a_file_that_could_be_cut_short_is_refused() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        assert!(Mapping::new(&file, 4096).is_err());
        assert!(Mapping::new(sealed_file("test", 4096).unwrap(), 8192).is_err());
    }

    #[test]
    #[should_panic(expected = "copy out of bounds")]
    fn nothing_is_copied_past_the_end() {
        let mapping = Mapping::new(sealed_file("test", 4096).unwrap(), 4096).unwrap();
        mapping.copy_in(4090, b"too long");
    }
}
