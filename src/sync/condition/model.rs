//! The condition's words in all orders that the memory model allows, with processes that sleep, give up and
//! die.

use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::table::{Entry, HEAD, Table, WORDS};
use crate::sync::atom::Memory;
use crate::sync::model::{Kernel, played, played_within, process};

const ENTRIES: usize = 2;

/// What all processes see.
struct Stage {
    words: [AtomicU64; HEAD + WORDS * ENTRIES],
    kernel: Kernel,
    lock: Mutex<()>,
}

impl Memory for Stage {
    type Word = AtomicU64;

    fn word(&self, number: usize) -> &AtomicU64 {
        &self.words[number]
    }
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: [0; HEAD + WORDS * ENTRIES].map(AtomicU64::new),
            kernel: Kernel::new(),
            lock: Mutex::new(()),
        })
    }

    fn table(&self) -> Table<'_, Self> {
        Table {
            words: self,
            count: ENTRIES,
        }
    }

    fn enter(&self, number: u64) -> Entry {
        let _locked = self.lock.lock().unwrap();
        self.table().enter(process(number)).unwrap()
    }

    /// As `Condition::notify` does it.
    fn notify(&self, most: usize) -> usize {
        let _locked = self.lock.lock().unwrap();
        let lives = |process| !self.kernel.is_dead(process);
        let notified = self.table().notify(most, lives);
        self.kernel
            .ring_if(notified > 0 && self.table().has_sleepers());
        notified
    }

    /// As `Wait` does it: looks, sleeps until there is news, looks. Whom it has last seen to be notified
    /// it attends to, where `Wait` looks from time to time.
    fn wait(&self, mut entry: Entry) -> Entry {
        loop {
            let heard = self.kernel.rings();
            match self.table().look(&mut entry) {
                Ok(true) => return entry,
                Ok(false) => {}
                Err(()) => {
                    self.kernel.ring_if(true);
                    continue;
                }
            }
            let notified = self.table().notified();
            let dead = notified.iter().find(|other| self.kernel.is_dead(**other));
            if let Some(dead) = dead {
                let inherited = self.table().inherit(*dead, &mut entry);
                self.kernel.ring_if(inherited.is_err());
                continue;
            }
            self.kernel.sleep(heard, &notified);
        }
    }

    fn wait_and_leave(&self, entry: Entry) -> bool {
        let entry = self.wait(entry);
        let _locked = self.lock.lock().unwrap();
        self.table().leave(&entry)
    }

    fn is_empty(&self) -> bool {
        let table = self.table();
        table.waiting().next().is_none() && table.notified().is_empty()
    }
}

fn thread<T: 'static>(
    stage: &Arc<Stage>,
    does: impl FnOnce(&Stage) -> T + 'static,
) -> thread::JoinHandle<T> {
    let stage = Arc::clone(stage);
    thread::spawn(move || does(&stage))
}

#[test]
fn each_notification_wakes_one() {
    // A third takes half a minute, and has found nothing.
    played_within(2, || {
        let stage = Stage::new();
        let waits = [1, 2].map(|number| {
            let entry = stage.enter(number);
            thread(&stage, move |stage| stage.wait_and_leave(entry))
        });
        assert_eq!(stage.notify(1) + stage.notify(1), 2);
        assert!(waits.map(|wait| wait.join().unwrap()) == [true; 2]);
        assert!(stage.is_empty() && stage.notify(1) == 0);
    });
}

#[test]
fn who_gives_up_leaves_his_notification_to_another() {
    played(|| {
        let stage = Stage::new();
        let [one, other] = [1, 2].map(|number| stage.enter(number));
        let gives_up = thread(&stage, move |stage| {
            let ring = stage.table().abandon(&one);
            stage.kernel.ring_if(ring);
        });
        let waits = thread(&stage, move |stage| stage.wait_and_leave(other));
        assert_eq!(stage.notify(1), 1);
        gives_up.join().unwrap();
        assert!(waits.join().unwrap());
        assert!(stage.is_empty());
    });
}

#[test]
fn of_two_that_are_notified_none_takes_what_another_leaves() {
    played(|| {
        let stage = Stage::new();
        let [one, other] = [1, 2].map(|number| stage.enter(number));
        let waits = thread(&stage, move |stage| stage.wait_and_leave(other));
        let notified = thread(&stage, |stage| stage.notify(1) + stage.notify(1));
        let ring = stage.table().abandon(&one);
        stage.kernel.ring_if(ring);
        assert!(waits.join().unwrap());
        let notified = notified.join().unwrap();
        // What nobody wants any more wakes nobody who comes later.
        let mut late = stage.enter(3);
        assert!(notified <= 2 && stage.table().look(&mut late) == Ok(false));
    });
}

#[test]
fn the_notification_of_one_who_dies_is_not_lost() {
    played(|| {
        let stage = Stage::new();
        let [one, other] = [1, 2].map(|number| stage.enter(number));
        let waits = thread(&stage, move |stage| stage.wait_and_leave(other));
        let dies = thread(&stage, move |stage| {
            stage.wait(one);
            stage.kernel.die(process(1));
        });
        assert_eq!(stage.notify(1), 1);
        assert!(waits.join().unwrap());
        dies.join().unwrap();
        assert!(stage.is_empty());
    });
}

#[test]
fn who_is_dead_already_is_passed_by() {
    played(|| {
        let stage = Stage::new();
        let [_, other] = [1, 2].map(|number| stage.enter(number));
        stage.kernel.die(process(1));
        let waits = thread(&stage, move |stage| stage.wait_and_leave(other));
        assert_eq!(stage.notify(1), 1);
        assert!(waits.join().unwrap());
        assert!(stage.is_empty());
    });
}
