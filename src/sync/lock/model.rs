//! The lock's words in all orders that the memory model allows, with processes that sleep, give up and
//! die.

use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::word::{Acquired, Words};
use crate::sync::model::{Kernel, played, process};
use crate::sys::incarnation::Incarnation;

/// What all processes see.
struct Stage {
    words: [AtomicU64; 5],
    kernel: Kernel,
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
            kernel: Kernel::new(),
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

    /// As `Wait` does it: looks, sleeps until there is news, looks.
    fn acquire(&self, me: Incarnation, starves: bool) -> Acquired {
        let words = self.words();
        let mut asked = false;
        let acquired = loop {
            let heard = self.kernel.rings();
            let holder = match words.claim(me, || 0) {
                Ok(acquired) => break acquired,
                Err(holder) => holder,
            };
            if self.kernel.is_dead(holder.process) {
                match words.inherit(me, holder) {
                    Some(acquired) => break acquired,
                    None => continue,
                }
            }
            if starves {
                words.starve(me);
                asked = true;
            }
            self.kernel.sleep(heard, &[holder.process]);
        };
        self.kernel.ring_if(asked && words.decline(me));
        acquired
    }

    /// Acquires it, uses what it protects, and ends the visit.
    fn visit(&self, me: Incarnation, starves: bool, end: End) -> Acquired {
        let acquired = self.acquire(me, starves);
        let alone = self.times.try_lock();
        *alone.expect("nobody else has the lock") += 1;
        match end {
            End::Releases => self.kernel.ring_if(self.words().release(me, || 0)),
            End::DiesWithIt => self.kernel.die(me),
            End::DiesSilently => {
                self.words().release(me, || 0);
                self.kernel.die(me);
            }
        }
        acquired
    }

    fn times(&self) -> u32 {
        *self.times.lock().unwrap()
    }
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
        assert_eq!(stage.words().holder(), None);
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
                    return stage.kernel.ring_if(words.release(me, || 0));
                }
                words.starve(me);
                stage.kernel.ring_if(words.decline(me));
            })
        };
        let visitor = {
            let stage = stage.clone();
            thread::spawn(move || stage.visit(process(2), false, End::Releases))
        };
        gives_up.join().unwrap();
        visitor.join().unwrap();
        assert_eq!(stage.times(), 1);
        assert_eq!(stage.words().holder(), None);
    });
}
