//! Bytes that are nobody else's business: in memory of their own, which is in no core dump, and wiped
//! before it is given back.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::rand::{GetRandomFlags, getrandom};

use super::mapping;

/// How many bytes are as many as anybody needs.
const LENGTH: usize = 32;

/// Bytes that do not change, until drop.
pub(crate) struct Secret {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is this value's alone until drop, wherever it is moved.
unsafe impl Send for Secret {}
// SAFETY: nothing writes there while anybody has a reference.
unsafe impl Sync for Secret {}

impl Secret {
    /// Keeps a copy of these bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where there are none; where the system has no room for a mapping, or cannot
    /// leave it out of a core dump.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut secret = Self::zeroed(bytes.len())?;
        secret.as_mut_bytes().copy_from_slice(bytes);
        Ok(secret)
    }

    /// Keeps 32 bytes that nobody can guess.
    pub(crate) fn random() -> io::Result<Self> {
        let mut secret = Self::zeroed(LENGTH)?;
        fill_random(secret.as_mut_bytes())?;
        Ok(secret)
    }

    /// Copies them to a file in memory that nobody can change, for another process.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        mapping::sealed_copy("procpool-authkey", &[self.as_bytes()])
    }

    /// Reads what [`to_file`](Self::to_file) has made.
    pub(crate) fn read(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let mut secret = Self::zeroed(file.metadata()?.len() as usize)?;
        // Not from the position, which all copies of the descriptor share.
        file.read_exact_at(secret.as_mut_bytes(), 0)?;
        Ok(secret)
    }

    fn zeroed(length: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast()).expect("a mapping is never at address zero");
        let secret = Self { start, length };
        // SAFETY: the range is exactly this mapping; the advice changes nothing in this process.
        unsafe { rustix::mm::madvise(secret.address(), length, Advice::LinuxDontDump) }?;
        Ok(secret)
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: that many bytes are mapped and initialised from the beginning, until drop, and
        // nothing writes there while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    fn address(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: that many bytes are mapped and writable, and nobody has a reference any more.
        unsafe { libc::explicit_bzero(self.address(), self.length) };
        // SAFETY: the range is exactly this mapping, and this is the last use of it.
        let unmapped = unsafe { rustix::mm::munmap(self.address(), self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// Fills a buffer with what nobody can guess.
///
/// # Errors
///
/// Where the system has no source of that.
pub(crate) fn fill_random(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match getrandom(&mut *buffer, GetRandomFlags::empty()) {
            Ok(count) => buffer = &mut buffer[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping at an address, as the kernel shows them.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines();
        let range = format!("{address:x}-");
        lines.find(|line| line.starts_with(&range)).expect(&range);
        let flags = lines.find(|line| line.starts_with("VmFlags:"));
        flags.unwrap().to_owned()
    }

    #[test]
    fn secrets_are_in_no_core_dump() {
        let secret = Secret::copy_of(b"nobody else's business").unwrap();
        assert_eq!(secret.as_bytes(), b"nobody else's business");
        let flags = flags(secret.address() as usize);
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn chance_does_not_repeat_itself() {
        let [one, other] = [(); 2].map(|()| Secret::random().unwrap());
        assert_ne!(one.as_bytes(), other.as_bytes());
    }

    #[test]
    fn a_secret_goes_to_another_process_in_a_file() {
        let secret = Secret::random().unwrap();
        let file = secret.to_file().unwrap();
        let copy = Secret::read(file).unwrap();
        assert_eq!(copy.as_bytes(), secret.as_bytes());
        assert_eq!(copy.as_bytes().len(), LENGTH);
    }

    #[test]
    fn nothing_is_no_secret() {
        let error = Secret::copy_of(b"").map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
