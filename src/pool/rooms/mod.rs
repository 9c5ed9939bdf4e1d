//! Async calls: which worker runs them beside each other, and how each ends. Pure, as the
//! [`scheduler`](super::scheduler) is: no I/O, no clock, no thread.
//!
//! A worker that runs async calls runs a *room*: to the scheduler that is one blocking call of
//! unknown length, which stands in line with the others and occupies its worker until it is over.
//! So a worker never does both at once, and all that is decided about workers (starting, limits of
//! memory, renewal, shutdown) is decided there. Here it is decided who is let into which room.
//!
//! ```text
//!            submit                     Enter                     answered
//!    caller ───────▶ line ────────────────────────▶ a room's guest ─────────▶ caller
//!                     ▲ │ └─ Open ─▶ scheduler ─▶ opened │
//!                     │ ▼                                ▼
//!                     │ Resolve (cancelled, late)   Resolve (ended there, lost with its worker)
//!                     └────────── taken back, run again ─┘
//! ```
//!
//! A guest has a word of its own in its worker's page, and changes hands by the same swaps as a
//! call does. Ending one drops it where it is; its worker is killed only if it has not let go of it
//! after a while, because it does not yield.
//!
//! While calls wait, a room is asked for; one is left when nobody is in it and nobody comes. A call
//! goes to the room with the fewest guests. Another is opened as long as that leaves a worker for
//! blocking calls, and when all are full. While blocking calls wait for a worker, nobody is let into
//! a room but when it is opened, so that it comes to an end. Who has not been begun for a while goes
//! elsewhere: somebody in his room does not yield.

mod call;
mod guests;
mod room;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::call::{Call, Stage};
use self::room::Room;
use super::scheduler::{JobKey, Outcome, Progress, Request, Ticket, WorkerId};
use crate::sys::clock::Moment;

pub(crate) use self::call::CallSpec;

/// A call that has not been begun for so long is taken back: somebody in its room does not yield.
const LATE: Duration = Duration::from_millis(5);

/// The same where one worker is left for blocking calls, which it would be taken from: on a busy machine
/// nobody may have come to run for longer than that.
const VERY_LATE: Duration = Duration::from_millis(200);

/// A worker that says nothing of a call which is over is given up after this, if that is looked for;
/// and one that does not leave its room though nobody is in it.
const SILENCE: Duration = Duration::from_secs(2);

/// What does not change while a pool lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomRules {
    /// How many calls may be in one room.
    pub(crate) most: usize,
    /// How long a call that was ended may go on before it is dropped.
    pub(crate) grace: Duration,
    /// How long a worker may take to drop a call before it is killed.
    pub(crate) yield_limit: Duration,
}

/// What the rooms must know of the pool around them, and their way to the workers' pages.
pub(crate) trait Surroundings {
    /// Swaps *waiting* for *taken back*; tells whether that was done.
    fn take_back(&self, worker: WorkerId, ticket: Ticket) -> bool;
    /// Swaps *running* for *ended*; tells whether that was done.
    fn end(&self, worker: WorkerId, ticket: Ticket) -> bool;
    /// Asks a call to come to its end; tells whether it was running.
    fn ask(&self, worker: WorkerId, ticket: Ticket, why: Request) -> bool;
    /// How far a call has come.
    fn progress(&self, worker: WorkerId, ticket: Ticket) -> Progress;
    /// Whether that worker has begun that call, by which it has a room.
    fn has_begun(&self, worker: WorkerId, room: JobKey) -> bool;
    /// Whether that worker has that room, and may be given anything more, where so many lanes are
    /// taken.
    fn admits(&self, worker: WorkerId, room: JobKey, guests: usize) -> bool;
    /// How many blocking calls wait for a worker.
    fn waiting(&self) -> usize;
    /// How many workers are there that have nothing to do, and how many could be started beside those.
    fn spare(&self) -> (usize, usize);
}

