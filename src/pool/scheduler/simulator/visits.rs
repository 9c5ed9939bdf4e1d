//! What every async call was promised, what has become of it, and the rules that this must keep.

use std::cmp::Reverse;
use std::time::Duration;

use super::ledger::Ledger;
use super::life::{ANSWERING, STOPPING};
use super::plan::PlannedVisit;
use super::process::Process;
use super::rules::{Starts, require};
use super::terms::repeats;
use crate::pool::scheduler::{Failure, Outcome, Progress, Request, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A call that is not begun in its room must have been taken back after this, even where it can go nowhere but
/// to the worker that is left for blocking calls.
const LATE: Duration = Duration::from_millis(220);

/// One async call.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) planned: PlannedVisit,
    pub(super) number: u64,
    submitted: Moment,
    /// The worker that has it, and since when.
    held: Option<(WorkerId, Ticket, Moment)>,
    /// When the swap *waiting → running* was won.
    begun: Option<Moment>,
    /// How many runs have failed, which was the last of them, and until when it rests after that.
    failures: u32,
    before: Option<(WorkerId, Ticket)>,
    rests_until: Moment,
    answer: Option<Option<Outcome>>,
    cancelled: bool,
    aborted: bool,
    requested: bool,
    /// This run has been asked to end: by its caller, for its soft limit.
    asked: [bool; 2],
}

/// All async calls of a world.
#[derive(Debug, Default)]
pub(super) struct Visits {
    records: Vec<Visit>,
    open: usize,
}

/// What the rules must know of the world.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    processes: &'a [Process],
    pub(super) starts: &'a Starts,
    pub(super) terminated: bool,
    pub(super) cancelled_pending: bool,
    pub(super) now: Moment,
}

impl<'a> Scene<'a> {
    pub(super) fn of(
        processes: &'a [Process],
        starts: &'a Starts,
        ledger: &Ledger,
        now: Moment,
    ) -> Self {
        Self {
            processes,
            starts,
            terminated: ledger.terminated,
            cancelled_pending: ledger.cancelled_pending,
            now,
        }
    }

    fn process(&self, worker: WorkerId) -> &Process {
        &self.processes[worker.number as usize - 1]
    }

    /// Whether async calls are run again.
    fn repeats(&self) -> bool {
        !self.terminated && !self.cancelled_pending && self.starts.loss.is_none()
    }

    /// Whether those with that deadline must be, once they have failed.
    fn must_repeat(&self, deadline: Option<Moment>) -> bool {
        let in_time = deadline.is_none_or(|deadline| deadline > self.now);
        self.repeats() && in_time && !self.starts.hopeless
    }
}

/// What somebody wants of an async call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Cancel,
    Abort,
    Request,
}

