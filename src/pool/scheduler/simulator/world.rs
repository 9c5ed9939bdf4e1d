//! The world around the core: it keeps the time, hands events in, and performs actions.
//!
//! Two agendas make the time. The *machine* is what happens in the workers, which go on while the
//! parent is at work; the *office* is what happens in the parent, one thing after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chunks::{Chunk, Origin};
use super::fate::{Agenda, Rng};
use super::ledger::Ledger;
use super::maps::Map;
use super::parcels::Parcel;
use super::plan::{Ending, Plan};
use super::process::Process;
use super::rules::{Starts, require};
use super::trace::Trace;
use super::visits::{Look, Visits};
use crate::pool::driver::parts::Trails;
use crate::pool::job::News;
use crate::pool::rooms::Rooms;
use crate::pool::scheduler::{Event, Scheduler};
use crate::sys::clock::Moment;

/// More happenings than this in one run are a circle.
const MOST_HAPPENINGS: usize = 100_000;
/// The longest time from a kill to its effect, and from a death to its being noticed.
pub(super) const DYING: u64 = 30_000_000;
/// How late a tick may come.
pub(super) const LATENESS: u64 = 2_000_000;

/// What happens in the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    Step(usize),
    Flush(usize),
    Killed(usize),
    Perish(usize),
    Continue(usize),
}

/// What happens in the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Office {
    /// A caller does something.
    Act,
    /// Something goes wrong.
    Fault,
    /// A start has come to its end.
    Born(usize, Birth),
    /// There is something to be read from a worker.
    Read(usize),
    /// Actions that were left are performed.
    Drain,
    /// The workers are measured.
    Measure,
    /// A worker's death is noticed.
    Reap(usize),
    /// Something is heard of a worker that is no more.
    Echo(usize),
    /// A job must have been started or answered by now.
    MustHaveBegun(usize),
    /// A job's limit is over: if it still runs, it was forgotten.
    MustHaveStopped(usize),
    /// A job must have been answered by now.
    MustBeAnswered(usize),
    /// Have all jobs been answered?
    LookAround,
    /// The same for this item of a map: it must have been stopped …
    ItemMustHaveStopped(usize, usize),
    /// … or answered.
    ItemMustBeAnswered(usize, usize),
    /// If this item of a job still runs, it must have been asked to come to its end.
    MustBeAsked(usize, u32),
    /// If this item of a job still runs, it is late …
    Late(usize, u32),
    /// … and what waits behind it must be given to others by now.
    MustBeShared(usize, u32),
    /// Items of this map that failed may go out again, if that was to be at this moment.
    Alarm(usize, Moment),
    /// An async call is looked at for this.
    Look(Look, usize),
    /// Who was ended under this name in that worker's room must be gone, or the worker.
    MustHaveYielded(usize, u64),
    /// A thread goes on with what it has in hand.
    Hand(usize),
    /// All jobs must have been answered by now.
    Quiet,
    /// All must be over by now.
    Over,
}

/// How a start ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Birth {
    Ready,
    Fails,
    Refused,
    Hopeless,
}

