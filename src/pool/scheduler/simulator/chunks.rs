//! What the driver does for chunks, with its own bookkeeping and without its lock.

use std::ops::Range;
use std::time::Duration;

use super::blame::{of_flaw, of_outcome};
use super::items::Item;
use super::life::STOPPING;
use super::process::Frame;
use super::rules::require;
use super::world::{Office, World};
use crate::pool::driver::parts::Tally;
use crate::pool::error::TaskError;
use crate::pool::job::{Break, News, Relapse};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey, Outcome, Progress, Retry, Ticket, WorkerId};
use crate::wire::packed::Packed;

/// An item with a limit must have been answered this long after it, whatever its worker does. Longer
/// than for a call: a worker that is stopped between two items has a new chance when it is cut.
pub(super) const ANSWERING: Duration = Duration::from_secs(5);

/// A job of many items.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) map: usize,
    /// What the map calls it.
    pub(super) id: u64,
    /// Which items of the map it carries.
    pub(super) items: Vec<usize>,
    pub(super) tally: Tally,
    /// How its only item has failed before, if it has.
    pub(super) failures: Vec<TaskError>,
    /// Its map has withdrawn it, and that has been seen to.
    pub(super) withdrawn: bool,
    /// Who had nothing to do when one of its items was late.
    pub(super) idle: Vec<(WorkerId, u64)>,
}

/// A chunk that has ended while answers of it may be on the way.
#[derive(Debug)]
pub(super) struct Origin {
    job: usize,
    /// The item that was ended is to be run again.
    relapsed: bool,
}

