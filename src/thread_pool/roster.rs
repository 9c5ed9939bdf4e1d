//! Which call waits, which thread runs which, and when everything is over. Pure: it starts no
//! thread, runs no call, and is told the time.
//!
//! ```text
//!   submit ─▶ waiting ─take─▶ running on a thread ─done─▶ (answered by that thread)
//!                └── withdraw, drain, unstarted ─▶ (answered by whoever took it out)
//! ```
//!
//! A thread runs one blocking call, or is *host* to any number of async ones, its guests. A host takes
//! the next async call as long as no blocking one is before that for which no thread is free: so
//! async calls are collected in few threads, and keep no blocking call waiting for ever.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::pool::meter::Levels;
use crate::sys::clock::Moment;

/// The books of a pool; `J` is carried along unread.
#[derive(Debug)]
pub(super) struct Roster<J> {
    /// How many threads there may be.
    limit: usize,
    /// How many of them stay although they have nothing to do.
    kept: usize,
    /// How many guests a host may have.
    berths: usize,
    /// In the order in which they are run.
    waiting: BTreeMap<Turn, Waiting<J>>,
    /// Where each of them is to be found.
    turns: BTreeMap<u64, Turn>,
    /// One for each thread, by its place; `None` where there is no thread.
    seats: Vec<Option<Seat>>,
    /// How many threads have nothing to do, or have not got to it yet.
    free: usize,
    /// The places of those that sleep, who was busy last at the end. Nobody sleeps while a call waits
    /// that no other is awake for.
    asleep: Vec<usize>,
    /// The number of the last call.
    last: u64,
    closed: bool,
}

/// When a call's turn comes: the higher priority first, and within one the lower number.
type Turn = (Reverse<i32>, u64);

/// A call that waits.
#[derive(Debug)]
struct Waiting<J> {
    job: J,
    is_async: bool,
}

/// A thread.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// The calls that it runs, and since when.
    pub(super) running: Vec<(u64, Moment)>,
    /// It is host to these, or was to the last ones.
    pub(super) is_host: bool,
    /// How many it has run.
    pub(super) done: u64,
    /// Since when it is there.
    pub(super) since: Moment,
}

/// Who is to see to a call that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Summons {
    /// Somebody is awake and will find it, or all are busy.
    Nobody,
    /// The thread of this place is to be woken.
    Wake(usize),
    /// A thread is to be started in this place.
    Start(usize),
    /// The host in this place is to take one more guest.
    Host(usize),
}

/// What a thread is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<J> {
    Run(u64, J),
    Wait,
    Leave,
}

/// How far a call has come that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Waiting,
    /// It runs on the thread of this place, since then.
    Running(usize, Moment),
}

impl<J> Roster<J> {
    pub(super) fn new(limit: usize, kept: usize, berths: usize) -> Self {
        Self {
            limit,
            kept,
            berths,
            waiting: BTreeMap::new(),
            turns: BTreeMap::new(),
            seats: Vec::new(),
            free: 0,
            asleep: Vec::new(),
            last: 0,
            closed: false,
        }
    }

    /// Accepts a call of that number, or gives it back. Returns who is to see to it.
    pub(super) fn submit(
        &mut self,
        number: u64,
        job: J,
        is_async: bool,
        priority: i32,
        now: Moment,
    ) -> Result<Summons, J> {
        if self.closed {
            return Err(job);
        }
        let turn = (Reverse(priority), number);
        self.waiting.insert(turn, Waiting { job, is_async });
        self.turns.insert(number, turn);
        let host = is_async.then(|| self.host()).flatten();
        Ok(host.map_or_else(|| self.summon(now), Summons::Host))
    }

    /// The place of the host who may take one more guest, if one waits.
    pub(super) fn host(&self) -> Option<usize> {
        self.next_guest()?;
        let hosts = |seat: &Seat| seat.is_host && (1..self.berths).contains(&seat.running.len());
        let mut seats = self.seats.iter();
        seats.position(|seat| seat.as_ref().is_some_and(hosts))
    }

    /// The next async call, unless it has to wait for blocking ones.
    fn next_guest(&self) -> Option<Turn> {
        if self.threads() > self.limit {
            return None;
        }
        let mut next = self.waiting.iter().take(self.free + 1);
        let (turn, _) = next.find(|(_, waiting)| waiting.is_async)?;
        Some(*turn)
    }

    /// A host asks for one more guest.
    pub(super) fn take_guest(&mut self, place: usize, now: Moment) -> Option<(u64, J)> {
        let seat = self.seats[place].as_ref()?;
        if seat.running.len() >= self.berths {
            return None;
        }
        let turn = self.next_guest()?;
        let guest = self.waiting.remove(&turn)?;
        Some((turn.1, self.begin(place, turn.1, guest, now)))
    }

    /// Whether a thread runs nothing.
    pub(super) fn is_idle(&self, place: usize) -> bool {
        let seat = self.seats[place].as_ref();
        seat.is_none_or(|seat| seat.running.is_empty())
    }

    fn begin(&mut self, place: usize, number: u64, waiting: Waiting<J>, now: Moment) -> J {
        self.turns.remove(&number);
        if let Some(seat) = &mut self.seats[place] {
            self.free -= usize::from(seat.running.is_empty());
            seat.running.push((number, now));
            seat.is_host = waiting.is_async;
        }
        waiting.job
    }

