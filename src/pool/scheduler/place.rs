//! A place for a worker, and what the scheduler knows of the worker in it.

use std::collections::VecDeque;
use std::time::Duration;

use super::ask::Asked;
use super::event::{JobKey, Outcome, Ticket, WorkerId};
use super::job::{Load, Rare};
use super::renewal::Stay;
use super::upkeep::LIMIT_CHECK;
use crate::sys::clock::Moment;

/// How much work is sent ahead of a worker's needs. More hides longer pauses of the parent; less
/// leaves more to be given to whoever is free first.
pub(super) const AHEAD: Duration = Duration::from_micros(150);
/// What handing over a call costs in any case, so that "takes no time" is never endless work.
const HAND_OVER_NANOS: u64 = 1_000;
/// A call that an idle worker has not started after this time is given to another one.
pub(super) const STALL_CHECK: Duration = Duration::from_millis(100);
/// A worker that runs nothing and still has not passed by that call after this time is replaced.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(2);
/// How many bytes of calls may wait in a worker: one default pipe.
pub(super) const AHEAD_BYTES: usize = 64 * 1024;

/// A worker slot's place in the plan; outlives the workers that fill it.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// A worker has been wanted here, and is to be replaced as long as the pool is open.
    pub(super) wanted: bool,
    /// Somebody waits until a worker is ready here.
    pub(super) awaited: bool,
    /// How many workers have been ready here and are gone.
    pub(super) served: u64,
    /// The worker in it.
    pub(super) worker: Option<Worker>,
}

impl Place {
    /// Whether there is a worker in whose hands a call may wait.
    pub(super) fn has_room(&self, expected: u64, load: Load, late: Moment) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| worker.has_room(expected, load, late))
    }

    /// Whether there is a worker that has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.worker.as_ref().is_some_and(Worker::is_idle)
    }
}

/// How far a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its process is being made.
    Starting,
    /// It takes calls.
    Ready,
    /// It finishes what it holds, takes nothing new, and is retired then.
    Finishing,
    /// It has been told that no more will come; killed if it is not gone in time.
    Retiring,
    /// We have killed it and wait for its end.
    Killed,
    /// It is dead; what it held is being sorted out. True if its death was our doing.
    Gone { deliberate: bool },
}

/// Why a call is being taken back from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// To be run by another worker, or later.
    Move,
    /// To be run by another worker, because this one does not start it.
    Stalled,
    /// To be answered with this, if it has not been started.
    Answer(Outcome),
    /// To be answered as aborted, and to be ended if it has been started.
    Abort,
    /// To be answered as cancelled, and to be asked to come to its end if it has been started.
    Request,
}

/// One call in a worker's hands.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) ticket: Ticket,
    pub(super) job: JobKey,
    pub(super) kind: u64,
    /// How many items it carries; zero for a call that is no chunk.
    pub(super) items: u32,
    /// It is a room for async calls.
    pub(super) room: bool,
    /// How many of them have been answered.
    pub(super) answered: u32,
    /// It was cut short: nothing behind the item that runs will be run there.
    pub(super) cut: bool,
    /// When it was to be cut last and had not been started.
    pub(super) uncut: Moment,
    pub(super) bytes: usize,
    /// How long it is expected to take; `None` if nobody knows.
    pub(super) expected: Option<u64>,
    pub(super) limits: Limits,
    pub(super) asked: Option<Asked>,
    pub(super) sent_at: Moment,
    /// A run that takes longer than this is told of.
    pub(super) slow_call: Option<Duration>,
    /// The run of which that was told last, by its beginning.
    pub(super) told: Option<Moment>,
    /// Until when it may wait for its start; `None` once that has been seen to.
    pub(super) until: Option<Moment>,
    /// When its limit is to be looked at next.
    pub(super) check_at: Option<Moment>,
    /// Why it is being taken back, between the action and its answer.
    pub(super) recall: Option<Recall>,
    /// What its caller is to be told, between the action `End` and its answer.
    pub(super) ending: Option<Outcome>,
}

/// The limits of a call in a worker's hands, if it has any.
#[derive(Debug)]
pub(super) struct Limits(Option<Box<Bounds>>);

