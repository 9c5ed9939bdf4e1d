//! When a worker may be started, and when to give up: pure, told the time by its caller.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sys::clock::Moment;

/// This many failed starts in a row break the pool …
const FAILURES: usize = 5;
/// … when they lie within this time of each other. What the starts themselves took does not
/// count, or five workers that hang at start would never be a loop.
const WINDOW: Duration = Duration::from_secs(10);
/// The first pause between failed starts; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the system may refuse new processes while no worker lives, before that is an error.
const REFUSAL_LIMIT: Duration = Duration::from_secs(120);
/// A worker that dies within this time of being ready, with no call begun in it, was barren.
const BARREN_LIFE: Duration = Duration::from_secs(1);
/// The longest pause between starts that lead to nothing else.
const LONGEST_BARREN_PAUSE: Duration = Duration::from_secs(1);

/// What to do after a start has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again, no earlier than this.
    RetryAt(Moment),
    /// Give up.
    Break,
}

/// Counts failed starts, which only a start that succeeds makes it forget; and barren lives, which
/// are forgotten as soon as any worker is good for anything.
#[derive(Debug, Default)]
pub(crate) struct StartPolicy {
    in_a_row: usize,
    /// When the latest of them ended, each moved on by what the attempts after it took.
    latest: VecDeque<Moment>,
    refused_since: Option<Moment>,
    proven: bool,
    not_before: Moment,
    barren: Barren,
}

/// Workers that became ready and died, one after the other.
#[derive(Debug, Default)]
struct Barren {
    in_a_row: usize,
    /// When the latest that counts died.
    latest: Moment,
    not_before: Moment,
}

impl StartPolicy {
    /// A worker became ready.
    pub(crate) fn succeeded(&mut self) {
        *self = Self {
            proven: true,
            barren: std::mem::take(&mut self.barren),
            ..Self::default()
        };
    }

    /// A call was begun in a worker.
    pub(crate) fn served(&mut self) {
        let barren = &mut self.barren;
        (barren.in_a_row, barren.not_before) = (0, Moment::default());
    }

    /// A worker in which no call was begun has died by itself; it began to start at `begun`. Pauses
    /// the starts where the one before it ended like that, too, but never breaks the pool: it may
    /// be somebody else who kills what is idle.
    pub(crate) fn died_unused(&mut self, begun: Moment, ready: Moment, now: Moment) {
        if ready.until(now) >= BARREN_LIFE {
            return self.served();
        }
        let barren = &mut self.barren;
        // Those that stood beside the latest when it died are no further try.
        if begun < barren.latest {
            return;
        }
        barren.in_a_row += 1;
        barren.latest = now;
        barren.not_before = now + pause(barren.in_a_row, LONGEST_BARREN_PAUSE);
    }

    /// A worker that began to start at `begun` failed by itself. Those that fail together, because
    /// somebody kills them all, say, are one try.
    pub(crate) fn failed(&mut self, begun: Moment, now: Moment) -> Verdict {
        if self.latest.back().is_some_and(|latest| begun < *latest) {
            return Verdict::RetryAt(self.not_before.max(now));
        }
        let took = begun.until(now);
        for ended in &mut self.latest {
            // Attempts overlap: what they took together may be more than the time that passed.
            *ended = (*ended + took).min(now);
        }
        self.latest.push_back(now);
        self.in_a_row += 1;
        if self.latest.len() == FAILURES {
            let first = self.latest.pop_front();
            if first.is_some_and(|first| first.until(now) <= WINDOW) {
                return Verdict::Break;
            }
        }
        self.retry(now, self.in_a_row)
    }

    /// The system refused to start a process; `alive` tells whether any worker lives.
    pub(crate) fn refused(&mut self, now: Moment, alive: bool) -> Verdict {
        let since = *self.refused_since.get_or_insert(now);
        if !alive && since.until(now) >= REFUSAL_LIMIT {
            return Verdict::Break;
        }
        self.retry(now, 2)
    }

    fn retry(&mut self, now: Moment, nth: usize) -> Verdict {
        // Starts overlap: a refusal must not shorten the pause that a failure has asked for.
        self.not_before = self.not_before.max(now + pause(nth, LONGEST_PAUSE));
        Verdict::RetryAt(self.not_before)
    }

    /// The moment before which no worker is to be started.
    pub(crate) fn not_before(&self) -> Moment {
        self.not_before.max(self.barren.not_before)
    }

    /// How many starts may be under way at once: one until a start has succeeded and again after
    /// a failure, so that a loop costs few processes; else up to `most`.
    pub(crate) fn at_once(&self, most: usize) -> usize {
        if self.proven && self.in_a_row == 0 && self.refused_since.is_none() {
            most.max(1)
        } else {
            1
        }
    }
}