    /// Who is to see to the call that came last, or was left behind by one who has gone.
    pub(super) fn summon(&mut self, now: Moment) -> Summons {
        if self.waiting.is_empty() {
            return Summons::Nobody;
        }
        if let Some(place) = self.asleep.pop() {
            return Summons::Wake(place);
        }
        if self.waiting.len() > self.free {
            return self.sit_down(now).map_or(Summons::Nobody, Summons::Start);
        }
        Summons::Nobody
    }

    /// The number of a call that is to be [submitted](Self::submit).
    pub(super) fn take_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A place for one more thread, if there may be one.
    pub(super) fn sit_down(&mut self, now: Moment) -> Option<usize> {
        if self.threads() >= self.limit {
            return None;
        }
        let empty = self.seats.iter().position(Option::is_none);
        let place = empty.unwrap_or(self.seats.len());
        if place == self.seats.len() {
            self.seats.push(None);
        }
        self.seats[place] = Some(Seat {
            since: now,
            ..Seat::default()
        });
        self.free += 1;
        Some(place)
    }

    /// A place for one more of those that stay, if they are not all there.
    pub(super) fn sit_down_to_stay(&mut self, now: Moment) -> Option<usize> {
        let missing = !self.closed && self.threads() < self.kept;
        missing.then(|| self.sit_down(now)).flatten()
    }

    /// A thread that has nothing to do asks for the next call.
    pub(super) fn take(&mut self, place: usize, now: Moment) -> Step<J> {
        self.asleep.retain(|asleep| *asleep != place);
        if self.threads() > self.limit {
            self.stand_up(place);
            return Step::Leave;
        }
        if let Some(((_, number), waiting)) = self.waiting.pop_first() {
            return Step::Run(number, self.begin(place, number, waiting, now));
        }
        if !self.closed {
            self.asleep.push(place);
            return Step::Wait;
        }
        self.stand_up(place);
        Step::Leave
    }

    /// A thread has slept for long: tells whether it is one too many, and leaves.
    pub(super) fn leave(&mut self, place: usize) -> bool {
        let asleep = self.asleep.contains(&place);
        let leaves = asleep && self.threads() > self.kept.min(self.limit);
        if leaves {
            self.asleep.retain(|asleep| *asleep != place);
            self.stand_up(place);
        }
        leaves
    }

    /// From now on there may be so many threads. Those that are too many leave when they ask for
    /// their next call.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many threads there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The places of all that sleep, who are to be woken.
    pub(super) fn wake_all(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.asleep)
    }

    fn stand_up(&mut self, place: usize) {
        self.seats[place] = None;
        self.free -= 1;
    }

    /// A thread is done with a call.
    pub(super) fn done(&mut self, place: usize, number: u64) {
        if let Some(seat) = &mut self.seats[place] {
            seat.running.retain(|(running, _)| *running != number);
            seat.done += 1;
            self.free += usize::from(seat.running.is_empty());
        }
    }

    /// A thread could not be started. Returns the calls that nobody is left to run.
    pub(super) fn unstarted(&mut self, place: usize) -> Vec<(u64, J)> {
        self.stand_up(place);
        if self.threads() > 0 {
            return Vec::new();
        }
        self.drain()
    }

    /// Takes a call out that has not been started.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<J> {
        let turn = self.turns.remove(&number)?;
        self.waiting.remove(&turn).map(|waiting| waiting.job)
    }

    /// Takes everything out that has not been started.
    pub(super) fn drain(&mut self) -> Vec<(u64, J)> {
        self.turns.clear();
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting
            .map(|((_, number), waiting)| (number, waiting.job))
            .collect()
    }

    /// Accepts no more calls.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Tells how far a call has come; `None` if it is over.
    pub(super) fn stand(&self, number: u64) -> Option<Stand> {
        if self.turns.contains_key(&number) {
            return Some(Stand::Waiting);
        }
        self.seats.iter().enumerate().find_map(|(place, seat)| {
            let mut running = seat.as_ref()?.running.iter();
            let (_, since) = running.find(|(running, _)| *running == number)?;
            Some(Stand::Running(place, *since))
        })
    }

    /// The threads there are, by their places.
    pub(super) fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(place, seat)| Some((place, seat.as_ref()?)))
    }

    /// How many calls wait, how many threads there are, and how many of them run something.
    pub(super) fn levels(&self) -> Levels {
        let workers = self.threads();
        Levels {
            queued: self.waiting.len(),
            workers,
            busy: workers - self.free,
        }
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many calls run.
    pub(super) fn running(&self) -> usize {
        self.seats().map(|(_, seat)| seat.running.len()).sum()
    }

    /// Which calls run.
    pub(super) fn running_numbers(&self) -> impl Iterator<Item = u64> {
        let running = self.seats().flat_map(|(_, seat)| &seat.running);
        running.map(|(number, _)| *number)
    }

    /// Whether a blocking call runs.
    pub(super) fn is_blocked(&self) -> bool {
        let mut seats = self.seats();
        seats.any(|(_, seat)| !seat.is_host && !seat.running.is_empty())
    }

    fn threads(&self) -> usize {
        self.seats().count()
    }

    /// Whether no more calls are accepted.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is left and nothing can come.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.waiting.is_empty() && self.threads() == 0
    }
}

#[cfg(test)]
mod tests;
