//! A call that is the only one, and whether its caller waits for the answer awake.
//!
//! To be woken costs more than most short calls, on virtual machines several times as much. So where one
//! short call follows another, whoever awaits the answer looks for it for a while before he sleeps. He
//! finds it in the worker's page, which saves the worker a write and the serving task a turn. What that
//! costs is bounded: nothing without calls, [`LONGEST`] a call, nearly nothing where it is in vain time
//! and again; and nobody else on the runtime waits longer than a [`SPELL`] for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::sched_getcpu;

use super::Driver;
use super::state::State;
use crate::pool::scheduler::{JobKey, WorkerId};
use crate::supervisor::slot::Sight;
use crate::sys::clock::Moment;

/// For how long an answer is awaited awake.
const LONGEST: Duration = Duration::from_micros(30);
/// A call that is expected to take longer is awaited asleep.
const SOON: Duration = Duration::from_micros(20);
/// For how long the caller looks before the others on his runtime have their turn.
const SPELL: Duration = Duration::from_micros(5);
/// If their turn takes longer, they have something to do.
const TURN: Duration = Duration::from_micros(10);
/// If answers are there at once, the runtime has its turn after so long.
const LAST_TURN: Duration = Duration::from_micros(50);
/// Calls that follow each other within this are a conversation.
const PAUSE: Duration = Duration::from_millis(1);
/// Each time that it was in vain, twice as many calls are awaited asleep; so often. Each time that
/// it was not, half as many the next time.
const DOUBLINGS: u32 = 10;

/// The number of the call whose answer is awaited awake, as it is seen without the lock; zero for none.
#[derive(Debug, Default)]
pub(super) struct Lone(AtomicU64);

/// How it has gone so far. What decides is here.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// For how long an answer is to be awaited awake, if that was said: then it is done each time.
    asked_for: Option<Duration>,
    /// When the last call was sent that was the only one.
    sent: Moment,
    /// The last call whose answer was awaited awake; zero if that is told.
    call: u64,
    /// Until when it is.
    until: Moment,
    /// When its caller is to look again.
    again: Moment,
    /// When the runtime had its turn last.
    turn: Moment,
    /// How much oftener it was in vain than not.
    misses: u32,
    /// How many calls are to be awaited asleep.
    skips: u32,
}

impl Patience {
    pub(super) fn new(asked_for: Option<Duration>) -> Self {
        Self {
            asked_for,
            ..Self::default()
        }
    }

    /// A call was sent that is the only one, and `awake` is the one whose answer is awaited awake now,
    /// which is none if that was given up. Tells whether to await this one's awake.
    fn sent(&mut self, now: Moment, call: u64, expected: Option<Duration>, awake: u64) -> bool {
        if let Some(limit) = self.asked_for {
            (self.until, self.again) = (now + limit, now + limit);
            return expected.is_none_or(|expected| expected < limit);
        }
        let pause = std::mem::replace(&mut self.sent, now).until(now);
        match std::mem::take(&mut self.call) {
            0 => {}
            last if last == awake => self.misses = self.misses.saturating_sub(1),
            _ => {
                self.misses = (self.misses + 1).min(DOUBLINGS);
                self.skips = (1 << self.misses) - 1;
            }
        }
        if pause > PAUSE || expected.is_none_or(|expected| expected > SOON) {
            return false;
        }
        if self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        (self.call, self.until, self.again) = (call, now + LONGEST, now + LONGEST);
        true
    }

    /// Until when its caller may look this time, which is over at once if the runtime is to have its
    /// turn; `None` if he is to sleep.
    fn spell(&mut self, now: Moment) -> Option<Moment> {
        if now >= self.until || self.again.until(now) > TURN {
            return None;
        }
        if self.turn.until(now) > LAST_TURN {
            (self.again, self.turn) = (now, now);
        } else {
            self.again = (now + SPELL).min(self.until);
        }
        Some(self.again)
    }
}

impl Driver {
    /// A call was sent that is the only one, to a worker that had nothing to do.
    pub(super) fn sent_alone(&self, state: &mut State, now: Moment, worker: WorkerId, key: JobKey) {
        if let Some(slot) = state.slot(worker).filter(|_| self.plan.busy_poll.is_some()) {
            slot.page.calls_from(sched_getcpu());
        }
        let expected = state.scheduler.expected_run(key);
        let awake = self.lone.0.load(Ordering::Relaxed);
        if state.patience.sent(now, key.number(), expected, awake) {
            self.lone.0.store(key.number(), Ordering::Relaxed);
        }
    }

