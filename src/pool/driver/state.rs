//! What the pool's lock protects, and what is done under it alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::chunks::{Origin, chunk_over};
use super::lone::Patience;
use super::parts::Trails;
use super::rooms::rooms_of;
use super::{Answered, Done};
use crate::pool::error::{Breakage, Fault, Kind, RESULT, TaskError, WorkerExit};
use crate::pool::events::{Hub, PoolEvent};
use crate::pool::job::{Client, Job};
use crate::pool::reply::Raw;
use crate::pool::rooms::Rooms;
use crate::pool::scheduler::{Event, JobKey, Outcome, Progress, Refusal, Scheduler, WorkerId};
use crate::pool::stats::Counts;
use crate::pool::trace::CallTrace;
use crate::process::{Keeper, Launcher, StartError};
use crate::supervisor::slot::Slot;
use crate::sys::clock::Moment;
use crate::task::slabs::Slabs;
use crate::wire::codec::Frame;
use crate::wire::frame::{Header, Kind as FrameKind};
use crate::wire::{Ticket, page};

/// Everything that changes while a pool lives.
pub(super) struct State {
    pub(super) scheduler: Scheduler<Job>,
    /// The async calls.
    pub(super) rooms: Rooms<Job>,
    /// The ready workers, by place.
    pub(super) slots: Vec<Option<Arc<Slot>>>,
    /// The starts under way, by place.
    pub(super) starts: Vec<Option<(u64, AbortHandle)>>,
    /// How a worker that is being sorted out has ended, by place.
    pub(super) exits: Vec<Option<WorkerExit>>,
    /// For what a worker is being killed, if for what it did itself, by place.
    pub(super) faults: Vec<Option<Fault>>,
    /// Chunks that were ended while results of theirs may have been on the way.
    pub(super) trails: Trails<Origin>,
    /// Workers that we have killed or told to leave, by place.
    pub(super) dismissed: Vec<Option<u64>>,
    /// Why the last start failed that did.
    pub(super) start_error: Option<StartError>,
    /// The worker whose loss broke the pool.
    pub(super) breaking: Option<WorkerExit>,
    /// When the timer is set to.
    pub(super) armed: Moment,
    /// The keeper serves all workers, too.
    pub(super) helping: bool,
    /// How it has gone to await answers awake.
    pub(super) patience: Patience,
    pub(super) oom_kills: u64,
    pub(super) counts: Counts,
    /// Whether anybody wants to hear of what happens.
    pub(super) hub: Arc<Hub>,
    /// The spans of calls that are over for their callers, and not for their workers.
    pub(super) traces: HashMap<(WorkerId, Ticket), CallTrace>,
    /// How often there was something to tell of calls that have a span.
    pub(super) turns: u64,
    /// The process ids of workers that have ended, by the places that they left vacant.
    pub(super) ended: HashMap<usize, u32>,
    /// What keeps the crate's thread and starts processes; gone when the pool is finished.
    pub(super) launcher: Option<Arc<Launcher>>,
    pub(super) _keeper: Option<Arc<Keeper>>,
    /// What large payloads go through, while there is anybody to send them to.
    pub(super) _slabs: Option<Arc<Slabs>>,
}

impl State {
    pub(super) fn slot(&self, worker: WorkerId) -> Option<&Arc<Slot>> {
        self.slots
            .get(worker.place)?
            .as_ref()
            .filter(|slot| slot.number == worker.number)
    }

