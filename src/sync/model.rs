//! What the models of all primitives share: words that a model checker watches, and the kernel as far as it
//! matters. The bell and the deaths are the kernel's, and stand here as what is promised of them: a ring is
//! heard by all who listened before, and so is the death of a process by those who attend to it.

use std::num::NonZeroU64;

use loom::model::Builder;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Condvar, Mutex};

use super::atom::Word;
use crate::sys::incarnation::Incarnation;

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(SeqCst)
    }

    fn store(&self, value: u64) {
        self.store(value, SeqCst);
    }

    fn swap(&self, value: u64) -> u64 {
        self.swap(value, SeqCst)
    }

    fn change(&self, from: u64, to: u64) -> Result<(), u64> {
        self.compare_exchange(from, to, SeqCst, SeqCst).map(drop)
    }

    fn count(&self) -> u64 {
        self.fetch_add(1, SeqCst)
    }

    fn glance(&self) -> u64 {
        self.load(Relaxed)
    }

    fn in_order() {
        fence(SeqCst);
    }
}

/// One bell, and the ends of processes.
pub(super) struct Kernel {
    /// How often the bell was rung, and who has died.
    news: Mutex<(u64, Vec<Incarnation>)>,
    told: Condvar,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self {
            news: Mutex::new((0, Vec::new())),
            told: Condvar::new(),
        }
    }

    /// How often the bell was rung.
    pub(super) fn rings(&self) -> u64 {
        self.news.lock().unwrap().0
    }

    pub(super) fn ring_if(&self, ring: bool) {
        if ring {
            self.news.lock().unwrap().0 += 1;
            self.told.notify_all();
        }
    }

    pub(super) fn die(&self, me: Incarnation) {
        self.news.lock().unwrap().1.push(me);
        self.told.notify_all();
    }

    pub(super) fn is_dead(&self, process: Incarnation) -> bool {
        self.news.lock().unwrap().1.contains(&process)
    }

    /// Sleeps until the bell is rung once more than it was heard, or one of those processes dies.
    pub(super) fn sleep(&self, heard: u64, attended: &[Incarnation]) {
        let mut news = self.news.lock().unwrap();
        while news.0 == heard && !attended.iter().any(|one| news.1.contains(one)) {
            news = self.told.wait(news).unwrap();
        }
    }
}

/// The number of a process.
pub(super) fn process(number: u64) -> Incarnation {
    let word = NonZeroU64::new(number).unwrap();
    Incarnation::of_word(word.get()).unwrap()
}

/// Plays it in all orders with at most three preemptions.
pub(super) fn played(model: impl Fn() + Send + Sync + 'static) {
    played_within(3, model);
}

/// Plays it in all orders with at most so many preemptions.
pub(super) fn played_within(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
