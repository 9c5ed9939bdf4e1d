//! Async calls: the driver performs what the [rooms](crate::pool::rooms) decide, and tells them what
//! happens.

use std::sync::Arc;
use std::time::Duration;

use super::state::{State, failure, look};
use super::{Answered, Done, Driver};
use crate::pool::error::{Fault, TaskError};
use crate::pool::events::PoolEvent;
use crate::pool::holder::{Holder, JobKey};
use crate::pool::job::Job;
use crate::pool::reply::Raw;
use crate::pool::rooms::{Act, CallSpec, Rooms, Surroundings};
use crate::pool::scheduler::{
    Event, JobKey as Key, JobSpec, Progress, Request, Scheduler, Ticket, WorkerId,
};
use crate::process::Sleep;
use crate::supervisor::slot::Slot;
use crate::sys::clock::Moment;
use crate::wire::codec::Frame;
use crate::wire::frame::{Header, Kind as FrameKind};

/// A number that no function has: a room is of no kind.
const ROOM: u64 = u64::MAX;

/// What the rooms see of the pool.
pub(super) struct Around<'a> {
    pub(super) scheduler: &'a Scheduler<Job>,
    pub(super) slots: &'a [Option<Arc<Slot>>],
}

impl Around<'_> {
    fn slot(&self, worker: WorkerId) -> Option<&Slot> {
        let slot = self.slots.get(worker.place)?.as_deref()?;
        (slot.number == worker.number).then_some(slot)
    }
}

impl Surroundings for Around<'_> {
    fn take_back(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let slot = self.slot(worker);
        slot.is_some_and(|slot| slot.page.take_back(ticket))
    }

    fn end(&self, worker: WorkerId, ticket: Ticket) -> bool {
        let slot = self.slot(worker);
        slot.is_some_and(|slot| slot.page.end(ticket, Moment(u64::MAX)))
    }

    fn ask(&self, worker: WorkerId, ticket: Ticket, why: Request) -> bool {
        let slot = self.slot(worker);
        slot.is_some_and(|slot| slot.page.ask(ticket, Moment(u64::MAX), why))
    }

    fn progress(&self, worker: WorkerId, ticket: Ticket) -> Progress {
        let slot = self.slot(worker);
        slot.map_or(Progress::Over, |slot| look(&slot.page, ticket))
    }

    fn has_begun(&self, worker: WorkerId, room: Key) -> bool {
        let first = self
            .scheduler
            .running(worker)
            .filter(|(first, _)| *first == room);
        first.is_some_and(|(_, ticket)| self.progress(worker, ticket) != Progress::Waiting)
    }

    fn admits(&self, worker: WorkerId, room: Key, guests: usize) -> bool {
        self.scheduler.admits(worker, room, guests)
    }

    fn waiting(&self) -> usize {
        self.scheduler.calls_waiting()
    }

    fn spare(&self) -> (usize, usize) {
        self.scheduler.spare()
    }
}

/// The rooms of a state together with what they see of it.
macro_rules! rooms_of {
    ($state:expr) => {{
        let State {
            rooms,
            scheduler,
            slots,
            ..
        } = &mut *$state;
        (
            rooms,
            $crate::pool::driver::rooms::Around { scheduler, slots },
        )
    }};
}
pub(super) use rooms_of;

impl Driver {
    /// Accepts an async call, or says why not.
    pub(super) fn submit_async(&self, job: Job, now: Moment) -> Result<JobKey, TaskError> {
        let number = self.number(&job.trace, 1);
        let mut state = self.lock();
        if let Some(refusal) = state.scheduler.refusal() {
            let error = state.refused(refusal);
            drop(state);
            job.trace.refused(error.reason());
            drop(job);
            return Err(error);
        }
        let number = number.unwrap_or_else(|| state.scheduler.take_numbers(1));
        let spec = CallSpec {
            number,
            timeout: job.terms().timeout,
            soft_timeout: job.terms().soft_timeout,
            queue_timeout: job.terms().queue_timeout,
            deadline: job.terms().deadline.map(|deadline| deadline.at),
            retry: job.terms().retry,
            priority: job.terms().priority,
        };
        state.counts.submitted(1);
        let name = job.name();
        state.rooms.submit(now, spec, name, job);
        self.perform(state, now);
        Ok(JobKey::of_number(number))
    }

