//! A pool without processes: the real scheduler and the real rooms, played workers, and a book of
//! what became of each call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::actor::{Actor, Manner, Response};
use crate::pool::rooms::{CallSpec, RoomRules, Rooms, Surroundings};
use crate::pool::scheduler::Request as Why;
use crate::pool::scheduler::{
    Event, JobKey, JobSpec, Outcome, Progress, Restart, Rules, Scheduler, Ticket, WorkerId,
};
use crate::sys::clock::Moment;
use crate::wire::page::LANES;

pub(super) const YIELD_LIMIT: Duration = Duration::from_secs(1);

/// What is known of a call.
#[derive(Debug, Default)]
pub(super) struct Record {
    runs: u32,
    /// How often it was answered by its worker.
    answers: u32,
    /// How it ended otherwise.
    pub(super) outcomes: Vec<Outcome>,
}

/// What a job of the scheduler's is.
#[derive(Debug)]
pub(super) enum Job {
    Room,
    Blocking(u64),
}

pub(super) struct Around<'a>(
    pub(super) &'a Scheduler<Job>,
    pub(super) &'a RefCell<BTreeMap<WorkerId, Actor>>,
);

impl Surroundings for Around<'_> {
    fn take_back(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let mut actors = self.1.borrow_mut();
        actors
            .get_mut(&worker)
            .is_some_and(|actor| actor.take_back(ticket))
    }

    fn end(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let mut actors = self.1.borrow_mut();
        actors
            .get_mut(&worker)
            .is_some_and(|actor| actor.end(ticket))
    }

    fn ask(&self, worker: WorkerId, ticket: Ticket, _: Why) -> bool {
        matches!(self.progress(worker, ticket), Progress::Running(_))
    }

    fn progress(&self, worker: WorkerId, ticket: Ticket) -> Progress {
        let actors = self.1.borrow();
        actors
            .get(&worker)
            .map_or(Progress::Over, |actor| actor.progress(ticket))
    }

    fn has_begun(&self, worker: WorkerId, room: JobKey) -> bool {
        let first = self.0.running(worker).filter(|(first, _)| *first == room);
        first.is_some_and(|(_, ticket)| self.progress(worker, ticket) != Progress::Waiting)
    }

    fn admits(&self, worker: WorkerId, room: JobKey, guests: usize) -> bool {
        self.0.admits(worker, room, guests)
    }

    fn waiting(&self) -> usize {
        self.0.calls_waiting()
    }

    fn spare(&self) -> (usize, usize) {
        self.0.spare()
    }
}

pub(super) struct Stage {
    pub(super) now: Moment,
    pub(super) scheduler: Scheduler<Job>,
    pub(super) rooms: Rooms<()>,
    pub(super) actors: RefCell<BTreeMap<WorkerId, Actor>>,
    pub(super) starting: Vec<WorkerId>,
    pub(super) records: BTreeMap<u64, Record>,
    manners: BTreeMap<u64, Manner>,
    pub(super) killed: u32,
    pub(super) finished: bool,
}

impl Stage {
    pub(super) fn new(workers: usize, most: usize) -> Self {
        let rules = Rules {
            workers,
            starts_at_once: workers,
            leave_limit: Duration::from_secs(60),
            ..Rules::default()
        };
        let rooms = RoomRules {
            most,
            grace: Duration::ZERO,
            yield_limit: YIELD_LIMIT,
        };
        Self {
            now: Moment(1_000_000_000),
            scheduler: Scheduler::new(rules),
            rooms: Rooms::new(rooms),
            actors: RefCell::default(),
            starting: Vec::new(),
            records: BTreeMap::new(),
            manners: BTreeMap::new(),
            killed: 0,
            finished: false,
        }
    }

    /// The same, and the first loss breaks it.
    pub(super) fn never_restarting(self) -> Self {
        let rules = Rules {
            restart: Restart::Never,
            workers: self.scheduler.workers(),
            ..Rules::default()
        };
        Self {
            scheduler: Scheduler::new(rules),
            ..self
        }
    }

