//! The way of a map's chunks into the pool, and of their news back.

use super::blame::error;
use super::chunks::Chunk;
use super::parcels::Parcel;
use super::plan::Planned;
use super::rules::require;
use super::world::{LATENESS, Office, World};
use crate::pool::driver::parts::Tally;
use crate::pool::error::TaskError;
use crate::pool::job::{Break, News};
use crate::pool::map::book::Batch;
use crate::pool::map::roster::Duty;
use crate::pool::scheduler::{Event, JobSpec};
use crate::sys::clock::Moment;
use crate::task::items;

impl World<'_> {
    /// Sends chunks out as long as there should be more of them.
    pub(super) fn send_out(&mut self, index: usize) {
        self.resume(index);
        self.maps[index].roster.book().resize(self.starts.places);
        while let Some(duty) = self.maps[index].roster.duty() {
            match duty {
                Duty::Submit(batch) => self.hand(Parcel::Submit(index, batch)),
                Duty::Unhold => {
                    self.maps[index].safe = false;
                    return self.hand(Parcel::Unhold);
                }
            }
        }
    }

    /// Lets items go out again whose pauses are over, and has somebody come for the others.
    fn resume(&mut self, index: usize) {
        let map = &mut self.maps[index];
        if !map.roster.book().pauses() {
            return;
        }
        let (now, deadline) = (self.now, map.spec.deadline);
        let hurried = self.dropping || deadline.is_some_and(|at| at <= now);
        let until = if hurried { Moment(u64::MAX) } else { now };
        let next = map.roster.book().resume(until);
        let next = next.map(|at| deadline.map_or(at, |deadline| at.min(deadline)));
        let Some(at) = next.filter(|at| map.alarm.is_none_or(|alarm| *at < alarm)) else {
            return;
        };
        map.alarm = Some(at);
        let late = self.rng.up_to(LATENESS);
        self.office.enter(at + late, Office::Alarm(index, at));
    }

    /// Somebody looks whether pauses are over, for the sake of one that was to be by then.
    pub(super) fn alarm(&mut self, index: usize, at: Moment) {
        self.maps[index].alarm.take_if(|alarm| *alarm <= at);
        self.send_out(index);
    }

    /// What waits is let finish no more: whoever waits for a pause is told.
    pub(super) fn drop_pauses(&mut self) {
        self.dropping = true;
        for (index, map) in self.maps.iter().enumerate() {
            if let Some(at) = map.alarm {
                let late = self.rng.up_to(LATENESS);
                self.office.enter(self.now + late, Office::Alarm(index, at));
            }
        }
    }

    pub(super) fn submit_chunk(&mut self, index: usize, batch: Batch) {
        let map = &self.maps[index];
        let (mut bytes, mut numbers) = (&*batch.bytes, Vec::new());
        while let Some((number, rest)) = items::split_first(bytes) {
            let number = number.try_into().map_or(u32::MAX, u32::from_le_bytes);
            numbers.push(number as usize);
            bytes = rest;
        }
        let whole = numbers.len() == batch.count as usize;
        require(whole, "a chunk has its items", || format!("{batch:?}"));
        if map.spec.deadline.is_some_and(|at| at <= self.now) {
            // The map knows by itself that it is too late.
            return self.refuse(index, batch.id, numbers, batch.failures);
        }
        // What has been run has been begun in time once.
        let first = batch.failures.is_empty();
        let spec = JobSpec {
            items: batch.count,
            bytes: batch.bytes.len(),
            queue_timeout: map.spec.queue_timeout.filter(|_| first),
            ..map.spec
        };
        let works = || numbers.iter().map(|number| map.items[*number].work());
        let planned = Planned {
            spec,
            length: works().map(|work| work.length).max().unwrap_or_default(),
            large: false,
            last: false,
            grows: works().any(|work| work.grows),
        };
        let safe = numbers.iter().any(|number| map.items[*number].safe);
        self.drain();
        let job = self.ledger.open(planned, self.now);
        let chunk = Chunk {
            map: index,
            id: batch.id,
            items: numbers,
            tally: Tally::new(batch.count),
            failures: batch.failures.clone(),
            withdrawn: false,
            idle: Vec::new(),
        };
        self.trace
            .note(self.now, || format!("event   submit job {job} {chunk:?}"));
        self.chunks.insert(job, chunk);
        match self.core.submit(self.now, spec, job) {
            Ok(key) => {
                require(!self.finished, "what is finished accepts nothing", || {
                    format!("{batch:?}")
                });
                self.ledger.accepted(job, key);
                self.longest_line = self.longest_line.max(self.core.waiting());
                self.drain();
                self.check_core();
                self.hand(Parcel::Submitted(index, batch.id, key));
                self.promise(job, &spec);
            }
            Err(_) => self.refused_chunk(job, safe),
        }
    }

    fn refused_chunk(&mut self, job: usize, safe: bool) {
        self.ledger.refused();
        let map = self.chunks[&job].map;
        let over = self.is_ending()
            || self.ledger.cancelled_pending
            || self.starts.hopeless
            || self.maps[map].abandoned;
        require(
            self.closed && (over || !safe),
            "a closed pool finishes what was taken",
            || format!("job {job}"),
        );
        if let Some(chunk) = self.chunks.remove(&job) {
            self.refuse(chunk.map, chunk.id, chunk.items, chunk.failures);
        }
    }

    /// A chunk that is not taken: none of its items will be run.
    fn refuse(&mut self, map: usize, id: u64, numbers: Vec<usize>, failures: Vec<TaskError>) {
        for number in numbers {
            self.maps[map].items[number].fail(error());
        }
        let broke = News::Broke(Break {
            victim: None,
            unbegun: 0..u32::MAX,
            rest: Some(error().after(failures)),
        });
        self.hear(map, id, vec![broke]);
    }

    /// News of a chunk reaches its map.
    pub(super) fn hear(&mut self, index: usize, id: u64, news: Vec<News>) {
        if self.maps[index].roster.hear(id, news) {
            self.send_out(index);
        }
        if self.calm || self.rng.percent(self.plan.eager) {
            self.read_map(index);
        }
    }

    /// A chunk of a map that nobody reads is withdrawn.
    pub(super) fn withdraw(&mut self, event: Event) {
        let (Event::Cancel(key) | Event::Abort(key)) = event else {
            return require(false, "a map cancels or aborts", || format!("{event:?}"));
        };
        let job = self.core.attachment(key).copied();
        if let Some(job) = job {
            match event {
                Event::Abort(_) => self.ledger.abort(job),
                _ => self.ledger.cancel(job),
            };
        }
        self.tell(event);
        if let Some(job) = job {
            if let Event::Abort(_) = event {
                self.ledger.check_aborted(job, &self.processes);
            } else {
                self.ledger.check_cancelled(job);
            }
            if let Some(chunk) = self.chunks.get_mut(&job) {
                chunk.withdrawn = true;
            }
        }
    }
}