    /// When something is due next.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let rooms = self.rooms.wake_at();
        self.scheduler.wake_at().into_iter().chain(rooms).min()
    }

    /// Whether there is nothing to be done, by the scheduler's word or the rooms', and nothing to be
    /// told.
    pub(super) fn is_settled(&self) -> bool {
        let timer_is_right = self.wake_at().is_none_or(|wake| wake >= self.armed);
        let decided = self.scheduler.has_actions() || !self.rooms.is_idle();
        timer_is_right && !decided && self.counts.is_told()
    }

    /// Has room for workers in so many places. What is there is kept: a pool that has become smaller
    /// has workers in higher places for a while.
    pub(super) fn make_places(&mut self, places: usize) {
        let places = places.max(self.slots.len());
        self.slots.resize(places, None);
        self.starts.resize(places, None);
        self.exits.resize(places, None);
        self.faults.resize(places, None);
        self.dismissed.resize(places, None);
    }

    /// Sends a call to its worker; tells whether it goes at once and is the only one.
    pub(super) fn assign(
        &mut self,
        now: Moment,
        (worker, ticket): (WorkerId, Ticket),
        key: JobKey,
        done: &mut Done,
    ) -> bool {
        let Some(slot) = self.slot(worker) else {
            return false;
        };
        let Some(job) = self.scheduler.attachment(key) else {
            return false;
        };
        slot.page.offer(ticket);
        if let Some(listener) = &job.terms().listener {
            listener.sent_to(slot, ticket);
        }
        let header = Header {
            kind: match &job.client {
                Client::Room => FrameKind::Host,
                Client::Call(_) | Client::Chunk { .. } => FrameKind::Call,
            },
            ticket,
            length: job.head.len() + job.argument.len(),
            call: key.number(),
            time: job
                .terms()
                .timeout
                .map_or(0, |limit| limit.as_nanos() as u64),
            short: self.scheduler.is_short(key),
            part: false,
            last: false,
            beside: false,
        };
        slot.push(header, &job.head, &job.argument);
        // The only call of an idle worker is written at once. What is sent ahead waits for more
        // of its kind.
        let first = self
            .scheduler
            .running(worker)
            .is_some_and(|(_, first)| first == ticket);
        let is_room = matches!(job.client, Client::Room);
        if !is_room {
            self.hub.note(|| PoolEvent::TaskStarted {
                task: key.number(),
                items: job.client.items().max(1),
                pid: slot.child.pid(),
            });
        }
        if first {
            done.flush.push(slot.clone());
        } else if slot.claim_bell() {
            done.ring.push(slot.clone());
        }
        if is_room {
            self.open_room(now, worker, key);
        }
        first && !is_room && self.scheduler.unfinished() == 1
    }

    /// Takes in one frame from a worker.
    pub(super) fn take_in(
        &mut self,
        worker: WorkerId,
        now: Moment,
        frame: Frame,
        max_frame: usize,
        done: &mut Done,
    ) -> Result<(), String> {
        let last = frame.header.last;
        self.take_in_response(worker, now, frame, max_frame, done)?;
        if last {
            self.scheduler.handle(now, Event::Resigned(worker));
        }
        Ok(())
    }

    fn take_in_response(
        &mut self,
        worker: WorkerId,
        now: Moment,
        frame: Frame,
        max_frame: usize,
        done: &mut Done,
    ) -> Result<(), String> {
        match frame.header.kind {
            FrameKind::Log => return self.take_in_record(worker, frame, done),
            FrameKind::Taken => return self.take_in_receipt(worker, frame.header),
            _ => {}
        }
        if usize::from(frame.header.ticket.lane) >= page::LANES {
            return self.take_in_guest(worker, now, frame, max_frame, done);
        }
        let Frame { header, payload } = frame;
        let raw = match header.kind {
            FrameKind::Passed => {
                self.traces.remove(&(worker, header.ticket));
                self.seal(worker, Some(header.ticket), done);
                self.scheduler
                    .handle(now, Event::Acknowledged(worker, header.ticket));
                return Ok(());
            }
            FrameKind::Update => return self.take_in_update(worker, header, payload, done),
            FrameKind::Returned => Raw::Returned(payload),
            kind => Raw::Failed(failure(kind, &payload, max_frame)?),
        };
        let ticket = header.ticket;
        let took = Duration::from_nanos(header.time);
        if header.part {
            let answer = (header.call, raw, took);
            return self.take_in_item(now, (worker, ticket), answer, done);
        }
        let next = self.scheduler.running(worker);
        if next.is_some_and(|(key, next)| next == ticket && key.number() != header.call) {
            return Err(format!(
                "an answer to call {} under another's ticket",
                header.call
            ));
        }
        if let Raw::Failed(error) = &raw {
            let again = error
                .is_panic()
                .then(|| self.scheduler.panicked(now, worker, ticket));
            if let Some(key) = again.flatten() {
                self.counts.ran.record(took);
                self.try_again(key, error.clone());
                return Ok(());
            }
        }
        let completed = self.scheduler.complete(now, worker, ticket, took);
        let unknown = |_| format!("an answer to a call that it does not have: {ticket:?}");
        let Some(mut job) = completed.map_err(unknown)? else {
            self.traces.remove(&(worker, ticket));
            return Ok(());
        };
        self.trace_answer(worker, &job, &raw, (now, took), done);
        let raw = job.conclude(raw);
        match job.client {
            Client::Call(_) => {
                self.counts.answered(raw.error(), now, job.since, took);
                self.hub.note_answer(header.call, &raw, took);
                done.replies.push(Answered::new(header.call, job, raw));
                Ok(())
            }
            Client::Chunk { tally, owner } => {
                // A worker that resigns leaves the rest of its chunk to others.
                self.counts.taken_back(tally.left().into());
                chunk_over(tally, owner, &raw, took, done)
            }
            Client::Room => self.close_room(worker, raw, done),
        }
    }

    pub(super) fn release(&mut self, worker: WorkerId, done: &mut Done) {
        self.seal(worker, None, done);
        let place = worker.place;
        if self.slots[place]
            .as_ref()
            .is_some_and(|slot| slot.number == worker.number)
        {
            self.slots[place] = None;
        }
        self.traces.retain(|(of, _), _| *of != worker);
        self.exits[place] = None;
        self.faults[place] = None;
    }

    pub(super) fn refused(&self, refusal: Refusal) -> TaskError {
        TaskError::new(match refusal {
            Refusal::Closed => Kind::ShutDown { started: false },
            Refusal::Dropped => Kind::Cancelled,
            Refusal::Broken(worker) => self.broken(worker, false),
        })
    }

    fn broken(&self, worker: Option<WorkerId>, started: bool) -> Kind {
        let why = match worker.and(self.breaking.clone()) {
            Some(exit) => Breakage::Loss(exit),
            None => Breakage::Start(
                self.start_error
                    .clone()
                    .unwrap_or_else(StartError::shutting_down),
            ),
        };
        Kind::Broken { why, started }
    }

    /// A job has failed like this and is run again.
    pub(super) fn repeat(&mut self, key: JobKey, outcome: Outcome) {
        if let Some(job) = self.scheduler.attachment(key) {
            let error = self.error_of(job, outcome);
            self.try_again(key, error);
        }
    }

    fn try_again(&mut self, key: JobKey, error: TaskError) {
        if let Some(job) = self.scheduler.attachment(key) {
            self.counts.repeated(key.number(), &error, &job.trace);
        }
        if let Some(job) = self.scheduler.attachment_mut(key) {
            job.try_again(error);
        }
    }

    /// Answers a job that got no response.
    pub(super) fn resolve(
        &mut self,
        now: Moment,
        mut job: Job,
        key: JobKey,
        outcome: Outcome,
        sent: Option<(WorkerId, Ticket)>,
        done: &mut Done,
    ) {
        let error = self.error_of(&job, outcome);
        self.trace_failure(&job, &error, sent, done);
        if job.client.items() > 0 {
            return self.break_chunk(job, key, outcome, sent, done);
        }
        if matches!(job.client, Client::Room) {
            let (rooms, around) = rooms_of!(self);
            return rooms.broke(now, &around, key, outcome);
        }
        self.counts.failed(&error, 1);
        self.hub.note_failure(key.number(), &error);
        let raw = job.conclude(Raw::Failed(error));
        done.replies.push(Answered::new(key.number(), job, raw));
    }

    /// What a caller is told whose call got no response.
    pub(super) fn error_of(&self, job: &Job, outcome: Outcome) -> TaskError {
        TaskError::new(match outcome {
            Outcome::Lost(worker) => match self.exits[worker.place].clone() {
                Some(exit) => Kind::WorkerLost(exit),
                None => Kind::ShutDown { started: true },
            },
            Outcome::Cancelled => Kind::Cancelled,
            Outcome::Aborted(started) => Kind::Aborted { started },
            Outcome::RanTooLong => Kind::RanTooLong(job.terms().timeout.unwrap_or_default()),
            Outcome::GrewTooLarge(used, limit) => Kind::MemoryExceeded { used, limit },
            Outcome::WaitedTooLong => {
                Kind::WaitedTooLong(job.terms().queue_timeout.unwrap_or_default())
            }
            Outcome::Expired(started) => Kind::Expired {
                limit: job
                    .terms()
                    .deadline
                    .map_or(Duration::ZERO, |deadline| deadline.limit),
                started,
            },
            Outcome::ShutDown(started) => Kind::ShutDown { started },
            Outcome::Broken(worker, started) => self.broken(worker, started),
        })
    }
}