impl Visits {
    pub(super) fn open(&mut self, planned: PlannedVisit, number: u64, now: Moment) -> usize {
        self.records.push(Visit {
            planned,
            number,
            submitted: now,
            held: None,
            begun: None,
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

    pub(super) fn get(&self, visit: usize) -> &Visit {
        &self.records[visit]
    }

    /// The unanswered one, or the one that was, of that number in the pool.
    pub(super) fn by_number(&self, number: u64) -> Option<usize> {
        self.records
            .iter()
            .position(|record| record.number == number)
    }

    /// How many of its runs have failed.
    pub(super) fn failures(&self, visit: usize) -> usize {
        self.records[visit].failures as usize
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many are unanswered.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> + '_ {
        let records = self.records.iter().enumerate();
        records
            .filter(|(_, record)| record.answer.is_none())
            .map(|(visit, _)| visit)
    }

    /// How many are in that worker's room, begun or not.
    fn in_room(&self, worker: WorkerId) -> usize {
        let there = |record: &&Visit| record.held.is_some_and(|(at, ..)| at == worker);
        self.records.iter().filter(there).count()
    }

    /// It is let into a room for `most`.
    pub(super) fn entered(
        &mut self,
        visit: usize,
        worker: WorkerId,
        ticket: Ticket,
        most: usize,
        now: Moment,
    ) {
        require(self.in_room(worker) < most, "no room is overfull", || {
            format!("{worker:?}")
        });
        let own = self.records[visit].turn();
        let first = self.records.iter().find(|other| {
            // Whether who has failed is in the line again is not known here.
            let waits = other.answer.is_none() && other.held.is_none() && other.failures == 0;
            waits && other.turn() < own
        });
        require(
            first.is_none(),
            "the most urgent goes into a room first, then the first",
            || format!("{:?} before {first:?}", self.records[visit]),
        );
        let record = &mut self.records[visit];
        let free = record.held.is_none() && record.begun.is_none() && record.answer.is_none();
        require(
            free && record.rests_until <= now,
            "a call that enters a room is in no other, unbegun, unanswered, and rested",
            || format!("{record:?}"),
        );
        record.held = Some((worker, ticket, now));
    }

    fn find(&mut self, worker: WorkerId, ticket: Ticket) -> Option<(usize, &mut Visit)> {
        let there = |record: &Visit| {
            record
                .held
                .is_some_and(|(at, name, _)| (at, name) == (worker, ticket))
        };
        let mut records = self.records.iter_mut().enumerate().rev();
        records.find(|(_, record)| there(record))
    }

    /// The swap *waiting → taken back* was won.
    pub(super) fn came_back(&mut self, worker: WorkerId, ticket: Ticket) {
        if let Some((_, record)) = self.find(worker, ticket) {
            record.held = None;
        }
    }

    /// The worker is gone: what it had not begun goes elsewhere.
    pub(super) fn released(&mut self, worker: WorkerId) {
        for record in &mut self.records {
            let unbegun = record.begun.is_none();
            record.held.take_if(|(at, ..)| unbegun && *at == worker);
        }
    }

    /// The swap *running → ended* was won; which call that is.
    pub(super) fn ended(&mut self, worker: WorkerId, ticket: Ticket) -> Option<usize> {
        let found = self.find(worker, ticket).map(|(visit, _)| visit);
        require(found.is_some(), "only a guest is ended", || {
            format!("{worker:?} {ticket:?}")
        });
        found
    }

    /// It was reached by a request; which call that is.
    pub(super) fn was_asked(
        &mut self,
        worker: WorkerId,
        ticket: Ticket,
        why: Request,
        now: Moment,
    ) -> Option<usize> {
        let (visit, record) = self.find(worker, ticket)?;
        let soft = why == Request::SoftLimit;
        let limit = record.planned.spec.soft_timeout;
        let late = record
            .begun
            .zip(limit)
            .is_some_and(|(since, limit)| since + limit <= now);
        require(
            if soft { late } else { record.requested },
            "a guest is asked to end for its soft limit, or its caller's wish",
            || format!("{why:?} {record:?}"),
        );
        let again = std::mem::replace(&mut record.asked[usize::from(soft)], true);
        require(
            !(soft && again),
            "a guest is asked once for its soft limit",
            || format!("{record:?}"),
        );
        Some(visit)
    }

    /// The swap *waiting → running* was won.
    pub(super) fn begun(&mut self, visit: usize, ticket: Ticket, scene: Scene<'_>) {
        let record = &mut self.records[visit];
        let held = record.held.is_some_and(|(_, name, _)| name == ticket);
        require(
            held && record.begun.is_none() && record.answer.is_none(),
            "no async call is begun twice, or when it is answered",
            || format!("{record:?}"),
        );
        let still = record
            .before
            .is_some_and(|(worker, ticket)| scene.process(worker).works_on(ticket, 0));
        require(!still, "no two runs of an async call at once", || {
            format!("{record:?}")
        });
        record.begun = Some(scene.now);
    }

    /// Somebody who is in that worker's room, or on the way there.
    pub(super) fn guest_of(&self, worker: WorkerId) -> Option<Ticket> {
        let mut there = self.records.iter().filter_map(|record| record.held);
        there
            .find(|(at, ..)| *at == worker)
            .map(|(_, ticket, _)| ticket)
    }

    /// Its response was delivered to the caller.
    pub(super) fn responded(&mut self, visit: usize, expected: usize, worker: WorkerId) {
        let record = &self.records[visit];
        let own = record.begun.is_some() && record.held.is_some_and(|(by, ..)| by == worker);
        require(
            visit == expected && own,
            "only the guest that ran an async call answers it",
            || format!("the answer of {expected} for {record:?}"),
        );
        self.answer(visit, None);
    }

    /// It has failed, like this or by a panic, and will be run again.
    pub(super) fn repeated(
        &mut self,
        visit: usize,
        outcome: Option<Outcome>,
        failed: Moment,
        scene: Scene<'_>,
    ) {
        let record = &mut self.records[visit];
        require(
            record.is_true(outcome, scene) && record.is_repeated(outcome) && scene.repeats(),
            "an async call is repeated only after a failure that allows it, and not too often",
            || format!("{outcome:?} {record:?}"),
        );
        require(
            record.answer.is_none() && !record.aborted && !record.requested,
            "no async call is repeated whose end its caller wants, or has",
            || format!("{record:?}"),
        );
        record.failures += 1;
        record.rests_until = failed + record.planned.spec.retry.pause(record.failures);
        record.before = record
            .held
            .take()
            .map(|(worker, ticket, _)| (worker, ticket));
        record.begun = None;
        record.asked = [false; 2];
    }

    /// It was answered like this.
    pub(super) fn resolved(&mut self, visit: usize, outcome: Outcome, scene: Scene<'_>) {
        let record = &self.records[visit];
        let (begun, now) = (record.begun.is_some(), scene.now);
        let spec = &record.planned.spec;
        let holds = match outcome {
            Outcome::Lost(_) | Outcome::RanTooLong => record.is_true(Some(outcome), scene),
            Outcome::Cancelled => {
                !begun && (record.cancelled || record.requested || scene.cancelled_pending)
            }
            Outcome::Aborted(started) => begun == started && record.aborted,
            Outcome::GrewTooLarge(..) => {
                begun && record.held.is_some_and(|(by, ..)| scene.process(by).grown)
            }
            Outcome::WaitedTooLong => {
                let limit = spec.queue_timeout.filter(|_| record.failures == 0);
                !begun && limit.is_some_and(|limit| record.submitted + limit <= now)
            }
            Outcome::Expired(started) => {
                begun == started && spec.deadline.is_some_and(|at| at <= now)
            }
            Outcome::ShutDown(started) => begun == started && scene.terminated,
            Outcome::Broken(None, started) => !begun && !started && scene.starts.hopeless,
            Outcome::Broken(worker @ Some(_), started) => {
                begun == started && scene.starts.loss == worker
            }
        };
        require(
            !scene.starts.never || !matches!(outcome, Outcome::Lost(_)),
            "no async call is lost without a break",
            || format!("{record:?}"),
        );
        require(holds, "an async call's caller is told the truth", || {
            format!("{outcome:?} {record:?}")
        });
        require(
            !(record.is_repeated(Some(outcome)) && scene.must_repeat(spec.deadline))
                || record.aborted
                || record.requested,
            "an async call that may be repeated is",
            || format!("{outcome:?} {record:?}"),
        );
        self.answer(visit, Some(outcome));
    }

    /// It is told how long it had been running when its worker was lost: if that said the truth, for
    /// no one else is that known.
    pub(super) fn check_ran(
        &self,
        visit: usize,
        outcome: Outcome,
        ran: Option<Duration>,
        scene: Scene<'_>,
    ) {
        let record = &self.records[visit];
        let known = match (outcome, ran) {
            (Outcome::Lost(worker), None) => scene.process(worker).condemned,
            (Outcome::Lost(_), Some(ran)) => {
                record.begun.is_some_and(|since| since + ran <= scene.now)
            }
            (_, ran) => ran.is_none() || record.failures > 0,
        };
        require(known, "it is told how long a lost run had taken", || {
            format!("{outcome:?} {ran:?} {record:?}")
        });
    }

    fn answer(&mut self, visit: usize, answer: Option<Outcome>) {
        let record = &mut self.records[visit];
        require(
            record.answer.is_none(),
            "an async call is answered once",
            || format!("{answer:?} {record:?}"),
        );
        record.answer = Some(answer);
        record.held = None;
        self.open -= 1;
    }

    /// It says that it has panicked, which is its end.
    pub(super) fn check_not_repeated(&self, visit: usize, scene: Scene<'_>) {
        let record = &self.records[visit];
        let over = record.answer.is_some() || record.aborted || record.requested;
        let over = over || !scene.must_repeat(record.planned.spec.deadline);
        require(
            over || !record.is_repeated(None),
            "an async call that may be repeated is",
            || format!("{record:?}"),
        );
    }

    /// Its response has come, and nobody waits for it.
    pub(super) fn check_response_was_late(&self, visit: usize) {
        let record = &self.records[visit];
        require(
            record.answer.is_some() || record.failures > 0,
            "no response of a guest is thrown away",
            || format!("{record:?}"),
        );
    }

    /// Somebody wants something of it; its number.
    pub(super) fn wish(&mut self, visit: usize, wish: Wish) -> u64 {
        let record = &mut self.records[visit];
        record.cancelled |= wish == Wish::Cancel;
        record.aborted |= wish == Wish::Abort;
        record.requested |= wish == Wish::Request;
        record.number
    }

    /// That has been seen to.
    pub(super) fn check_wish(&self, visit: usize, wish: Wish, processes: &[Process]) {
        let record = &self.records[visit];
        let settled = match wish {
            Wish::Cancel => record.begun.is_some(),
            Wish::Abort => record.is_over(processes),
            Wish::Request => record.asked[0] || record.is_over(processes),
        };
        require(
            settled || record.answer.is_some(),
            "what is wanted of an async call is done",
            || format!("{wish:?} {record:?}"),
        );
    }

    /// Nothing waits any more.
    pub(super) fn check_nothing_waits(&self) {
        for visit in self.unanswered() {
            self.check_wish(visit, Wish::Cancel, &[]);
        }
    }

    /// The pool was ended: what is not answered has its response under way.
    pub(super) fn check_all_over(&self, processes: &[Process]) {
        for visit in self.unanswered() {
            self.check_wish(visit, Wish::Abort, processes);
        }
    }

    pub(super) fn check_all_answered(&self, when: &str) {
        if let Some(visit) = self.unanswered().next() {
            require(false, "every async call is answered", || {
                format!("not {when}: {visit} {:?}", self.records[visit])
            });
        }
    }

    /// After the faults the pool works: the call has a response, unless somebody in its room had made
    /// its worker too large.
    pub(super) fn check_served(&self, visit: usize) {
        let record = &self.records[visit];
        require(
            matches!(record.answer, Some(None | Some(Outcome::GrewTooLarge(..)))),
            "when the faults have stopped the pool serves async calls",
            || format!("{record:?}"),
        );
    }

    /// Time has passed.
    pub(super) fn look(&self, look: Look, visit: usize, processes: &[Process], now: Moment) {
        let record = &self.records[visit];
        if record.answer.is_some() {
            return;
        }
        let (spec, since) = (&record.planned.spec, record.begun);
        let limit = since.zip(spec.timeout).map(|(since, limit)| since + limit);
        let end = limit.into_iter().chain(spec.deadline).min();
        let passed = |end: Option<Moment>, more| end.is_some_and(|end| end + more <= now);
        let (kept, rule) = match look {
            Look::Begun => (
                since.is_some() || record.failures > 0,
                "no async call waits longer than it may",
            ),
            Look::Over => (
                !passed(end, STOPPING) || record.is_over(processes),
                "no async call runs longer than it may",
            ),
            Look::Answered => (
                !passed(end, ANSWERING),
                "an async call's limit is answered even if the worker is stopped",
            ),
            Look::Asked => {
                let soft = since
                    .zip(spec.soft_timeout)
                    .map(|(since, soft)| since + soft);
                (
                    !passed(soft, STOPPING) || record.asked[1] || record.is_over(processes),
                    "an async call that runs longer than it should is asked to end",
                )
            }
            Look::There => {
                let waits = record.held.filter(|_| since.is_none());
                (
                    !passed(waits.map(|(.., entered)| entered), LATE),
                    "who is not begun in its room goes elsewhere",
                )
            }
        };
        require(kept, rule, || format!("{now:?} {record:?}"));
    }
}

/// For what an async call is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// It must have been begun, or answered.
    Begun,
    /// Its run must be over …
    Over,
    /// … and be answered.
    Answered,
    /// It must have been asked to come to its end.
    Asked,
    /// It must have been begun where it is, or be there no more.
    There,
}

impl Look {
    /// When that is, after what it is about.
    pub(super) fn after(self) -> Duration {
        match self {
            Self::Begun | Self::Over | Self::Asked => STOPPING,
            Self::Answered => ANSWERING,
            Self::There => LATE,
        }
    }
}

impl Visit {
    fn turn(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.planned.spec.priority), self.number)
    }

