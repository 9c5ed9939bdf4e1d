//! What callers ask for beside a function and a limit on its run: deadlines, soft limits, priorities,
//! keys and retries; and when it is looked whether they were kept.

use std::time::Duration;

use super::chunks;
use super::fate::Rng;
use super::life::{ANSWERING, STOPPING};
use super::world::{Office, World};
use crate::pool::scheduler::{Failure, JobSpec, Retry};
use crate::sys::clock::Moment;

/// Jobs that may not wait any longer must have been started or answered this much later.
pub(super) const WAITING: Duration = Duration::from_millis(50);

/// The most that a call is run again.
const MOST_RETRIES: usize = 3;
/// The longest pause before that.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a call and its repetitions may take if one run takes this long at most.
pub(super) fn with_retries(retry: Retry, run: Duration) -> Duration {
    let times = retry.times();
    run * (times + 1) + LONGEST_PAUSE * times
}

/// Whether a run that failed like this, after so many before it, is no end: told here again, from what
/// was asked for.
pub(super) fn repeats(retry: Retry, failure: Failure, before: u32) -> bool {
    let counts = match failure {
        Failure::Lost => true,
        Failure::Panicked => retry == retry.on_panic(true),
        Failure::RanTooLong => retry == retry.on_timeout(true),
    };
    counts && before < retry.times()
}

/// How often calls are given what, in percent.
#[derive(Debug)]
pub(super) struct Terms {
    deadlines: usize,
    priorities: usize,
    retries: usize,
    keys: usize,
    soft_limits: usize,
    /// How often what is asked to come to its end does so.
    pub(super) heeds: usize,
    /// How often a response says that the call has panicked.
    pub(super) panics: usize,
}

impl Terms {
    pub(super) fn new(rng: &mut Rng) -> Self {
        // Half of the worlds do without, and are over sooner.
        let wanted = rng.percent(50);
        let mut often = |picks: &[usize]| if wanted { rng.pick(picks) } else { 0 };
        Self {
            deadlines: often(&[0, 0, 10, 60]),
            priorities: often(&[0, 10, 90]),
            retries: often(&[0, 0, 10, 60]),
            keys: often(&[0, 0, 20, 90]),
            soft_limits: often(&[0, 0, 20, 90]),
            heeds: often(&[0, 50, 100]),
            panics: often(&[0, 5, 50]),
        }
    }

    /// Gives a call some of it.
    pub(super) fn add(&self, spec: &mut JobSpec, length: Duration, now: Moment, rng: &mut Rng) {
        if rng.percent(self.deadlines) {
            let limit = match rng.percent(50) {
                // Just about as long as it takes, or anything.
                true => length.min(Duration::from_secs(2)) + rng.up_to(100_000),
                false => rng.spread(1_000, 5_000_000_000),
            };
            spec.deadline = Some(now + limit);
        }
        if rng.percent(self.priorities) {
            spec.priority = rng.pick(&[1, -1, 2, 7, i32::MIN, i32::MAX]);
        }
        if rng.percent(self.keys) {
            spec.key = Some(rng.below(5) as u64);
        }
        if rng.percent(self.soft_limits) {
            let limit = match rng.percent(50) {
                true => length.min(Duration::from_secs(2)) + rng.up_to(2_000),
                false => rng.spread(1_000, 3_000_000_000),
            };
            spec.soft_timeout = Some(limit);
        }
        if rng.percent(self.retries) {
            let first = rng.pick(&[0, 1_000, 10_000_000, 1_000_000_000]);
            spec.retry = Retry::new(1 + rng.below(MOST_RETRIES) as u32)
                .backoff(Duration::from_nanos(first), LONGEST_PAUSE)
                .on_panic(rng.percent(50))
                .on_timeout(rng.percent(50));
        }
    }
}

impl World<'_> {
    /// Sees to it that what was promised about a new job is looked after.
    pub(super) fn promise(&mut self, job: usize, spec: &JobSpec) {
        if let Some(limit) = spec.queue_timeout {
            self.office
                .enter(self.now + limit + WAITING, Office::MustHaveBegun(job));
        }
        if let Some(deadline) = spec.deadline {
            self.office
                .enter(deadline + WAITING, Office::MustHaveBegun(job));
            self.office
                .enter(deadline + STOPPING, Office::MustHaveStopped(job));
            let answering = match spec.items {
                0 => ANSWERING,
                _ => chunks::ANSWERING,
            };
            self.office
                .enter(deadline + answering, Office::MustBeAnswered(job));
        }
    }
}
