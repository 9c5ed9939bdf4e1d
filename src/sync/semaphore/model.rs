//! The semaphore's words in all orders that the memory model allows, with processes that sleep, give up and
//! die.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::slots::{Acquired, HEAD, Slots};
use crate::sync::atom::Memory;
use crate::sync::model::{Kernel, played, process};
use crate::sys::incarnation::Incarnation;

/// What all processes see: a semaphore with one slot.
struct Stage {
    words: [AtomicU64; HEAD + 1],
    kernel: Kernel,
}

impl Memory for Stage {
    type Word = AtomicU64;

    fn word(&self, number: usize) -> &AtomicU64 {
        &self.words[number]
    }
}

/// How somebody's visit ends.
#[derive(Clone, Copy)]
enum End {
    Releases,
    /// Dies with the permit.
    DiesWithIt,
    /// Dies after its release, before it could ring.
    DiesSilently,
}

impl Stage {
    fn new(permits: usize) -> Arc<Self> {
        let stage = Arc::new(Self {
            words: [0; HEAD + 1].map(AtomicU64::new),
            kernel: Kernel::new(),
        });
        stage.slots().fill(permits);
        stage
    }

    fn slots(&self) -> Slots<'_, Self> {
        Slots {
            words: self,
            count: 1,
        }
    }

    /// As `Wait` does it: looks, sleeps until there is news, looks.
    fn acquire(&self, me: Incarnation, starves: bool) -> Acquired {
        let slots = self.slots();
        let mut asked = false;
        let acquired = loop {
            let heard = self.kernel.rings();
            let holders = match slots.claim(me, || 0) {
                Ok(acquired) => break acquired,
                Err(holders) => holders,
            };
            let others: Vec<_> = holders.iter().map(|holder| holder.process).collect();
            let dead = others.iter().find(|other| self.kernel.is_dead(**other));
            if let Some(dead) = dead {
                match slots.inherit(me, *dead) {
                    Some(acquired) => break acquired,
                    None => continue,
                }
            }
            if starves {
                slots.starve(me);
                asked = true;
            }
            self.kernel.sleep(heard, &others);
        };
        self.kernel.ring_if(asked && slots.decline(me));
        acquired
    }

    fn visit(&self, me: Incarnation, starves: bool, end: End) -> Acquired {
        let acquired = self.acquire(me, starves);
        match end {
            End::Releases => {
                let ring = self.slots().release(acquired.slot, me, || 0);
                self.kernel.ring_if(ring);
            }
            End::DiesWithIt => self.kernel.die(me),
            End::DiesSilently => {
                self.slots().release(acquired.slot, me, || 0);
                self.kernel.die(me);
            }
        }
        acquired
    }

    /// As `Semaphore::release` does it, until it dies after so many of the steps.
    fn add(&self, me: Incarnation, steps: usize) {
        let slot = self.slots().place(me).unwrap();
        if steps > 0 {
            self.kernel.ring_if(self.slots().may_sleep());
        }
        let settled = (steps > 1).then(|| self.slots().settle(slot, me, || 0));
        match settled {
            Some(ring) if steps > 2 => self.kernel.ring_if(ring),
            _ => self.kernel.die(me),
        }
    }
}

fn visits<const N: usize>(stage: &Arc<Stage>, visits: [(bool, End); N]) -> [Acquired; N] {
    let mut number = 0;
    let threads = visits.map(|(starves, end)| {
        number += 1;
        let (stage, me) = (stage.clone(), process(number));
        thread::spawn(move || stage.visit(me, starves, end))
    });
    threads.map(|thread| thread.join().unwrap())
}

#[test]
fn nobody_sleeps_for_ever() {
    for starves in [false, true] {
        played(move || {
            let stage = Stage::new(1);
            let told = visits(&stage, [(starves, End::Releases), (starves, End::Releases)]);
            assert!(told.iter().all(|told| !told.orphaned));
            assert_eq!(
                stage.slots().value(|| 0),
                1,
                "nobody waits, so it is nobody's"
            );
        });
    }
}

#[test]
fn a_permit_of_one_who_has_died_comes_back_and_one_is_told() {
    played(|| {
        let stage = Stage::new(1);
        let told = visits(&stage, [(false, End::DiesWithIt), (false, End::Releases)]);
        let late = stage.visit(process(3), false, End::Releases);
        // Whoever came first.
        assert!(!told[0].orphaned);
        assert_eq!(u8::from(told[1].orphaned) + u8::from(late.orphaned), 1);
        assert_eq!(stage.slots().value(|| 0), 1);
    });
}

#[test]
fn a_death_between_release_and_bell_leaves_nobody_asleep() {
    played(|| {
        let stage = Stage::new(1);
        let told = visits(&stage, [(false, End::DiesSilently), (true, End::Releases)]);
        assert!(told.iter().all(|told| !told.orphaned));
    });
}

/// Who adds a permit dies after no step but the first, or one more, or two, or not at all.
#[test]
fn a_permit_that_is_added_is_had_although_whoever_adds_it_dies() {
    for steps in 1..=3 {
        played(move || {
            let stage = Stage::new(0);
            let adds = {
                let stage = stage.clone();
                thread::spawn(move || stage.add(process(1), steps))
            };
            let acquired = stage.acquire(process(2), false);
            assert!(!acquired.orphaned);
            adds.join().unwrap();
        });
    }
}

/// A wait that is given up, in a process to which a permit is being handed.
#[test]
fn who_gives_up_hands_on() {
    played(|| {
        let stage = Stage::new(1);
        let gives_up = {
            let (stage, me) = (stage.clone(), process(1));
            thread::spawn(move || {
                let slots = stage.slots();
                if let Ok(acquired) = slots.claim(me, || 0) {
                    return stage.kernel.ring_if(slots.release(acquired.slot, me, || 0));
                }
                slots.starve(me);
                stage.kernel.ring_if(slots.decline(me));
            })
        };
        stage.visit(process(2), false, End::Releases);
        gives_up.join().unwrap();
        assert_eq!(stage.slots().value(|| 0), 1);
    });
}
