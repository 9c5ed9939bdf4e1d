//! How far a chunk has come, and what has to be said of each of its items when it ends in the
//! middle. Pure: no page, no lock, nobody is told anything here.
//!
//! The worker answers in order and begins an item only when the answer to the one before is
//! visible. So the page's count of begun items and our count of answers taken in say it all: what
//! was begun and not answered was running, or its answer is on the way.

use std::ops::Range;

use crate::pool::error::TaskError;
use crate::pool::scheduler::{Ticket, WorkerId};

/// How many items a chunk has, and how many of them have been answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    items: u32,
    answered: u32,
}

/// What becomes of the items of a chunk that does not come to its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The item that was running.
    pub(crate) victim: Option<u32>,
    /// Those that were not begun; what was cut off before is not among them.
    pub(crate) unbegun: Range<u32>,
}

impl Tally {
    pub(crate) fn new(items: u32) -> Self {
        Self { items, answered: 0 }
    }

    /// How many items there are, or are left of it.
    pub(crate) fn items(&self) -> u32 {
        self.items
    }

    /// How many have been answered.
    #[cfg(test)]
    pub(crate) fn answered(&self) -> u32 {
        self.answered
    }

    /// How many have not been answered.
    pub(crate) fn left(&self) -> u32 {
        self.items - self.answered
    }

    /// The answer to an item has come. An error if it is not that item's turn.
    pub(crate) fn answer(&mut self, item: u64) -> Result<u32, String> {
        let next = self.answered;
        if next == self.items {
            return Err(format!("an answer to item {item} of a call without it"));
        }
        if u64::from(next) != item {
            return Err(format!("an answer to item {item} instead of {next}"));
        }
        self.answered += 1;
        Ok(next)
    }

    /// Nothing behind this item will be run by that worker. Tells how many items that spares it.
    pub(crate) fn cut(&mut self, last: u32) -> u32 {
        let left = last.saturating_add(1).min(self.items);
        let spared = self.items - left;
        self.items = left;
        spared
    }

    /// It has come to its own end, or to where it was cut, after as many items as the worker says.
    pub(crate) fn over(&self, said: Option<u32>) -> Result<u32, String> {
        match said {
            Some(said) if said == self.answered => Ok(said),
            _ => Err(format!(
                "the end of a chunk after {} answers: {said:?}",
                self.answered
            )),
        }
    }

    /// It has ended otherwise, and the page says that so many items were begun.
    pub(crate) fn remains(&self, begun: u32) -> Remains {
        // What the page says is believed only between the two counts that we know.
        let unbegun = begun.clamp(self.answered, self.items);
        let victim = unbegun.checked_sub(1);
        Remains {
            victim: victim.filter(|victim| *victim >= self.answered),
            unbegun: unbegun..self.items,
        }
    }
}

/// Chunks that were ended while answers to items before the ended one may have been on the way.
/// `O` is who is to be told.
#[derive(Debug)]
pub(crate) struct Trails<O>(Vec<Trail<O>>);

#[derive(Debug)]
struct Trail<O> {
    worker: WorkerId,
    ticket: Ticket,
    owner: O,
    /// Up to the item that was ended.
    tally: Tally,
    /// What is said of those whose answers never come.
    error: TaskError,
}

