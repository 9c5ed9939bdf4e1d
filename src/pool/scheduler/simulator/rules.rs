//! The rules about workers, starts and the core's memory; those about jobs are in the ledger.

use std::ops::Range;
use std::panic::resume_unwind;
use std::time::Duration;

use super::process::Process;
use super::world::World;
use crate::pool::scheduler::{LANES, Restart, Rules, StartFailure, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A worker that has finished a call and not said so for this long may be given up, or not left a
/// room in which nobody is.
const SILENCE: Duration = Duration::from_secs(2);

/// A rule that does not hold, and what breaks it: the payload with which a run is unwound.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) rule: &'static str,
    pub(super) detail: String,
}

/// A worker that dies unused within this time of being ready was started for nothing.
const BARREN_LIFE: Duration = Duration::from_secs(1);

/// What a worker that was stopped may need to be heard of again.
const WAKING: Duration = Duration::from_millis(5);

/// Checks a rule; `detail` tells what breaks it.
pub(super) fn require(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
    if !holds {
        // Not a panic: that would be printed now, and again when the seed is replayed.
        resume_unwind(Box::new(Broken {
            rule,
            detail: detail(),
        }));
    }
}

/// What is known of the starts: counted here again, from the events alone.
#[derive(Debug)]
pub(super) struct Starts {
    at_once: usize,
    pub(super) places: usize,
    pub(super) never: bool,
    /// When the failed starts began and ended, since the last that succeeded.
    failed: Vec<(Moment, Moment)>,
    proven: bool,
    /// How many workers have died unused since a call was begun, or known to be.
    barren: u32,
    /// When the last did, and when it was known what had been begun there.
    last_barren: Range<Moment>,
    refused_since: Option<Moment>,
    /// It is known that no worker can be started.
    pub(super) hopeless: bool,
    /// The core's own word for it: no worker takes calls any more, and none will.
    pub(super) deserted: bool,
    /// The first worker that was lost though nobody wanted that, where none may be replaced.
    pub(super) loss: Option<WorkerId>,
}

impl Starts {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            at_once: rules.starts_at_once,
            places: rules.workers,
            never: rules.restart == Restart::Never,
            failed: Vec::new(),
            proven: false,
            barren: 0,
            last_barren: Moment(0)..Moment(0),
            refused_since: None,
            hopeless: false,
            deserted: false,
            loss: None,
        }
    }

    /// A worker is to be started while these are there.
    pub(super) fn check(&self, worker: WorkerId, processes: &[Process], now: Moment) {
        require(
            !self.hopeless,
            "a pool that cannot start workers stops trying",
            || format!("{worker:?} {self:?}"),
        );
        let living = || processes.iter().filter(|process| !process.released);
        let within = living().filter(|process| process.id.place < self.places);
        require(
            worker.place < self.places && within.count() < self.places,
            "never more workers than places",
            || format!("{worker:?}"),
        );
        let vacant = living().all(|process| process.id.place != worker.place);
        require(vacant, "one worker in a place", || format!("{worker:?}"));
        let starting = living().filter(|process| process.is_starting()).count();
        let most = if self.proven && self.failed.is_empty() {
            self.at_once
        } else {
            1
        };
        require(starting < most, "starts are few at once", || {
            format!("{starting} {self:?}")
        });
        if let (count @ 2.., Some((_, last))) = (self.failed.len(), self.failed.last()) {
            let pause =
                Duration::from_millis(100 << (count - 2).min(6)).min(Duration::from_secs(5));
            require(*last + pause <= now, "failed starts are spaced", || {
                format!("{now:?} {self:?}")
            });
        }
        if let (count @ 2.., last) = (self.barren, self.last_barren.start) {
            let pause = Duration::from_millis(100 << (count - 2).min(4)).min(BARREN_LIFE);
            require(
                last + pause <= now,
                "starts that lead to nothing are spaced",
                || format!("{now:?} {self:?}"),
            );
        }
    }

    /// A call is begun, or the parent learns that one was.
    pub(super) fn served(&mut self) {
        self.barren = 0;
    }

    /// A worker is lost, and it is known what was begun there.
    pub(super) fn lost(&mut self, process: &Process, died_at: Moment, now: Moment) {
        if process.served || process.ready_at.until(now) >= BARREN_LIFE {
            return self.served();
        }
        // Whether what began meanwhile is one try more is not to be seen from outside.
        self.barren = match process.begun_at {
            begun if begun >= self.last_barren.end => self.barren + 1,
            begun if begun >= self.last_barren.start => self.barren.min(1),
            _ => return,
        };
        self.last_barren = died_at..now;
    }

    pub(super) fn succeeded(&mut self) {
        self.failed.clear();
        self.proven = true;
        self.refused_since = None;
    }

    /// A start has failed; `alive` tells whether any worker serves.
    pub(super) fn failed(
        &mut self,
        failure: StartFailure,
        begun: Moment,
        alive: bool,
        now: Moment,
    ) {
        match failure {
            StartFailure::Permanent => self.hopeless = true,
            StartFailure::System => {
                let since = *self.refused_since.get_or_insert(now);
                self.hopeless |= !alive && since.until(now) >= Duration::from_secs(120);
            }
            // Those that fail together are one try.
            StartFailure::Worker if self.failed.last().is_some_and(|last| begun < last.1) => {}
            StartFailure::Worker => {
                self.failed.push((begun, now));
                let five = self.failed.len().checked_sub(5);
                let five = five.map_or(&[][..], |from| &self.failed[from..]);
                self.hopeless |= !five.is_empty() && idle_between(five) <= Duration::from_secs(10);
            }
        }
    }
}

