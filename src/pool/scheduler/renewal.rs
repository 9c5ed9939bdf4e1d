//! Renewing workers with which nothing is wrong: they finish what they hold, leave, and others
//! take their places.
//!
//! A worker has bounds, beyond which it does not stay in any case. So that not all that were
//! started together go together, a *planned* renewal begins somewhat earlier, at a point that is
//! each worker's own, and only while no other is under way: from the decision until the place has
//! a worker again that is ready.

use std::num::NonZeroU64;
use std::time::Duration;

use super::event::{Action, Outcome, Ticket, WorkerId};
use super::place::{Phase, Recall, Worker};
use super::stop::LATEST;
use super::{Mode, Scheduler};
use crate::sys::clock::Moment;

/// By how many thousandths of its bound a planned renewal may come early.
const EARLY: u64 = 100;

/// The bounds of every worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Renewal {
    /// How many tasks it runs; items of a chunk count like calls.
    pub(crate) max_tasks: Option<NonZeroU64>,
    /// How long it stays, from the moment when it is ready.
    pub(crate) max_age: Option<Duration>,
    /// How many bytes of memory it uses.
    pub(crate) max_memory: Option<u64>,
}

/// How much of its bounds one worker has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stay {
    /// How many tasks it has run to their ends.
    spent: u64,
    tasks: Option<Bound<u64>>,
    age: Option<Bound<Duration>>,
    /// When it became ready.
    since: Moment,
    /// When its age is to be looked at next.
    pub(super) look_at: Option<Moment>,
}

/// A bound, and from where on a planned renewal may come before it.
#[derive(Clone, Copy, Debug)]
struct Bound<T> {
    planned: T,
    last: T,
}

/// Whether a worker is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Not yet.
    Not,
    /// If no other is being renewed.
    Planned,
    /// In any case.
    Now,
}

impl Renewal {
    /// The stay of a worker that is being started.
    pub(super) fn stay(&self, number: u64) -> Stay {
        let bound = |last: u64| Bound {
            planned: last - early(last, number),
            last,
        };
        let length = |last: Duration| {
            let Bound { planned, .. } = bound(last.as_nanos() as u64);
            Bound {
                planned: Duration::from_nanos(planned),
                last,
            }
        };
        Stay {
            tasks: self.max_tasks.map(|tasks| bound(tasks.get())),
            age: self.max_age.map(length),
            ..Stay::default()
        }
    }
}

impl Stay {
    /// A task has come to its end.
    pub(super) fn spend(&mut self) {
        self.spent += 1;
    }

    /// Whether another task may be sent where so many are in hand already.
    pub(super) fn allows_more(&self, held: impl FnOnce() -> u64) -> bool {
        self.tasks
            .is_none_or(|tasks| self.spent + held() < tasks.last)
    }

    /// The worker is ready.
    pub(super) fn begin(&mut self, now: Moment) {
        self.since = now;
        self.look_at = self.age.map(|age| now + age.planned);
    }

    /// Whether its age is to be looked at; notes when it is next.
    pub(super) fn is_time(&mut self, now: Moment) -> bool {
        let due = self.look_at.take_if(|at| *at <= now).is_some();
        if due {
            let last = self.age.map(|age| self.since + age.last);
            self.look_at = last.filter(|last| *last > now);
        }
        due
    }

    fn due(&self, now: Moment, mode: Mode) -> Due {
        let tasks = self
            .tasks
            .map_or(Due::Not, |tasks| tasks.reached(self.spent));
        let age = self
            .age
            .map_or(Due::Not, |age| age.reached(self.since.until(now)));
        match mode {
            Mode::Open | Mode::Closing => tasks.max(age),
            // Nobody would come after it.
            Mode::Stranded | Mode::Ending(_) => tasks,
        }
    }
}

impl<T: PartialOrd> Bound<T> {
    fn reached(&self, used: T) -> Due {
        if used >= self.last {
            Due::Now
        } else if used >= self.planned {
            Due::Planned
        } else {
            Due::Not
        }
    }
}

/// How much earlier than at `bound` this worker's planned renewal comes: up to a tenth, the same
/// whenever it is asked. Of a bound below ten nothing.
fn early(bound: u64, number: u64) -> u64 {
    // The numbers of workers follow each other; mixed (as SplitMix64 does) they are far apart.
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let share = (mixed ^ (mixed >> 31)) % (EARLY + 1);
    (u128::from(bound) * u128::from(share) / 1_000) as u64
}

