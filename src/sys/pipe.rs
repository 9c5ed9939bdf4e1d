//! Pipes: made close-on-exec, enlarged within reason, one end non-blocking where wanted.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

/// What a pipe holds unless it is enlarged.
const DEFAULT: usize = 64 * 1024;
/// What a pipe is enlarged to.
const LARGE: usize = 1024 * 1024;

/// By how much all enlarged pipes of this process exceed their first size.
static ENLARGED: AtomicUsize = AtomicUsize::new(0);

/// A pipe's two ends; the enlargement is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The end to read from.
    pub(crate) read: OwnedFd,
    /// The end to write to.
    pub(crate) write: OwnedFd,
}

/// The right to have one enlarged pipe.
#[derive(Debug)]
pub(crate) struct Enlargement(());

/// Makes a pipe, close-on-exec from the start.
pub(crate) fn pipe() -> io::Result<Pipe> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Pipe { read, write })
}

/// Enlarges a pipe if the pipes of this process stay under a quarter of what the system lets an
/// unprivileged user have: beyond the whole of it, every new pipe of that user is one page small.
pub(crate) fn enlarge(end: impl AsFd) -> Option<Enlargement> {
    let claim = Enlargement::claim()?;
    rustix::pipe::fcntl_setpipe_size(end, LARGE).ok()?;
    Some(claim)
}

impl Enlargement {
    fn claim() -> Option<Self> {
        let more = LARGE - DEFAULT;
        let before = ENLARGED.fetch_add(more, Ordering::Relaxed);
        let claim = Self(());
        // A claim that is too much is given back by its drop.
        (before + more <= quarter()).then_some(claim)
    }
}

impl Drop for Enlargement {
    fn drop(&mut self) {
        ENLARGED.fetch_sub(LARGE - DEFAULT, Ordering::Relaxed);
    }
}

/// Reads once into the spare capacity of a buffer.
pub(crate) fn read_more(pipe: impl AsFd, buffer: &mut BytesMut) -> rustix::io::Result<usize> {
    let (read, _) = rustix::io::read(pipe, buffer.spare_capacity_mut())?;
    let count = read.len();
    // SAFETY: `read` has initialised `count` bytes at the start of the spare capacity.
    unsafe { buffer.advance_mut(count) };
    Ok(count)
}

fn quarter() -> usize {
    static QUARTER: OnceLock<usize> = OnceLock::new();
    *QUARTER.get_or_init(|| {
        let pages = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft");
        let pages = pages
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(16_384usize);
        // Zero means that there is no limit.
        let bytes = pages * rustix::param::page_size();
        if bytes == 0 { usize::MAX } else { bytes / 4 }
    })
}

/// Makes reads or writes at this end return at once.
pub(crate) fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&end)?;
    Ok(rustix::fs::fcntl_setfl(end, flags | OFlags::NONBLOCK)?)
}
