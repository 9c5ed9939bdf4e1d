//! What every item of a map was promised, what has become of it, and the rules that this must keep.

use super::blame::story;
use super::life::STOPPING;
use super::plan::Work;
use super::process::Process;
use super::rules::require;
use super::terms::repeats;
use crate::pool::error::TaskError;
use crate::pool::scheduler::{JobSpec, Outcome, Request, Retry, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A run of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The chunk that carries it, and which of that it is.
    job: usize,
    place: u32,
    since: Moment,
    worker: WorkerId,
    ticket: Ticket,
}

/// One item of a map.
#[derive(Debug)]
pub(super) struct Item {
    work: Work,
    /// The pool had agreed to wait for it before it was closed.
    pub(super) safe: bool,
    /// The run that is under way, or was the last of all.
    run: Option<Run>,
    /// It has been asked to end for having run so long.
    asked: bool,
    /// The parent can read its answer, whatever becomes of the worker.
    shown: bool,
    /// The parent has read that it has returned something.
    answered: bool,
    /// How the runs have failed that were not the last, and which was the last of those.
    failures: Vec<TaskError>,
    before: Option<Run>,
    /// It is not run again before this.
    rests_until: Moment,
    /// Why there is no result.
    end: Option<TaskError>,
    given: bool,
}

impl Item {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            safe: false,
            run: None,
            asked: false,
            shown: false,
            answered: false,
            failures: Vec::new(),
            before: None,
            rests_until: Moment(0),
            end: None,
            given: false,
        }
    }

    /// What its next run is.
    pub(super) fn next_run(&self) -> Work {
        self.work.after(self.failures.len())
    }

    /// What it is if nothing goes wrong.
    pub(super) fn work(&self) -> Work {
        self.work
    }

    /// It is run in this chunk.
    pub(super) fn begin(
        &mut self,
        (job, place): (usize, u32),
        (worker, ticket): (WorkerId, Ticket),
        now: Moment,
        processes: &[Process],
    ) {
        require(self.run.is_none(), "no item is run twice", || {
            format!("{self:?}")
        });
        require(
            self.end.is_none(),
            "no item is run after it was answered",
            || format!("{self:?}"),
        );
        let still = self.before.is_some_and(|before| {
            let process = &processes[before.worker.number as usize - 1];
            process.works_on(before.ticket, before.place)
        });
        require(!still, "no two runs of an item at once", || {
            format!("{self:?}")
        });
        require(
            self.rests_until <= now,
            "an item that has failed is not run before its pause is over",
            || format!("{now:?} {self:?}"),
        );
        self.run = Some(Run {
            job,
            place,
            since: now,
            worker,
            ticket,
        });
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

    /// The answer to its run in this chunk will be found.
    pub(super) fn show(&mut self, job: usize) {
        // That of a run which was ended may be under way when the next one begins.
        self.shown |= self.run.is_some_and(|run| run.job == job);
    }

    /// The parent takes its answer in: a result, or how the run has failed.
    pub(super) fn answer(&mut self, failure: Option<&TaskError>) {
        require(
            self.shown && !self.is_over(),
            "an item is answered once, by who ran it",
            || format!("{self:?}"),
        );
        self.answered = failure.is_none();
    }

    /// There will be no result.
    pub(super) fn fail(&mut self, end: TaskError) {
        require(!self.is_over(), "an item is answered once", || {
            format!("{end:?} {self:?}")
        });
        self.end = Some(end.after(self.failures.clone()));
    }

    /// Its run has failed like this, and is repeated after a pause if that is `again`. `wanted`
    /// tells whether anything is repeated now.
    pub(super) fn fall(
        &mut self,
        failure: TaskError,
        again: bool,
        retry: Retry,
        wanted: bool,
        now: Moment,
    ) {
        let count = self.failures.len() as u32;
        let allowed = failure
            .failure()
            .is_some_and(|kind| repeats(retry, kind, count));
        require(
            again == (allowed && wanted),
            "an item is repeated after a failure that allows it, not too often, and always then",
            || format!("{again} {failure:?} {retry:?} {wanted} {self:?}"),
        );
        if !again {
            return self.fail(failure);
        }
        require(
            self.run.is_some() && !self.is_over(),
            "an item is repeated that was run and is not answered",
            || format!("{self:?}"),
        );
        self.failures.push(failure);
        self.before = self.run.take();
        self.rests_until = now + retry.pause(count + 1);
        (self.asked, self.shown) = (false, false);
    }

    /// The core gives up its run in this worker: it was running.
    pub(super) fn check_sacrifice(
        &self,
        outcome: Outcome,
        process: &Process,
        spec: &JobSpec,
        now: Moment,
    ) {
        // What is too large for the outbox may be said and not done; who lies is not believed.
        let running = !self.shown || self.next_run().large || process.condemned;
        let run = self.run.filter(|run| run.worker == process.id);
        require(
            run.is_some() && running,
            "only the item that was running ends with its chunk",
            || format!("{outcome:?} {self:?}"),
        );
        let since = run.map_or(now, |run| run.since);
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
    }

    /// Its chunk has ended before it was begun; with an error if it is not to run elsewhere.
    pub(super) fn leave(&mut self, end: Option<TaskError>) {
        require(
            self.run.is_none(),
            "what was begun is not said to be unbegun",
            || format!("{self:?}"),
        );
        if let Some(end) = end {
            self.fail(end);
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
            self.end.is_some() || !self.failures.is_empty(),
            "no answer to an item is thrown away",
            || format!("{self:?}"),
        );
    }

    /// The reader is given a result, or an error.
    pub(super) fn give(&mut self, error: Option<&TaskError>) {
        require(!self.given, "an item is given once", || format!("{self:?}"));
        let true_word = match (error, &self.end) {
            (None, None) => self.answered,
            (Some(given), Some(end)) => story(given) == story(end),
            _ => false,
        };
        require(
            true_word,
            "the reader is told what has happened, and before",
            || format!("{error:?} {self:?}"),
        );
        self.given = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the pool knows how it ended.
    pub(super) fn is_over(&self) -> bool {
        self.answered || self.end.is_some()
    }

    /// The run that is under way and must have come to its end by now.
    fn late_run(&self, spec: &JobSpec, now: Moment) -> Option<Run> {
        let late = |run: &Run| {
            spec.timeout
                .is_some_and(|limit| run.since + limit + STOPPING <= now)
        };
        self.run.filter(|run| late(run) && !self.is_over())
    }

    /// Its limit is over.
    pub(super) fn check_stopped(&self, spec: &JobSpec, processes: &[Process], now: Moment) {
        let Some(run) = self.late_run(spec, now) else {
            return;
        };
        let process = &processes[run.worker.number as usize - 1];
        // It has made the swap, or is about to write what it cannot take back.
        let over = self.shown || process.is_after_item();
        require(
            over || process.killed || process.dead,
            "no item runs longer than it may",
            || format!("{now:?} {self:?}"),
        );
    }

    /// Its limit, and all that may come between that and the answer, is over.
    pub(super) fn check_answered(&self, spec: &JobSpec, now: Moment) {
        let late = |run: Run| {
            let end = spec.timeout.map(|limit| run.since + limit);
            end.is_some_and(|end| end + super::chunks::ANSWERING <= now)
        };
        require(
            !self.late_run(spec, now).is_some_and(late),
            "an item's limit is answered even if the worker is stopped",
            || format!("{now:?} {self:?}"),
        );
    }
}
