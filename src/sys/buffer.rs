//! Private memory for large messages, which is kept and used again.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Private memory to copy large messages to, which is kept and used again: fresh pages cost more than
/// the copies. Zero at first.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: it is memory of this process until drop, wherever the value is moved, and has one owner.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` gives plain shared references; to write takes `&mut`.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Makes one of so many bytes, which are not zero in number.
    ///
    /// # Errors
    ///
    /// When the system has no room for it.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let nowhere = std::ptr::null_mut();
            rustix::mm::mmap_anonymous(nowhere, length, protection, MapFlags::PRIVATE)
        }?;
        // SAFETY: the range is exactly this mapping, and the advice changes nothing that can be seen.
        // Where the system has no huge pages it is refused, and nothing is lost.
        let _ = unsafe { rustix::mm::madvise(start, length, Advice::LinuxHugepage) };
        let start = NonNull::new(start).expect("a mapping is never at address zero");
        Ok(Self { start, length })
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, initialised (zero at first), and this borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped, initialised (zero at first), and written through `&mut self` alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; all references into it borrow `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zero_and_then_what_was_written() {
        let mut buffer = Buffer::new(5000).unwrap();
        assert!(buffer.len() == 5000 && buffer.iter().all(|byte| *byte == 0));
        buffer.bytes_mut()[4999] = 7;
        assert_eq!(buffer[4999], 7);
    }
}
