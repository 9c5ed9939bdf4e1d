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

/// What was asked to come to its end for having run so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// When the page says that it was begun.
    begun: Moment,
    /// The answer of an item has come since: the page may say so the next moment.
    pub(super) answered: bool,
    /// After so long it is looked at again.
    pause: Duration,
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
        let Some(limit) = self.limits.soft_timeout() else {
            return (false, None);
        };
        let due = begun + limit;
        if due > now {
            // What was asked, if anything was, is over.
            self.asked = self.asked.filter(|asked| asked.begun == said);
            return (false, Some(due));
        }
        let before = self.asked.filter(|asked| asked.begun == said);
        let asked = before.unwrap_or(Asked {
            begun: said,
            answered: false,
            pause: limit.max(LIMIT_CHECK),
        });
        // Another item of a chunk has a limit of its own. It may have been begun when this one is
        // answered; until then it is looked at the more seldom the longer it runs.
        let pause = match asked.answered {
            true => limit.max(LIMIT_CHECK),
            false => asked.pause,
        };
        self.asked = Some(Asked {
            pause: pause * 2,
            ..asked
        });
        (before.is_none(), (self.items > 0).then(|| now + pause))
    }
}
