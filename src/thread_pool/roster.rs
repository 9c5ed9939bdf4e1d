//! Which call waits, which thread runs which, and when everything is over. Pure: it starts no
//! thread, runs no call, and is told the time.
//!
//! ```text
//!   submit ─▶ waiting ─take─▶ running on a thread ─done─▶ (answered by that thread)
//!                └── withdraw, drain, unstarted ─▶ (answered by whoever took it out)
//! ```

use std::collections::BTreeMap;

use crate::sys::clock::Moment;

/// The books of a pool; `J` is carried along unread.
#[derive(Debug)]
pub(super) struct Roster<J> {
    /// How many threads there may be.
    limit: usize,
    /// By their numbers, and so in the order in which they came.
    waiting: BTreeMap<u64, J>,
    /// One for each thread, by its place; `None` where there is no thread.
    seats: Vec<Option<Seat>>,
    /// How many threads have nothing to do, or have not got to it yet.
    free: usize,
    /// The number of the last call.
    last: u64,
    closed: bool,
}

/// A thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seat {
    /// The call that it runs, and since when.
    pub(super) running: Option<(u64, Moment)>,
    /// How many it has run.
    pub(super) done: u64,
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
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: BTreeMap::new(),
            seats: Vec::new(),
            free: 0,
            last: 0,
            closed: false,
        }
    }

    /// Accepts a call, or gives it back. Returns its number, and the place where a thread is to be
    /// started for it.
    pub(super) fn submit(&mut self, job: J) -> Result<(u64, Option<usize>), J> {
        if self.closed {
            return Err(job);
        }
        self.last += 1;
        self.waiting.insert(self.last, job);
        let start = (self.waiting.len() > self.free).then(|| self.sit_down());
        Ok((self.last, start.flatten()))
    }

    /// The number that the next call is given, if it is accepted.
    pub(super) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// A place for one more thread, if there may be one.
    fn sit_down(&mut self) -> Option<usize> {
        let empty = self.seats.iter().position(Option::is_none);
        let place = empty.unwrap_or(self.seats.len());
        if place >= self.limit {
            return None;
        }
        if place == self.seats.len() {
            self.seats.push(None);
        }
        self.seats[place] = Some(Seat::default());
        self.free += 1;
        Some(place)
    }

    /// A thread that has nothing to do asks for the next call.
    pub(super) fn take(&mut self, place: usize, now: Moment) -> Step<J> {
        if let Some((number, job)) = self.waiting.pop_first() {
            if let Some(seat) = &mut self.seats[place] {
                seat.running = Some((number, now));
            }
            self.free -= 1;
            return Step::Run(number, job);
        }
        if !self.closed {
            return Step::Wait;
        }
        self.stand_up(place);
        Step::Leave
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
    pub(super) fn unstarted(&mut self, place: usize) -> BTreeMap<u64, J> {
        self.stand_up(place);
        if self.threads() > 0 {
            return BTreeMap::new();
        }
        self.drain()
    }

    /// Takes a call out that has not been started.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<J> {
        self.waiting.remove(&number)
    }

    /// Takes everything out that has not been started.
    pub(super) fn drain(&mut self) -> BTreeMap<u64, J> {
        std::mem::take(&mut self.waiting)
    }

    /// Accepts no more calls.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Tells how far a call has come; `None` if it is over.
    pub(super) fn stand(&self, number: u64) -> Option<Stand> {
        if self.waiting.contains_key(&number) {
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
        let mut roster = Roster::new(2);
        assert_eq!(roster.submit('a'), Ok((1, Some(0))));
        assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
        roster.done(0);
        assert_eq!(roster.submit('b'), Ok((2, None)), "it is free");
        assert_eq!(roster.submit('c'), Ok((3, Some(1))), "it will be busy");
        assert_eq!(roster.submit('d'), Ok((4, None)), "there may be two");
        assert_eq!(roster.take(1, NOW), Step::Run(2, 'b'));
        assert_eq!(roster.take(0, NOW), Step::Run(3, 'c'));
        assert_eq!((roster.running(), roster.waiting()), (2, 1));
    }

    #[test]
    fn what_was_accepted_is_run_before_the_threads_leave() {
        let mut roster = Roster::new(1);
        roster.submit('a').unwrap();
        roster.submit('b').unwrap();
        roster.close();
        assert_eq!(roster.submit('c'), Err('c'));
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
        let mut roster = Roster::new(1);
        let (first, _) = roster.submit('a').unwrap();
        let (second, _) = roster.submit('b').unwrap();
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
        let mut roster = Roster::new(3);
        roster.submit('a').unwrap();
        let (_, second) = roster.submit('b').unwrap();
        assert!(roster.unstarted(second.unwrap()).is_empty());
        assert_eq!(roster.unstarted(0).len(), 2, "nobody is left");
        assert_eq!(roster.submit('c'), Ok((3, Some(0))), "it is tried again");
    }
}
