//! Jobs of many items: their answers come one by one, and when such a job ends in the middle, it
//! has to be told what became of each item. [`parts`](super::parts) knows that; here it is asked,
//! counted, and passed on.

use std::sync::Arc;
use std::time::Duration;

use super::Done;
use super::parts::Tally;
use super::state::{State, look};
use crate::pool::job::{Break, ChunkOwner, Client, Job, News, Relapse};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey, Outcome, Progress, Retry, Ticket, WorkerId};
use crate::pool::trace::CallTrace;
use crate::sys::clock::Moment;

/// Whose chunk it is that has ended, and what is known of it.
pub(super) struct Origin {
    owner: Arc<dyn ChunkOwner>,
    /// The number of its first item.
    first: u64,
    /// When it was accepted.
    since: Moment,
    /// Which failures of its items are no end.
    retry: Retry,
    /// The item that was ended is to be run again.
    relapsed: bool,
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
        let may_repeat = self.scheduler.may_repeat();
        let running = self.scheduler.running(worker);
        let key = running.filter(|(_, first)| *first == ticket);
        if key.is_some() {
            self.scheduler.item_answered(worker, ticket);
        }
        let job = key.and_then(|(key, _)| self.scheduler.attachment_mut(key));
        let trace = job.as_ref().map(|job| job.trace.clone());
        let trace = trace.unwrap_or_default();
        let terms = job.as_ref().map(|job| job.terms());
        let own_retry = terms.map_or(Retry::NEVER, |terms| terms.retry);
        let failures = terms.map_or(&[][..], |terms| &terms.failures).to_vec();
        let answered = if let (Some((key, _)), Some(job)) = (key, job) {
            match &mut job.client {
                Client::Chunk { tally, owner } => {
                    let item = tally.answer(item)?;
                    (item, key.number(), job.since, own_retry, &*owner)
                }
                Client::Call(_) | Client::Room => {
                    return Err(format!("an answer to item {item} of a call without it"));
                }
            }
        } else {
            match self.trails.answer(worker, ticket, item)? {
                Some((item, origin)) => {
                    self.scheduler.item_answered(worker, ticket);
                    let Origin {
                        first,
                        since,
                        retry,
                        ..
                    } = *origin;
                    (item, first, since, retry, &origin.owner)
                }
                // It was counted when it was ended.
                None => return Ok(()),
            }
        };
        let (item, first, since, retry, owner) = answered;
        let retry = if may_repeat { retry } else { Retry::default() };
        let number = first + u64::from(item);
        let raw = match raw {
            Raw::Failed(failure) => match Relapse::of(retry, failure, &failures, true) {
                Ok(relapse) => {
                    self.counts.ran.record(took);
                    self.counts.repeated(number, &relapse.failure, &trace);
                    self.counts.taken_back(1);
                    done.tell(owner, News::Again(item, relapse));
                    return Ok(());
                }
                Err(error) => Raw::Failed(error),
            },
            returned => returned,
        };
        self.counts.answered(raw.error(), now, since, took);
        self.hub.note_answer(number, &raw, took);
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
        let rest = outcome.of_unbegun();
        let terms = job.terms();
        let (own_retry, failures) = (terms.retry, terms.failures.clone());
        let rest = rest.map(|rest| self.error_of(&job, rest).after(failures.clone()));
        let retry = self.retry_now(own_retry);
        let Client::Chunk { tally, owner } = job.client else {
            return;
        };
        let slot = sent.and_then(|(worker, ticket)| Some((self.slot(worker)?, ticket)));
        let remains = tally.remains(slot.map_or(0, |(slot, ticket)| slot.page.begun(ticket)));
        let number = |item: u32| key.number() + u64::from(item);
        let mut fallen = None;
        if let Some(victim) = remains.victim {
            let relapse = Relapse::of(retry, error.clone(), &failures, false);
            if let Some(sending) = sent {
                let origin = Origin {
                    owner: owner.clone(),
                    first: key.number(),
                    since: job.since,
                    retry: own_retry,
                    relapsed: relapse.is_ok(),
                };
                self.trails.begin(sending, origin, tally, victim, error);
            }
            match relapse {
                Ok(relapse) => {
                    self.counts
                        .repeated(number(victim), &relapse.failure, &job.trace);
                    self.counts.taken_back(1);
                    done.tell(&owner, News::Again(victim, relapse));
                }
                Err(error) => {
                    self.counts.failed(&error, 1);
                    self.hub.note_failure(number(victim), &error);
                    fallen = Some((victim, error));
                }
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
            victim: fallen,
            unbegun: remains.unbegun,
            rest,
        });
        done.tell(&owner, news);
    }

    /// Nothing more comes from that worker, or of that call.
    pub(super) fn seal(&mut self, worker: WorkerId, ticket: Option<Ticket>, done: &mut Done) {
        for (origin, lost, error) in self.trails.seal(worker, ticket) {
            if origin.relapsed {
                done.tell(&origin.owner, News::Settled);
            }
            let retry = self.retry_now(origin.retry);
            for item in lost {
                let number = origin.first + u64::from(item);
                let news = match Relapse::of(retry, error.clone(), &[], true) {
                    Ok(relapse) => {
                        self.counts
                            .repeated(number, &relapse.failure, &CallTrace::default());
                        self.counts.taken_back(1);
                        News::Again(item, relapse)
                    }
                    Err(error) => {
                        self.counts.failed(&error, 1);
                        self.hub.note_failure(number, &error);
                        News::Item(item, Raw::Failed(error))
                    }
                };
                done.tell(&origin.owner, news);
            }
        }
    }

    /// Which failures are no end now: all are where nothing is repeated any more.
    fn retry_now(&self, retry: Retry) -> Retry {
        match self.scheduler.may_repeat() {
            true => retry,
            false => Retry::default(),
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