#[derive(Debug)]
struct Bounds {
    timeout: Option<Duration>,
    soft_timeout: Option<Duration>,
    deadline: Option<Moment>,
}

impl Limits {
    /// Those that a job has.
    pub(super) fn of(rare: &Rare) -> Self {
        let bounds = Bounds {
            timeout: rare.timeout,
            soft_timeout: rare.soft_timeout,
            deadline: rare.deadline,
        };
        let none = matches!(
            bounds,
            Bounds {
                timeout: None,
                soft_timeout: None,
                deadline: None,
            }
        );
        Self((!none).then(|| Box::new(bounds)))
    }

    /// How long it should run.
    pub(super) fn soft_timeout(&self) -> Option<Duration> {
        self.0.as_deref()?.soft_timeout
    }

    /// When it must be over.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.0.as_deref()?.deadline
    }
}

/// What is left to be known of a call that its worker has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) job: JobKey,
    pub(super) kind: u64,
    pub(super) items: u32,
    pub(super) room: bool,
}

impl Finished {
    fn of(sent: &Sent) -> Self {
        Self {
            job: sent.job,
            kind: sent.kind,
            items: sent.items,
            room: sent.room,
        }
    }
}

impl Sent {
    /// Whether there is a moment at which it is to be looked at, while it runs.
    pub(super) fn is_looked_at(&self) -> bool {
        self.limits.0.is_some() || self.slow_call.is_some()
    }

    /// When its time is up if it was started at `begun`, and how it ends then.
    pub(super) fn time_is_up(&self, begun: Moment) -> Option<(Moment, Outcome)> {
        let limits = self.limits.0.as_deref()?;
        let ran = limits
            .timeout
            .map(|limit| (begun + limit, Outcome::RanTooLong));
        let expired = limits.deadline.map(|at| (at, Outcome::Expired(true)));
        ran.into_iter().chain(expired).min_by_key(|(at, _)| *at)
    }

    /// When the first of its limits passes if it was started at `begun`.
    pub(super) fn first_limit(&self, begun: Moment) -> Option<Moment> {
        let soft = self.limits.soft_timeout().map(|limit| begun + limit);
        let up = self.time_is_up(begun).map(|(at, _)| at);
        soft.into_iter().chain(up).min()
    }

    /// When to look whether it is slow, if what runs of it was started at `begun`.
    pub(super) fn slow_from(&self, begun: Moment, now: Moment) -> Option<Moment> {
        let bound = self.slow_call?;
        if self.told != Some(begun) {
            return Some(begun + bound);
        }
        // Another item may be begun meanwhile, which cannot be slow before the bound. The longer
        // this one runs, the more seldom it is looked at.
        (self.items > 0).then_some(now + bound.max(begun.until(now)))
    }
}

/// A worker as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) phase: Phase,
    /// When its start began.
    pub(super) begun: Moment,
    /// Since when it has been ready for calls, if it has.
    pub(super) ready: Option<Moment>,
    /// Its fork server went while it was starting: it is to leave as soon as it is ready.
    pub(super) orphaned: bool,
    /// The calls it holds, in the order in which it will run them.
    pub(super) ahead: VecDeque<Sent>,
    /// Since when the first of them has been the first.
    pub(super) head_since: Moment,
    /// For what it is killed, if for what it did itself: its end counts as if it had come by
    /// itself.
    pub(super) condemned: Option<&'static str>,
    /// What waited behind the first has been asked for, because that one takes long.
    pub(super) relieved: bool,
    /// Calls that were taken back or ended and that it has not yet passed by.
    pub(super) recalled: Vec<Ticket>,
    /// One bit for each lane in use.
    lanes: u64,
    sequence: u64,
    expected: u64,
    bytes: usize,
    /// A call is being stopped there; nothing new is sent until that is decided.
    pub(super) stopping: bool,
    /// A call that was ended here, and the job that is run again when that is over for certain.
    pub(super) follower: Option<(Ticket, JobKey)>,
    /// An ended call has until then to come to its end by itself.
    pub(super) grace: Option<(Ticket, Moment)>,
    /// It has not started a call that it was sent, since then.
    pub(super) stalled: Option<Moment>,
    /// Since when it is known to have finished its first call without having said so; or the item
    /// of it that was begun at that moment, without having gone on.
    pub(super) silent: Option<(Moment, Option<Moment>)>,
    /// When it has to be looked at for a stall, or is out of time to leave.
    pub(super) look_at: Option<Moment>,
    /// When it leaves if it has nothing to do until then.
    pub(super) leave_at: Option<Moment>,
    /// How many responses it has given.
    pub(super) done: u64,
    /// A call was begun in it.
    pub(super) served: bool,
    /// How much of its bounds it has used.
    pub(super) stay: Stay,
}