    /// Does something about an unfinished async call, and tells what has come of it; `false` if it is
    /// finished.
    fn intervene_async(
        &self,
        number: u64,
        deed: impl FnOnce(&mut Rooms<Job>, &Around<'_>, Moment) -> bool,
    ) -> bool {
        let now = Moment::now();
        let mut state = self.lock();
        if !state.rooms.is_open(number) {
            return false;
        }
        let (rooms, around) = rooms_of!(&mut *state);
        let outcome = deed(rooms, &around, now);
        self.perform(state, now);
        outcome
    }

    /// Lets the rooms have their turn, and performs what they decide. True if the scheduler may
    /// have something to say to it.
    pub(super) fn turn_of_rooms(&self, state: &mut State, now: Moment, done: &mut Done) -> bool {
        if state.rooms.is_idle() {
            return false;
        }
        let (rooms, around) = rooms_of!(state);
        rooms.turn(now, &around);
        self.act_for_rooms(state, now, done)
    }

    /// Performs what the rooms have decided; tells whether there was anything.
    pub(super) fn act_for_rooms(&self, state: &mut State, now: Moment, done: &mut Done) -> bool {
        let mut acted = false;
        while let Some(act) = state.rooms.next_act() {
            acted = true;
            self.perform_act(state, now, act, done);
        }
        acted
    }

    fn perform_act(&self, state: &mut State, now: Moment, act: Act<Job>, done: &mut Done) {
        match act {
            Act::Open(number, priority) => {
                let spec = JobSpec {
                    kind: ROOM,
                    priority,
                    room: Some(number),
                    ..JobSpec::default()
                };
                let key = state.scheduler.take_in(now, spec, Job::room());
                state.rooms.asked_for(key);
            }
            Act::Forget(key) => state.scheduler.handle(now, Event::Cancel(key)),
            Act::Enter(worker, ticket, number) => state.enter(worker, ticket, number, done),
            Act::Drop(worker, ticket) => {
                let header = Header {
                    ticket,
                    ..Header::control(FrameKind::Drop, 0)
                };
                if let Some(slot) = state.slot(worker) {
                    slot.push_bare(header);
                    done.flush.push(slot.clone());
                }
            }
            Act::Condemn(worker, number, name) => {
                let name = name.map_or_else(String::new, |name| format!(" ({name})"));
                if state.slot(worker).is_some() {
                    let fault = Fault::Unyielding(format!("task {number}{name}"));
                    state.faults[worker.place].get_or_insert(fault);
                }
                state.scheduler.handle(now, Event::Condemned(worker));
            }
            Act::Silent(worker) => {
                if state.slot(worker).is_some() {
                    let why = "the response to a finished call did not come".to_owned();
                    state.faults[worker.place].get_or_insert(Fault::Violation(why));
                }
                state.scheduler.handle(now, Event::Condemned(worker));
            }
            Act::Repeat(number, outcome) => {
                if let Some(job) = state.rooms.attachment(number) {
                    let error = state.error_of(job, outcome);
                    state.try_async_again(number, error);
                }
            }
            Act::Resolve(mut job, number, outcome, ran) => {
                let error = state.error_of(&job, outcome).after_running(ran);
                state.trace_failure(&job, &error, None, done);
                state.counts.failed(&error, 1);
                state.hub.note_failure(number, &error);
                let raw = job.conclude(Raw::Failed(error));
                done.replies.push(Answered::new(number, job, raw));
            }
            Act::Calls(any) => state.scheduler.handle(now, Event::AsyncCalls(any)),
        }
    }
}

impl State {
    /// A worker is given a room.
    pub(super) fn open_room(&mut self, now: Moment, worker: WorkerId, key: Key) {
        let (rooms, around) = rooms_of!(self);
        rooms.opened(now, &around, worker, key);
    }

    /// Sends a call to its room.
    fn enter(&mut self, worker: WorkerId, ticket: Ticket, number: u64, done: &mut Done) {
        let (Some(slot), Some(job)) = (self.slot(worker), self.rooms.attachment(number)) else {
            return;
        };
        slot.page.offer(ticket);
        if let Some(listener) = &job.terms().listener {
            listener.sent_to(slot, ticket);
        }
        let header = Header {
            ticket,
            call: number,
            time: job
                .terms()
                .timeout
                .map_or(0, |limit| limit.as_nanos() as u64),
            ..Header::control(FrameKind::Enter, job.head.len() + job.argument.len())
        };
        slot.push(header, &job.head, &job.argument);
        self.hub.note(|| PoolEvent::TaskStarted {
            task: number,
            items: 1,
            pid: slot.child.pid(),
        });
        if self.rooms.guests(worker) == 1 {
            done.flush.push(slot.clone());
        } else if slot.claim_bell() {
            done.ring.push(slot.clone());
        }
    }

