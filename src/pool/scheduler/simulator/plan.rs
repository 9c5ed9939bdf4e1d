//! What kind of world a seed gives: the pool's rules, what its callers like to do, and which
//! faults there are. Each seed leaves some out, so that one fault does not hide another.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use super::fate::Rng;
use super::terms::Terms;
use crate::pool::map::book::Measure;
use crate::pool::rooms::{CallSpec, RoomRules};
use crate::pool::scheduler::{JobSpec, Renewal, Restart, Retry, Rules};
use crate::sys::clock::Moment;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Faults to the end, then terminate: nothing wrong may happen.
    Safety,
    /// The faults stop: all that is pending must finish, then close.
    Liveness,
}

/// How long calls of one kind take.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Tiny,
    Short,
    Medium,
    Long,
    /// Until somebody ends it.
    Endless,
}

/// How a run ends that goes wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It does not.
    None,
    Panics,
    /// As nothing ends that is run again.
    Fails,
    /// It kills its worker.
    Deadly,
}

/// What a worker has to do for a call, or for an item of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) length: Duration,
    /// Its response does not fit the outbox: it counts once it is written whole.
    pub(super) large: bool,
    pub(super) flaw: Flaw,
    /// So many of its runs have the flaw.
    pub(super) flawed: usize,
    /// Its worker runs nothing after it.
    pub(super) last: bool,
    /// Its worker is too large from its start on.
    pub(super) grows: bool,
}

impl Work {
    /// What it is when so many runs have failed before.
    pub(super) fn after(self, failures: usize) -> Self {
        let flaw = match failures < self.flawed {
            true => self.flaw,
            false => Flaw::None,
        };
        Self {
            flaw,
            large: self.large && flaw == Flaw::None,
            ..self
        }
    }
}

/// A call as its caller plans it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) spec: JobSpec,
    pub(super) length: Duration,
    pub(super) large: bool,
    /// Its worker runs nothing after it.
    pub(super) last: bool,
    /// Its worker is too large from its start on.
    pub(super) grows: bool,
}

/// An async call as its caller plans it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedVisit {
    pub(super) spec: CallSpec,
    pub(super) work: Work,
    /// It lets nothing run beside it.
    pub(super) hogs: bool,
    /// It has a name.
    pub(super) named: bool,
}