pub(super) struct World<'t> {
    pub(super) now: Moment,
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    pub(super) core: Scheduler<usize>,
    /// By the number of the worker, from one.
    pub(super) processes: Vec<Process>,
    pub(super) ledger: Ledger,
    /// The async calls, as the pool knows them and as they are.
    pub(super) rooms: Rooms<usize>,
    pub(super) visits: Visits,
    /// When the rooms were asked or told something last.
    pub(super) rooms_asked: Moment,
    pub(super) maps: Vec<Map>,
    /// The jobs that are chunks, and were.
    pub(super) chunks: BTreeMap<usize, Chunk>,
    pub(super) trails: Trails<Origin>,
    /// News that nobody has been told yet, by job.
    pub(super) post: Vec<(usize, Vec<News>)>,
    pub(super) parcels: Vec<Option<Parcel>>,
    /// Nobody dawdles any more.
    pub(super) prompt: bool,
    pub(super) starts: Starts,
    pub(super) machine: Agenda<Machine>,
    pub(super) office: Agenda<Office>,
    /// Something was read from which nothing has followed yet.
    pub(super) unsettled: bool,
    /// No more faults.
    pub(super) calm: bool,
    pub(super) closed: bool,
    /// All that had not been started was dropped.
    pub(super) dropped: bool,
    /// What waits is let finish no more, and the maps have been told.
    pub(super) dropping: bool,
    pub(super) finished: bool,
    /// The jobs that were submitted when the faults had stopped, and the async calls.
    pub(super) plain: Vec<usize>,
    pub(super) plain_visits: Vec<usize>,
    /// How many jobs have waited at once.
    pub(super) longest_line: usize,
    /// When the performing of actions that is under way began; they were decided then or later.
    pub(super) drained: Moment,
    /// When a worker became ready last.
    pub(super) last_ready: Moment,
    /// When all jobs must have been answered, once the faults have stopped.
    pub(super) quiet_by: Moment,
    pub(super) was_quiet: bool,
    over: bool,
    happenings: usize,
    lateness: Duration,
    pub(super) trace: &'t mut Trace,
}

impl<'t> World<'t> {
    pub(super) fn new(seed: u64, ending: Ending, trace: &'t mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, ending);
        trace.note(Moment(0), || format!("{plan:?}"));
        Self {
            now: Moment(1_000_000_000_000),
            core: Scheduler::new(plan.rules),
            processes: Vec::new(),
            ledger: Ledger::default(),
            rooms: Rooms::new(plan.rooms),
            visits: Visits::default(),
            rooms_asked: Moment(0),
            maps: Vec::new(),
            chunks: BTreeMap::new(),
            trails: Trails::new(),
            post: Vec::new(),
            parcels: Vec::new(),
            prompt: false,
            starts: Starts::new(&plan.rules),
            machine: Agenda::new(),
            office: Agenda::new(),
            unsettled: false,
            calm: false,
            closed: false,
            dropped: false,
            dropping: false,
            finished: false,
            plain: Vec::new(),
            plain_visits: Vec::new(),
            longest_line: 0,
            drained: Moment(0),
            last_ready: Moment(0),
            quiet_by: Moment(0),
            was_quiet: false,
            over: false,
            happenings: 0,
            lateness: Duration::ZERO,
            rng,
            plan,
            trace,
        }
    }

    /// Plays the world to its end. Panics where a rule is broken.
    pub(super) fn run(mut self) {
        self.office.enter(self.now, Office::Act);
        self.office.enter(self.now, Office::Fault);
        self.office.enter(self.now, Office::Measure);
        if self.plan.rules.min_workers > 0 {
            self.tell(Event::Tick);
        }
        while !self.over {
            self.count();
            self.happen();
        }
        self.ledger.check_all_answered("at the end");
        self.visits.check_all_answered("at the end");
    }

    /// Something happens or is done.
    pub(super) fn count(&mut self) {
        self.happenings += 1;
        require(
            self.happenings < MOST_HAPPENINGS,
            "the pool comes to rest",
            || format!("{:#?}", self.core),
        );
    }

    /// The next thing happens, whichever it is.
    fn happen(&mut self) {
        let machine = self.machine.next_at();
        let office = self
            .office
            .next_at()
            .expect("the end is always on the agenda");
        let wakes = self.core.wake_at().into_iter().chain(self.rooms.wake_at());
        let tick = wakes.min().map(|at| at + self.lateness);
        if machine.is_some_and(|at| at <= office && tick.is_none_or(|tick| at <= tick)) {
            self.now = self.now.max(machine.unwrap_or_default());
            return self.machine_goes_on();
        }
        if let Some(tick) = tick.filter(|tick| *tick <= office) {
            self.now = self.now.max(tick);
            return self.tick();
        }
        self.now = self.now.max(office);
        if let Some(what) = self.office.pop_until(self.now) {
            self.office_goes_on(what);
        }
    }