/// None after the first, then twice as long each time.
fn pause(nth: usize, longest: Duration) -> Duration {
    match nth {
        0 | 1 => Duration::ZERO,
        n => (FIRST_PAUSE * (1 << (n - 2).min(10))).min(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn five_quick_failures_in_a_row_break_the_pool() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        for nth in 1..FAILURES {
            let Verdict::RetryAt(at) = policy.failed(now, now) else {
                panic!("broke at {nth}")
            };
            assert!(at >= now, "a retry lies in the future");
            now = at;
        }
        assert_eq!(policy.failed(now, now), Verdict::Break);
        assert!(START.until(now) < WINDOW, "and that within the window");
    }

    #[test]
    fn the_first_failure_is_retried_at_once_and_the_pauses_double() {
        let mut policy = StartPolicy::default();
        assert_eq!(policy.failed(START, START), Verdict::RetryAt(START));
        assert_eq!(
            policy.failed(START, START),
            Verdict::RetryAt(START + FIRST_PAUSE)
        );
        assert_eq!(
            policy.failed(START, START),
            Verdict::RetryAt(START + FIRST_PAUSE * 2)
        );
    }

    #[test]
    fn a_start_that_succeeds_resets_the_count() {
        let mut policy = StartPolicy::default();
        for _ in 0..20 {
            assert_ne!(policy.failed(START, START), Verdict::Break);
            policy.succeeded();
        }
    }

    #[test]
    fn starts_that_hang_are_a_loop_too() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        let mut verdict = Verdict::RetryAt(now);
        for _ in 0..FAILURES {
            let Verdict::RetryAt(begun) = verdict else {
                panic!("broke early")
            };
            now = begun + Duration::from_secs(30);
            verdict = policy.failed(begun, now);
        }
        assert_eq!(verdict, Verdict::Break);
    }

    #[test]
    fn starts_that_fail_together_are_one_failure() {
        let mut policy = StartPolicy::default();
        policy.succeeded();
        let mut now = START;
        for _ in 1..FAILURES {
            let begun = now;
            for after in 1..=20 {
                now = begun + MS * after;
                assert_ne!(policy.failed(begun, now), Verdict::Break, "after {after}");
            }
        }
        assert_eq!(policy.failed(now, now), Verdict::Break, "the fifth try");
    }

    #[test]
    fn failures_far_apart_are_no_loop() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        for _ in 0..50 {
            assert_ne!(policy.failed(now, now), Verdict::Break);
            now = now + WINDOW + Duration::from_secs(1);
        }
    }

    #[test]
    fn the_ten_seconds_may_begin_with_any_failure() {
        let mut policy = StartPolicy::default();
        let moments =
            [0, 9_000, 10_500, 11_000, 12_000].map(|at| START + Duration::from_millis(at));
        let verdicts = moments.map(|at| policy.failed(at, at));
        assert!(
            !verdicts.contains(&Verdict::Break),
            "the first is more than ten seconds ago"
        );
        let sixth = START + Duration::from_millis(13_000);
        assert_eq!(policy.failed(sixth, sixth), Verdict::Break);
    }

    #[test]
    fn the_pauses_grow_to_five_seconds_while_starts_fail_far_apart() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        for _ in 0..20 {
            now = now + WINDOW + Duration::from_secs(1);
            policy.failed(now, now);
        }
        assert_eq!(policy.not_before(), now + LONGEST_PAUSE);
    }

    #[test]
    fn a_full_system_is_waited_for_while_anything_lives() {
        let mut policy = StartPolicy::default();
        let later = START + REFUSAL_LIMIT;
        assert_ne!(policy.refused(START, false), Verdict::Break);
        assert_ne!(policy.refused(later, true), Verdict::Break);
        assert_eq!(policy.refused(later, false), Verdict::Break);
    }

    #[test]
    fn a_refusal_does_not_shorten_the_pause_after_a_failure() {
        let mut policy = StartPolicy::default();
        let mut verdict = policy.failed(START, START);
        for _ in 0..3 {
            verdict = policy.failed(START, START);
        }
        assert_eq!(verdict, Verdict::RetryAt(START + FIRST_PAUSE * 4));
        assert_eq!(policy.refused(START, true), verdict);
    }

    /// A worker is started as soon as that may be, is ready a millisecond later, and dies when it
    /// has lived so long; for how long no other is to be started then.
    fn live(policy: &mut StartPolicy, now: &mut Moment, life: Duration) -> Duration {
        let begun = policy.not_before().max(*now);
        let ready = begun + MS;
        policy.succeeded();
        *now = ready + life;
        policy.died_unused(begun, ready, *now);
        now.until(policy.not_before())
    }

    #[test]
    fn the_first_barren_life_is_followed_at_once_and_the_pauses_double_to_a_second() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        for wanted in [0, 100, 200, 400, 800, 1_000, 1_000, 1_000] {
            assert_eq!(live(&mut policy, &mut now, MS), MS * wanted);
        }
    }

    #[test]
    fn a_call_that_was_begun_or_a_longer_life_is_a_new_beginning() {
        let mut policy = StartPolicy::default();
        let mut now = START;
        for _ in 0..3 {
            assert_eq!(live(&mut policy, &mut now, MS), Duration::ZERO);
            assert_eq!(live(&mut policy, &mut now, MS), FIRST_PAUSE);
            policy.served();
            assert_eq!(live(&mut policy, &mut now, MS), Duration::ZERO);
            assert_eq!(live(&mut policy, &mut now, MS), FIRST_PAUSE);
            assert_eq!(live(&mut policy, &mut now, BARREN_LIFE), Duration::ZERO);
        }
    }

    #[test]
    fn workers_that_die_together_are_one_try() {
        let mut policy = StartPolicy::default();
        for nth in 0..8 {
            policy.died_unused(START, START + MS, START + MS * (2 + nth));
        }
        assert_eq!(policy.not_before(), START + MS * 2);
    }

    #[test]
    fn one_start_at_a_time_until_one_has_succeeded() {
        let mut policy = StartPolicy::default();
        assert_eq!(policy.at_once(8), 1);
        policy.succeeded();
        assert_eq!(policy.at_once(8), 8);
        policy.failed(START, START);
        assert_eq!(policy.at_once(8), 1);
    }
}