/// What is usual in this world; the numbers are percentages where nothing else is said.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rules: Rules,
    pub(super) rooms: RoomRules,
    pub(super) ending: Ending,
    /// How many acts the callers have.
    pub(super) acts: usize,
    /// The longest pause between two acts, in nanoseconds.
    pub(super) pause: u64,
    kinds: Vec<Pace>,
    pub(super) terms: Terms,
    liars: usize,
    limits: usize,
    queue_limits: usize,
    large: usize,
    resignations: usize,
    growing: usize,
    /// How often an act takes a call back or ends one, rather than submit.
    pub(super) regrets: usize,
    /// How often an act has to do with a map.
    pub(super) maps: usize,
    /// How often an act has to do with async calls.
    pub(super) visits: usize,
    hogs: usize,
    deadly: usize,
    pub(super) abandons: usize,
    /// How often the reader of a map looks when there is news.
    pub(super) eager: usize,
    /// How often a thread is kept from going on when it has let go of the lock.
    pub(super) dawdling: usize,
    /// How many faults there are, but for those in the workers' own steps.
    pub(super) faults: usize,
    /// The longest pause between two of them, in nanoseconds.
    pub(super) fault_pause: u64,
    pub(super) crashes: bool,
    pub(super) stops: bool,
    pub(super) orphans: bool,
    pub(super) violations: bool,
    /// How often a step of a worker is its last, in ten thousand.
    pub(super) fragile: usize,
    /// How often a worker is stopped at a step, in ten thousand.
    pub(super) frozen: usize,
    /// So many starts succeed before the first may fail.
    pub(super) sound_starts: usize,
    pub(super) failing_starts: usize,
    pub(super) hanging_starts: usize,
    pub(super) refused_starts: usize,
    pub(super) hopeless_starts: usize,
    /// How often a worker dies by itself as soon as it is ready.
    pub(super) barren_starts: usize,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng, ending: Ending) -> Self {
        let graces = [0, 0, 1_000_000, 50_000_000, 2_000_000_000];
        let pause = rng.pick(&[0, 2_000, 100_000, 3_000_000, 100_000_000, 2_000_000_000]);
        // Not so short that nothing else happens.
        let ages = [None, None, None, None, None, Some(500), Some(5_000)];
        let age = |millis| Duration::from_millis(millis).max(Duration::from_nanos(pause / 10));
        let workers = rng.pick(&[1, 1, 2, 2, 3, 4, 5, 6]);
        let idle = [None, None, None, Some(1), Some(200), Some(3_000)];
        let rules = Rules {
            workers,
            min_workers: if rng.percent(25) {
                1 + rng.below(workers)
            } else {
                0
            },
            idle_timeout: rng.pick(&idle).map(Duration::from_millis),
            starts_at_once: 1 + rng.below(4),
            restart: if rng.percent(20) {
                Restart::Never
            } else {
                Restart::OnFailure
            },
            abort_grace: Duration::from_nanos(rng.pick(&graces)),
            leave_limit: Duration::from_millis(500),
            renewal: Renewal {
                max_tasks: NonZeroU64::new(rng.pick(&[0, 0, 0, 0, 1, 2, 7, 20])),
                max_age: rng.pick(&ages).map(age),
                max_memory: rng.pick(&[None, None, Some(1_000_000)]),
            },
            slow_call: rng
                .pick(&[None, None, Some(1), Some(40)])
                .map(Duration::from_millis),
        };
        let paces = [
            Pace::Tiny,
            Pace::Tiny,
            Pace::Short,
            Pace::Short,
            Pace::Medium,
            Pace::Long,
            Pace::Endless,
        ];
        let faults = rng.percent(85);
        let mut some = |often: usize, most: usize| match faults && rng.percent(often) {
            true => rng.pick(&[1, most.div_ceil(4), most]),
            false => 0,
        };
        let failing_starts = some(40, 95);
        let hanging_starts = some(20, 20);
        let refused_starts = some(20, 60);
        let hopeless_starts = some(5, 5);
        let barren_starts = some(25, 95);
        let fragile = some(50, 200);
        let frozen = some(40, 400);
        let [crashes, stops, orphans, violations] =
            [50, 50, 25, 25].map(|often| some(often, 1) > 0);
        Self {
            rules,
            rooms: RoomRules {
                most: rng.pick(&[1, 2, 4, 100]),
                grace: rules.abort_grace,
                yield_limit: Duration::from_secs(1),
            },
            ending,
            acts: 10 + rng.below(50),
            pause,
            kinds: (0..1 + rng.below(5)).map(|_| rng.pick(&paces)).collect(),
            terms: Terms::new(rng),
            liars: rng.pick(&[0, 0, 5, 30]),
            limits: rng.pick(&[0, 10, 50, 100]),
            queue_limits: rng.pick(&[0, 0, 10, 60]),
            large: rng.pick(&[0, 0, 5, 40]),
            resignations: rng.pick(&[0, 0, 0, 10, 100]),
            growing: rng.pick(&[0, 0, 5, 40]),
            regrets: rng.pick(&[0, 5, 20, 45]),
            maps: rng.pick(&[0, 0, 0, 10, 30, 60]),
            visits: rng.pick(&[0, 0, 0, 20, 60]),
            hogs: rng.pick(&[0, 0, 5, 40]),
            deadly: rng.pick(&[0, 0, 2, 20]),
            abandons: rng.pick(&[0, 20, 100]),
            eager: rng.pick(&[10, 50, 100]),
            dawdling: rng.pick(&[0, 0, 10, 50]),
            faults: if faults { rng.below(400) } else { 0 },
            fault_pause: (pause * rng.pick(&[1, 4, 16]) / 4).max(20_000),
            crashes,
            stops,
            orphans,
            violations,
            fragile,
            frozen,
            sound_starts: rng.pick(&[0, 0, 2, 8]),
            failing_starts,
            hanging_starts,
            refused_starts,
            hopeless_starts,
            barren_starts,
        }
    }

    /// A call that some caller wants.
    pub(super) fn call(&self, now: Moment, rng: &mut Rng) -> Planned {
        let kind = rng.below(self.kinds.len());
        let length = self.length(kind, rng);
        let limited = rng.percent(self.limits);
        let timeout = limited.then(|| match rng.percent(50) {
            // Just about as long as it takes, or anything.
            true => length.min(Duration::from_secs(2)) + rng.up_to(2_000),
            false => rng.spread(1_000, 3_000_000_000),
        });
        let queued = rng.percent(self.queue_limits);
        let mut spec = JobSpec {
            kind: kind as u64,
            bytes: rng.pick(&[0, 10, 10, 1_000, 30_000, 200_000]),
            timeout,
            queue_timeout: queued.then(|| rng.spread(1_000, 3_000_000_000)),
            ..JobSpec::default()
        };
        self.terms.add(&mut spec, length, now, rng);
        Planned {
            spec,
            length,
            large: rng.percent(self.large),
            last: rng.percent(self.resignations),
            grows: self.grows(rng),
        }
    }

    /// An async call that some caller wants.
    pub(super) fn visit(&self, now: Moment, rng: &mut Rng) -> PlannedVisit {
        let Planned {
            spec,
            length,
            last,
            grows,
            ..
        } = self.call(now, rng);
        PlannedVisit {
            spec: CallSpec {
                number: 0,
                timeout: spec.timeout,
                soft_timeout: spec.soft_timeout,
                queue_timeout: spec.queue_timeout,
                deadline: spec.deadline,
                retry: spec.retry,
                priority: spec.priority,
            },
            work: Work {
                length,
                large: false,
                flaw: self.flaw(rng),
                flawed: rng.pick(&[1, 1, 2, 3, usize::MAX]),
                last,
                grows,
            },
            hogs: rng.percent(self.hogs),
            named: rng.percent(50),
        }
    }

    /// How long a call of that kind takes.
    fn length(&self, kind: usize, rng: &mut Rng) -> Duration {
        let pace = match rng.percent(self.liars) {
            true => Pace::Long,
            false => self.kinds[kind],
        };
        match pace {
            Pace::Tiny => rng.up_to(2_000),
            Pace::Short => rng.spread(10_000, 300_000),
            Pace::Medium => rng.spread(1_000_000, 50_000_000),
            Pace::Long => rng.spread(50_000_000, 5_000_000_000),
            Pace::Endless => Duration::from_secs(1_000_000),
        }
    }

    fn grows(&self, rng: &mut Rng) -> bool {
        rng.percent(self.growing) && self.rules.renewal.max_memory.is_some()
    }

    fn flaw(&self, rng: &mut Rng) -> Flaw {
        if rng.percent(self.deadly) {
            Flaw::Deadly
        } else if rng.percent(self.terms.panics) {
            rng.pick(&[Flaw::Panics, Flaw::Panics, Flaw::Fails])
        } else {
            Flaw::None
        }
    }

    /// A map that some caller wants: how it is measured, what its chunks ask for, which failures of
    /// its items are no end, and those.
    pub(super) fn map(
        &self,
        now: Moment,
        rng: &mut Rng,
    ) -> (Measure, JobSpec, Retry, VecDeque<Work>) {
        let measure = Measure {
            look_ahead: rng.pick(&[1, 4, 16, 1024, 1024]),
            chunk_size: rng.pick(&[None, None, Some(1), Some(3), Some(8), Some(100)]),
            ordered: rng.percent(50),
            workers: self.rules.workers,
        };
        let call = self.call(now, rng).spec;
        let spec = JobSpec {
            items: 1,
            retry: Retry::default(),
            ..call
        };
        let count = rng.pick(&[0, 1, 5, 20, 60]);
        let source = (0..rng.below(count + 1)).map(|_| Work {
            length: self.length(spec.kind as usize, rng),
            large: rng.percent(self.large),
            flaw: self.flaw(rng),
            flawed: rng.pick(&[1, 1, 2, 3, usize::MAX]),
            last: rng.percent(self.resignations / 4),
            grows: self.grows(rng),
        });
        (measure, spec, call.retry, source.collect())
    }
}