    /// Whether it can have failed like this; of a panic its worker tells.
    fn is_true(&self, outcome: Option<Outcome>, scene: Scene<'_>) -> bool {
        let (Some(since), Some((by, ..))) = (self.begun, self.held) else {
            return false;
        };
        match outcome {
            None => true,
            Some(Outcome::Lost(worker)) => {
                // What is known of a worker is forgotten with its release.
                let process = scene.process(worker);
                by == worker && process.may_lose_calls() && !process.released
            }
            Some(Outcome::RanTooLong) => {
                let limit = self.planned.spec.timeout;
                limit.is_some_and(|limit| since + limit <= scene.now)
            }
            Some(_) => false,
        }
    }

    /// Whether a run that failed like this is no end.
    fn is_repeated(&self, outcome: Option<Outcome>) -> bool {
        let failure = match outcome {
            None => Failure::Panicked,
            Some(Outcome::Lost(_)) => Failure::Lost,
            Some(Outcome::RanTooLong) => Failure::RanTooLong,
            Some(_) => return false,
        };
        repeats(self.planned.spec.retry, failure, self.failures)
    }

    /// Whether its run is over, whatever of that has been heard.
    fn is_over(&self, processes: &[Process]) -> bool {
        self.held.is_some_and(|(worker, ticket, _)| {
            let process = &processes[worker.number as usize - 1];
            process.page.progress(ticket) == Progress::Over
        })
    }
}
