//! Which call waits, which thread runs which, and when everything is over. Pure: it starts no
//! thread, runs no call, and is told the time.
//!
//! ```text
//!   submit ─▶ waiting ─take─▶ running on a thread ─done─▶ (answered by that thread)
//!                └── withdraw, drain, unstarted ─▶ (answered by whoever took it out)
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::sys::clock::Moment;

/// The books of a pool; `J` is carried along unread.
#[derive(Debug)]
pub(super) struct Roster<J> {
    /// How many threads there may be.
    limit: usize,
    /// How many of them stay although they have nothing to do.
    kept: usize,
    /// In the order in which they are run.
    waiting: BTreeMap<Turn, J>,
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

/// A thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seat {
    /// The call that it runs, and since when.
    pub(super) running: Option<(u64, Moment)>,
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
    pub(super) fn new(limit: usize, kept: usize) -> Self {
        Self {
            limit,
            kept,
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
        priority: i32,
        now: Moment,
    ) -> Result<(u64, Summons), J> {
        if self.closed {
            return Err(job);
        }
        self.last += 1;
        let turn = (Reverse(priority), self.last);
        self.waiting.insert(turn, job);
        self.turns.insert(self.last, turn);
        Ok((self.last, self.summon(now)))
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
        if let Some(((_, number), job)) = self.waiting.pop_first() {
            self.turns.remove(&number);
            if let Some(seat) = &mut self.seats[place] {
                seat.running = Some((number, now));
            }
            self.free -= 1;
            return Step::Run(number, job);
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

    /// A thread is done with its call.
    pub(super) fn done(&mut self, place: usize) {
        if let Some(seat) = &mut self.seats[place] {
            seat.running = None;
            seat.done += 1;
        }
        self.free += 1;
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
        self.waiting.remove(&turn)
    }

    /// Takes everything out that has not been started.
    pub(super) fn drain(&mut self) -> Vec<(u64, J)> {
        self.turns.clear();
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.map(|((_, number), job)| (number, job)).collect()
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
            let (running, since) = seat.as_ref()?.running?;
            (running == number).then_some(Stand::Running(place, since))
        })
    }

    /// The threads there are, by their places.
    pub(super) fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(place, seat)| Some((place, seat.as_ref()?)))
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many calls run.
    pub(super) fn running(&self) -> usize {
        self.threads() - self.free
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

    #[test]
    fn a_thread_is_started_only_for_a_call_that_finds_none_free() {
        let mut roster = Roster::new(2, 0);
        assert_eq!(roster.submit('a', 0, NOW), Ok((1, Summons::Start(0))));
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        roster.done(0);
        assert_eq!(
            roster.submit('b', 0, NOW),
            Ok((2, Summons::Nobody)),
            "it is free"
        );
        assert_eq!(
            roster.submit('c', 0, NOW),
            Ok((3, Summons::Start(1))),
            "it will be busy"
        );
        assert_eq!(
            roster.submit('d', 0, NOW),
            Ok((4, Summons::Nobody)),
            "there may be two"
        );
        assert_eq!(roster.take(1, NOW), Step::Run(2, 'b'));
        assert_eq!(roster.take(0, NOW), Step::Run(3, 'c'));
        assert_eq!((roster.running(), roster.waiting()), (2, 1));
    }

    #[test]
    fn what_was_accepted_is_run_before_the_threads_leave() {
        let mut roster = Roster::new(1, 0);
        roster.submit('a', 0, NOW).unwrap();
        roster.submit('b', 0, NOW).unwrap();
        roster.close();
        assert_eq!(roster.submit('c', 0, NOW), Err('c'));
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        roster.done(0);
        assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
        roster.done(0);
        assert!(!roster.is_over(), "its thread is there");
        assert_eq!(roster.take(0, NOW), Step::Leave);
        assert!(roster.is_over());
    }

    #[test]
    fn only_what_waits_can_be_taken_out() {
        let mut roster = Roster::new(1, 0);
        let (first, _) = roster.submit('a', 0, NOW).unwrap();
        let (second, _) = roster.submit('b', 0, NOW).unwrap();
        assert_eq!(roster.take(0, NOW), Step::Run(first, 'a'));
        assert_eq!(roster.stand(first), Some(Stand::Running(0, NOW)));
        assert_eq!(roster.stand(second), Some(Stand::Waiting));
        assert_eq!(roster.withdraw(first), None);
        assert_eq!(roster.withdraw(second), Some('b'));
        assert_eq!(roster.stand(second), None);
        roster.done(0);
        assert_eq!(roster.stand(first), None);
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }

    #[test]
    fn calls_wait_for_the_other_threads_when_one_cannot_be_started() {
        let mut roster = Roster::new(3, 0);
        roster.submit('a', 0, NOW).unwrap();
        assert_eq!(roster.submit('b', 0, NOW), Ok((2, Summons::Start(1))));
        assert!(roster.unstarted(1).is_empty());
        assert_eq!(roster.unstarted(0).len(), 2, "nobody is left");
        assert_eq!(
            roster.submit('c', 0, NOW),
            Ok((3, Summons::Start(0))),
            "it is tried again"
        );
    }

    #[test]
    fn the_higher_priority_goes_first_and_within_one_who_was_first() {
        let mut roster = Roster::new(1, 0);
        for (job, priority) in [('c', -1), ('a', 5), ('b', 5), ('x', 0)] {
            roster.submit(job, priority, NOW).unwrap();
        }
        assert_eq!(roster.withdraw(4), Some('x'));
        for step in [(2, 'a'), (3, 'b'), (1, 'c')] {
            assert_eq!(roster.take(0, NOW), Step::Run(step.0, step.1));
            roster.done(0);
        }
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }

    /// All calls of a roster run to their end, on threads that ask in this order.
    fn busy(roster: &mut Roster<char>, threads: usize) {
        for place in 0..threads {
            let number = place as u64 + 1;
            let (started, job) = (Summons::Start(place), 'x');
            assert_eq!(roster.submit(job, 0, NOW), Ok((number, started)));
            assert_eq!(roster.take(place, NOW), Step::Run(number, job));
        }
    }

    #[test]
    fn who_was_busy_last_is_woken_first() {
        let mut roster = Roster::new(3, 0);
        busy(&mut roster, 3);
        for place in [1, 2, 0] {
            roster.done(place);
            assert_eq!(roster.take(place, NOW), Step::Wait);
        }
        assert_eq!(roster.submit('a', 0, NOW), Ok((4, Summons::Wake(0))));
        assert_eq!(roster.submit('b', 0, NOW), Ok((5, Summons::Wake(2))));
        assert_eq!(roster.take(0, NOW), Step::Run(4, 'a'));
        assert_eq!(roster.submit('c', 0, NOW), Ok((6, Summons::Wake(1))));
        assert_eq!(roster.submit('d', 0, NOW), Ok((7, Summons::Nobody)));
    }

    #[test]
    fn idle_threads_leave_down_to_those_that_stay() {
        let mut roster = Roster::new(3, 1);
        assert_eq!(roster.sit_down_to_stay(NOW), Some(0));
        assert_eq!(roster.sit_down_to_stay(NOW), None, "it is there");
        assert_eq!(roster.take(0, NOW), Step::Wait);
        assert!(!roster.leave(0), "it stays");
        assert_eq!(roster.submit('a', 0, NOW), Ok((1, Summons::Wake(0))));
        assert_eq!(roster.submit('b', 0, NOW), Ok((2, Summons::Start(1))));
        assert!(!roster.leave(0), "it was woken");
        assert_eq!(roster.take(1, NOW), Step::Run(1, 'a'));
        assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
        for place in [0, 1] {
            roster.done(place);
            assert_eq!(roster.take(place, NOW), Step::Wait);
        }
        assert!(roster.leave(0));
        assert!(!roster.leave(1), "it is the last one");
        assert_eq!(roster.submit('c', 0, NOW), Ok((3, Summons::Wake(1))));
    }

    #[test]
    fn a_call_is_left_to_others_by_whom_there_is_no_room_for() {
        let mut roster = Roster::new(2, 0);
        busy(&mut roster, 2);
        roster.done(0);
        assert_eq!(roster.take(0, NOW), Step::Wait);
        // Woken for a call, it learns that it is too many.
        assert_eq!(roster.submit('a', 0, NOW), Ok((3, Summons::Wake(0))));
        roster.resize(1);
        assert_eq!(roster.take(0, NOW), Step::Leave);
        assert_eq!(roster.summon(NOW), Summons::Nobody, "the other is busy");
        roster.resize(2);
        assert_eq!(roster.summon(NOW), Summons::Start(0));
        roster.done(1);
        assert_eq!(roster.take(1, NOW), Step::Run(3, 'a'));
        assert_eq!(roster.take(0, NOW), Step::Wait);
    }
}
