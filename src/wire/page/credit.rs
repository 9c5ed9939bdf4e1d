//! How much a running call may report before somebody has taken it.
//!
//! A lane has a word for that, which names the sending: how many updates it may have sent in all.
//! The parent raises the number when one is taken; so at no moment are more of them on the way or
//! waiting for their reader than it wants to keep, whatever becomes of the reader.
//!
//! The parent keeps its own count of what it has granted, and believes nothing that it reads here.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ControlPage, Word, place_of};
use crate::wire::Ticket;

/// Where in a lane the word is.
const CREDIT: usize = 24;
const SEQUENCE: u32 = Word::STATE + Word::ITEM;
const MODE: u32 = SEQUENCE - 2;

/// Counts of updates begin anew after so many.
const COUNTS: u32 = 1 << MODE;

/// The most updates that may wait for their reader.
pub(crate) const MOST_UPDATES: usize = COUNTS as usize / 2;

/// What a running call may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credit {
    /// So many updates in all.
    Until(Count),
    /// As many as it likes.
    Unlimited,
    /// None: nobody wants to have them.
    Closed,
}

/// A count of updates. Two of them are compared for being the same, never for their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(u32);

impl Count {
    /// So many more.
    pub(crate) fn plus(self, more: usize) -> Self {
        Self((self.0 + (more % COUNTS as usize) as u32) % COUNTS)
    }
}

impl Credit {
    fn word(self, ticket: Ticket) -> u64 {
        let (mode, count) = match self {
            Self::Until(count) => (0, count.0),
            Self::Unlimited => (1, 0),
            Self::Closed => (2, 0),
        };
        ticket.sequence << SEQUENCE | mode << MODE | u64::from(count)
    }
}

impl ControlPage {
    fn credit_word(&self, ticket: Ticket) -> &AtomicU64 {
        self.mapping.word(place_of(ticket) + CREDIT)
    }

    /// Parent: says what a call may send, before its frame is sent.
    pub(crate) fn grant(&self, ticket: Ticket, credit: Credit) {
        self.credit_word(ticket)
            .store(credit.word(ticket), Ordering::Release);
    }

    /// Parent: says something else than was said before. Nothing happens if the lane has another
    /// tenant by now who may send something.
    pub(crate) fn change_credit(&self, ticket: Ticket, from: Credit, to: Credit) {
        let word = self.credit_word(ticket);
        let (from, to) = (from.word(ticket), to.word(ticket));
        // A word that is neither was overwritten by its worker, who has only itself to blame.
        if word
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            self.bell().ring();
        }
    }

    /// Worker: what this call may send.
    pub(crate) fn credit(&self, ticket: Ticket) -> Credit {
        let word = self.credit_word(ticket).load(Ordering::Acquire);
        let count = Count(word as u32 % COUNTS);
        [Credit::Until(count), Credit::Unlimited]
            .into_iter()
            .find(|credit| credit.word(ticket) == word)
            .unwrap_or(Credit::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::create;
    use super::*;

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 1, sequence }
    }

    fn until(count: usize) -> Credit {
        Credit::Until(Count::default().plus(count))
    }

    #[test]
    fn what_is_granted_is_seen_by_that_sending_and_by_no_other() {
        let page = ControlPage::new(create().unwrap()).unwrap();
        assert_eq!(page.credit(ticket(1)), Credit::Closed, "nothing was said");
        for credit in [until(0), until(77), Credit::Unlimited, Credit::Closed] {
            page.grant(ticket(1), credit);
            assert_eq!(page.credit(ticket(1)), credit);
            assert_eq!(page.credit(ticket(2)), Credit::Closed);
        }
    }

    #[test]
    fn a_late_change_never_hits_the_lanes_next_tenant() {
        let page = ControlPage::new(create().unwrap()).unwrap();
        page.grant(ticket(1), until(3));
        page.change_credit(ticket(1), until(3), until(4));
        assert_eq!(page.credit(ticket(1)), until(4));
        page.grant(ticket(2), until(4));
        page.change_credit(ticket(1), until(4), Credit::Closed);
        assert_eq!(page.credit(ticket(2)), until(4));
    }

    #[test]
    fn counts_begin_anew_without_anybody_noticing() {
        let page = ControlPage::new(create().unwrap()).unwrap();
        let last = Count::default().plus(COUNTS as usize - 1);
        page.grant(ticket(u64::MAX >> SEQUENCE), Credit::Until(last));
        assert_eq!(
            page.credit(ticket(u64::MAX >> SEQUENCE)),
            Credit::Until(last)
        );
        assert_eq!(last.plus(1), Count::default());
    }
}
