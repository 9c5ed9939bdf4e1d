//! What every job was promised, what has become of it, and the rules that this must keep.

use super::life::{ANSWERING, STOPPING};
use super::plan::Planned;
use super::process::Process;
use super::rules::{Starts, require};
use super::terms::repeats;
use super::turns::Turns;
use crate::pool::scheduler::{Failure, JobKey, Outcome, Progress, Request, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// How a job was answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Response,
    #[expect(dead_code, reason = "shown when a rule is broken")]
    Outcome(Outcome),
}

/// One job.
#[derive(Debug)]
struct Record {
    planned: Planned,
    submitted: Moment,
    key: Option<JobKey>,
    /// The worker's hands that it is in.
    held: Option<(WorkerId, Ticket)>,
    /// When and where the swap *waiting → running* was won.
    started: Option<(Moment, WorkerId)>,
    /// How many runs have failed, and which was the last of them.
    failures: u32,
    before: Option<(WorkerId, Ticket)>,
    /// It is not run again before this.
    rests_until: Moment,
    answer: Option<Answer>,
    cancelled: bool,
    aborted: bool,
    requested: bool,
    /// The run that is under way has been asked to end: by its caller, for its soft limit.
    asked: [bool; 2],
}

/// All jobs of a world, and what was asked of the pool as a whole.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: Vec<Record>,
    pub(super) turns: Turns,
    open: usize,
    pub(super) cancelled_pending: bool,
    pub(super) terminated: bool,
}

impl Ledger {
    /// A job is about to be submitted.
    pub(super) fn open(&mut self, planned: Planned, now: Moment) -> usize {
        self.records.push(Record {
            planned,
            submitted: now,
            key: None,
            held: None,
            started: None,
            failures: 0,
            before: None,
            rests_until: Moment(0),
            answer: None,
            cancelled: false,
            aborted: false,
            requested: false,
            asked: [false; 2],
        });
        self.open += 1;
        self.records.len() - 1
    }

    pub(super) fn accepted(&mut self, job: usize, key: JobKey) {
        self.records[job].key = Some(key);
        self.turns.queue(job, &self.records[job].planned.spec);
    }

    /// The job that was opened last was refused.
    pub(super) fn refused(&mut self) {
        self.records.pop();
        self.open -= 1;
    }

    pub(super) fn planned(&self, job: usize) -> Planned {
        self.records[job].planned
    }

    /// Whether it is a room.
    pub(super) fn is_room(&self, job: usize) -> bool {
        self.records[job].planned.spec.room.is_some()
    }

    /// Whether it is a room that its worker has begun.
    pub(super) fn is_open_room(&self, job: usize) -> bool {
        self.is_room(job) && self.records[job].started.is_some()
    }

    /// How many rooms stand in the core's line.
    pub(super) fn waiting_rooms(&self) -> usize {
        let waits = |record: &&Record| {
            record.planned.spec.room.is_some() && record.held.is_none() && record.answer.is_none()
        };
        self.records.iter().filter(waits).count()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many jobs are unanswered.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> + '_ {
        let records = self.records.iter().enumerate();
        records
            .filter(|(_, record)| record.answer.is_none())
            .map(|(job, _)| job)
    }

    /// Somebody wants it back; the key under which to ask.
    pub(super) fn cancel(&mut self, job: usize) -> Option<JobKey> {
        self.records[job].cancelled = true;
        self.records[job].key
    }

    /// Somebody wants it to end; the key under which to ask.
    pub(super) fn abort(&mut self, job: usize) -> Option<JobKey> {
        self.records[job].aborted = true;
        self.records[job].key
    }

    /// Somebody would like it to end; the key under which to ask.
    pub(super) fn request(&mut self, job: usize) -> Option<JobKey> {
        self.records[job].requested = true;
        self.records[job].key
    }

    /// The worker's hands that a job is in which is not answered.
    pub(super) fn holder(&self, job: usize) -> Option<(WorkerId, Ticket)> {
        let record = &self.records[job];
        record.held.filter(|_| record.answer.is_none())
    }

    /// What was sent to a worker under this name is to be asked to end; which job that is.
    pub(super) fn check_may_ask(&self, worker: WorkerId, ticket: Ticket, why: Request) -> usize {
        let held = Some((worker, ticket));
        let found = self.records.iter().rposition(|record| record.held == held);
        let Some(job) = found else {
            require(false, "only what was sent is asked to end", || {
                format!("{worker:?} {ticket:?}")
            });
            return 0;
        };
        let record = &self.records[job];
        require(
            record.started.is_some() && record.answer.is_none(),
            "only what was started and is not answered is asked to end",
            || format!("{record:?}"),
        );
        require(
            record.requested || why == Request::SoftLimit,
            "nobody is asked for whom no caller has asked",
            || format!("{record:?}"),
        );
        job
    }