impl Worker {
    pub(super) fn new(id: WorkerId, now: Moment, stay: Stay) -> Self {
        Self {
            id,
            phase: Phase::Starting,
            begun: now,
            ready: None,
            orphaned: false,
            ahead: VecDeque::new(),
            head_since: now,
            condemned: None,
            relieved: false,
            recalled: Vec::new(),
            lanes: 0,
            sequence: 0,
            expected: 0,
            bytes: 0,
            stopping: false,
            follower: None,
            grace: None,
            stalled: None,
            silent: None,
            look_at: None,
            leave_at: None,
            done: 0,
            served: false,
            stay,
        }
    }

    /// Whether it has been killed or is dead, so that nothing more is expected of it.
    pub(super) fn is_dying(&self) -> bool {
        matches!(self.phase, Phase::Killed | Phase::Gone { .. })
    }

    /// Whether its end is our doing.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Killed | Phase::Retiring) && self.condemned.is_none()
    }

    /// Whether it may be sent anything at all.
    pub(super) fn takes_calls(&self) -> bool {
        self.phase == Phase::Ready
            && !self.stopping
            && self.grace.is_none()
            && self.stalled.is_none()
            && self.lanes != u64::MAX
            && self.stay.allows_more(|| self.in_hand())
    }

    /// Whether it has nothing to do and may be sent something.
    pub(super) fn is_idle(&self) -> bool {
        self.ahead.is_empty() && self.takes_calls()
    }

    /// Whether it was to finish what it holds, and has. An ended call is waited for as long as its
    /// grace lasts.
    pub(super) fn has_finished(&self) -> bool {
        self.phase == Phase::Finishing && self.ahead.is_empty() && self.grace.is_none()
    }

    /// Whether it has nothing to run, and no lane for a new call because it passes by none of those
    /// that were taken back.
    pub(super) fn is_choked(&self) -> bool {
        self.phase == Phase::Ready
            && self.ahead.is_empty()
            && self.stalled.is_none()
            && self.grace.is_none()
            && self.lanes == u64::MAX
    }

    /// Whether a call may be sent to wait behind those it holds.
    pub(super) fn has_room(&self, expected: u64, load: Load, late: Moment) -> bool {
        // What was relieved stays so, even for somebody who has read the clock before that and comes after it.
        let late = self.relieved || self.head_since < late;
        if !self.takes_calls() || late || self.bytes + load.bytes > AHEAD_BYTES {
            return false;
        }
        let Some(first) = self.ahead.front() else {
            return false;
        };
        if load.items > 0 && first.items > 0 {
            // One more chunk, so that nothing is waited for between the two.
            return self.ahead.len() < 2;
        }
        // Only a call of known length is ever put behind another, so the first one tells. It is no part
        // of what waits, but nothing waits behind a long one.
        let most = AHEAD.as_nanos() as u64;
        let waiting = self.expected.saturating_sub(cost(first));
        first.expected.is_some_and(|first| first <= most)
            && waiting.saturating_add(expected) + HAND_OVER_NANOS <= most
    }

    /// Notes that a call is sent, and gives the sending its name.
    pub(super) fn send(&mut self, mut sent: Sent, now: Moment) -> Ticket {
        self.leave_at = None;
        let lane = (!self.lanes).trailing_zeros() as u16;
        self.lanes |= 1 << lane;
        self.sequence += 1;
        sent.ticket = Ticket {
            lane,
            sequence: self.sequence,
        };
        self.expected = self.expected.saturating_add(cost(&sent));
        self.bytes += sent.bytes;
        if self.ahead.is_empty() {
            self.new_head(now);
        }
        let ticket = sent.ticket;
        self.ahead.push_back(sent);
        ticket
    }

    /// Where in its hands a sending is.
    pub(super) fn position(&self, ticket: Ticket) -> Option<usize> {
        self.ahead.iter().position(|sent| sent.ticket == ticket)
    }

    /// The sending of that name.
    pub(super) fn find(&mut self, ticket: Ticket) -> Option<&mut Sent> {
        self.ahead.iter_mut().find(|sent| sent.ticket == ticket)
    }

    /// Takes out the first call because it is done; its lane is free again.
    pub(super) fn finish_first(&mut self, now: Moment) -> Option<Finished> {
        let first = self.ahead.front()?;
        let (ticket, finished) = (first.ticket, Finished::of(first));
        self.take(0, now);
        self.free_lane(ticket);
        self.done += 1;
        if finished.items == 0 && !finished.room {
            self.stay.spend();
        }
        Some(finished)
    }

    /// Takes out a call that the worker must not run (any more). Its lane stays taken until the
    /// worker says that it has passed by.
    pub(super) fn withdraw(&mut self, ticket: Ticket, now: Moment) {
        if let Some(position) = self.position(ticket) {
            self.take(position, now);
            self.recalled.push(ticket);
        }
    }

    /// Takes out the call that is there.
    fn take(&mut self, position: usize, now: Moment) {
        // It is large, and looked at where it is.
        let sent = &self.ahead[position];
        self.expected = self.expected.saturating_sub(cost(sent));
        self.bytes -= sent.bytes;
        if position > 0 {
            self.ahead.remove(position);
            return;
        }
        self.ahead.pop_front();
        if !self.ahead.is_empty() {
            self.new_head(now);
        }
    }

    /// Another call is the first now. Whether it has been started is looked at after a while: the
    /// worker may have been stopped between the two.
    fn new_head(&mut self, now: Moment) {
        self.head_since = now;
        self.look_at = Some(now + STALL_CHECK);
        self.relieved = false;
        self.silent = None;
        let first = self.ahead.front_mut();
        if let Some(first) = first.filter(|first| first.is_looked_at()) {
            // It may have been begun just now.
            let slow = first.slow_call.map(|bound| now + bound);
            let due = first.first_limit(now).into_iter().chain(slow).min();
            let due = due.map(|due| due.max(now + LIMIT_CHECK));
            first.check_at = first.check_at.into_iter().chain(due).min();
        }
    }

    /// It does nothing though it could: it has a while to show that it lives.
    pub(super) fn stall(&mut self, now: Moment) {
        self.stalled = Some(now);
        self.look_at = Some(now + STALL_LIMIT);
    }

    /// The worker has passed by a withdrawn call. False if there was no such call.
    pub(super) fn acknowledge(&mut self, ticket: Ticket) -> bool {
        let Some(position) = self.recalled.iter().position(|known| *known == ticket) else {
            return false;
        };
        self.recalled.swap_remove(position);
        self.free_lane(ticket);
        if self.grace.is_some_and(|(ended, _)| ended == ticket) {
            self.grace = None;
        }
        if self.recalled.is_empty() {
            self.stalled = None;
        }
        true
    }

    fn free_lane(&mut self, ticket: Ticket) {
        self.lanes &= !(1 << ticket.lane);
    }

    /// The moment at which something about this worker has to be looked at; what dies is not.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        if self.is_dying() {
            return None;
        }
        let limits = self
            .ahead
            .iter()
            .flat_map(|sent| [sent.check_at, sent.until])
            .flatten();
        let grace = self.grace.map(|(_, until)| until);
        let looks = [self.look_at, self.stay.look_at, self.leave_at];
        limits.chain(grace).chain(looks.into_iter().flatten()).min()
    }
}

fn cost(sent: &Sent) -> u64 {
    sent.expected.unwrap_or(0).saturating_add(HAND_OVER_NANOS)
}