    // What callers do.

    pub(super) fn submit(&mut self, spec: CallSpec, manner: Manner) -> u64 {
        let number = self.scheduler.take_numbers(1);
        self.records.insert(number, Record::default());
        self.manners.insert(number, manner);
        if self.scheduler.refusal().is_some() {
            self.records
                .entry(number)
                .or_default()
                .outcomes
                .push(Outcome::ShutDown(false));
            return number;
        }
        let spec = CallSpec { number, ..spec };
        self.rooms.submit(self.now, spec, None, ());
        self.perform();
        number
    }

    pub(super) fn submit_blocking(&mut self) -> u64 {
        let number = self.scheduler.take_numbers(1);
        let spec = JobSpec {
            kind: 1,
            ..JobSpec::default()
        };
        let record = self.records.entry(number).or_default();
        if self
            .scheduler
            .submit(self.now, spec, Job::Blocking(number))
            .is_err()
        {
            record.outcomes.push(Outcome::ShutDown(false));
        }
        self.perform();
        number
    }

    fn with_rooms(&mut self, act: impl FnOnce(&mut Rooms<()>, Moment, &Around<'_>)) {
        act(
            &mut self.rooms,
            self.now,
            &Around(&self.scheduler, &self.actors),
        );
        self.perform();
    }

    pub(super) fn abort(&mut self, number: u64) {
        self.with_rooms(|rooms, now, around| rooms.abort(now, around, number));
    }

    pub(super) fn cancel(&mut self, number: u64) {
        self.with_rooms(|rooms, _, around| rooms.cancel(around, number));
    }

    pub(super) fn close(&mut self) {
        self.scheduler.handle(self.now, Event::Close);
        self.perform();
    }

    pub(super) fn cancel_pending(&mut self) {
        self.scheduler.handle(self.now, Event::CancelPending);
        self.perform();
    }

    pub(super) fn terminate(&mut self) {
        self.scheduler.handle(self.now, Event::Terminate);
        self.perform();
    }

    /// Lets a call return that stays.
    pub(super) fn finish(&mut self, number: u64) {
        if let Some((worker, _)) = self.rooms.holder(number) {
            let mut actors = self.actors.borrow_mut();
            actors
                .get_mut(&worker)
                .expect("it has it")
                .released
                .push(number);
        }
    }

    /// Lets a call return that stays; its worker says nothing of it.
    pub(super) fn finish_in_silence(&mut self, number: u64) {
        let (worker, _) = self.rooms.holder(number).expect("it is in a room");
        self.finish(number);
        self.act(worker, 0);
    }

    pub(super) fn kill_all(&mut self) {
        self.actors
            .borrow_mut()
            .values_mut()
            .for_each(|actor| actor.dead = true);
    }

    pub(super) fn kill(&mut self, worker: WorkerId) {
        let mut actors = self.actors.borrow_mut();
        actors.get_mut(&worker).expect("it lives").dead = true;
    }

    // What is asked afterwards.

    pub(super) fn outcome(&self, number: u64) -> Option<Outcome> {
        self.records[&number].outcomes.first().copied()
    }

    pub(super) fn is_over(&self, number: u64) -> bool {
        let record = &self.records[&number];
        record.answers + record.outcomes.len() as u32 > 0
    }

    pub(super) fn has_returned(&self, number: u64) -> bool {
        self.records[&number].answers == 1
    }

    pub(super) fn runs(&self, number: u64) -> u32 {
        self.records[&number].runs
    }

    pub(super) fn begun(&self, calls: &[u64]) -> usize {
        calls
            .iter()
            .filter(|number| self.runs(**number) > 0)
            .count()
    }

    pub(super) fn workers_of(&self, calls: &[u64]) -> Vec<WorkerId> {
        calls
            .iter()
            .filter_map(|number| Some(self.rooms.holder(*number)?.0))
            .collect()
    }

    pub(super) fn killed(&self) -> u32 {
        self.killed
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    // How it goes on.

    /// Lets everything happen that can without the passing of time.
    pub(super) fn play(&mut self) {
        let mut turn = 0;
        while self.step(turn) {
            turn += 1;
            assert!(turn < 100_000, "it never comes to rest");
        }
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, length: Duration) {
        let end = self.now + length;
        self.play();
        while let Some(wake) = self.wake_at().filter(|wake| *wake <= end) {
            self.tick(wake);
            self.play();
        }
        self.tick(end);
        self.play();
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        let rooms = self.rooms.wake_at();
        self.scheduler.wake_at().into_iter().chain(rooms).min()
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.now = self.now.max(now);
        self.scheduler.handle(self.now, Event::Tick);
        self.with_rooms(|rooms, now, around| rooms.tick(now, around));
    }

    /// Has one thing happen; false if nothing can.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        if let Some(worker) = self.starting.pop() {
            self.actors.borrow_mut().insert(worker, Actor::default());
            self.scheduler.handle(self.now, Event::Ready(worker));
            self.perform();
            return true;
        }
        let workers: Vec<_> = self.actors.borrow().keys().copied().collect();
        for offset in 0..workers.len() {
            let worker = workers[(choice + offset) % workers.len()];
            if choice % 3 == 0 && self.read(worker) || self.act(worker, choice) || self.read(worker)
            {
                return true;
            }
        }
        workers.into_iter().any(|worker| self.bury(worker))
    }

