//! Asking a call to come to its end, for its caller or for its soft limit.
//!
//! Nothing is decided by that: the call goes on until it ends by itself or is stopped for another
//! reason, and its response counts. So there is no answer to wait for, and a request that comes too
//! late is no matter: it names what has run, and nothing else is meant by it.

use std::time::Duration;

use super::Scheduler;
use super::event::{Action, JobKey, Outcome, Request, Ticket, WorkerId};
use super::place::{Recall, Sent};
use super::stop::LATEST;
use super::upkeep::LIMIT_CHECK;
use crate::sys::clock::Moment;

impl<T> Scheduler<T> {
    /// Takes a job back if it has not been started, else asks it to come to its end.
    pub(super) fn request(&mut self, key: JobKey) {
        // Who wants it to end does not want another run of it.
        self.forbid_repeating(key);
        self.withdraw(key, Recall::Request, Outcome::Cancelled);
    }

    /// Asks a call that has been started; of a chunk, the item that runs, and nothing behind it is
    /// run there.
    pub(super) fn ask(&mut self, worker: WorkerId, ticket: Ticket) {
        self.cut(worker, ticket);
        self.actions
            .push_back(Action::Ask(worker, ticket, LATEST, Request::Caller));
    }
}

impl Sent {
    /// Whether what was begun at `begun` (the page's word for it is `said`) is to be asked now to
    /// come to its end, and when that is to be looked at again.
    pub(super) fn ask_if_late(
        &mut self,
        begun: Moment,
        said: Moment,
        now: Moment,
    ) -> (bool, Option<Moment>) {
        let Some(limit) = self.soft_timeout else {
            return (false, None);
        };
        let due = begun + limit;
        if due > now {
            // What was asked, if anything was, is over.
            self.asked = self.asked.filter(|asked| *asked == said);
            self.patience = Duration::ZERO;
            return (false, Some(due));
        }
        let ask = self.asked.replace(said) != Some(said);
        // Another item of a chunk has a limit of its own. That it may have been begun is known when
        // this one is answered; until then it is looked at the more seldom the longer it runs.
        let pause = self.patience.max(limit).max(LIMIT_CHECK);
        self.patience = pause * 2;
        (ask, (self.items > 0).then(|| now + pause))
    }
}