    /// The run that is under way was asked to end; whether it is for the first time.
    pub(super) fn was_asked(&mut self, job: usize, why: Request) -> bool {
        let soft = why == Request::SoftLimit;
        !std::mem::replace(&mut self.records[job].asked[usize::from(soft)], true)
    }

    /// Whether the run that is under way was asked to end for its soft limit.
    pub(super) fn has_been_asked(&self, job: usize) -> bool {
        self.records[job].asked[1]
    }

    /// It was decided at `decided` or later that the worker gets it.
    pub(super) fn assigned(
        &mut self,
        job: usize,
        worker: WorkerId,
        ticket: Ticket,
        decided: Moment,
        bound: bool,
    ) {
        let records = &self.records;
        let known = |job: usize| records[job].submitted < decided;
        let spec = &records[job].planned.spec;
        if spec.key.is_none() {
            self.turns.check(job, spec, decided, known);
        }
        self.turns.check_home(spec, worker.place, bound);
        let record = &mut self.records[job];
        let free = record.held.is_none() && record.started.is_none() && record.answer.is_none();
        require(
            free,
            "a job is in one worker's hands, unstarted and unanswered, when assigned",
            || format!("{record:?}"),
        );
        record.held = Some((worker, ticket));
    }

    /// The swap *waiting → taken back* was won.
    pub(super) fn came_back(&mut self, worker: WorkerId, ticket: Ticket, now: Moment) {
        let held = Some((worker, ticket));
        let records = self.records.iter_mut().enumerate();
        if let Some((job, record)) = records.rev().find(|(_, record)| record.held == held) {
            record.held = None;
            self.turns.came_back(job, &record.planned.spec, now);
        }
    }

    /// The swap *waiting → running* was won.
    pub(super) fn started(
        &mut self,
        job: usize,
        worker: WorkerId,
        now: Moment,
        processes: &[Process],
    ) {
        let record = &mut self.records[job];
        require(record.started.is_none(), "no job is started twice", || {
            format!("{record:?}")
        });
        let still = record.before.is_some_and(|(worker, ticket)| {
            processes[worker.number as usize - 1].works_on(ticket, 0)
        });
        require(!still, "no two runs of a job at once", || {
            format!("{record:?}")
        });
        require(
            record.answer.is_none(),
            "no job is started after it was answered",
            || format!("{record:?}"),
        );
        require(
            record.rests_until <= now,
            "a job that has failed is not run before its pause is over",
            || format!("{now:?} {record:?}"),
        );
        record.started = Some((now, worker));
    }

    /// Its response was delivered to the caller.
    pub(super) fn responded(&mut self, job: usize, expected: usize, worker: WorkerId) {
        require(
            job == expected,
            "a response belongs to its own call",
            || format!("job {job} was given the response of job {expected}"),
        );
        let record = &self.records[job];
        require(
            record.started.is_some_and(|(_, by)| by == worker),
            "only the worker that ran a call answers it",
            || format!("{record:?}"),
        );
        self.answer(job, Answer::Response);
    }

    /// It has failed, like this or by a panic, at `failed` or later, and will be run again.
    pub(super) fn repeated(
        &mut self,
        job: usize,
        outcome: Option<Outcome>,
        processes: &[Process],
        (failed, now): (Moment, Moment),
    ) {
        let record = &mut self.records[job];
        let spec = record.planned.spec;
        let (failure, true_so) = match (outcome, record.started) {
            (None, Some(_)) => (Failure::Panicked, true),
            (Some(Outcome::Lost(worker)), Some((_, by))) => {
                let lost = processes[worker.number as usize - 1].may_lose_calls();
                (Failure::Lost, by == worker && lost)
            }
            (Some(Outcome::RanTooLong), Some((since, _))) => {
                let limit = spec.timeout.is_some_and(|limit| since + limit <= now);
                (Failure::RanTooLong, limit)
            }
            other => {
                return require(false, "only a run that failed is repeated", || {
                    format!("{other:?} {record:?}")
                });
            }
        };
        require(
            true_so && repeats(spec.retry, failure, record.failures),
            "a run is repeated only after a failure that allows it, and not too often",
            || format!("{outcome:?} {record:?}"),
        );
        require(
            record.answer.is_none() && !self.terminated && !self.cancelled_pending,
            "nothing is repeated that is answered or not wanted",
            || format!("{record:?}"),
        );
        require(
            !record.aborted && !record.requested,
            "nothing is repeated whose end its caller wants",
            || format!("{record:?}"),
        );
        record.failures += 1;
        record.rests_until = failed + spec.retry.pause(record.failures);
        record.before = record.held.take();
        record.started = None;
        record.asked = [false; 2];
    }

