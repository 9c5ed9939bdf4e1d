//! Jobs of many items: their answers come one by one, and when such a job ends in the middle it
//! has to be known what became of each item.
//!
//! The worker answers in order and begins an item only when the answer to the one before is
//! visible. So the page's count of begun items and our count of answers taken in say it all: what
//! was begun and not answered was running, or its answer is on the way.

use std::sync::Arc;
use std::time::Duration;

use super::Done;
use super::state::State;
use crate::pool::error::TaskError;
use crate::pool::job::{Break, ChunkOwner, Client, Job, News};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{JobKey, Outcome, Ticket, WorkerId};

/// A chunk that was ended while its worker lived: answers to items before the one that was ended
/// may be on the way.
pub(super) struct Trail {
    worker: WorkerId,
    ticket: Ticket,
    owner: Arc<dyn ChunkOwner>,
    /// The next item to be answered.
    answered: u32,
    /// No item from this one on will be.
    end: u32,
    /// What is said of those whose answers never come.
    error: TaskError,
}

impl State {
    /// Takes in the answer to one item.
    pub(super) fn take_in_item(
        &mut self,
        worker: WorkerId,
        ticket: Ticket,
        item: u64,
        raw: Raw,
        took: Duration,
        done: &mut Done,
    ) -> Result<(), String> {
        self.scheduler.item_answered(worker, ticket);
        let running = self.scheduler.running(worker);
        let key = running.filter(|(_, first)| *first == ticket);
        let job = key.and_then(|(key, _)| self.scheduler.attachment_mut(key));
        let (answered, owner) = if let Some(job) = job {
            match &mut job.client {
                Client::Chunk {
                    items,
                    answered,
                    owner,
                } if *answered < *items => (answered, owner),
                _ => return Err(format!("an answer to item {item} of a call without it")),
            }
        } else {
            let known = |trail: &&mut Trail| trail.worker == worker && trail.ticket == ticket;
            match self.trailing.iter_mut().find(known) {
                // One that is too large for the ring is sent before it is known that it was ended.
                Some(trail) if trail.answered == trail.end => return Ok(()),
                Some(trail) => (&mut trail.answered, &mut trail.owner),
                None => return Err(format!("an answer to an item of nothing: {ticket:?}")),
            }
        };
        if u64::from(*answered) != item {
            return Err(format!("an answer to item {item} instead of {answered}"));
        }
        let news = News::Item(*answered, raw);
        *answered += 1;
        if let News::Item(_, raw) = &news {
            self.counts.answered(raw, took);
        }
        done.tell(owner, news);
        Ok(())
    }

    /// Cuts a chunk short behind the item that runs.
    pub(super) fn cut(&mut self, worker: WorkerId, ticket: Ticket, key: JobKey, done: &mut Done) {
        let last = self.slot(worker).and_then(|slot| slot.page.cut(ticket));
        let job = self.scheduler.attachment_mut(key);
        let (Some(last), Some(job)) = (last, job) else {
            return;
        };
        if let Client::Chunk { items, owner, .. } = &mut job.client {
            let left = last.saturating_add(1).min(*items);
            self.counts.taken_back(u64::from(*items - left));
            *items = left;
            done.tell(owner, News::Cut(last));
        }
    }

    /// A chunk ends before its own end.
    pub(super) fn break_chunk(
        &mut self,
        job: Job,
        outcome: Outcome,
        sent: Option<(WorkerId, Ticket)>,
        done: &mut Done,
    ) {
        let error = self.error_of(&job, outcome);
        let rest = match outcome {
            Outcome::Lost(_) | Outcome::RanTooLong | Outcome::GrewTooLarge(..) => None,
            Outcome::Aborted(_) => Some(self.error_of(&job, Outcome::Aborted(false))),
            Outcome::ShutDown(_) => Some(self.error_of(&job, Outcome::ShutDown(false))),
            Outcome::Cancelled | Outcome::WaitedTooLong | Outcome::Broken(_) => Some(error.clone()),
        };
        let Client::Chunk {
            items,
            answered,
            owner,
        } = job.client
        else {
            return;
        };
        let slot = sent.and_then(|(worker, ticket)| Some((self.slot(worker)?, ticket)));
        let begun = slot.map_or(0, |(slot, ticket)| slot.page.begun(ticket));
        // What the page says is believed only between the two counts that we know.
        let unbegun = begun.clamp(answered, items);
        let victim = unbegun.checked_sub(1).filter(|victim| *victim >= answered);
        if victim.is_some() {
            self.counts.failed(&error, 1);
        }
        let left = u64::from(items - unbegun);
        match &rest {
            Some(rest) => self.counts.failed(rest, left),
            None => self.counts.taken_back(left),
        }
        if let (Some((worker, ticket)), Some(end)) = (sent, victim) {
            self.trailing.push(Trail {
                worker,
                ticket,
                owner: owner.clone(),
                answered,
                end,
                error: error.clone(),
            });
        }
        let news = News::Broke(Break {
            victim: victim.map(|victim| (victim, error)),
            unbegun,
            rest,
        });
        done.tell(&owner, news);
    }

    /// Nothing more comes from that worker, or of that call.
    pub(super) fn seal(&mut self, worker: WorkerId, ticket: Option<Ticket>, done: &mut Done) {
        let over = |trail: &Trail| {
            trail.worker == worker && ticket.is_none_or(|ticket| ticket == trail.ticket)
        };
        let trailing = std::mem::take(&mut self.trailing);
        let (sealed, trailing) = trailing.into_iter().partition::<Vec<_>, _>(over);
        self.trailing = trailing;
        for trail in sealed {
            if trail.answered < trail.end {
                let lost = trail.answered..trail.end;
                self.counts.failed(&trail.error, lost.len() as u64);
                done.tell(&trail.owner, News::Missing(lost, trail.error));
            }
        }
    }
}

/// A chunk has come to its own end, or to where it was cut.
pub(super) fn chunk_over(
    answered: u32,
    owner: Arc<dyn ChunkOwner>,
    raw: &Raw,
    took: Duration,
    done: &mut Done,
) -> Result<(), String> {
    let Raw::Returned(count) = raw else {
        return Err("a chunk that ends as if it were a call".to_owned());
    };
    let said = <[u8; 4]>::try_from(&**count).map(u32::from_le_bytes);
    if !said.is_ok_and(|said| said == answered) {
        return Err(format!(
            "the end of a chunk after {answered} answers: {said:?}"
        ));
    }
    done.tell(&owner, News::Over(answered, took));
    Ok(())
}

impl Done {
    /// Has the owner of a chunk told.
    fn tell(&mut self, owner: &Arc<dyn ChunkOwner>, news: News) {
        match self.news.last_mut() {
            Some((last, list)) if Arc::ptr_eq(last, owner) => list.push(news),
            _ => self.news.push((owner.clone(), vec![news])),
        }
    }
}