impl<O> Trails<O> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// A chunk was ended at an item. `error` is what becomes of answers that never come.
    pub(crate) fn begin(
        &mut self,
        (worker, ticket): (WorkerId, Ticket),
        owner: O,
        tally: Tally,
        victim: u32,
        error: TaskError,
    ) {
        let tally = Tally {
            items: victim,
            ..tally
        };
        self.0.push(Trail {
            worker,
            ticket,
            owner,
            tally,
            error,
        });
    }

    /// The answer to an item of a chunk that is no more: whose it is. `None` for one that came
    /// although its item was ended. One that is too large for the ring is sent before that is
    /// known.
    pub(crate) fn answer(
        &mut self,
        worker: WorkerId,
        ticket: Ticket,
        item: u64,
    ) -> Result<Option<(u32, &O)>, String> {
        let known = |trail: &&mut Trail<O>| trail.worker == worker && trail.ticket == ticket;
        match self.0.iter_mut().find(known) {
            Some(trail) if trail.tally.answered == trail.tally.items => Ok(None),
            Some(trail) => Ok(Some((trail.tally.answer(item)?, &trail.owner))),
            None => Err(format!("an answer to an item of nothing: {ticket:?}")),
        }
    }

    /// Nothing more comes from that worker, or of that call: whose chunks those were, and which of
    /// their items are without an answer.
    pub(crate) fn seal(
        &mut self,
        worker: WorkerId,
        ticket: Option<Ticket>,
    ) -> Vec<(O, Range<u32>, TaskError)> {
        let over = |trail: &Trail<O>| {
            trail.worker == worker && ticket.is_none_or(|ticket| ticket == trail.ticket)
        };
        if !self.0.iter().any(over) {
            return Vec::new();
        }
        let (sealed, open) = std::mem::take(&mut self.0).into_iter().partition(over);
        self.0 = open;
        let missing = |trail: Trail<O>| {
            let lost = trail.tally.answered..trail.tally.items;
            (trail.owner, lost, trail.error)
        };
        Vec::into_iter(sealed).map(missing).collect()
    }

    /// Whether no chunk has a trail.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::error::Kind;

    const WORKER: WorkerId = WorkerId {
        place: 0,
        number: 1,
    };

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 0, sequence }
    }

    fn answered(items: u32, answers: u32) -> Tally {
        let mut tally = Tally::new(items);
        (0..answers).for_each(|item| assert_eq!(tally.answer(item.into()), Ok(item)));
        tally
    }

    #[test]
    fn what_was_begun_and_not_answered_was_running() {
        let remains = |begun| answered(5, 2).remains(begun);
        let expect = |victim, unbegun| Remains { victim, unbegun };
        assert_eq!(remains(2), expect(None, 2..5), "between two items");
        assert_eq!(remains(3), expect(Some(2), 3..5));
        assert_eq!(remains(4), expect(Some(3), 4..5), "an answer is on the way");
        assert_eq!(remains(9), expect(Some(4), 5..5), "nonsense");
        assert_eq!(remains(0), expect(None, 2..5), "nonsense");
    }

    #[test]
    fn answers_come_in_their_order_and_no_further_than_the_cut() {
        let mut tally = answered(5, 1);
        assert!(tally.answer(2).is_err());
        assert_eq!(tally.cut(1), 3);
        assert_eq!(tally.cut(4), 0, "cut already");
        assert_eq!(tally.answer(1), Ok(1));
        assert!(tally.answer(2).is_err());
        assert_eq!(tally.over(Some(2)), Ok(2));
        assert!(tally.over(Some(3)).is_err() && tally.over(None).is_err());
    }

    #[test]
    fn answers_before_the_ended_item_count_and_those_that_never_come_are_missing() {
        let mut trails = Trails::new();
        let error = TaskError::new(Kind::Cancelled);
        trails.begin((WORKER, ticket(7)), "a", answered(5, 1), 3, error.clone());
        trails.begin((WORKER, ticket(8)), "b", answered(5, 0), 1, error);
        assert_eq!(trails.answer(WORKER, ticket(7), 1), Ok(Some((1, &"a"))));
        assert_eq!(trails.answer(WORKER, ticket(8), 0), Ok(Some((0, &"b"))));
        assert_eq!(trails.answer(WORKER, ticket(8), 1), Ok(None), "was ended");
        assert!(trails.answer(WORKER, ticket(9), 0).is_err());
        let sealed = trails.seal(WORKER, Some(ticket(8)));
        assert!(matches!(&*sealed, [("b", lost, _)] if lost.is_empty()));
        let sealed = trails.seal(WORKER, None);
        assert!(matches!(&*sealed, [("a", lost, _)] if *lost == (2..3)));
        assert!(trails.is_empty());
    }
}