impl World<'_> {
    /// An item is begun.
    pub(super) fn item_begins(&mut self, job: usize, item: u32, sending: (WorkerId, Ticket)) {
        let chunk = &self.chunks[&job];
        require(
            !chunk.withdrawn,
            "nothing is begun of what nobody wants any more",
            || format!("job {job} item {item} {chunk:?}"),
        );
        let deadline = self.ledger.planned(job).spec.deadline;
        require(
            deadline.is_none_or(|at| self.now < at + STOPPING),
            "nothing is begun after its deadline",
            || format!("job {job} item {item} {chunk:?}"),
        );
        let index = chunk.items[item as usize];
        self.maps[chunk.map].items[index].begin((job, item), sending, self.now, &self.processes);
        self.set_limits(job, index);
        self.set_sharing(job, item);
    }

    fn set_limits(&mut self, job: usize, index: usize) {
        let map = self.chunks[&job].map;
        if let Some(limit) = self.ledger.planned(job).spec.timeout {
            let due = self.now + limit;
            self.office
                .enter(due + STOPPING, Office::ItemMustHaveStopped(map, index));
            self.office
                .enter(due + ANSWERING, Office::ItemMustBeAnswered(map, index));
        }
    }

    /// The answer to an item will be found.
    pub(super) fn item_is_shown(&mut self, job: usize, item: u32) {
        let chunk = &self.chunks[&job];
        self.maps[chunk.map].items[chunk.items[item as usize]].show(job);
    }

    /// The answer to an item is read.
    pub(super) fn take_in_part(&mut self, worker: WorkerId, frame: Frame) {
        let running = self.core.running(worker);
        let key = running.filter(|(_, first)| *first == frame.ticket);
        let job = key.and_then(|(key, _)| self.core.attachment(key).copied());
        let item = u64::from(frame.item);
        let mut failures = Vec::new();
        let known = match job {
            Some(job) => {
                let chunk = self.chunks.get_mut(&job);
                let chunk = chunk.ok_or("a call has no items".to_owned());
                chunk.and_then(|chunk| {
                    failures.clone_from(&chunk.failures);
                    Ok(Some((chunk.tally.answer(item)?, job)))
                })
            }
            None => {
                let known = self.trails.answer(worker, frame.ticket, item);
                known.map(|known| known.map(|(item, origin)| (item, origin.job)))
            }
        };
        if !matches!(known, Ok(None)) {
            // What was ended was counted then.
            self.core.item_answered(worker, frame.ticket);
        }
        let wanted = self.may_repeat();
        let chunk = &self.chunks[&frame.job];
        let index = chunk.items[frame.item as usize];
        let map = &mut self.maps[chunk.map];
        let record = &mut map.items[index];
        match known {
            Err(why) => require(false, "a true answer to an item is known", || why),
            Ok(None) => record.check_was_ended(),
            Ok(known @ Some(_)) => {
                let own = known == Some((frame.item, frame.job));
                require(own, "an answer belongs to its own item", || {
                    format!("{known:?} {frame:?}")
                });
                let failure = of_flaw(frame.work.flaw, worker);
                record.answer(failure.as_ref());
                let news = match failure {
                    None => {
                        let bytes = (index as u32).to_le_bytes();
                        News::Item(frame.item, Raw::Returned(Packed::copy_of(&bytes)))
                    }
                    Some(failure) => {
                        let (own, retry) = (failure.clone(), retry_now(map.retry, wanted));
                        let news = match Relapse::of(retry, failure, &failures, true) {
                            Ok(relapse) => News::Again(frame.item, relapse),
                            Err(error) => News::Item(frame.item, Raw::Failed(error)),
                        };
                        let again = matches!(news, News::Again(..));
                        record.fall(own, again, map.retry, wanted, self.now);
                        news
                    }
                };
                self.tell_owner(frame.job, news);
            }
        }
    }

    /// A chunk has come to its own end, or to where it was cut.
    pub(super) fn chunk_over(&mut self, frame: Frame) {
        let chunk = &self.chunks[&frame.job];
        match chunk.tally.over(Some(frame.item + 1)) {
            Ok(count) => self.tell_owner(frame.job, News::Over(count, frame.work.length * count)),
            Err(why) => require(false, "a chunk is over when all is answered", || why),
        }
    }

    /// The core wants a chunk cut short.
    pub(super) fn cut(&mut self, worker: WorkerId, ticket: Ticket, key: JobKey) {
        let page = &mut self.asked(worker).page;
        let Some(last) = page.cut(ticket) else {
            if page.progress(ticket) == Progress::Waiting {
                self.answer(Event::Uncut(worker, ticket));
            }
            return;
        };
        let Some(job) = self.core.attachment(key).copied() else {
            return;
        };
        let chunk = self.chunks.get_mut(&job);
        require(chunk.is_some(), "only a chunk is cut", || {
            format!("{key:?}")
        });
        if let Some(chunk) = chunk {
            chunk.tally.cut(last);
            self.tell_owner(job, News::Cut(last));
        }
    }

    /// A chunk ends before its own end.
    pub(super) fn break_chunk(
        &mut self,
        job: usize,
        key: JobKey,
        outcome: Outcome,
        sent: Option<(WorkerId, Ticket)>,
    ) {
        let process = sent.map(|(worker, _)| self.index(worker));
        let process = process.map(|index| &self.processes[index]);
        let begun = process
            .zip(sent)
            .map_or(0, |(process, (_, ticket))| process.page.begun(ticket));
        let worker = sent.map(|(worker, _)| worker);
        let error = of_outcome(outcome, worker);
        let rest = outcome.of_unbegun().map(|rest| of_outcome(rest, None));
        let (wanted, now) = (self.may_repeat(), self.now);
        let chunk = &self.chunks[&job];
        let (map, tally) = (&mut self.maps[chunk.map], chunk.tally);
        let (retry, failures) = (map.retry, &chunk.failures);
        let remains = tally.remains(begun);
        let mut items = |range: Range<u32>, look: &mut dyn FnMut(&mut Item)| {
            let range = range.start as usize..range.end as usize;
            for index in &chunk.items[range] {
                look(&mut map.items[*index]);
            }
        };
        let relapse = Relapse::of(retry_now(retry, wanted), error.clone(), failures, false);
        if let (Some(victim), Some(process)) = (remains.victim, process) {
            let spec = self.ledger.planned(job).spec;
            items(tally.answered()..victim, &mut |item| {
                item.check_shown(process)
            });
            items(victim..victim + 1, &mut |item| {
                item.check_sacrifice(outcome, process, &spec, now);
                item.fall(error.clone(), relapse.is_ok(), retry, wanted, now);
            });
        }
        items(remains.unbegun.clone(), &mut |item| {
            item.leave(rest.clone());
        });
        let rest = rest.map(|rest| rest.after(failures.clone()));
        let costs = remains.victim.is_some();
        self.ledger.resolved(
            (job, costs),
            key,
            outcome,
            &self.processes,
            &self.starts,
            self.now,
        );
        let mut fallen = None;
        if let Some(victim) = remains.victim {
            if let Some(sending) = sent {
                let relapsed = relapse.is_ok();
                let origin = Origin { job, relapsed };
                self.trails.begin(sending, origin, tally, victim, error);
            }
            match relapse {
                Ok(relapse) => self.tell_owner(job, News::Again(victim, relapse)),
                Err(error) => fallen = Some((victim, error)),
            }
        }
        let news = News::Broke(Break {
            victim: fallen,
            unbegun: remains.unbegun,
            rest,
        });
        self.tell_owner(job, news);
    }

    /// Nothing more comes from that worker, or of that call.
    pub(super) fn seal(&mut self, worker: WorkerId, ticket: Option<Ticket>) {
        for (Origin { job, relapsed }, lost, error) in self.trails.seal(worker, ticket) {
            if relapsed {
                self.tell_owner(job, News::Settled);
            }
            let believed = !self.processes[self.index(worker)].condemned;
            require(
                lost.is_empty() || !believed,
                "only who lies takes answers along",
                || format!("{lost:?} {:?}", self.chunks[&job]),
            );
            for item in lost {
                let wanted = self.may_repeat();
                let chunk = &self.chunks[&job];
                let map = &mut self.maps[chunk.map];
                let record = &mut map.items[chunk.items[item as usize]];
                let retry = retry_now(map.retry, wanted);
                let news = match Relapse::of(retry, error.clone(), &[], true) {
                    Ok(relapse) => News::Again(item, relapse),
                    Err(error) => News::Item(item, Raw::Failed(error)),
                };
                let again = matches!(news, News::Again(..));
                record.fall(error.clone(), again, map.retry, wanted, self.now);
                self.tell_owner(job, news);
            }
        }
    }

    /// Whether anything is to be run again.
    fn may_repeat(&self) -> bool {
        !self.is_ending() && !self.ledger.cancelled_pending && !self.core.is_deserted()
    }
}

fn retry_now(retry: Retry, wanted: bool) -> Retry {
    match wanted {
        true => retry,
        false => Retry::default(),
    }
}
