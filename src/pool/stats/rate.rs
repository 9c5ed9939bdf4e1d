//! How many calls are answered in a second: over all the time, and lately.

use std::time::Duration;

use crate::sys::clock::Moment;

/// A tick is so many nanoseconds long, as a power of two: about half a second.
const TICK: u32 = 29;
/// "Lately" is the tick that has begun and those before it: about eight seconds. Longer, and it
/// tells of what has changed too late; shorter, and it jumps.
const TICKS: usize = 16;

/// Answers by the time at which they came.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    begun: Moment,
    total: u64,
    /// Which tick, and how many came in it; a tick's place is its number modulo the length.
    ticks: [(u64, u64); TICKS],
}

impl Rate {
    /// Counts from now on.
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            begun: now,
            total: 0,
            ticks: [(0, 0); TICKS],
        }
    }

    /// One more.
    pub(crate) fn count(&mut self, now: Moment) {
        self.total += 1;
        let tick = now.0 >> TICK;
        let place = &mut self.ticks[tick as usize % TICKS];
        if place.0 != tick {
            *place = (tick, 0);
        }
        place.1 += 1;
    }

    /// How many in a second since the beginning.
    pub(crate) fn mean(&self, now: Moment) -> f64 {
        per_second(self.total, self.begun.until(now))
    }

    /// How many in a second in the last while.
    pub(crate) fn lately(&self, now: Moment) -> f64 {
        let first = (now.0 >> TICK).saturating_sub(TICKS as u64 - 1);
        let recent = self.ticks.iter().filter(|(tick, _)| *tick >= first);
        let since = Moment(first << TICK).max(self.begun);
        per_second(recent.map(|(_, count)| count).sum(), since.until(now))
    }
}

fn per_second(count: u64, length: Duration) -> f64 {
    // Of the first instant nothing can be told.
    count as f64 / length.max(Duration::from_millis(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A thousand a second for so many seconds.
    fn busy(rate: &mut Rate, from: u64, seconds: u64) -> Moment {
        for step in 0..seconds * 1_000 {
            rate.count(Moment(from + step * SECOND / 1_000));
        }
        Moment(from + seconds * SECOND)
    }

    #[test]
    fn a_steady_flow_has_one_rate() {
        let begun = 17 * SECOND;
        let mut rate = Rate::new(Moment(begun));
        for part in 0..4 {
            let now = busy(&mut rate, begun + part * 5 * SECOND, 5);
            for rate in [rate.lately(now), rate.mean(now)] {
                assert!((rate - 1_000.0).abs() < 5.0, "{rate}");
            }
        }
    }

    #[test]
    fn a_pause_is_forgotten_and_the_mean_remembers_it() {
        let mut rate = Rate::new(Moment(0));
        busy(&mut rate, 0, 10);
        let after = Moment(30 * SECOND);
        assert_eq!(rate.lately(after), 0.0);
        assert!(
            (rate.mean(after) - 333.3).abs() < 1.0,
            "{}",
            rate.mean(after)
        );
        let now = busy(&mut rate, after.0, 10);
        assert!(
            (rate.lately(now) - 1_000.0).abs() < 5.0,
            "{}",
            rate.lately(now)
        );
    }

    #[test]
    fn nothing_is_a_rate_of_zero() {
        let rate = Rate::new(Moment(5));
        assert_eq!((rate.lately(Moment(5)), rate.mean(Moment(5))), (0.0, 0.0));
    }
}
