//! Memory that one process fills, message after message, and others read where it lies.
//!
//! Its file bears seals by which nobody but its maker, who had it mapped before, can ever write it or
//! cut it short. When a slab may be filled again is said by a [`Lender`]: each message goes with the end
//! of a pipe, and once nobody has a copy of that any more, however he lost it, nobody reads.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::mapping::{self, Mapping};
use super::pipe::pipe;

/// With these a file has the length that it has, and is mapped to be written by nobody who did not
/// have it so before.
const OTHERS_READ: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE);

/// The kind of file that an anonymous one is.
const TMPFS: rustix::fs::FsWord = libc::TMPFS_MAGIC;

/// A slab, as its maker has it.
#[derive(Debug)]
pub(crate) struct Slab {
    file: OwnedFd,
    mapping: Mapping,
    capacity: usize,
}

impl Slab {
    /// Makes one for so many bytes. Memory is taken as it is filled.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors, mappings or addresses.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let file = mapping::open_file("procpool-slab", capacity)?;
        let mapping = Mapping::new(&file, capacity)?;
        // What a task forks off has no use for it.
        mapping.keep_from_forks()?;
        rustix::fs::fcntl_add_seals(&file, OTHERS_READ | SealFlags::SEAL)?;
        Ok(Self {
            file,
            mapping,
            capacity,
        })
    }

    /// How many bytes there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Puts bytes there, from its beginning. Nobody may be reading: whoever was sent the slab has let
    /// go of what came with it.
    ///
    /// # Panics
    ///
    /// When there is no room for them.
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        self.mapping.copy_in(0, bytes);
    }
}

impl AsFd for Slab {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Who knows whether anybody still has what was lent.
#[derive(Debug)]
pub(crate) struct Lender(OwnedFd);

impl Lender {
    /// Begins to lend: the second part goes with what is lent, and all copies of it are closed when
    /// that is not used any more.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors.
    pub(crate) fn lend() -> io::Result<(Self, OwnedFd)> {
        let pipe = pipe()?;
        Ok((Self(pipe.write), pipe.read))
    }

    /// Whether nobody has it any more.
    pub(crate) fn is_over(&self) -> bool {
        let mut end = [PollFd::new(&self.0, PollFlags::empty())];
        let polled = poll(&mut end, Some(&Timespec::default()));
        polled.is_ok() && end[0].revents().contains(PollFlags::ERR)
    }
}

/// A slab that came from somebody else, mapped to be read.
#[derive(Debug)]
pub(crate) struct Window {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: it is memory of this process until drop, wherever the value is moved.
unsafe impl Send for Window {}
// SAFETY: `&Window` gives copies, made by raw pointers; for references in place see `Lent`.
unsafe impl Sync for Window {}

impl Window {
    /// Maps a whole slab.
    ///
    /// # Errors
    ///
    /// When the file is none of a slab; `OutOfMemory` where the system has no room for the mapping.
    pub(crate) fn open(file: impl AsFd) -> io::Result<Self> {
        let sealed = rustix::fs::fcntl_get_seals(&file)?.contains(OTHERS_READ);
        let size = rustix::fs::fstat(&file)?.st_size;
        let length = usize::try_from(size).unwrap_or_default();
        // Sealed files can be made of huge pages as well, and of these the system may have none left
        // when they are read.
        let plain = rustix::fs::fstatfs(&file)?.f_type == TMPFS;
        if !sealed || !plain || length == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a slab"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            let (nowhere, flags) = (std::ptr::null_mut(), MapFlags::SHARED);
            rustix::mm::mmap(nowhere, length, ProtFlags::READ, flags, file, 0)
        }?;
        let start = NonNull::new(start).expect("a mapping is never at address zero");
        Ok(Self { start, length })
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Copies its first bytes, as many as `target` holds.
    ///
    /// # Panics
    ///
    /// When it has fewer.
    pub(crate) fn copy_to(&self, target: &mut [u8]) {
        assert!(target.len() <= self.length, "copy out of bounds");
        // SAFETY: the source is in bounds, and stays there: the file cannot be cut short. `target` is
        // no part of it. What its maker writes meanwhile, if he breaks his word, is bytes as well.
        unsafe {
            let source = self.start.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `open` mapped; all references into it borrow `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
    }
}

/// The bytes of a slab in place, for as long as they are lent.
///
/// # Why a plain reference is sound
///
/// Nobody but the maker of the slab can write it: that is the kernel's promise (seals), and
/// [`Window::open`] has seen that it is given. The maker does so by [`Slab::fill`] alone, once the
/// [`Lender`] says that all copies of `lease` are closed, and one is in here. That he is a program of this build,
/// which does that, is known of one sender alone: the program that has started this process and chosen
/// what it runs (see `task::entry`). [`Lent::by_our_parent`] is for what came from there.
#[derive(Debug)]
pub(crate) struct Lent {
    window: Arc<Window>,
    length: usize,
    _lease: OwnedFd,
}

impl Lent {
    /// The first bytes of a slab that the program we serve has sent together with `lease`; `None` if
    /// it has fewer.
    pub(crate) fn by_our_parent(
        window: Arc<Window>,
        length: usize,
        lease: OwnedFd,
    ) -> Option<Self> {
        (length <= window.length).then_some(Self {
            window,
            length,
            _lease: lease,
        })
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped, readable and that long until the window is dropped, which `self` keeps; and
        // unchanged while `self` has the lease, as the type's page says.
        unsafe { std::slice::from_raw_parts(self.window.start.as_ptr().cast(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_is_read_elsewhere_and_written_by_nobody() {
        let mut slab = Slab::new(8192).unwrap();
        let window = Window::open(&slab).unwrap();
        slab.fill(b"some bytes");
        let mut bytes = [0; 10];
        window.copy_to(&mut bytes);
        assert_eq!((&bytes, window.length()), (b"some bytes", 8192));
        assert!(rustix::io::pwrite(&slab, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&slab, 0).is_err());
        assert!(Mapping::new(&slab, 8192).is_err());
    }

    #[test]
    fn a_file_that_others_could_write_is_no_slab() {
        let file = mapping::sealed_file("test", 4096).unwrap();
        assert!(Window::open(file).is_err());
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Window::open(socket).is_err());
    }

    #[test]
    fn it_is_lent_until_the_last_copy_is_closed() {
        let (lender, lease) = Lender::lend().unwrap();
        let copy = lease.try_clone().unwrap();
        drop(lease);
        assert!(!lender.is_over());
        drop(copy);
        assert!(lender.is_over());
    }

    #[test]
    fn bytes_in_place_are_those_that_were_filled_and_no_more_than_there_are() {
        let mut slab = Slab::new(4096).unwrap();
        slab.fill(b"in place");
        let window = Arc::new(Window::open(&slab).unwrap());
        let lend = |length| Lent::by_our_parent(window.clone(), length, Lender::lend().unwrap().1);
        assert_eq!(&*lend(8).unwrap(), b"in place");
        assert!(lend(4097).is_none());
    }
}
