//! The lock's words in all orders that the memory model allows, with processes that sleep, give up and
//! die. The bell and the deaths are the kernel's, and stand here as what is promised of them: a ring
//! is heard by all who listened before, and so is the death of a process by those who attend to it.

use std::num::NonZeroU64;

use loom::model::Builder;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::word::{Acquired, Word, Words};
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

    fn glance(&self) -> u64 {
        self.load(Relaxed)
    }

    fn in_order() {
        fence(SeqCst);
    }
}

/// What all processes see.
struct Stage {
    words: [AtomicU64; 5],
    /// How often the bell was rung, and who has died.
    news: Mutex<(u64, Vec<Incarnation>)>,
    told: Condvar,
    /// What the lock protects: how often it was had. Nobody ever finds this one locked.
    times: Mutex<u32>,
}

/// How somebody's visit ends.
#[derive(Clone, Copy)]
enum End {
    Releases,
    /// Dies with the lock.
    DiesWithIt,
    /// Dies after its release, before it could ring.
    DiesSilently,
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: [0; 5].map(AtomicU64::new),
            news: Mutex::new((0, Vec::new())),
            told: Condvar::new(),
            times: Mutex::new(0),
        })
    }

    fn words(&self) -> Words<'_, AtomicU64> {
        let [owner, sleepers, tainted, starving, handed_at] = &self.words;
        Words {
            owner,
            sleepers,
            tainted,
            starving,
            handed_at,
        }
    }

    fn rings(&self) -> u64 {
        self.news.lock().unwrap().0
    }

    fn ring_if(&self, ring: bool) {
        if ring {
            self.news.lock().unwrap().0 += 1;
            self.told.notify_all();
        }
    }

    fn die(&self, me: Incarnation) {
        self.news.lock().unwrap().1.push(me);
        self.told.notify_all();
    }

    /// As `Wait` does it: looks, sleeps until there is news, looks.
    fn acquire(&self, me: Incarnation, starves: bool) -> Acquired {
        let words = self.words();
        loop {
            let heard = self.rings();
            let holder = match words.claim(me, || 0) {
                Ok(acquired) => return acquired,
                Err(holder) => holder,
            };
            let is_dead = |news: &(u64, Vec<Incarnation>)| news.1.contains(&holder.process);
            if is_dead(&self.news.lock().unwrap()) {
                match words.inherit(me, holder) {
                    Some(acquired) => return acquired,
                    None => continue,
                }
            }
            if starves {
                words.starve(me);
            }
            let mut news = self.news.lock().unwrap();
            while news.0 == heard && !is_dead(&news) {
                news = self.told.wait(news).unwrap();
            }
        }
    }

    /// Acquires it, uses what it protects, and ends the visit.
    fn visit(&self, me: Incarnation, starves: bool, end: End) -> Acquired {
        let acquired = self.acquire(me, starves);
        let alone = self.times.try_lock();
        *alone.expect("nobody else has the lock") += 1;
        match end {
            End::Releases => self.ring_if(self.words().release(me, || 0)),
            End::DiesWithIt => self.die(me),
            End::DiesSilently => {
                self.words().release(me, || 0);
                self.die(me);
            }
        }
        acquired
    }

    fn times(&self) -> u32 {
        *self.times.lock().unwrap()
    }
}

fn process(number: u64) -> Incarnation {
    let word = NonZeroU64::new(number).unwrap();
    Incarnation::of_word(word.get()).unwrap()
}

fn played(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Has each of them visit in a thread of its own, and returns what each was told.
fn visits<const N: usize>(stage: &Arc<Stage>, visits: [(bool, End); N]) -> Vec<Acquired> {
    let mut number = 0;
    let threads = visits.map(|(starves, end)| {
        number += 1;
        let (stage, me) = (stage.clone(), process(number));
        thread::spawn(move || stage.visit(me, starves, end))
    });
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

#[test]
fn each_has_it_alone_and_nobody_sleeps_for_ever() {
    played(|| {
        let stage = Stage::new();
        let told = visits(&stage, [(false, End::Releases), (false, End::Releases)]);
        assert!(stage.times() == 2 && told.iter().all(|told| !told.tainted));
        assert_eq!(stage.words().holder(), None);
    });
}

#[test]
fn who_starves_is_handed_it_and_keeps_nobody_waiting() {
    played(|| {
        let stage = Stage::new();
        let told = visits(&stage, [(true, End::Releases), (true, End::Releases)]);
        assert!(stage.times() == 2 && told.iter().all(|told| !told.tainted));
        // What was handed to one who has gone is had by whoever comes when it is stale.
        let late = stage.words().try_acquire(process(9), || 1_000);
        assert!(late.is_some());
    });
}

#[test]
fn a_death_with_the_lock_taints_it_for_who_comes_after() {
    played(|| {
        let stage = Stage::new();
        let told = visits(&stage, [(false, End::DiesWithIt), (false, End::Releases)]);
        assert_eq!(stage.times(), 2);
        // Whoever came first.
        assert!(!told[0].tainted);
        let next = stage.visit(process(3), false, End::Releases);
        assert!(next.tainted);
        stage.words().mark_sound();
        assert!(!stage.visit(process(3), false, End::Releases).tainted);
    });
}

#[test]
fn a_death_between_release_and_bell_leaves_nobody_asleep() {
    played(|| {
        let stage = Stage::new();
        let told = visits(&stage, [(false, End::DiesSilently), (true, End::Releases)]);
        assert!(stage.times() == 2 && told.iter().all(|told| !told.tainted));
    });
}

/// A wait that is given up, in a process to which the lock is being handed.
#[test]
fn who_gives_up_hands_on() {
    played(|| {
        let stage = Stage::new();
        let gives_up = {
            let (stage, me) = (stage.clone(), process(1));
            thread::spawn(move || {
                let words = stage.words();
                if words.claim(me, || 0).is_ok() {
                    return stage.ring_if(words.release(me, || 0));
                }
                words.starve(me);
                stage.ring_if(words.decline(me));
            })
        };
        let visitor = {
            let stage = stage.clone();
            thread::spawn(move || stage.visit(process(2), false, End::Releases))
        };
        gives_up.join().unwrap();
        visitor.join().unwrap();
        assert_eq!(stage.times(), 1);
        // At worst it is on its way to one who has gone, until it is stale.
        assert!(stage.words().try_acquire(process(3), || 1_000).is_some());
    });
}