/// What a response says that is no result.
pub(super) fn failure(
    kind: FrameKind,
    payload: &[u8],
    max_frame: usize,
) -> Result<TaskError, String> {
    let nonsense = |_| format!("a response that says nothing: {kind:?}");
    Ok(TaskError::new(match kind {
        FrameKind::Panicked => Kind::Panicked(postcard::from_bytes(payload).map_err(nonsense)?),
        FrameKind::Undecodable => {
            Kind::DecodeArgument(postcard::from_bytes(payload).map_err(nonsense)?)
        }
        FrameKind::Unencodable => {
            Kind::EncodeResult(postcard::from_bytes(payload).map_err(nonsense)?)
        }
        FrameKind::TooLarge => {
            let size = payload.try_into().map(u64::from_le_bytes);
            let size = size.map_err(|_| format!("a response that says nothing: {kind:?}"))?;
            Kind::TooLarge {
                what: RESULT,
                size: size as usize,
                limit: max_frame,
            }
        }
        FrameKind::Unknown => return Err(String::from_utf8_lossy(payload).into_owned()),
        FrameKind::Call
        | FrameKind::Leave
        | FrameKind::Host
        | FrameKind::Enter
        | FrameKind::Drop
        | FrameKind::Hello
        | FrameKind::Ready
        | FrameKind::Log
        | FrameKind::Returned
        | FrameKind::Passed
        | FrameKind::Taken
        | FrameKind::Update => return Err(format!("a frame out of turn: {kind:?}")),
    }))
}

/// How far a call has come, as the page says.
pub(in crate::pool) fn look(page: &page::ControlPage, ticket: Ticket) -> Progress {
    match page.progress(ticket) {
        page::Progress::Waiting => Progress::Waiting,
        page::Progress::Running(since) => Progress::Running(since),
        page::Progress::Between(since) => Progress::Between(since),
        page::Progress::Over => Progress::Over,
    }
}

/// What the scheduler calls the worker in a slot.
pub(in crate::pool) fn id_of(slot: &Slot) -> WorkerId {
    WorkerId {
        place: slot.place,
        number: slot.number,
    }
}