/// How much time passed from the end of the first of these starts to that of the last while none of
/// them was under way.
fn idle_between(starts: &[(Moment, Moment)]) -> Duration {
    let pairs = starts.iter().zip(&starts[1..]);
    pairs
        .map(|((_, ended), (begun, _))| ended.until(*begun))
        .sum()
}

impl Process {
    pub(super) fn check_assign(&mut self, ticket: Ticket) {
        let well = self.ready && !self.reaped && !self.killed && !self.retired;
        require(
            well,
            "only a living, ready worker that stays is given calls",
            || format!("{self:?}"),
        );
        require(
            !self.condemned && !self.orphaned,
            "no call goes to the condemned or orphaned",
            || format!("{self:?}"),
        );
        require(
            !self.surplus,
            "nothing is sent where there is one too many",
            || format!("{self:?}"),
        );
        require(
            self.ended.is_none(),
            "nothing is sent behind a call that was ended",
            || format!("{self:?}"),
        );
        let tenant = self.lanes.insert(ticket.lane, ticket.sequence);
        require(
            tenant.is_none(),
            "a lane in use is never given again",
            || format!("{ticket:?} {tenant:?}"),
        );
        require(ticket.sequence > self.sequence, "sequences rise", || {
            format!("{ticket:?}")
        });
        self.sequence = ticket.sequence;
    }

    /// A call is let into its room, while so many others wait for a worker.
    pub(super) fn check_enter(&mut self, ticket: Ticket, others: usize) {
        let well = self.ready && !self.reaped && !self.killed && !self.retired && !self.condemned;
        require(
            well && !self.surplus && !self.orphaned,
            "only who lives and stays lets calls into its room",
            || format!("{self:?}"),
        );
        require(
            self.fresh || others == 0,
            "a room for whose worker others wait lets nobody in",
            || format!("{others} {self:?}"),
        );
        require(
            usize::from(ticket.lane) >= LANES && ticket.sequence > self.berth_sequence,
            "async calls have lanes of their own, and sequences that rise",
            || format!("{ticket:?}"),
        );
        let tenant = self.berths.insert(ticket.lane, ticket.sequence);
        require(
            tenant.is_none(),
            "a berth in use is never given again",
            || format!("{ticket:?} {tenant:?}"),
        );
        self.berth_sequence = ticket.sequence;
    }

    /// A guest that was ended is told to go, or given up with its worker: it was ended so long ago.
    pub(super) fn check_expelled(
        &self,
        ticket: Ticket,
        visit: Option<usize>,
        now: Moment,
        after: Duration,
    ) {
        let known = self.expelled.get(&ticket.sequence);
        let due = known.is_some_and(|(of, since)| {
            visit.is_none_or(|visit| visit == *of) && *since + after <= now
        });
        require(
            due,
            "only who was ended is told to go, after its grace",
            || format!("{ticket:?} {now:?} {self:?}"),
        );
    }

    /// It is to be killed because this call does not yield.
    pub(super) fn check_accused(&self, visit: Option<usize>, now: Moment, after: Duration) {
        let late = |(of, since): &(usize, Moment)| Some(*of) == visit && *since + after <= now;
        require(
            self.expelled.values().any(late),
            "only who was ended and has not yielded is blamed",
            || format!("{visit:?} {now:?} {self:?}"),
        );
    }

    /// A task is begun.
    pub(super) fn spend(&mut self) {
        require(
            self.tasks_left > 0,
            "no worker runs more tasks than it may",
            || format!("{:?}", self.id),
        );
        self.tasks_left -= 1;
    }

    /// The parent has read the end of a sending.
    pub(super) fn free_lane(&mut self, ticket: Ticket) {
        self.lanes.remove(&ticket.lane);
        if self.ended == Some(ticket) {
            self.ended = None;
        }
    }

    /// A call was ended, and its worker may be killed for that.
    pub(super) fn check_alone(&self) {
        let waiting = self.page.waiting();
        require(
            waiting == 0,
            "nobody waits behind a call that is ended",
            || format!("{self:?}"),
        );
    }