    fn act(&mut self, worker: WorkerId, choice: usize) -> bool {
        let mut begun = Vec::new();
        let manner = |number: u64| self.manners[&number];
        let mut actors = self.actors.borrow_mut();
        let Some(actor) = actors.get_mut(&worker) else {
            return false;
        };
        let acted = actor.step(self.now, choice / 3, manner, &mut begun);
        for number in begun {
            self.records.entry(number).or_default().runs += 1;
        }
        acted
    }

    /// The parent reads one response.
    fn read(&mut self, worker: WorkerId) -> bool {
        let response = self
            .actors
            .borrow_mut()
            .get_mut(&worker)
            .and_then(|actor| actor.responses.pop_front());
        let Some(response) = response else {
            return false;
        };
        match response {
            Response::Passed(ticket) if usize::from(ticket.lane) >= LANES => {
                self.rooms
                    .passed(self.now, worker, ticket)
                    .expect("it was one of ours");
            }
            Response::Passed(ticket) => {
                self.scheduler
                    .handle(self.now, Event::Acknowledged(worker, ticket));
            }
            Response::Returned(ticket) | Response::Panicked(ticket)
                if usize::from(ticket.lane) >= LANES =>
            {
                let panicked = matches!(response, Response::Panicked(_));
                let again = panicked && self.rooms.panicked(self.now, worker, ticket).is_some();
                if !again {
                    let number = self.rooms.guest(worker, ticket);
                    let answered = self.rooms.answered(self.now, worker, ticket);
                    if let (Some(()), Some(number)) = (answered.expect("it is there"), number) {
                        self.records.entry(number).or_default().answers += 1;
                    }
                }
            }
            Response::Returned(ticket) | Response::Panicked(ticket) => {
                let took = Duration::from_micros(1);
                let completed = self.scheduler.complete(self.now, worker, ticket, took);
                match completed.expect("it is there") {
                    Some(Job::Room) => {
                        let around = Around(&self.scheduler, &self.actors);
                        self.rooms
                            .closed(&around, worker)
                            .expect("nobody is left in it");
                    }
                    Some(Job::Blocking(number)) => {
                        self.records.entry(number).or_default().answers += 1;
                    }
                    None => {}
                }
            }
        }
        self.scheduler.settle(self.now);
        self.perform();
        true
    }

    /// All that a dead worker has left is read.
    fn bury(&mut self, worker: WorkerId) -> bool {
        let dead = self.actors.borrow()[&worker].dead;
        if dead {
            self.scheduler.handle(self.now, Event::Exited(worker));
            self.perform();
            self.actors.borrow_mut().remove(&worker);
        }
        dead
    }
}
