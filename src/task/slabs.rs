//! Slabs: memory by which large bytes go to another process, as a process keeps it.
//!
//! Fresh pages cost several times what copies cost, so what was used once is used again: *slabs*, which
//! this process fills and others read; *windows* on the slabs of others; and *buffers*, to which is
//! copied what others may still change. All of that is there while somebody [holds](hold) it, a pool or
//! a worker, is bounded, and is given back when it was not used for [`IDLE`]. Of queues there may be
//! thousands, and most have no use for it: for them it is there [as long as it is used](keep_by).
//!
//! A slab goes beside the bytes as two descriptors (`attached`): its file, by which the receiver knows
//! whether he has a window on it already, and a lease. When all copies of the lease are closed, by
//! whoever read the bytes, threw them away or died with them, the slab can be filled again. So nobody
//! needs to say anything, and nobody is believed.

use std::cmp::Reverse;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError, Weak};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::sys::buffer::Buffer;
use crate::sys::clock::Moment;
use crate::sys::slab::{Lender, Slab, Window};

/// What has not been used for so long is given back.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// How many bytes of slabs a process has at most, and of buffers as many, unless it is told otherwise. An
/// item of a queue has no more in slabs, so that everybody can take it out who has one.
pub(crate) const LIMIT: usize = 1024 * 1024 * 1024;

/// The smallest slab.
const SMALLEST: usize = 256 * 1024;

/// How many slabs a process has at most, and how many windows.
const MOST: usize = 64;

/// A slab that is lent has up to four descriptors here: of this part of what the process may have.
const DESCRIPTORS: u64 = 32;

/// How many buffers are kept.
const BUFFERS: usize = 4;

/// What this process has now. A copy of it, forked off, finds its parent's and leaves it alone.
static HERE: RwLock<Weak<Slabs>> = RwLock::new(Weak::new());

/// How items of queues have it kept: see [`keep_by`].
static KEEP: OnceLock<Keep> = OnceLock::new();

type Keep = fn(Arc<Slabs>) -> bool;

/// What a process keeps for large bytes.
pub(crate) struct Slabs {
    pid: u32,
    /// The most bytes of slabs for calls: none where nobody holds it.
    limit: AtomicUsize,
    /// Whether items of queues go by it.
    for_queues: AtomicBool,
    most: usize,
    kept: Mutex<Kept>,
    /// Has [`trim`](Self::trim) called again and again until there is nothing left.
    watch: OnceLock<Watch>,
}

type Watch = Box<dyn Fn(Weak<Slabs>) + Send + Sync>;

/// For what bytes are to go in slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Arguments and results, within the limit of those who hold it.
    Calls,
    /// Items of queues, within [`LIMIT`].
    Queues,
}

#[derive(Default)]
struct Kept {
    slabs: Vec<Shelved>,
    /// How many are being filled just now, and their bytes.
    in_hand: (usize, usize),
    windows: Vec<Seen>,
    buffers: Vec<(Moment, Buffer)>,
    watched: bool,
    /// Whether it is kept for queues.
    stays: bool,
}

/// A slab that was used, and may still be lent.
struct Shelved {
    slab: Slab,
    lender: Option<Lender>,
    used: Moment,
}

/// A window, under the number by which the system knows its file.
struct Seen {
    file: File,
    window: Arc<Window>,
    used: Moment,
}

/// Which file: the device's number, and the file's own.
type File = (u64, u64);

/// Makes sure that there is such a thing in this process, for as long as the share lives, and that it may
/// have so many bytes at least; nothing for none. `watch` has [`Slabs::trim`] called if it is new.
pub(crate) fn hold(
    limit: usize,
    watch: impl Fn(Weak<Slabs>) + Send + Sync + 'static,
) -> Option<Arc<Slabs>> {
    if limit == 0 {
        return None;
    }
    let mut here = HERE.write().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if let Some(slabs) = here.upgrade().filter(|slabs| slabs.pid == pid) {
        slabs.limit.fetch_max(limit, Ordering::Relaxed);
        slabs.watch.get_or_init(|| Box::new(watch));
        return Some(slabs);
    }
    let slabs = Arc::new(Slabs::new(limit));
    slabs.watch.get_or_init(|| Box::new(watch));
    *here = Arc::downgrade(&slabs);
    Some(slabs)
}