    /// The core has answered it; `costs` tells whether that fails what was running.
    pub(super) fn resolved(
        &mut self,
        (job, costs): (usize, bool),
        key: JobKey,
        outcome: Outcome,
        processes: &[Process],
        starts: &Starts,
        now: Moment,
    ) {
        let record = &self.records[job];
        let started = record.started;
        let spec = record.planned.spec;
        let after =
            |since: Moment, limit: Option<_>| limit.is_some_and(|limit| since + limit <= now);
        let process = |worker: WorkerId| &processes[worker.number as usize - 1];
        let (holds, rule) = match outcome {
            Outcome::Lost(worker) => (
                started.is_some_and(|(_, by)| by == worker)
                    && (!costs || process(worker).may_lose_calls()),
                "only what a worker ran when it died is lost, and never to a kill for another call",
            ),
            Outcome::Cancelled => (
                started.is_none()
                    && (record.cancelled || record.requested || self.cancelled_pending),
                "only what was not started is cancelled, and only when asked",
            ),
            Outcome::Aborted(true) => (
                started.is_some() && record.aborted,
                "only what was started is aborted while it runs, and only when asked",
            ),
            Outcome::Aborted(false) => (
                started.is_none() && record.aborted,
                "only what was not started is aborted before its start, and only when asked",
            ),
            Outcome::RanTooLong => (
                started.is_some_and(|(since, _)| after(since, spec.timeout)),
                "only what ran for its limit ran too long",
            ),
            Outcome::GrewTooLarge(..) => (
                started.is_some() && record.planned.grows,
                "only who has grown too large is ended for that",
            ),
            Outcome::WaitedTooLong => (
                started.is_none() && after(record.submitted, spec.queue_timeout),
                "only what waited for its limit, and was not started, waited too long",
            ),
            Outcome::Expired(had_started) => (
                started.is_some() == had_started && spec.deadline.is_some_and(|at| at <= now),
                "only what passed its deadline is expired, and it is said whether it was started",
            ),
            Outcome::ShutDown(had_started) => (
                self.terminated && started.is_some() == had_started,
                "a shut down says truly whether the call had been started",
            ),
            Outcome::Broken(None, had_started) => (
                starts.hopeless && started.is_none() && !had_started,
                "a pool that cannot start workers fails what waits, and no other pool does",
            ),
            Outcome::Broken(Some(worker), had_started) => (
                starts.loss == Some(worker) && started.is_some() == had_started,
                "a pool that may not restart breaks at its first loss, and says what was started",
            ),
        };
        require(holds, rule, || format!("{outcome:?} {record:?}"));
        let failure = match outcome {
            Outcome::Lost(_) => Some(Failure::Lost),
            Outcome::RanTooLong => Some(Failure::RanTooLong),
            _ => None,
        };
        let allowed = failure.is_some_and(|failure| repeats(spec.retry, failure, record.failures));
        let wanted = !record.aborted && !record.requested && !self.cancelled_pending;
        let deserted = starts.hopeless && starts.deserted;
        require(
            !(allowed && wanted) || self.terminated || starts.loss.is_some() || deserted,
            "what may be run again is",
            || format!("{outcome:?} {record:?}"),
        );
        require(
            record.key == Some(key),
            "a job is answered under its own key",
            || format!("{key:?}"),
        );
        require(
            !starts.never || !matches!(outcome, Outcome::Lost(_)),
            "no loss without a break",
            || format!("{record:?}"),
        );
        self.answer(job, Answer::Outcome(outcome));
    }

    fn answer(&mut self, job: usize, answer: Answer) {
        self.turns.forget(job, &self.records[job].planned.spec);
        let record = &mut self.records[job];
        require(record.answer.is_none(), "a job is answered once", || {
            format!("{answer:?} {record:?}")
        });
        record.answer = Some(answer);
        self.open -= 1;
    }

    /// A response arrived for a call that the core had no use for.
    pub(super) fn check_response_was_late(&self, job: usize) {
        let record = &self.records[job];
        // A run that was ended may have been writing its response.
        require(
            record.answer.is_some() || record.failures > 0,
            "no response is thrown away",
            || format!("{record:?}"),
        );
    }

