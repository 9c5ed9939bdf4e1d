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

    /// Accepts a call, or gives it back. Returns its number, and who is to see to it.
    pub(super) fn submit(
        &mut self,
        job: J,
        is_async: bool,
        priority: i32,
        now: Moment,
    ) -> Result<(u64, Summons), J> {
        if self.closed {
            return Err(job);
        }
        self.last += 1;
        let turn = (Reverse(priority), self.last);
        self.waiting.insert(turn, Waiting { job, is_async });
        self.turns.insert(self.last, turn);
        let host = is_async.then(|| self.host()).flatten();
        let summons = host.map_or_else(|| self.summon(now), Summons::Host);
        Ok((self.last, summons))
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

    /// The number that the next call is given, if it is accepted.
    pub(super) fn next_number(&self) -> u64 {
        self.last + 1
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
mod tests {
    use super::*;

    const NOW: Moment = Moment(7);

    /// A thread is done with what it runs.
    fn finish(roster: &mut Roster<char>, place: usize) {
        let running = roster.seats[place]
            .as_ref()
            .map(|seat| seat.running.clone());
        for (number, _) in running.into_iter().flatten() {
            roster.done(place, number);
        }
    }

    #[test]
    fn a_thread_is_started_only_for_a_call_that_finds_none_free() {
        let mut roster = Roster::new(2, 0, 2);
        assert_eq!(
            roster.submit('a', false, 0, NOW),
            Ok((1, Summons::Start(0)))
        );
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        finish(&mut roster, 0);
        assert_eq!(
            roster.submit('b', false, 0, NOW),
            Ok((2, Summons::Nobody)),
            "it is free"
        );
        assert_eq!(
            roster.submit('c', false, 0, NOW),
            Ok((3, Summons::Start(1))),
            "it will be busy"
        );
        assert_eq!(
            roster.submit('d', false, 0, NOW),
            Ok((4, Summons::Nobody)),
            "there may be two"
        );
        assert_eq!(roster.take(1, NOW), Step::Run(2, 'b'));
        assert_eq!(roster.take(0, NOW), Step::Run(3, 'c'));
        assert_eq!((roster.running(), roster.waiting()), (2, 1));
    }

    #[test]
    fn what_was_accepted_is_run_before_the_threads_leave() {
        let mut roster = Roster::new(1, 0, 2);
        roster.submit('a', false, 0, NOW).unwrap();
        roster.submit('b', false, 0, NOW).unwrap();
        roster.close();
        assert_eq!(roster.submit('c', false, 0, NOW), Err('c'));
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        finish(&mut roster, 0);
        assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
        finish(&mut roster, 0);
        assert!(!roster.is_over(), "its thread is there");
        assert_eq!(roster.take(0, NOW), Step::Leave);
        assert!(roster.is_over());
    }

    #[test]
    fn only_what_waits_can_be_taken_out() {
        let mut roster = Roster::new(1, 0, 2);
        let (first, _) = roster.submit('a', false, 0, NOW).unwrap();
        let (second, _) = roster.submit('b', false, 0, NOW).unwrap();
        assert_eq!(roster.take(0, NOW), Step::Run(first, 'a'));
        assert_eq!(roster.stand(first), Some(Stand::Running(0, NOW)));
        assert_eq!(roster.stand(second), Some(Stand::Waiting));
        assert_eq!(roster.withdraw(first), None);
        assert_eq!(roster.withdraw(second), Some('b'));
        assert_eq!(roster.stand(second), None);
        finish(&mut roster, 0);
        assert_eq!(roster.stand(first), None);
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }

    #[test]
    fn calls_wait_for_the_other_threads_when_one_cannot_be_started() {
        let mut roster = Roster::new(3, 0, 2);
        roster.submit('a', false, 0, NOW).unwrap();
        assert_eq!(
            roster.submit('b', false, 0, NOW),
            Ok((2, Summons::Start(1)))
        );
        assert!(roster.unstarted(1).is_empty());
        assert_eq!(roster.unstarted(0).len(), 2, "nobody is left");
        assert_eq!(
            roster.submit('c', false, 0, NOW),
            Ok((3, Summons::Start(0))),
            "it is tried again"
        );
    }

    #[test]
    fn the_higher_priority_goes_first_and_within_one_who_was_first() {
        let mut roster = Roster::new(1, 0, 2);
        for (job, priority) in [('c', -1), ('a', 5), ('b', 5), ('x', 0)] {
            roster.submit(job, false, priority, NOW).unwrap();
        }
        assert_eq!(roster.withdraw(4), Some('x'));
        for step in [(2, 'a'), (3, 'b'), (1, 'c')] {
            assert_eq!(roster.take(0, NOW), Step::Run(step.0, step.1));
            finish(&mut roster, 0);
        }
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }

    /// All calls of a roster run to their end, on threads that ask in this order.
    fn busy(roster: &mut Roster<char>, threads: usize) {
        for place in 0..threads {
            let number = place as u64 + 1;
            let (started, job) = (Summons::Start(place), 'x');
            assert_eq!(roster.submit(job, false, 0, NOW), Ok((number, started)));
            assert_eq!(roster.take(place, NOW), Step::Run(number, job));
        }
    }

    #[test]
    fn who_was_busy_last_is_woken_first() {
        let mut roster = Roster::new(3, 0, 2);
        busy(&mut roster, 3);
        for place in [1, 2, 0] {
            finish(&mut roster, place);
            assert_eq!(roster.take(place, NOW), Step::Wait);
        }
        assert_eq!(roster.submit('a', false, 0, NOW), Ok((4, Summons::Wake(0))));
        assert_eq!(roster.submit('b', false, 0, NOW), Ok((5, Summons::Wake(2))));
        assert_eq!(roster.take(0, NOW), Step::Run(4, 'a'));
        assert_eq!(roster.submit('c', false, 0, NOW), Ok((6, Summons::Wake(1))));
        assert_eq!(roster.submit('d', false, 0, NOW), Ok((7, Summons::Nobody)));
    }

    #[test]
    fn idle_threads_leave_down_to_those_that_stay() {
        let mut roster = Roster::new(3, 1, 2);
        assert_eq!(roster.sit_down_to_stay(NOW), Some(0));
        assert_eq!(roster.sit_down_to_stay(NOW), None, "it is there");
        assert_eq!(roster.take(0, NOW), Step::Wait);
        assert!(!roster.leave(0), "it stays");
        assert_eq!(roster.submit('a', false, 0, NOW), Ok((1, Summons::Wake(0))));
        assert_eq!(
            roster.submit('b', false, 0, NOW),
            Ok((2, Summons::Start(1)))
        );
        assert!(!roster.leave(0), "it was woken");
        assert_eq!(roster.take(1, NOW), Step::Run(1, 'a'));
        assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
        for place in [0, 1] {
            finish(&mut roster, place);
            assert_eq!(roster.take(place, NOW), Step::Wait);
        }
        assert!(roster.leave(0));
        assert!(!roster.leave(1), "it is the last one");
        assert_eq!(roster.submit('c', false, 0, NOW), Ok((3, Summons::Wake(1))));
    }

    #[test]
    fn a_call_is_left_to_others_by_whom_there_is_no_room_for() {
        let mut roster = Roster::new(2, 0, 2);
        busy(&mut roster, 2);
        finish(&mut roster, 0);
        assert_eq!(roster.take(0, NOW), Step::Wait);
        // Woken for a call, it learns that it is too many.
        assert_eq!(roster.submit('a', false, 0, NOW), Ok((3, Summons::Wake(0))));
        roster.resize(1);
        assert_eq!(roster.take(0, NOW), Step::Leave);
        assert_eq!(roster.summon(NOW), Summons::Nobody, "the other is busy");
        roster.resize(2);
        assert_eq!(roster.summon(NOW), Summons::Start(0));
        finish(&mut roster, 1);
        assert_eq!(roster.take(1, NOW), Step::Run(3, 'a'));
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }

    #[test]
    fn a_host_takes_async_calls_while_there_are_berths() {
        let mut roster = Roster::new(2, 0, 2);
        assert_eq!(roster.submit('a', true, 0, NOW), Ok((1, Summons::Start(0))));
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        assert_eq!(roster.submit('b', true, 0, NOW), Ok((2, Summons::Host(0))));
        assert_eq!(roster.take_guest(0, NOW), Some((2, 'b')));
        assert_eq!(
            roster.submit('c', true, 0, NOW),
            Ok((3, Summons::Start(1))),
            "it is full"
        );
        assert_eq!(roster.take_guest(0, NOW), None);
        roster.done(0, 1);
        assert!(!roster.is_idle(0) && roster.running() == 1 && !roster.is_blocked());
        assert_eq!(roster.take_guest(0, NOW), Some((3, 'c')));
        assert_eq!(roster.take(1, NOW), Step::Wait);
        finish(&mut roster, 0);
        assert!(roster.is_idle(0));
    }

    #[test]
    fn no_guest_goes_before_a_blocking_call_that_has_no_thread() {
        let mut roster = Roster::new(1, 0, 9);
        roster.submit('a', true, 0, NOW).unwrap();
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        assert_eq!(roster.submit('x', false, 0, NOW), Ok((2, Summons::Nobody)));
        assert_eq!(roster.submit('b', true, 0, NOW), Ok((3, Summons::Nobody)));
        assert_eq!(roster.take_guest(0, NOW), None);
        assert_eq!(roster.submit('c', true, 1, NOW), Ok((4, Summons::Host(0))));
        assert_eq!(roster.take_guest(0, NOW), Some((4, 'c')), "it is urgent");
        finish(&mut roster, 0);
        assert_eq!(roster.take(0, NOW), Step::Run(2, 'x'));
        assert!(roster.is_blocked());
        assert_eq!(roster.host(), None);
    }
}