/// Something to be done, in order.
#[derive(Debug)]
pub(crate) enum Act<T> {
    /// Ask the scheduler for a room, in the name of this call and with this priority; answered by
    /// [`Rooms::asked_for`].
    Open(u64, i32),
    /// That room is not needed any more, unless it is opened already.
    Forget(JobKey),
    /// Send the call to its room.
    Enter(WorkerId, Ticket, u64),
    /// Have the call dropped where it is.
    Drop(WorkerId, Ticket),
    /// Kill the worker, because it keeps hold of this call, which is called so.
    Condemn(WorkerId, u64, Option<Arc<str>>),
    /// Kill the worker, because it does not say what it has finished.
    Silent(WorkerId),
    /// The call has failed like this and will be run again.
    Repeat(u64, Outcome),
    /// Answer the call's caller. It had been running so long when its worker was lost.
    Resolve(T, u64, Outcome, Option<Duration>),
    /// There are calls now, or none any more: the pool is not to be finished before they are.
    Calls(bool),
}

/// The state machine. `T` is what the pool attaches to a call.
#[derive(Debug)]
pub(crate) struct Rooms<T> {
    rules: RoomRules,
    calls: BTreeMap<u64, Call<T>>,
    /// Those that wait for a room, the first in turn first.
    line: BTreeSet<call::Turn>,
    /// When to look at which call.
    times: BTreeSet<(Moment, u64)>,
    /// When to look at which guest that is to go.
    leaving: BTreeSet<(Moment, WorkerId, u16)>,
    rooms: BTreeMap<WorkerId, Room>,
    /// Rooms that stand in the scheduler's line.
    pending: Vec<JobKey>,
    /// A room has been asked for, and has no name yet.
    asking: bool,
    /// How calls end that have not been begun, if no more are: nobody waits, and nothing is run
    /// again.
    over: Option<Outcome>,
    acts: VecDeque<Act<T>>,
}

impl<T> Rooms<T> {
    pub(crate) fn new(rules: RoomRules) -> Self {
        Self {
            rules,
            calls: BTreeMap::new(),
            line: BTreeSet::new(),
            times: BTreeSet::new(),
            leaving: BTreeSet::new(),
            rooms: BTreeMap::new(),
            pending: Vec::new(),
            asking: false,
            over: None,
            acts: VecDeque::new(),
        }
    }

    /// Takes in a call. Its number is its name, and never given twice.
    pub(crate) fn submit(
        &mut self,
        now: Moment,
        spec: CallSpec,
        name: Option<Arc<str>>,
        attachment: T,
    ) {
        if self.calls.is_empty() {
            self.acts.push_back(Act::Calls(true));
        }
        let number = spec.number;
        self.calls
            .insert(number, Call::new(now, spec, name, attachment));
        self.wait(number);
    }

    /// The next thing to be done.
    pub(crate) fn next_act(&mut self) -> Option<Act<T>> {
        self.acts.pop_front()
    }

