//! What callers ask for beside a function and a limit on its run: deadlines and
//! priorities; and when it is looked
//! whether they were kept.

use std::time::Duration;

use super::fate::Rng;
use super::life::{ANSWERING, STOPPING};
use super::world::{Office, World};
use crate::pool::scheduler::JobSpec;
use crate::sys::clock::Moment;

/// Jobs that may not wait any longer must have been started or answered this much later.
pub(super) const WAITING: Duration = Duration::from_millis(50);

/// How often calls are given what, in percent.
#[derive(Debug)]
pub(super) struct Terms {
    deadlines: usize,
    priorities: usize,
}

impl Terms {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            deadlines: rng.pick(&[0, 0, 10, 60]),
            priorities: rng.pick(&[0, 0, 10, 90]),
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
            self.office
                .enter(deadline + ANSWERING, Office::MustBeAnswered(job));
        }
    }
}
