//! What the driver does for chunks, with its own bookkeeping and without its lock.

use std::ops::Range;
use std::time::Duration;

use super::items::{Fate, Item};
use super::life::STOPPING;
use super::process::Frame;
use super::rules::require;
use super::world::{Office, World};
use crate::pool::driver::parts::Tally;
use crate::pool::error::{Kind, TaskError};
use crate::pool::job::{Break, News};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey, Outcome, Progress, Ticket, WorkerId};
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
    /// Its map has withdrawn it, and that has been seen to.
    pub(super) withdrawn: bool,
    /// Who had nothing to do when one of its items was late.
    pub(super) idle: Vec<(WorkerId, u64)>,
}

impl World<'_> {
    /// An item is begun.
    pub(super) fn item_begins(&mut self, job: usize, item: u32, worker: WorkerId) {
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
        self.maps[chunk.map].items[index].begin(worker, self.now);
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
        self.maps[chunk.map].items[chunk.items[item as usize]].show();
    }

    /// The answer to an item is read.
    pub(super) fn take_in_part(&mut self, worker: WorkerId, frame: Frame) {
        let running = self.core.running(worker);
        let key = running.filter(|(_, first)| *first == frame.ticket);
        let job = key.and_then(|(key, _)| self.core.attachment(key).copied());
        let item = u64::from(frame.item);
        let known = match job {
            Some(job) => {
                let chunk = self.chunks.get_mut(&job);
                let chunk = chunk.ok_or("a call has no items".to_owned());
                chunk.and_then(|chunk| Ok(Some((chunk.tally.answer(item)?, job))))
            }
            None => {
                let known = self.trails.answer(worker, frame.ticket, item);
                known.map(|known| known.map(|(item, job)| (item, *job)))
            }
        };
        if !matches!(known, Ok(None)) {
            // What was ended was counted then.
            self.core.item_answered(worker, frame.ticket);
        }
        let chunk = &self.chunks[&frame.job];
        let index = chunk.items[frame.item as usize];
        let record = &mut self.maps[chunk.map].items[index];
        match known {
            Err(why) => require(false, "a true answer to an item is known", || why),
            Ok(None) => record.check_was_ended(),
            Ok(known @ Some(_)) => {
                let own = known == Some((frame.item, frame.job));
                require(own, "an answer belongs to its own item", || {
                    format!("{known:?} {frame:?}")
                });
                record.answer();
                let result = Raw::Returned(Packed::copy_of(&(index as u32).to_le_bytes()));
                self.tell_owner(frame.job, News::Item(frame.item, result));
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
        let rest = outcome.of_unbegun();
        let chunk = &self.chunks[&job];
        let (map, tally) = (&mut self.maps[chunk.map], chunk.tally);
        let remains = tally.remains(begun);
        let mut items = |range: Range<u32>, look: &mut dyn FnMut(&mut Item)| {
            let range = range.start as usize..range.end as usize;
            for index in &chunk.items[range] {
                look(&mut map.items[*index]);
            }
        };
        if let (Some(victim), Some(process)) = (remains.victim, process) {
            let spec = self.ledger.planned(job).spec;
            items(tally.answered()..victim, &mut |item| {
                item.check_shown(process)
            });
            items(victim..victim + 1, &mut |item| {
                item.sacrifice(outcome, process, &spec, self.now);
            });
        }
        items(remains.unbegun.clone(), &mut |item| item.leave(rest));
        let costs = remains.victim.is_some();
        self.ledger.resolved(
            (job, costs),
            key,
            outcome,
            &self.processes,
            &self.starts,
            self.now,
        );
        if let (Some(sending), Some(victim)) = (sent, remains.victim) {
            self.trails.begin(sending, job, tally, victim, error());
        }
        let news = News::Broke(Break {
            victim: remains.victim.map(|victim| (victim, error())),
            unbegun: remains.unbegun,
            rest: rest.map(|_| error()),
        });
        self.tell_owner(job, news);
    }

    /// Nothing more comes from that worker, or of that call.
    pub(super) fn seal(&mut self, worker: WorkerId, ticket: Option<Ticket>) {
        for (job, lost, error) in self.trails.seal(worker, ticket) {
            if lost.is_empty() {
                continue;
            }
            let believed = !self.processes[self.index(worker)].condemned;
            let chunk = &self.chunks[&job];
            require(!believed, "only who lies takes answers along", || {
                format!("{lost:?} {chunk:?}")
            });
            for item in lost.clone() {
                let index = chunk.items[item as usize];
                self.maps[chunk.map].items[index].fail(Fate::Missing);
            }
            self.tell_owner(job, News::Missing(lost, error));
        }
    }
}

/// What all errors look like here: whose they are is known from the books.
pub(super) fn error() -> TaskError {
    TaskError::new(Kind::Cancelled)
}