    /// When [`tick`](Self::tick) is due next.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        let times = self.times.first().map(|(at, _)| *at);
        let leaving = self.leaving.first().map(|(at, ..)| *at);
        let looks = self.rooms.values().filter_map(|room| room.look_at);
        looks.chain(times).chain(leaving).min()
    }

    /// Whether there is anything at all that could need a [`turn`](Self::turn).
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.pending.is_empty() && self.acts.is_empty()
    }

    /// How many calls are unfinished.
    pub(crate) fn unfinished(&self) -> usize {
        self.calls.len()
    }

    /// How many calls are in no room.
    pub(crate) fn waiting(&self) -> usize {
        let outside = |call: &&Call<T>| !matches!(call.stage, Stage::Sent(..));
        self.calls.values().filter(outside).count()
    }

    /// How many jobs of the scheduler's are rooms.
    pub(crate) fn jobs(&self) -> usize {
        let open = self.rooms.values().filter(|room| room.job.is_some());
        self.pending.len() + open.count()
    }

    /// How many calls wait for a room.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(crate) fn in_line(&self) -> usize {
        self.line.len()
    }

    /// How many calls are in that worker's room.
    pub(crate) fn guests(&self, worker: WorkerId) -> usize {
        self.rooms.get(&worker).map_or(0, Room::guests)
    }

    /// What is attached to a call.
    pub(crate) fn attachment(&self, number: u64) -> Option<&T> {
        self.calls.get(&number).map(|call| &call.attachment)
    }

    /// What is attached to a call, to be changed.
    pub(crate) fn attachment_mut(&mut self, number: u64) -> Option<&mut T> {
        self.calls.get_mut(&number).map(|call| &mut call.attachment)
    }

    /// The worker that has the call, and the name of that sending.
    pub(crate) fn holder(&self, number: u64) -> Option<(WorkerId, Ticket)> {
        match self.calls.get(&number)?.stage {
            Stage::Sent(worker, ticket) => Some((worker, ticket)),
            Stage::Waiting | Stage::Pausing(..) => None,
        }
    }

    /// Whether the call is unfinished.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.calls.contains_key(&number)
    }

    /// Lets waiting calls into rooms, and sees to it that there is one for those that are left.
    pub(crate) fn turn(&mut self, now: Moment, around: &impl Surroundings) {
        // In whose name one more room is wanted.
        let mut asker = None;
        // Nothing of this turn changes that before it is over.
        let spare = match self.line.is_empty() {
            true => (0, 0),
            false => around.spare(),
        };
        while let Some(turn) = self.line.first().copied() {
            let number = turn.number();
            let call = &self.calls[&number];
            if call.spec.deadline.is_some_and(|deadline| deadline <= now) {
                self.resolve(number, Outcome::Expired(false));
                continue;
            }
            let Some((worker, grow)) = self.room_for(around, spare) else {
                asker = Some(turn);
                break;
            };
            asker = asker.or(grow.then_some(turn));
            self.enter(now, worker, number);
        }
        self.rooms.values_mut().for_each(|room| room.fresh = false);
        if let Some(turn) = asker {
            if self.pending.is_empty() && !self.asking {
                self.asking = true;
                self.acts
                    .push_back(Act::Open(turn.number(), turn.priority()));
            }
        } else if self.line.is_empty() {
            let forgotten = self.pending.drain(..).map(Act::Forget);
            self.acts.extend(forgotten);
        }
    }

    /// The room for the next call, and whether there should be one more for those after it. None if
    /// there should be another first.
    fn room_for(
        &self,
        around: &impl Surroundings,
        (idle, vacant): (usize, usize),
    ) -> Option<(WorkerId, bool)> {
        let most = self.rules.most;
        let others = around.waiting() > 0;
        let open = self.rooms.iter().filter(|(worker, room)| {
            let closing = others && !room.fresh;
            let admits = |job| around.admits(**worker, job, room.guests());
            room.is_open()
                && room.has_lane()
                && !room.stuck
                && !closing
                && room.guests() < most
                && room.job.is_some_and(admits)
        });
        let (worker, room) = open.min_by_key(|(_, room)| room.guests())?;
        // One worker is left for blocking calls as long as the rooms are not full.
        let grow =
            room.guests() > 0 && idle + vacant > 1 && self.pending.is_empty() && !self.asking;
        if grow && idle > 0 {
            // It is opened at once.
            return None;
        }
        Some((*worker, grow))
    }

    /// Lets a call wait for a room, if there will be one.
    fn wait(&mut self, number: u64) {
        if let Some(outcome) = self.over {
            return self.resolve(number, outcome);
        }
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.stage = Stage::Waiting;
        let (turn, at) = (call.turn(), call.until());
        self.line.insert(turn);
        self.look_at(number, at);
    }

    /// Has a call looked at then, and not before.
    fn look_at(&mut self, number: u64, at: Option<Moment>) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut call.listed, at) {
            self.times.remove(&(old, number));
        }
        if let Some(at) = at {
            self.times.insert((at, number));
        }
    }

    /// Answers a call.
    fn resolve(&mut self, number: u64, outcome: Outcome) {
        let ran = self.calls.get(&number).and_then(|call| call.ran);
        if let Some(attachment) = self.take(number) {
            self.acts
                .push_back(Act::Resolve(attachment, number, outcome, ran));
        }
    }

    /// Takes a call out, whose end is known.
    fn take(&mut self, number: u64) -> Option<T> {
        self.look_at(number, None);
        let call = self.calls.remove(&number)?;
        self.line.remove(&call.turn());
        if self.calls.is_empty() {
            self.acts.push_back(Act::Calls(false));
        }
        Some(call.attachment)
    }
}