    /// Takes in what a worker says of a guest.
    pub(super) fn take_in_guest(
        &mut self,
        worker: WorkerId,
        now: Moment,
        frame: Frame,
        max_frame: usize,
        done: &mut Done,
    ) -> Result<(), String> {
        let Frame { header, payload } = frame;
        let ticket = header.ticket;
        let unknown = |_| format!("a word on an async call that it does not have: {ticket:?}");
        if header.kind == FrameKind::Update {
            return self.take_in_update(worker, header, payload, done);
        }
        // What the task says while it runs is no end of it, and does not wear out its worker; nor
        // does one that was taken back before it was begun.
        let passed = header.kind == FrameKind::Passed;
        let begun = !passed || self.rooms.passed(now, worker, ticket).map_err(unknown)?;
        if let Some((_, room)) = self.scheduler.running(worker).filter(|_| begun) {
            self.scheduler.item_answered(worker, room);
        }
        if passed {
            return Ok(());
        }
        let raw = match header.kind {
            FrameKind::Returned => Raw::Returned(payload),
            kind => Raw::Failed(failure(kind, &payload, max_frame)?),
        };
        let took = Duration::from_nanos(header.time);
        if let Some(error) = raw.error().filter(|error| error.is_panic()) {
            if let Some(number) = self.rooms.panicked(now, worker, ticket) {
                self.counts.ran.record(took);
                self.try_async_again(number, error.clone());
                return Ok(());
            }
        }
        if let Some(mut job) = self.rooms.answered(now, worker, ticket).map_err(unknown)? {
            self.trace_answer(worker, &job, &raw, (now, took), done);
            let raw = job.conclude(raw);
            self.counts.answered(raw.error(), now, job.since, took);
            self.hub.note_answer(header.call, &raw, took);
            done.replies.push(Answered::new(header.call, job, raw));
        }
        Ok(())
    }

    /// The call by which a room was open has been answered.
    pub(super) fn close_room(
        &mut self,
        worker: WorkerId,
        raw: Raw,
        done: &mut Done,
    ) -> Result<(), String> {
        let (rooms, around) = rooms_of!(self);
        if let Raw::Failed(error) = raw {
            for (number, job) in rooms.unhosted(&around, worker) {
                self.trace_failure(&job, &error, None, done);
                self.counts.failed(&error, 1);
                self.hub.note_failure(number, &error);
                done.replies
                    .push(Answered::new(number, job, Raw::Failed(error.clone())));
            }
            return Ok(());
        }
        let closed = rooms.closed(&around, worker);
        closed.map_err(|_| "a room that ends before those that are in it".to_owned())
    }

    fn try_async_again(&mut self, number: u64, error: TaskError) {
        if let Some(job) = self.rooms.attachment_mut(number) {
            self.counts.repeated(number, &error, &job.trace);
            job.try_again(error);
        }
    }
}

/// A pool, as the handles of its async calls know it.
pub(crate) struct AsyncHolder(pub(crate) Arc<Driver>);

impl Holder for AsyncHolder {
    fn cancel(&self, key: JobKey) -> bool {
        let number = key.number();
        self.0.intervene_async(number, |rooms, around, _| {
            rooms.cancel(around, number);
            !rooms.is_open(number)
        })
    }

    fn abort(&self, key: JobKey) -> bool {
        let number = key.number();
        self.0.intervene_async(number, |rooms, around, now| {
            rooms.abort(now, around, number);
            !rooms.is_open(number)
        })
    }

    fn request(&self, key: JobKey) -> bool {
        let number = key.number();
        self.0
            .intervene_async(number, |rooms, around, _| rooms.request(around, number))
    }

    fn progress(&self, key: JobKey) -> Option<(Option<u32>, Progress)> {
        let state = self.0.lock();
        let (worker, ticket) = state.rooms.holder(key.number())?;
        let slot = state.slot(worker)?;
        Some((Some(slot.child.pid()), look(&slot.page, ticket)))
    }

    fn sleep(&self, limit: Duration) -> Sleep {
        self.0.sleep(limit)
    }

    fn awaited_here(&self) {
        self.0.awaited_here();
    }

    fn help(&self) {
        self.0.help();
    }
}
