//! One async call, as the rooms know it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::scheduler::{Retry, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// What the rooms must know of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallSpec {
    /// Its number in the pool.
    pub(crate) number: u64,
    /// How long it may run, from its true start.
    pub(crate) timeout: Option<Duration>,
    /// How long it should run, and is asked to come to its end after that.
    pub(crate) soft_timeout: Option<Duration>,
    /// How long it may wait for its start.
    pub(crate) queue_timeout: Option<Duration>,
    /// When it must be over, waiting and running together.
    pub(crate) deadline: Option<Moment>,
    /// Which of its failures are no end.
    pub(crate) retry: Retry,
    /// Calls of a higher one go first.
    pub(crate) priority: i32,
}

/// A call that is not over.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) spec: CallSpec,
    pub(super) attachment: T,
    /// What it is called, to be told to those that it takes with it.
    pub(super) name: Option<Arc<str>>,
    pub(super) stage: Stage,
    /// Until when it may wait, beside its deadline.
    pub(super) waits_until: Option<Moment>,
    /// This run was asked to come to its end for having run so long.
    pub(super) asked: bool,
    /// Since when it is known to be over without having been answered.
    pub(super) silent: Option<Moment>,
    /// How many of its runs have failed.
    pub(super) failures: u32,
    /// How long it had been running when its worker was lost.
    pub(super) ran: Option<Duration>,
    /// When it is looked at next.
    pub(super) listed: Option<Moment>,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the line.
    Waiting,
    /// Between two runs until then; true while the run before may not be over.
    Pausing(Moment, bool),
    /// In a room.
    Sent(WorkerId, Ticket),
}

/// A place in the line: the lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(Reverse<i32>, u64);

impl Turn {
    pub(super) fn number(self) -> u64 {
        self.1
    }

    pub(super) fn priority(self) -> i32 {
        self.0.0
    }
}

impl<T> Call<T> {
    pub(super) fn new(now: Moment, spec: CallSpec, name: Option<Arc<str>>, attachment: T) -> Self {
        Self {
            spec,
            attachment,
            name,
            stage: Stage::Waiting,
            waits_until: spec.queue_timeout.map(|limit| now + limit),
            asked: false,
            silent: None,
            failures: 0,
            ran: None,
            listed: None,
        }
    }

    pub(super) fn turn(&self) -> Turn {
        Turn(Reverse(self.spec.priority), self.spec.number)
    }

    /// When the first of the limits of a run passes that was begun at that moment. What it was asked
    /// for is not asked again.
    pub(super) fn first_limit(&self, begun: Moment) -> Option<Moment> {
        let soft = self.spec.soft_timeout.filter(|_| !self.asked);
        let limits = soft.into_iter().chain(self.spec.timeout);
        limits.map(|limit| begun + limit).min()
    }

    /// Until when it may be unstarted.
    pub(super) fn until(&self) -> Option<Moment> {
        self.waits_until.into_iter().chain(self.spec.deadline).min()
    }
}
