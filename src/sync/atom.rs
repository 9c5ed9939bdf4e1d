//! Atomic words in shared memory, or such as a model checker watches, so that what is done to them can be
//! played in all orders.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::cell::Cell;

/// One word. All operations are sequentially consistent, but for a glance.
pub(super) trait Word {
    fn load(&self) -> u64;
    fn store(&self, value: u64);
    fn swap(&self, value: u64) -> u64;
    /// Changes `from` into `to`, or tells what was there instead.
    fn change(&self, from: u64, to: u64) -> Result<(), u64>;
    /// Adds one, and gives what was there before.
    fn count(&self) -> u64;
    /// A look without order, for what is a hint only.
    fn glance(&self) -> u64;
    /// Stands between two of the above that everybody has to see in this order. The model checker
    /// knows such an order by fences alone; outside of it the operations have it themselves.
    fn in_order() {}

    /// Sees to it that it is at least that.
    fn raise(&self, least: u64) {
        let mut found = self.load();
        while found < least {
            match self.change(found, least) {
                Ok(()) => return,
                Err(other) => found = other,
            }
        }
    }
}

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
}

/// Words by their numbers.
pub(super) trait Memory {
    type Word: Word;

    fn word(&self, number: usize) -> &Self::Word;
}

impl Memory for Cell {
    type Word = AtomicU64;

    fn word(&self, number: usize) -> &AtomicU64 {
        self.word(number)
    }
}
