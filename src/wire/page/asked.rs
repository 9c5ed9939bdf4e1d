//! Asking what runs to come to its end, without deciding how it ends; and the bell, which wakes
//! those in the worker who wait for something that only the page says.
//!
//! A lane has a word beside its own for what was asked last: which sending, which item of it, and
//! why. It is written by the parent alone and never cleared. A request that comes late names a
//! sending, or an item, that is over, and so is nobody's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ControlPage, State, Word, place_of};
use crate::sys::clock::Moment;
use crate::sys::futex::Bell;
use crate::wire::Ticket;

const RUNG: usize = 64;
const SLEEPERS: usize = 68;
/// Where in a lane it says what was asked.
const ASKED: usize = 16;
/// The bits of a word that tell the state, and in this one the reason.
const REASON: u64 = (1 << Word::STATE) - 1;

/// Why a call was asked to come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Request {
    /// Its caller wants it to.
    Caller = 1,
    /// It has run as long as it should.
    SoftLimit = 2,
}

impl ControlPage {
    fn asked_word(&self, ticket: Ticket) -> &AtomicU64 {
        self.mapping.word(place_of(ticket) + ASKED)
    }

    /// Parent: asks what is running of a call to come to its end, if that was begun at `begun_by`
    /// or before. True if it was running. What was asked already stays asked for the old reason.
    pub(crate) fn ask(&self, ticket: Ticket, begun_by: Moment, why: Request) -> bool {
        let now = self.word(ticket);
        let running = [State::Running, State::Last]
            .into_iter()
            .find_map(|state| now.item_if(ticket, state));
        let Some(item) = running else {
            return false;
        };
        // Read after the word: it is this item's or a later one's. In that case this one is over,
        // and the request nobody's.
        if self.start_time(ticket).load(Ordering::Relaxed) > begun_by.0 {
            return false;
        }
        let asked = self.asked_word(ticket);
        let run = run(ticket, item);
        if asked.load(Ordering::Relaxed) & !REASON != run {
            asked.store(run | why as u64, Ordering::Release);
            self.bell().ring();
        }
        true
    }

    /// Whether, and why, this run of a call, or of an item of it, was asked to come to its end.
    pub(crate) fn asked(&self, ticket: Ticket, item: u32) -> Option<Request> {
        let asked = self.asked_word(ticket).load(Ordering::Acquire);
        if asked & !REASON != run(ticket, item) {
            return None;
        }
        Some(match asked & REASON {
            2 => Request::SoftLimit,
            _ => Request::Caller,
        })
    }

    /// Parent: whether anything of that sending was asked to come to its end.
    pub(crate) fn was_asked(&self, ticket: Ticket) -> bool {
        let asked = self.asked_word(ticket).load(Ordering::Relaxed);
        asked >> (Word::STATE + Word::ITEM) == run(ticket, 0) >> (Word::STATE + Word::ITEM)
    }

    /// What the parent rings whenever it has changed what a running call may wait for.
    pub(crate) fn bell(&self) -> Bell<'_> {
        Bell {
            rung: self.mapping.half_word(RUNG),
            sleepers: self.mapping.half_word(SLEEPERS),
        }
    }
}

/// A sending and an item of it, where a word says them.
fn run(ticket: Ticket, item: u32) -> u64 {
    Word::new(ticket, item, State::Waiting).0 & !REASON
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::create;
    use super::*;

    const LATEST: Moment = Moment(u64::MAX);

    fn pages() -> (ControlPage, ControlPage) {
        let file = create().unwrap();
        let page = || ControlPage::new(&file).unwrap();
        (page(), page())
    }

    fn ticket(sequence: u64) -> Ticket {
        Ticket { lane: 9, sequence }
    }

    #[test]
    fn only_what_runs_can_be_asked() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        assert!(!parent.ask(ticket(1), LATEST, Request::Caller));
        worker.begin(ticket(1), Moment(9));
        assert_eq!(worker.asked(ticket(1), 0), None);
        assert!(parent.ask(ticket(1), LATEST, Request::SoftLimit));
        assert_eq!(worker.asked(ticket(1), 0), Some(Request::SoftLimit));
        assert!(parent.ask(ticket(1), LATEST, Request::Caller));
        assert_eq!(
            worker.asked(ticket(1), 0),
            Some(Request::SoftLimit),
            "first"
        );
        assert!(worker.finish(ticket(1)), "its result counts");
        assert!(!parent.ask(ticket(1), LATEST, Request::Caller));
    }

    #[test]
    fn a_request_is_never_the_next_tenants_nor_the_next_items() {
        let (parent, worker) = pages();
        parent.offer(ticket(1));
        worker.begin(ticket(1), Moment(9));
        assert!(parent.ask(ticket(1), LATEST, Request::Caller));
        parent.offer(ticket(2));
        worker.begin(ticket(2), Moment(10));
        assert_eq!(worker.asked(ticket(2), 0), None);
        assert!(!parent.ask(ticket(1), LATEST, Request::Caller));

        assert!(parent.ask(ticket(2), LATEST, Request::Caller));
        worker.finish_item(ticket(2), 0);
        assert!(
            !parent.ask(ticket(2), LATEST, Request::Caller),
            "between two"
        );
        worker.next_item(ticket(2), 0, Moment(20));
        assert_eq!(worker.asked(ticket(2), 1), None);
        assert!(
            !parent.ask(ticket(2), Moment(19), Request::SoftLimit),
            "too young"
        );
        assert!(parent.ask(ticket(2), Moment(20), Request::SoftLimit));
        assert_eq!(worker.asked(ticket(2), 1), Some(Request::SoftLimit));
    }

    #[test]
    fn who_waits_for_the_end_of_a_call_in_another_mapping_is_woken() {
        let (parent, worker) = pages();
        for round in 1..200 {
            let ticket = ticket(round);
            parent.offer(ticket);
            worker.begin(ticket, Moment(1));
            std::thread::scope(|scope| {
                let limit = Some(Instant::now() + Duration::from_secs(60));
                let worker = &worker;
                let sleeper = scope.spawn(move || {
                    let told = || worker.is_ended(ticket, 0) || worker.asked(ticket, 0).is_some();
                    worker.bell().wait(limit, told)
                });
                match round % 2 {
                    0 => assert!(parent.ask(ticket, LATEST, Request::Caller)),
                    _ => assert!(parent.end(ticket, LATEST)),
                }
                assert!(sleeper.join().unwrap());
            });
        }
    }
}