    /// Whether the answer to this call is awaited awake.
    pub(crate) fn is_lone(&self, key: JobKey) -> bool {
        self.lone.0.load(Ordering::Relaxed) == key.number()
    }

    /// Looks for that answer for a [`SPELL`]; `false` if its caller is not to look again.
    pub(crate) fn look(&self, key: JobKey) -> bool {
        let now = Moment::now();
        let mut state = self.lock();
        if !state.scheduler.is_open(key) {
            // It came while others had their turn.
            return false;
        }
        let alone = state.scheduler.unfinished() == 1;
        let sent = state.scheduler.holder(key).filter(|_| alone);
        let slot = sent.and_then(|(worker, _)| state.slot(worker).cloned());
        let spell = slot.and_then(|slot| Some((slot, state.patience.spell(now)?)));
        drop(state);
        if let Some((slot, until)) = spell {
            if until <= now || slot.look(self, until) != Sight::Barred {
                return true;
            }
        }
        self.lone.0.store(0, Ordering::Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_micros(1));

    fn at(micros: u64) -> Moment {
        Moment(1_000_000_000 + micros * 1_000)
    }

    #[test]
    fn only_short_calls_that_follow_each_other_are_awaited_awake() {
        let mut patience = Patience::default();
        assert!(!patience.sent(at(0), 1, SHORT, 0), "the first of all");
        assert!(!patience.sent(at(10), 2, None, 0), "nothing is known of it");
        assert!(!patience.sent(at(20), 3, Some(SOON * 2), 0), "it is long");
        assert!(patience.sent(at(30), 4, SHORT, 0));
        assert!(patience.sent(at(1_000), 5, SHORT, 4));
        assert!(!patience.sent(at(2_001), 6, SHORT, 5), "too long a pause");
        assert!(patience.sent(at(2_002), 7, SHORT, 0));
    }

    #[test]
    fn where_it_is_asked_for_it_is_done_each_time() {
        let mut patience = Patience::new(Some(Duration::from_micros(50)));
        assert!(patience.sent(at(0), 1, None, 0), "the first of all");
        assert!(patience.sent(at(1_000_000), 2, SHORT, 0), "in vain before");
        assert_eq!(patience.spell(at(1_000_048)), Some(at(1_000_048)));
        assert_eq!(patience.spell(at(1_000_049)), Some(at(1_000_050)));
        assert_eq!(patience.spell(at(1_000_050)), None);
        assert!(!patience.sent(at(1_000_060), 3, Some(SOON * 5), 2));
        let mut never = Patience::new(Some(Duration::ZERO));
        never.sent(at(0), 1, SHORT, 0);
        assert_eq!(never.spell(at(0)), None);
    }

    #[test]
    fn whoever_waits_awake_gives_others_their_turn_and_stops_when_they_take_it() {
        let mut patience = Patience::default();
        patience.sent(at(0), 1, SHORT, 0);
        assert!(patience.sent(at(1), 2, SHORT, 0));
        assert_eq!(patience.spell(at(2)), Some(at(2)), "a turn before all");
        assert_eq!(patience.spell(at(2)), Some(at(7)));
        assert_eq!(patience.spell(at(8)), Some(at(13)));
        assert_eq!(patience.spell(at(29)), None, "others have used their turn");
        assert_eq!(patience.spell(at(31)), None, "time is up");
    }

    #[test]
    fn the_runtime_has_its_turn_even_if_every_answer_is_there_at_once() {
        let mut patience = Patience::new(Some(Duration::from_micros(50)));
        let mut turns = 0;
        for call in 0..1_000 {
            patience.sent(at(call), call, SHORT, 0);
            turns += u32::from(patience.spell(at(call)) == Some(at(call)));
        }
        assert_eq!(turns, 1_000 / 51 + 1);
    }

    #[test]
    fn what_is_in_vain_is_done_less_and_less() {
        let mut patience = Patience::default();
        let mut vain = |call: &u64| patience.sent(at(*call), *call, SHORT, 0);
        assert!((1..=5_000).filter(&mut vain).count() <= 14);
        let last = (5_001..).find(&mut vain).unwrap();
        // One that is answered in time changes that.
        assert!(patience.sent(at(last + 1), last + 1, SHORT, last));
    }
}
