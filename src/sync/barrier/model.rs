//! The barrier's words in all orders that the memory model allows, with parties that sleep, give up and die.

use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::phase::{Phase, Stage as Is, Why};
use super::room::{Door, HEAD, Room};
use crate::sync::atom::Memory;
use crate::sync::model::{Kernel, played_within, process};
use crate::sys::incarnation::Incarnation;

const PARTIES: usize = 2;

/// What all processes see.
struct Stage {
    words: [AtomicU64; HEAD + PARTIES],
    kernel: Kernel,
    door: Mutex<()>,
}

impl Memory for Stage {
    type Word = AtomicU64;

    fn word(&self, number: usize) -> &AtomicU64 {
        &self.words[number]
    }
}

/// Why a party has not passed; `None` for a reset.
type Failed = Option<Why>;

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: [0; HEAD + PARTIES].map(AtomicU64::new),
            kernel: Kernel::new(),
            door: Mutex::new(()),
        })
    }

    fn room(&self) -> Room<'_, Self> {
        Room {
            words: self,
            parties: PARTIES,
        }
    }

    /// As `Wait` does it: comes in, and tells its place and whether it is the last.
    fn enter(&self, me: Incarnation) -> Result<(usize, bool), Failed> {
        loop {
            if let Some(entered) = self.knock(me)? {
                return Ok(entered);
            }
            self.sleep(me, false)?;
        }
    }

    fn knock(&self, me: Incarnation) -> Result<Option<(usize, bool)>, Failed> {
        let _locked = self.door.lock().unwrap();
        loop {
            let coming = match self.room().come(me) {
                Door::Open(coming) => coming,
                Door::Shut => return Ok(None),
                Door::Broken(why) => return Err(Some(why)),
            };
            self.kernel
                .ring_if(coming.is_new && self.room().may_sleep());
            if let Some(all) = self.room().step_in(coming, me) {
                return Ok(Some((coming.place, all)));
            }
        }
    }

    fn outcome(&self, is_in: bool) -> Option<Result<(), Failed>> {
        let room = self.room();
        match room.phase().stage {
            Is::Broken(why) => Some(Err(Some(why))),
            Is::Filling if is_in => None,
            Is::Filling => (room.inside().count() < PARTIES).then_some(Ok(())),
            Is::Passed | Is::PassedBreaks(_) if is_in => Some(Ok(())),
            Is::Resetting if is_in => Some(Err(None)),
            Is::Passed | Is::PassedBreaks(_) | Is::Resetting => room.settle().then_some(Ok(())),
        }
    }

    /// Looks, sleeps until there is news, looks.
    fn sleep(&self, me: Incarnation, is_in: bool) -> Result<(), Failed> {
        loop {
            let heard = self.kernel.rings();
            self.room().about_to_sleep();
            if let Some(outcome) = self.outcome(is_in) {
                return outcome;
            }
            let others = self.room().others(me);
            match others.iter().find(|other| self.kernel.is_dead(**other)) {
                Some(dead) => {
                    self.room().bury(*dead);
                    self.kernel.ring_if(self.room().has_sleepers());
                }
                None => self.kernel.sleep(heard, &others),
            }
        }
    }

    fn change(&self, to: impl Fn(Phase) -> Option<Phase>) {
        let changed = self.room().change(to);
        self.kernel.ring_if(changed && self.room().has_sleepers());
    }

    fn leave(&self, place: usize, me: Incarnation) {
        let is_empty = self.room().leave(place, me);
        self.kernel.ring_if(is_empty && self.room().has_sleepers());
    }

    /// Waits for one round.
    fn wait(&self, number: u64) -> Result<usize, Failed> {
        let me = process(number);
        let (place, is_last) = self.enter(me)?;
        // Whom the last one finds dead breaks it for him as well.
        let others = self.room().others(me);
        let dead = others.iter().find(|other| self.kernel.is_dead(**other));
        match dead {
            Some(dead) => self.room().bury(*dead),
            None if is_last => self.change(Phase::pass),
            None => {}
        }
        let passed = self.sleep(me, true);
        self.leave(place, me);
        passed.map(|()| place)
    }

    /// Comes in, if it can, and goes as told.
    fn wait_and(&self, number: u64, dies: bool) {
        let me = process(number);
        let entered = self.enter(me);
        if dies {
            return self.kernel.die(me);
        }
        if let Ok((place, _)) = entered {
            self.change(|phase| phase.break_round(Why::LeftEarly));
            self.leave(place, me);
        }
    }

    /// As `abort` and `reset` do it, for one who dies before he can ring.
    fn change_and_die(&self, number: u64, to: impl Fn(Phase) -> Option<Phase>) {
        let me = process(number);
        self.kernel.ring_if(self.room().announce(me));
        self.room().change(to);
        self.kernel.die(me);
    }

    fn is_new(&self) -> bool {
        self.room().phase().stage == Is::Filling && self.room().inside().count() == 0
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
fn all_pass_each_with_a_number_of_its_own() {
    played_within(2, || {
        let stage = Stage::new();
        let other = thread(&stage, |stage| [stage.wait(1), stage.wait(1)]);
        let (first, second) = (stage.wait(2), stage.wait(2));
        let others = other.join().unwrap();
        for (one, other) in [first, second].into_iter().zip(others) {
            assert_eq!(one.unwrap() + other.unwrap(), 1);
        }
        assert!(stage.is_new());
    });
}

#[test]
fn whoever_leaves_or_dies_breaks_it_for_the_others() {
    for dies in [false, true] {
        played_within(2, move || {
            let stage = Stage::new();
            let leaves = thread(&stage, move |stage| stage.wait_and(1, dies));
            let why = if dies { Why::Died } else { Why::LeftEarly };
            // Where both are in before that it is no matter any more.
            assert!(stage.wait(2).err().is_none_or(|failed| failed == Some(why)));
            leaves.join().unwrap();
        });
    }
}

#[test]
fn an_abort_is_heard_although_its_caller_dies() {
    played_within(3, || {
        let stage = Stage::new();
        let aborts = thread(&stage, |stage| {
            stage.change_and_die(9, |phase| phase.break_up(Why::Aborted));
        });
        assert_eq!(stage.wait(1), Err(Some(Why::Aborted)));
        aborts.join().unwrap();
    });
}

#[test]
fn a_reset_ends_one_round_and_begins_another() {
    played_within(2, || {
        let stage = Stage::new();
        let (place, is_last) = stage.enter(process(1)).unwrap();
        assert!(!is_last);
        let waits = thread(&stage, move |stage| {
            let ended = stage.sleep(process(1), true);
            stage.leave(place, process(1));
            ended
        });
        stage.change(Phase::reset);
        stage.room().settle();
        assert_eq!(waits.join().unwrap(), Err(None));
        assert!(stage.is_new());
    });
}
