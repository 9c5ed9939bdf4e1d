//! How a call that is run in the place of its caller learns that it is to come to its end. Nobody is
//! there to ask it, so it looks at the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use super::cancel::CancelReason;
use super::waiting;
use crate::sys::clock::Moment;
use crate::sys::futex::Bell;

/// Whether nobody waits any more for what a pool is running in place.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    flag: AtomicBool,
    rung: AtomicU32,
    sleepers: AtomicU32,
}

/// The place of one run.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    ended: Arc<Ended>,
    over: Arc<AtomicBool>,
    /// When it is asked to come to its end.
    pub(super) soft_deadline: Option<Moment>,
    /// When its time is up.
    pub(super) deadline: Option<Moment>,
}

impl Ended {
    /// Nobody waits any more.
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.bell().ring();
        waiting::look();
    }

    /// Whether that was said.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    fn bell(&self) -> Bell<'_> {
        Bell {
            rung: &self.rung,
            sleepers: &self.sleepers,
        }
    }
}

impl Place {
    /// The place of a run that begins.
    pub(crate) fn new(
        ended: Arc<Ended>,
        soft_deadline: Option<Moment>,
        deadline: Option<Moment>,
    ) -> Self {
        Self {
            ended,
            over: Arc::default(),
            soft_deadline,
            deadline,
        }
    }

    /// The run is over: who waits for that is woken.
    pub(crate) fn run_is_over(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.ended.bell().ring_if_awaited();
        waiting::look();
    }

    pub(super) fn reason(&self) -> Option<CancelReason> {
        let passed = |deadline: Option<Moment>| deadline.is_some_and(|at| Moment::now() >= at);
        if self.ended.is_set() || self.over.load(Ordering::SeqCst) || passed(self.deadline) {
            return Some(CancelReason::Ended);
        }
        passed(self.soft_deadline).then_some(CancelReason::SoftTimeout)
    }

    /// Sleeps on this thread until the run is to come to its end, or until then.
    pub(super) fn wait(&self, until: Option<Instant>) -> bool {
        let first = self.soft_deadline.into_iter().chain(self.deadline).min();
        let first = first.map(Moment::to_instant);
        let wake = first.into_iter().chain(until).min();
        let bell = self.ended.bell();
        loop {
            if bell.wait(wake, || self.reason().is_some()) || self.reason().is_some() {
                return true;
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return false;
            }
        }
    }

    /// Has a future woken when a limit passes, which nobody tells.
    pub(super) fn wake_in_time(&self) {
        if self.soft_deadline.is_none() && self.deadline.is_none() {
            return;
        }
        let place = self.clone();
        let thread = std::thread::Builder::new().name("procpool-place".to_owned());
        // Without it the future is woken when the run is over.
        let _ = thread.spawn(move || {
            place.wait(None);
            waiting::look();
        });
    }
}
