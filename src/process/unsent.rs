//! What this process still has to write when it ends in order.
//!
//! A message that was accepted is written as the other side makes room, in the end by the crate's thread,
//! which ends with the process. So whoever ends it in order waits for that: a process or a worker that has
//! nothing more to do, and, where anything is begun, a program that returns from `main` or calls `exit`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Own;
use crate::sys::exit;

/// Nobody is waited for who has taken nothing for so long.
const PATIENCE: Duration = Duration::from_secs(5);

static WRITING: Own<Writing> = Own::new();
/// The process ends: no message is begun any more.
static ENDING: AtomicBool = AtomicBool::new(false);
/// How many are beginning one.
static BEGINNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This is the thread that writes, which cannot wait for itself.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Writing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    unsent: usize,
    /// How often something was taken.
    taken: u64,
    /// The end of the program waits for this.
    watched: bool,
}

/// A message of which the end of the process waits for the rest.
#[derive(Debug)]
pub(crate) struct Unsent {
    pid: u32,
}

impl Unsent {
    /// Something is written in part, or somebody has promised to write it.
    pub(crate) fn begin() -> Self {
        let mut state = lock(WRITING.get());
        state.unsent += 1;
        if !std::mem::replace(&mut state.watched, true) {
            exit::at_exit(settle_at_exit);
        }
        Self {
            pid: std::process::id(),
        }
    }

    /// The other side has taken something.
    pub(crate) fn advanced(&self) {
        lock(WRITING.get()).taken += 1;
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        // In a copy of this process it is its parent's.
        if self.pid != std::process::id() {
            return;
        }
        let writing = WRITING.get();
        lock(writing).unsent -= 1;
        writing.changed.notify_all();
    }
}

/// Somebody is about to begin a message, until this is dropped.
pub(crate) struct Beginning(());

impl Beginning {
    /// `None` if none is begun any more.
    pub(crate) fn now() -> Option<Self> {
        BEGINNING.fetch_add(1, SeqCst);
        let beginning = Self(());
        (!ENDING.load(SeqCst)).then_some(beginning)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        BEGINNING.fetch_sub(1, SeqCst);
    }
}

/// What this thread does is to write.
pub(super) fn is_the_writer() {
    WRITES.set(true);
}

/// Has no message begun any more, and waits until those that were are written, as long as anybody takes
/// them. To be called before the process ends.
pub(crate) fn settle() {
    if WRITES.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    ENDING.store(true, SeqCst);
    let begun = Instant::now();
    while BEGINNING.load(SeqCst) > 0 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    let writing = WRITING.get();
    let mut state = lock(writing);
    while state.unsent > 0 {
        let before = (state.unsent, state.taken);
        let waited = writing.changed.wait_timeout(state, PATIENCE);
        let (now, limit) = waited.unwrap_or_else(PoisonError::into_inner);
        if limit.timed_out() && (now.unsent, now.taken) == before {
            return;
        }
        state = now;
    }
}

extern "C" fn settle_at_exit() {
    settle();
}

fn lock(writing: &Writing) -> MutexGuard<'_, State> {
    // Nothing panics under it.
    writing.state.lock().unwrap_or_else(PoisonError::into_inner)
}