    pub(super) fn check_cancelled(&self, job: usize) {
        let record = &self.records[job];
        let settled = record.started.is_some() || record.answer.is_some();
        require(
            settled,
            "what has not been started can be cancelled",
            || format!("{record:?}"),
        );
    }

    /// The job was asked for: it is answered, or what runs of it has been asked to end.
    pub(super) fn check_requested(&self, job: usize, processes: &[Process]) {
        self.check_cancelled(job);
        let record = &self.records[job];
        let runs = record.held.is_some_and(|(worker, ticket)| {
            let process = &processes[worker.number as usize - 1];
            process.page.is_running(ticket) && !process.reaped
        });
        require(
            record.answer.is_some() || record.asked[0] || !runs,
            "a caller's request reaches what runs",
            || format!("{record:?}"),
        );
    }

    pub(super) fn check_nothing_waits(&self) {
        for job in self.unanswered() {
            self.check_cancelled(job);
        }
    }

    /// The job was aborted: it is answered, or its response or its worker's end is under way.
    pub(super) fn check_aborted(&self, job: usize, processes: &[Process]) {
        let record = &self.records[job];
        let dying = record.held.is_some_and(|(worker, _)| {
            let process = &processes[worker.number as usize - 1];
            process.killed || process.dead
        });
        let settled = record.answer.is_some() || dying || record.is_over(processes);
        require(settled, "what is not over can be aborted", || {
            format!("{record:?}")
        });
    }

    /// The pool was ended: what is not answered has its response under way.
    pub(super) fn check_all_over(&self, processes: &[Process]) {
        for job in self.unanswered() {
            let record = &self.records[job];
            require(
                record.is_over(processes),
                "the end of everything spares nothing",
                || format!("{record:?}"),
            );
        }
    }

    pub(super) fn check_all_answered(&self, when: &str) {
        for job in self.unanswered() {
            let record = &self.records[job];
            require(false, "every job is answered", || {
                format!("not {when}: job {job} {record:?}")
            });
        }
    }

    /// Its queue timeout is over.
    pub(super) fn check_begun(&self, job: usize, now: Moment) {
        let record = &self.records[job];
        let begun = record.started.is_some() || record.failures > 0 || record.answer.is_some();
        require(begun, "nothing waits longer than it may", || {
            format!("{now:?} {record:?}")
        });
    }

    /// Its limit is over.
    pub(super) fn check_stopped(&self, job: usize, processes: &[Process], now: Moment) {
        let record = &self.records[job];
        if record.time_is_up().is_none_or(|at| now < at + STOPPING) {
            // What was looked for is a run that has failed and was repeated.
            return;
        }
        let Some((worker, _)) = record.held else {
            return;
        };
        let process = &processes[worker.number as usize - 1];
        let stopped = record.answer.is_some() || process.killed || process.dead;
        // That it runs is looked at seldom before it is known to be the first; who is stopped does
        // not say that it is. It has its answer in time nevertheless.
        let unsaid = process.stopped.is_some() && process.unsaid.is_some();
        require(
            stopped || unsaid || record.is_over(processes),
            "nothing runs longer than it may",
            || format!("{now:?} {record:?}"),
        );
    }

    /// Its limit, and all that may come between that and the answer, is over.
    pub(super) fn check_answered(&self, job: usize, now: Moment) {
        let record = &self.records[job];
        let over = record.time_is_up().is_none_or(|at| now < at + ANSWERING);
        let answered = record.answer.is_some() || over;
        require(
            answered,
            "a limit is answered even if the worker is stopped",
            || format!("{now:?} {record:?}"),
        );
    }

    /// After the faults the pool works: the job has a response.
    pub(super) fn check_served(&self, job: usize) {
        let record = &self.records[job];
        let served = matches!(record.answer, Some(Answer::Response));
        require(
            served,
            "when the faults have stopped the pool serves",
            || format!("{record:?}"),
        );
    }
}

impl Record {
    /// When the run that is under way must end, or the job.
    fn time_is_up(&self) -> Option<Moment> {
        let spec = &self.planned.spec;
        // The limit of a chunk is one for each of its items, and looked at there.
        let own = spec.timeout.filter(|_| spec.items == 0);
        let limit = |(since, _)| own.map(|limit| since + limit);
        let limit = self.started.and_then(limit);
        limit.into_iter().chain(spec.deadline).min()
    }

    fn is_over(&self, processes: &[Process]) -> bool {
        self.held.is_some_and(|(worker, ticket)| {
            let process = &processes[worker.number as usize - 1];
            process.page.progress(ticket) == Progress::Over
        })
    }
}