/// Says how it is kept for queues: `keep` has [`Slabs::trim_for_queues`] called again and again until
/// there is nothing left, and has its share until then; `false` where it cannot. It is called when
/// something is used that is not kept, so a process that has queues and no large items has nothing at all.
pub(crate) fn keep_by(keep: Keep) {
    KEEP.get_or_init(|| keep);
}

/// Those of this process, made if it has none, for an item of a queue; `None` where that cannot be just
/// now.
pub(super) fn for_queues() -> Option<Arc<Slabs>> {
    KEEP.get()?;
    let slabs = match here() {
        Some(slabs) => slabs,
        None => {
            // As in `here`.
            let mut here = match HERE.try_write() {
                Ok(here) => here,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            let there = here.upgrade();
            let slabs = there.filter(|slabs| slabs.pid == std::process::id());
            let slabs = slabs.unwrap_or_else(|| Arc::new(Slabs::new(0)));
            *here = Arc::downgrade(&slabs);
            slabs
        }
    };
    slabs.for_queues.store(true, Ordering::Relaxed);
    Some(slabs)
}

/// Those of this process, if it has any.
fn here() -> Option<Arc<Slabs>> {
    // In a copy of a process, a thread may have the lock that the copy does not have.
    let here = match HERE.try_read() {
        Ok(here) => here,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    let slabs = here.upgrade()?;
    (slabs.pid == std::process::id()).then_some(slabs)
}

/// Copies bytes to a slab; gives its file and the lease. `None` where there is no room for them: they
/// are to go another way.
pub(super) fn place(purpose: Use, bytes: &[u8]) -> Option<(OwnedFd, OwnedFd)> {
    let slabs = match purpose {
        Use::Calls => here()?,
        Use::Queues => for_queues()?,
    };
    let mut slab = slabs.slab_for(bytes.len(), slabs.limit_for(purpose))?;
    slab.fill(bytes);
    let file = slab.as_fd().try_clone_to_owned();
    let lent = file.and_then(|file| Ok((file, Lender::lend()?)));
    match lent {
        Ok((file, (lender, lease))) => {
            slabs.shelve(slab, Some(lender));
            Some((file, lease))
        }
        Err(_) => {
            slabs.shelve(slab, None);
            None
        }
    }
}

/// The window on a slab that has come.
///
/// # Errors
///
/// When it is none, or there is no room for the mapping.
pub(super) fn window(file: impl AsFd) -> io::Result<Arc<Window>> {
    match here() {
        Some(slabs) => slabs.window(file),
        None => Window::open(file).map(Arc::new),
    }
}

/// The most bytes that a process takes out of the slabs that came with one message.
pub(super) fn limit() -> usize {
    let limit = here().map(|slabs| slabs.limit_for(Use::Calls));
    limit.filter(|limit| *limit > 0).unwrap_or(LIMIT)
}

/// Private memory for so many bytes, which are more than none.
///
/// # Errors
///
/// When there is no room for it.
pub(super) fn buffer(length: usize) -> io::Result<Borrowed> {
    let slabs = here();
    let kept = slabs.as_ref().and_then(|slabs| slabs.buffer_for(length));
    let buffer = match kept {
        Some(buffer) => buffer,
        None => Buffer::new(class(length).unwrap_or(length))?,
    };
    Ok(Borrowed {
        buffer: Some(buffer),
        length,
        home: slabs.map_or_else(Weak::new, |slabs| Arc::downgrade(&slabs)),
    })
}

/// How large a slab is that is made for so many bytes: there are few sizes, so that each is used again.
/// Memory is taken only of what is filled.
fn class(length: usize) -> Option<usize> {
    Some(length.checked_next_power_of_two()?.max(SMALLEST))
}

impl Slabs {
    fn new(limit: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            pid: std::process::id(),
            limit: AtomicUsize::new(limit),
            for_queues: AtomicBool::new(false),
            most: (descriptors / DESCRIPTORS).min(MOST as u64) as usize,
            kept: Mutex::default(),
            watch: OnceLock::new(),
        }
    }

    /// Takes a slab for so many bytes: the smallest that nobody has and that is large enough, or a new one
    /// while there are no more bytes than that limit.
    fn slab_for(&self, length: usize, limit: usize) -> Option<Slab> {
        if limit == 0 {
            return None;
        }
        let capacity = class(length)?;
        let mut kept = self.lock();
        let shelf = kept.slabs.iter().enumerate();
        let found = shelf
            .filter(|(_, one)| one.slab.capacity() >= length && one.is_free())
            // Of the same size the last one that was used: the caches may still have some of it.
            .min_by_key(|(_, one)| (one.slab.capacity(), Reverse(one.used)));
        let slab = match found.map(|(index, _)| index) {
            Some(index) => kept.slabs.swap_remove(index).slab,
            None => {
                self.make_room(&mut kept, capacity, limit)?;
                Slab::new(capacity).ok()?
            }
        };
        kept.in_hand.0 += 1;
        kept.in_hand.1 += slab.capacity();
        Some(slab)
    }

    /// Gives back free slabs, longest unused first, until there is room for another.
    fn make_room(&self, kept: &mut Kept, more: usize, limit: usize) -> Option<()> {
        loop {
            let bytes: usize = kept.slabs.iter().map(|one| one.slab.capacity()).sum();
            let count = kept.slabs.len() + kept.in_hand.0;
            if count < self.most && bytes + kept.in_hand.1 + more <= limit {
                return Some(());
            }
            let shelf = kept.slabs.iter().enumerate();
            let free = shelf.filter(|(_, one)| one.is_free());
            let (oldest, _) = free.min_by_key(|(_, one)| one.used)?;
            kept.slabs.swap_remove(oldest);
        }
    }

    fn shelve(self: &Arc<Self>, slab: Slab, lender: Option<Lender>) {
        let mut kept = self.lock();
        kept.in_hand.0 -= 1;
        kept.in_hand.1 -= slab.capacity();
        let used = Moment::now();
        kept.slabs.push(Shelved { slab, lender, used });
        self.have_watched(kept);
    }

    fn window(self: &Arc<Self>, file: impl AsFd) -> io::Result<Arc<Window>> {
        let stat = rustix::fs::fstat(&file)?;
        let number = (stat.st_dev, stat.st_ino);
        let mut kept = self.lock();
        if let Some(seen) = kept.windows.iter_mut().find(|seen| seen.file == number) {
            seen.used = Moment::now();
            return Ok(seen.window.clone());
        }
        let window = Arc::new(Window::open(file)?);
        let bytes: usize = kept.windows.iter().map(|seen| seen.window.length()).sum();
        if kept.windows.len() >= MOST || bytes + window.length() > self.limit().saturating_mul(2) {
            let oldest = kept.windows.iter().enumerate();
            if let Some((oldest, _)) = oldest.min_by_key(|(_, seen)| seen.used) {
                kept.windows.swap_remove(oldest);
            }
        }
        kept.windows.push(Seen {
            file: number,
            window: window.clone(),
            used: Moment::now(),
        });
        self.have_watched(kept);
        Ok(window)
    }

    fn buffer_for(&self, length: usize) -> Option<Buffer> {
        let mut kept = self.lock();
        let found = kept.buffers.iter().enumerate();
        let fits = found.filter(|(_, (_, buffer))| buffer.len() >= length);
        let (best, _) = fits.min_by_key(|(_, (_, buffer))| buffer.len())?;
        Some(kept.buffers.swap_remove(best).1)
    }

    fn keep_buffer(self: &Arc<Self>, buffer: Buffer) {
        let mut kept = self.lock();
        let bytes: usize = kept.buffers.iter().map(|(_, buffer)| buffer.len()).sum();
        if kept.buffers.len() < BUFFERS && bytes + buffer.len() <= self.limit() {
            kept.buffers.push((Moment::now(), buffer));
            self.have_watched(kept);
        }
    }

    /// Gives back what has not been used for a while; tells whether anything is left.
    pub(crate) fn trim(&self) -> bool {
        self.trim_unused_for(IDLE, |kept| &mut kept.watched)
    }

    /// The same, by who [keeps it for queues](keep_by).
    pub(crate) fn trim_for_queues(&self) -> bool {
        self.trim_unused_for(IDLE, |kept| &mut kept.stays)
    }

    /// Gives back all that is not in use.
    pub(crate) fn clear(&self) {
        self.trim_unused_for(Duration::ZERO, |kept| &mut kept.watched);
    }

    /// Gives back what has not been used for so long, and notes whether the one who has it done goes on.
    fn trim_unused_for(&self, idle: Duration, goes_on: impl Fn(&mut Kept) -> &mut bool) -> bool {
        let mut kept = self.lock();
        let now = Moment::now();
        let fresh = |used: Moment| used.until(now) < idle;
        // Who was lent one has a mapping of his own: it is his now.
        let slabs = split(&mut kept.slabs, |one| fresh(one.used));
        let windows = split(&mut kept.windows, |one| fresh(one.used));
        let buffers = split(&mut kept.buffers, |one| fresh(one.0));
        let left = kept.is_anything();
        *goes_on(&mut kept) = left;
        drop(kept);
        // It takes its time.
        drop((slabs, windows, buffers));
        left
    }

    /// Whether there is anything that could be given back.
    pub(crate) fn is_anything(&self) -> bool {
        self.lock().is_anything()
    }

    fn have_watched(self: &Arc<Self>, mut kept: MutexGuard<'_, Kept>) {
        let watch = self.watch.get();
        let watch = watch.filter(|_| !std::mem::replace(&mut kept.watched, true));
        let keep = KEEP
            .get()
            .filter(|_| self.for_queues.load(Ordering::Relaxed));
        let keep = keep.filter(|_| !std::mem::replace(&mut kept.stays, true));
        drop(kept);
        if let Some(watch) = watch {
            watch(Arc::downgrade(self));
        }
        if keep.is_some_and(|keep| !keep(self.clone())) {
            self.lock().stays = false;
        }
    }

    /// How many bytes of slabs there may be for that.
    fn limit_for(&self, purpose: Use) -> usize {
        let limit = self.limit.load(Ordering::Relaxed);
        match purpose {
            Use::Calls => limit,
            Use::Queues => limit.max(LIMIT),
        }
    }

    /// How many bytes of buffers there may be, and of windows twice as many.
    fn limit(&self) -> usize {
        self.limit_for(match self.for_queues.load(Ordering::Relaxed) {
            true => Use::Queues,
            false => Use::Calls,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out of a list what is not to stay.
fn split<T>(list: &mut Vec<T>, stays: impl Fn(&T) -> bool) -> Vec<T> {
    let (stay, go) = std::mem::take(list).into_iter().partition(stays);
    *list = stay;
    go
}

impl Kept {
    fn is_anything(&self) -> bool {
        !self.slabs.is_empty() || !self.windows.is_empty() || !self.buffers.is_empty()
    }
}

impl Shelved {
    fn is_free(&self) -> bool {
        self.lender.as_ref().is_none_or(Lender::is_over)
    }
}

/// The first bytes of a buffer, which is given back when this is dropped.
pub(super) struct Borrowed {
    /// There until the drop.
    buffer: Option<Buffer>,
    length: usize,
    home: Weak<Slabs>,
}

impl Borrowed {
    /// The bytes, to be written.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        let buffer = self.buffer.as_mut().expect("there until the drop");
        &mut buffer.bytes_mut()[..length]
    }
}

impl Deref for Borrowed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.as_ref().expect("there until the drop")[..self.length]
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let home = self.home.upgrade();
        let home = home.filter(|home| home.pid == std::process::id());
        if let (Some(home), Some(buffer)) = (home, self.buffer.take()) {
            home.keep_buffer(buffer);
        }
    }
}

#[cfg(test)]
mod tests;
