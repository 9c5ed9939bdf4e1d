//! Renewing workers with which nothing is wrong: they finish what they hold, leave, and others
//! take their places.
//!
//! A worker has bounds, beyond which it does not stay in any case. So that not all that were
//! started together go together, a *planned* renewal begins somewhat earlier, at a point that is
//! each worker's own, and only while no other is under way: from the decision until the place has
//! a worker again that is ready.

use std::num::NonZeroU64;

use super::event::{Ticket, WorkerId};
use super::place::{Phase, Recall, Worker};
use super::{Mode, Scheduler};
use crate::sys::clock::Moment;

/// By how many thousandths of its bound a planned renewal may come early.
const EARLY: u64 = 100;

/// The bounds of every worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Renewal {
    /// How many tasks it runs; items of a chunk count like calls.
    pub(crate) max_tasks: Option<NonZeroU64>,
}

/// How much of its bounds one worker has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stay {
    /// How many tasks it has run to their ends.
    spent: u64,
    tasks: Option<Bound<u64>>,
}

/// A bound, and from where on a planned renewal may come before it.
#[derive(Clone, Copy, Debug)]
struct Bound<T> {
    planned: T,
    last: T,
}

/// Whether a worker is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Stay {
            spent: 0,
            tasks: self.max_tasks.map(|max| Bound {
                planned: max.get() - early(max.get(), number),
                last: max.get(),
            }),
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

    fn due(&self) -> Due {
        match self.tasks {
            Some(tasks) if self.spent >= tasks.last => Due::Now,
            Some(tasks) if self.spent >= tasks.planned => Due::Planned,
            _ => Due::Not,
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
            let all = if sent.cut { 1 } else { sent.items.max(1) };
            u64::from(all.saturating_sub(sent.answered))
        });
        tasks.sum()
    }
}

impl<T> Scheduler<T> {
    /// One item of a chunk has been answered.
    pub(crate) fn item_answered(&mut self, worker: WorkerId, ticket: Ticket) {
        if let Some(state) = self.worker(worker) {
            state.stay.spend();
            if let Some(sent) = state.find(ticket) {
                sent.answered += 1;
            }
        }
    }

    /// Lets a worker finish and go if its time has come.
    pub(super) fn renew(&mut self, worker: WorkerId) {
        let Some(state) = self.worker(worker) else {
            return;
        };
        let due = match state.phase {
            Phase::Ready => state.stay.due(),
            _ => Due::Not,
        };
        match due {
            Due::Now => self.finish(worker),
            Due::Planned if self.mode == Mode::Open && !self.is_renewing() => {
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
                let worker = worker.id;
                self.renew(worker);
                self.rest(now, worker);
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
            let first = state.ahead.front().map(|sent| sent.ticket);
            self.take_back_all(worker, first, Recall::Move);
        }
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