    fn tick(&mut self) {
        self.lateness = match self.rng.percent(70) {
            true => Duration::ZERO,
            false => self.rng.up_to(LATENESS),
        };
        self.drain();
        let now = self.now;
        self.trace.note(now, || "event   Tick".into());
        self.with_rooms(|rooms, now, around| rooms.tick(now, around));
        let wake = self.rooms.wake_at();
        require(
            wake.is_none_or(|at| at > now),
            "a tick does what is due in the rooms",
            || format!("{wake:?} is not"),
        );
        self.act_for_rooms();
        self.core.handle(self.now, Event::Tick);
        let now = self.now;
        let wake = self.core.wake_at();
        require(
            wake.is_none_or(|at| at > now),
            "a tick does what is due",
            || format!("{wake:?} is not"),
        );
        self.check_ages(now);
        self.check_idle(now);
        self.drain();
        self.check_core();
        self.deliver();
    }

    fn office_goes_on(&mut self, what: Office) {
        match what {
            Office::Act => self.act(),
            Office::Fault => self.fault(),
            Office::Born(index, birth) => self.born(index, birth),
            Office::Read(index) => self.read(index),
            Office::Drain => self.drain(),
            Office::Measure => self.measure(),
            Office::Reap(index) => self.reap(index),
            Office::Echo(index) => self.echo(index),
            Office::MustHaveBegun(job) => self.ledger.check_begun(job, self.now),
            Office::MustHaveStopped(job) => {
                self.ledger.check_stopped(job, &self.processes, self.now)
            }
            Office::MustBeAnswered(job) => self.ledger.check_answered(job, self.now),
            Office::LookAround => self.look_around(),
            Office::ItemMustHaveStopped(map, item) => {
                let map = &self.maps[map];
                map.items[item].check_stopped(&map.spec, &self.processes, self.now);
            }
            Office::ItemMustBeAnswered(map, item) => {
                let map = &self.maps[map];
                map.items[item].check_answered(&map.spec, self.now);
            }
            Office::MustBeAsked(job, item) => self.check_was_asked(job, item),
            Office::Late(job, item) => self.late(job, item),
            Office::MustBeShared(job, item) => self.check_shared(job, item),
            Office::Look(look, visit) => {
                self.visits.look(look, visit, &self.processes, self.now);
            }
            Office::MustHaveYielded(index, sequence) => self.check_yielded(index, sequence),
            Office::Alarm(map, at) => self.alarm(map, at),
            Office::Hand(index) => self.hand_late(index),
            Office::Quiet => self.quiet(),
            Office::Over => {
                require(self.finished, "a closed pool finishes", || {
                    format!("{:#?}", self.core)
                });
                self.read_to_the_end();
                self.over = true;
            }
        }
        self.deliver();
    }

    /// Hands an event in, as the real driver does: everything is performed before the next one.
    pub(super) fn tell(&mut self, event: Event) {
        self.drain();
        self.trace.note(self.now, || format!("event   {event:?}"));
        self.core.handle(self.now, event);
        self.drain();
        self.check_core();
    }

    /// What follows from the last responses is settled, and all actions are performed in their
    /// order. Meanwhile the workers go on.
    pub(super) fn drain(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.core.settle(self.now);
        }
        self.drained = self.now;
        loop {
            while let Some(action) = self.core.next_action() {
                self.count();
                self.pass_a_moment();
                self.trace.note(self.now, || format!("action  {action:?}"));
                require(!self.finished, "nothing comes after Finished", || {
                    format!("{action:?}")
                });
                self.perform(action);
            }
            if !self.turn_of_rooms() {
                break;
            }
        }
    }

    /// What the parent does takes time, and now and then it has to wait for a core.
    pub(super) fn pass_a_moment(&mut self) {
        let most = if self.rng.percent(4) { 300_000 } else { 1_000 };
        let until = self.now + self.rng.up_to(most);
        while let Some(at) = self.machine.next_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine_goes_on();
        }
        self.now = until;
    }
}
