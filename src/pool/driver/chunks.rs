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

/// Whose chunk it is that has ended, and what is known of it.
pub(super) struct Origin {
    owner: Arc<dyn ChunkOwner>,
    /// The number of its first item.
    first: u64,
    /// When it was accepted.
    since: Moment,
}

impl State {
    /// Takes in the answer to one item.
    pub(super) fn take_in_item(
        &mut self,
        now: Moment,
        (worker, ticket): (WorkerId, Ticket),
        (item, raw, took): (u64, Raw, Duration),
        done: &mut Done,
    ) -> Result<(), String> {
        let running = self.scheduler.running(worker);
        let key = running.filter(|(_, first)| *first == ticket);
        if key.is_some() {
            self.scheduler.item_answered(worker, ticket);
        }
        let job = key.and_then(|(key, _)| self.scheduler.attachment_mut(key));
        let answered = if let (Some((key, _)), Some(job)) = (key, job) {
            match &mut job.client {
                Client::Chunk { tally, owner } => {
                    (tally.answer(item)?, key.number(), job.since, &*owner)
                }
                Client::Call(_) | Client::Room => {
                    return Err(format!("an answer to item {item} of a call without it"));
                }
            }
        } else {
            match self.trails.answer(worker, ticket, item)? {
                Some((item, origin)) => {
                    self.scheduler.item_answered(worker, ticket);
                    (item, origin.first, origin.since, &origin.owner)
                }
                // It was counted when it was ended.
                None => return Ok(()),
            }
        };
        let (item, first, since, owner) = answered;
        self.counts.answered(&raw, now, since, took);
        self.hub.note_answer(first + u64::from(item), &raw, took);
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
        key: JobKey,
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
        let number = |item: u32| key.number() + u64::from(item);
        if let Some(victim) = remains.victim {
            self.counts.failed(&error, 1);
            self.hub.note_failure(number(victim), &error);
            if let Some(sending) = sent {
                let origin = Origin {
                    owner: owner.clone(),
                    first: key.number(),
                    since: job.since,
                };
                self.trails
                    .begin(sending, origin, tally, victim, error.clone());
            }
        }
        let left = remains.unbegun.len() as u64;
        match &rest {
            Some(rest) => {
                self.counts.failed(rest, left);
                for item in remains.unbegun.clone() {
                    self.hub.note_failure(number(item), rest);
                }
            }
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
        for (origin, lost, error) in self.trails.seal(worker, ticket) {
            self.counts.failed(&error, lost.len() as u64);
            for item in lost.clone() {
                let number = origin.first + u64::from(item);
                self.hub.note_failure(number, &error);
            }
            done.tell(&origin.owner, News::Missing(lost, error));
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
