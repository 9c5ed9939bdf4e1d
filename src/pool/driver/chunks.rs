//! Jobs of many items: their answers come one by one, and when such a job ends in the middle, it
//! has to be told what became of each item. [`parts`](super::parts) knows that; here it is asked,
//! counted, and passed on.

use std::sync::Arc;
use std::time::Duration;

use super::Done;
use super::parts::Tally;
use super::state::{State, look};
use crate::pool::job::{Break, ChunkOwner, Client, Job, News};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey, Outcome, Progress, Ticket, WorkerId};
use crate::sys::clock::Moment;

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
        let running = self.scheduler.running(worker);
        let key = running.filter(|(_, first)| *first == ticket);
        let job = key.and_then(|(key, _)| self.scheduler.attachment_mut(key));
        let (item, owner) = match job.map(|job| &mut job.client) {
            Some(Client::Chunk { tally, owner }) => (tally.answer(item)?, &*owner),
            Some(Client::Call(_)) => {
                return Err(format!("an answer to item {item} of a call without it"));
            }
            None => match self.trails.answer(worker, ticket, item)? {
                Some(trail) => trail,
                None => return Ok(()),
            },
        };
        self.counts.answered(&raw, took);
        done.tell(owner, News::Item(item, raw));
        Ok(())
    }

    /// Cuts a chunk short behind the item that runs.
    pub(super) fn cut(
        &mut self,
        now: Moment,
        (worker, ticket): (WorkerId, Ticket),
        key: JobKey,
        done: &mut Done,
    ) {
        let Some(slot) = self.slot(worker) else {
            return;
        };
        let Some(last) = slot.page.cut(ticket) else {
            if look(&slot.page, ticket) == Progress::Waiting {
                self.scheduler.handle(now, Event::Uncut(worker, ticket));
            }
            return;
        };
        let Some(job) = self.scheduler.attachment_mut(key) else {
            return;
        };
        if let Client::Chunk { tally, owner } = &mut job.client {
            self.counts.taken_back(tally.cut(last).into());
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
        let rest = outcome.of_unbegun().map(|rest| self.error_of(&job, rest));
        let Client::Chunk { tally, owner } = job.client else {
            return;
        };
        let slot = sent.and_then(|(worker, ticket)| Some((self.slot(worker)?, ticket)));
        let remains = tally.remains(slot.map_or(0, |(slot, ticket)| slot.page.begun(ticket)));
        if let Some(victim) = remains.victim {
            self.counts.failed(&error, 1);
            if let Some(sending) = sent {
                self.trails
                    .begin(sending, owner.clone(), tally, victim, error.clone());
            }
        }
        let left = remains.unbegun.len() as u64;
        match &rest {
            Some(rest) => self.counts.failed(rest, left),
            None => self.counts.taken_back(left),
        }
        let news = News::Broke(Break {
            victim: remains.victim.map(|victim| (victim, error)),
            unbegun: remains.unbegun,
            rest,
        });
        done.tell(&owner, news);
    }

    /// Nothing more comes from that worker, or of that call.
    pub(super) fn seal(&mut self, worker: WorkerId, ticket: Option<Ticket>, done: &mut Done) {
        for (owner, lost, error) in self.trails.seal(worker, ticket) {
            self.counts.failed(&error, lost.len() as u64);
            done.tell(&owner, News::Missing(lost, error));
        }
    }
}

/// A chunk has come to its own end, or to where it was cut.
pub(super) fn chunk_over(
    tally: Tally,
    owner: Arc<dyn ChunkOwner>,
    raw: &Raw,
    took: Duration,
    done: &mut Done,
) -> Result<(), String> {
    let Raw::Returned(count) = raw else {
        return Err("a chunk that ends as if it were a call".to_owned());
    };
    let said = <[u8; 4]>::try_from(&**count).map(u32::from_le_bytes);
    done.tell(&owner, News::Over(tally.over(said.ok())?, took));
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
