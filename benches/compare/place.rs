//! Which cores the subjects run on. Threads and processes inherit that from the thread that starts them, so a
//! workload says it before it starts anything.

use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where both sides of a call are. A wake-up on the same core is a switch from one process to the other; on
/// another core it is an interrupt, which costs many times as much on a virtual machine. Where nothing is said, the
/// system decides between the two, anew from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Both on one core.
    Pinned,
    /// Each on a core of its own.
    Cross,
    /// Wherever the system likes.
    Free,
}

impl Place {
    /// How many workers a subject has here: as many as it can use.
    pub(crate) fn workers(self) -> usize {
        match self {
            Self::Pinned | Self::Cross => 1,
            Self::Free => cores(),
        }
    }

    /// Puts this thread in the place of the side that calls.
    pub(crate) fn take(self) {
        match self {
            Self::Pinned | Self::Cross => pin(allowed()[0]),
            Self::Free => unpin(),
        }
    }

    /// Puts this thread in the place of the side that is called.
    pub(crate) fn take_theirs(self) {
        match self.theirs() {
            Some(core) => pin(core),
            None => unpin(),
        }
    }

    /// The core of the side that is called, if it is to be on one.
    pub(crate) fn theirs(self) -> Option<usize> {
        match self {
            Self::Pinned => Some(allowed()[0]),
            Self::Cross => allowed().last().copied(),
            Self::Free => None,
        }
    }

    /// Starts something that is to be called.
    pub(crate) fn start<T>(self, start: impl FnOnce() -> T) -> T {
        self.take_theirs();
        let started = start();
        self.take();
        started
    }
}

/// The cores that this program may use.
pub(crate) fn cores() -> usize {
    allowed().len()
}

/// As they were when this was first asked, which is before anything is pinned.
fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let set = sched_getaffinity(None).expect("every thread has some");
        (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect()
    })
}

fn pin(core: usize) {
    restrict(&[core]);
}

fn unpin() {
    restrict(allowed());
}

fn restrict(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).expect("they were allowed before");
}

/// Waits until `procpool`'s own thread has ended, which a pool of the next workload would else find in the
/// place of the last one's.
pub(crate) fn settle() {
    Place::Free.take();
    let begun = Instant::now();
    while is_keeper_there() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "a pool does not end"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_keeper_there() -> bool {
    let threads = fs::read_dir("/proc/self/task").expect("this process has threads");
    let mut names =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.any(|name| name.trim_end() == "procpool-keeper")
}