    /// It is killed, maybe for what it did itself; `ending` tells that everything is.
    pub(super) fn check_kill(&mut self, now: Moment, reproached: bool, ending: bool) {
        require(
            !self.killed && !self.reaped,
            "a worker is killed once",
            || format!("{:?}", self.id),
        );
        self.killed = true;
        self.silent = reproached && !self.condemned && !self.unyielding;
        let unsaid = self.unsaid.is_some_and(|since| since + SILENCE <= now);
        let alone = self.dead || self.is_alone_in_room() || self.unsaid.is_some();
        let alone = alone && self.guest_heard_at + SILENCE <= now;
        require(
            unsaid || alone || !self.silent,
            "who speaks is not killed for silence",
            || format!("{self:?}"),
        );
        let stuck = self.stopped.is_some() || self.has_just_woken(now);
        let own = self.condemned || self.unyielding;
        // What grows goes on growing in a grace.
        let patient = self.spared_until <= now || self.grown;
        let ended = self.ended.is_some() && patient;
        let reason = ending || self.retired || own || ended || stuck;
        require(
            reason || !self.ready,
            "nobody is killed for nothing",
            || format!("{self:?}"),
        );
    }

    /// Whether it was stopped until just now.
    pub(super) fn has_just_woken(&self, now: Moment) -> bool {
        self.woken.is_some_and(|at| at.until(now) < WAKING)
    }

    pub(super) fn check_retire(&mut self) {
        let well = self.ready && !self.killed && !self.retired && !self.reaped;
        require(well, "only a ready worker is retired, and once", || {
            format!("{:?}", self.id)
        });
        self.retired = true;
    }

    pub(super) fn check_release(&mut self) {
        require(self.reaped, "only the dead are released", || {
            format!("{:?}", self.id)
        });
        self.released = true;
    }

    /// Whether its death may have cost a call other than one that was ended.
    pub(super) fn may_lose_calls(&self) -> bool {
        self.reaped && (!self.killed_to_death || self.is_to_blame())
    }

    /// Whether it is killed for what it did itself.
    fn is_to_blame(&self) -> bool {
        self.condemned || self.silent || self.unyielding
    }

    /// Whether it was lost though nobody wanted that.
    pub(super) fn is_loss(&self) -> bool {
        self.is_to_blame() || !(self.killed || self.retired)
    }
}

impl World<'_> {
    /// What the core remembers stays bounded and agrees with what the world knows.
    pub(super) fn check_core(&mut self) {
        self.check_plans();
        self.check_resignations();
        let mut surplus = self.core.places.iter().skip(self.starts.places);
        require(
            surplus.clone().all(|place| !place.wanted && !place.awaited),
            "a place that goes is not wanted, and nobody waits for it",
            || format!("{:?}", self.core.places),
        );
        require(
            surplus
                .next_back()
                .is_none_or(|place| place.worker.is_some()),
            "places that are too many are given up",
            || format!("{:?}", self.core.places),
        );
        require(
            self.core.line.next_awaited(self.starts.places).is_none(),
            "nobody waits for a place that goes",
            || format!("{:?}", self.core.line),
        );
        let wanted = self.core.places.iter().filter(|place| place.wanted);
        require(
            wanted.count() >= self.plan.rules.min_workers.min(self.starts.places),
            "enough workers are kept",
            || format!("{:?}", self.core.places),
        );
        let core = &self.core;
        require(
            core.unfinished() == self.ledger.open_count(),
            "no job is forgotten",
            || format!("{} in the core", core.unfinished()),
        );
        require(
            self.rooms.unfinished() == self.visits.open_count(),
            "no async call is forgotten",
            || format!("{} in the rooms", self.rooms.unfinished()),
        );
        require(
            core.waiting() <= core.unfinished(),
            "only unfinished jobs wait",
            String::new,
        );
        let (order, priorities, until) = core.line.kept();
        require(
            order <= 2 * self.longest_line + 32 * (core.places.len() + 1),
            "gaps in the line are swept",
            || format!("{order}"),
        );
        require(
            priorities <= order + core.places.len() + 1,
            "no priority is kept for nobody",
            || format!("{priorities}"),
        );
        require(
            until <= core.waiting(),
            "only what waits has a waiting limit",
            || format!("{until}"),
        );
        let mut idle = core.idle.iter().enumerate();
        require(
            idle.all(|(position, place)| !core.idle[..position].contains(place)),
            "a worker rests once",
            || format!("{:?}", core.idle),
        );
        for worker in core.places.iter().filter_map(|place| place.worker.as_ref()) {
            let used = worker.recalled.len() + worker.ahead.len();
            require(used <= LANES, "no more calls than lanes", || {
                format!("{worker:?}")
            });
        }
        require(
            core.refusal().is_some() == self.closed,
            "jobs are refused when closed",
            || format!("{:?}", core.refusal()),
        );
    }

    /// The pool says that all is over.
    pub(super) fn check_nothing_left(&self) {
        let ended = self.is_ending() || self.starts.hopeless;
        require(
            self.core.held == 0 || ended,
            "a pool that is waited for does not finish",
            || format!("{}", self.core.held),
        );
        require(
            self.rooms.is_idle() && self.rooms.jobs() == 0,
            "no room outlives the pool",
            || format!("{:?}", self.rooms),
        );
        require(
            self.trails.is_empty(),
            "nothing more is expected of the dead",
            || format!("{:?}", self.trails),
        );
    }
}
