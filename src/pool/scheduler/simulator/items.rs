//! What every item of a map was promised, what has become of it, and the rules that this must keep.

use super::plan::Work;
use super::process::Process;
use super::rules::require;
use crate::pool::scheduler::{JobSpec, Outcome, Request, WorkerId};
use crate::sys::clock::Moment;

/// Why an item has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The pool would not take it.
    Refused,
    /// Its chunk has ended like this.
    Ended(Outcome),
    /// Its answer was lost with a worker that could not be believed.
    Missing,
}

/// One item of a map.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) work: Work,
    /// The pool had agreed to wait for it before it was closed.
    pub(super) safe: bool,
    /// When and where it was begun.
    begun: Option<(Moment, WorkerId)>,
    /// It has been asked to end for having run so long.
    asked: bool,
    /// The parent can read its answer, whatever becomes of the worker.
    shown: bool,
    /// The parent has read its answer.
    answered: bool,
    fate: Option<Fate>,
    given: bool,
}

impl Item {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            safe: false,
            begun: None,
            asked: false,
            shown: false,
            answered: false,
            fate: None,
            given: false,
        }
    }

    pub(super) fn begin(&mut self, worker: WorkerId, now: Moment) {
        require(self.begun.is_none(), "no item is run twice", || {
            format!("{self:?}")
        });
        require(
            self.fate.is_none(),
            "no item is run after it was answered",
            || format!("{self:?}"),
        );
        self.begun = Some((now, worker));
    }

    /// It is asked to end; whether that is new to it.
    pub(super) fn ask(&mut self, why: Request) -> bool {
        require(why == Request::SoftLimit, "nobody asks an item", || {
            format!("{self:?}")
        });
        !std::mem::replace(&mut self.asked, true)
    }

    /// Whether there was no need to ask it, or it was asked.
    pub(super) fn was_asked(&self) -> bool {
        self.asked || self.is_over()
    }

    pub(super) fn show(&mut self) {
        self.shown = true;
    }

    /// The parent takes its answer in.
    pub(super) fn answer(&mut self) {
        require(
            self.shown && !self.answered && self.fate.is_none(),
            "an item is answered once, by who ran it",
            || format!("{self:?}"),
        );
        self.answered = true;
    }

    /// There will be no result.
    pub(super) fn fail(&mut self, fate: Fate) {
        require(
            !self.answered && self.fate.is_none(),
            "an item is answered once",
            || format!("{fate:?} {self:?}"),
        );
        self.fate = Some(fate);
    }

    /// The core gives it up as the one that was running in this worker.
    pub(super) fn sacrifice(
        &mut self,
        outcome: Outcome,
        process: &Process,
        spec: &JobSpec,
        now: Moment,
    ) {
        // What is too large for the outbox may be said and not done; who lies is not believed.
        let running = !self.shown || self.work.large || process.condemned;
        let there = self.begun.is_some_and(|(_, by)| by == process.id);
        require(
            there && running,
            "only the item that was running ends with its chunk",
            || format!("{outcome:?} {self:?}"),
        );
        let since = self.begun.map_or(now, |(since, _)| since);
        let true_so = match outcome {
            Outcome::RanTooLong => spec.timeout.is_some_and(|limit| since + limit <= now),
            Outcome::Expired(_) => spec.deadline.is_some_and(|at| at <= now),
            Outcome::GrewTooLarge(..) => process.grown,
            _ => true,
        };
        require(
            true_so,
            "an item that is ended has passed its limit",
            || format!("{outcome:?} {self:?}"),
        );
        self.fail(Fate::Ended(outcome));
    }

    /// Its chunk has ended before it was begun; with an outcome if it is not to run elsewhere.
    pub(super) fn leave(&mut self, outcome: Option<Outcome>) {
        require(
            self.begun.is_none(),
            "what was begun is not said to be unbegun",
            || format!("{self:?}"),
        );
        if let Some(outcome) = outcome {
            self.fail(Fate::Ended(outcome));
        }
    }

    /// Its answer must be on the way, since a later item was begun.
    pub(super) fn check_shown(&self, process: &Process) {
        require(
            self.shown || process.condemned,
            "an item is begun when the one before is answered",
            || format!("{self:?}"),
        );
    }

    /// Its answer has come although it was ended.
    pub(super) fn check_was_ended(&self) {
        require(
            self.fate.is_some(),
            "no answer to an item is thrown away",
            || format!("{self:?}"),
        );
    }

    /// The reader is given a result, or an error.
    pub(super) fn give(&mut self, returned: bool) {
        require(!self.given, "an item is given once", || format!("{self:?}"));
        let true_word = match returned {
            true => self.answered && self.fate.is_none(),
            false => self.fate.is_some(),
        };
        require(true_word, "the reader is told what has happened", || {
            format!("{returned} {self:?}")
        });
        self.given = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.fate.is_some()
    }

    /// Whether the pool knows how it ended.
    pub(super) fn is_over(&self) -> bool {
        self.answered || self.fate.is_some()
    }

    /// Its limit is over.
    pub(super) fn check_stopped(&self, processes: &[Process], now: Moment) {
        let process = self
            .begun
            .map(|(_, worker)| &processes[worker.number as usize - 1]);
        let stopped = process.is_none_or(|process| process.killed || process.dead);
        // It has made the swap, or is about to write what it cannot take back.
        let over = self.shown || process.is_some_and(Process::is_after_item);
        require(
            over || stopped || self.fate.is_some(),
            "no item runs longer than it may",
            || format!("{now:?} {self:?}"),
        );
    }

    /// Its limit, and all that may come between that and the answer, is over.
    pub(super) fn check_answered(&self, now: Moment) {
        require(
            self.is_over(),
            "an item's limit is answered even if the worker is stopped",
            || format!("{now:?} {self:?}"),
        );
    }
}