impl Worker {
    /// How many tasks it may still run of those that it was sent.
    pub(super) fn in_hand(&self) -> u64 {
        let tasks = self.ahead.iter().map(|sent| {
            // Of a chunk that is cut there is the item that runs at most.
            match sent.cut {
                true => 1,
                false => u64::from(sent.items.max(1).saturating_sub(sent.answered)),
            }
        });
        tasks.sum()
    }
}

impl<T> Scheduler<T> {
    /// One item of a chunk has been answered that was not ended.
    pub(crate) fn item_answered(&mut self, worker: WorkerId, ticket: Ticket) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        state.stay.spend();
        let Some(sent) = state.find(ticket) else {
            return;
        };
        sent.answered += 1;
        if let Some(asked) = &mut sent.asked {
            // Another may run now, or in a moment, which has a soft limit of its own.
            asked.answered = true;
            self.actions.push_back(Action::Probe(worker, ticket));
        }
    }

    /// Lets a worker finish and go if its time has come.
    pub(super) fn renew(&mut self, now: Moment, worker: WorkerId) {
        let mode = self.mode;
        let Some(state) = self.worker(worker) else {
            return;
        };
        let due = match state.phase {
            Phase::Ready => state.stay.due(now, mode),
            _ => Due::Not,
        };
        match due {
            Due::Now => self.finish(worker),
            Due::Planned if mode == Mode::Open && !self.is_renewing() => {
                self.renewing = Some(worker.place);
                self.finish(worker);
            }
            Due::Planned | Due::Not => {}
        }
    }

    /// Whether a planned renewal is under way. That of a place which is not to have a worker any
    /// more is over.
    fn is_renewing(&self) -> bool {
        let place = self.renewing.and_then(|place| self.places.get(place));
        place.is_some_and(|place| match &place.worker {
            Some(worker) => worker.phase != Phase::Ready,
            None => place.wanted && self.mode == Mode::Open,
        })
    }

    /// A worker is ready: the next one whose renewal is planned may have its turn.
    pub(super) fn next_renewal(&mut self, now: Moment) {
        if self.renewing.is_none() || self.is_renewing() {
            return;
        }
        self.renewing = None;
        for place in 0..self.places.len() {
            let worker = self.places[place].worker.as_ref();
            if let Some(worker) = worker.filter(|worker| worker.phase == Phase::Ready) {
                self.rest(now, worker.id);
            }
        }
    }

    /// A ready worker takes nothing more: what it has not begun goes elsewhere, and when it has
    /// finished what it runs it is retired.
    pub(super) fn finish(&mut self, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.phase == Phase::Ready {
            state.phase = Phase::Finishing;
            state.stay.look_at = None;
            let first = state.ahead.front().map(|sent| sent.ticket);
            self.take_back_all(worker, first, Recall::Move);
        }
    }

    /// The worker was measured at `now`. One that uses too much is renewed; what runs in it is
    /// ended.
    ///
    /// What runs is what has grown: a worker looks at itself after each task, and begins nothing
    /// after one that leaves it too large.
    pub(super) fn measured(&mut self, now: Moment, worker: WorkerId, used: u64) {
        let max = self.rules.renewal.max_memory.unwrap_or(u64::MAX);
        if used <= max {
            return;
        }
        self.finish(worker);
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.phase != Phase::Finishing {
            return;
        }
        if state.grace.is_some() {
            // Its caller has been told.
            return self.kill(worker);
        }
        // The responses to those before it may be on the way: which of them runs, the page knows.
        let held: Vec<_> = state
            .ahead
            .iter()
            .map(|sent| (sent.ticket, sent.items))
            .collect();
        for (ticket, items) in held {
            // By the time of the swap another item of a chunk may run.
            let begun_by = if items > 0 { now } else { LATEST };
            let outcome = Outcome::GrewTooLarge(used, max);
            self.stop(worker, ticket, outcome, begun_by);
        }
        self.rest(now, worker);
    }

    /// The worker has said that it runs nothing more: it begins nothing that it holds, so all of
    /// that goes elsewhere.
    pub(super) fn resigned(&mut self, now: Moment, worker: WorkerId) {
        self.finish(worker);
        let Some(state) = self.worker(worker) else {
            return;
        };
        if state.phase == Phase::Finishing {
            self.take_back_all(worker, None, Recall::Move);
            self.rest(now, worker);
        }
    }
}
