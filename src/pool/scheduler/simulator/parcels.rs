//! What one thread of the parent has in hand while others go on: news that is not delivered yet,
//! a chunk that is not submitted yet. Nothing says that it comes soon, or in its order.

use super::rules::require;
use super::world::{Office, World};
use crate::pool::job::News;
use crate::pool::map::book::Batch;
use crate::pool::scheduler::{Event, JobKey};

/// How long a thread may be kept from going on.
const DAWDLING: u64 = 5_000_000;

/// Something between two locks.
#[derive(Debug)]
pub(super) enum Parcel {
    /// News of a job for its map.
    News(usize, Vec<News>),
    /// A map has seen whether the pool is open, and has this many items for its books.
    Prepare(usize, usize, bool),
    /// A map will have this much work, and the pool does not know that.
    Hold(usize, usize),
    /// The pool knows.
    Take(usize, usize, bool),
    /// A map has no work, and the pool does not know that.
    Unhold,
    /// A chunk goes out.
    Submit(usize, Batch),
    /// A chunk has a key, and the map does not know that.
    Submitted(usize, u64, JobKey),
}

impl World<'_> {
    /// Hands a parcel over: at once, or when its thread is allowed to go on.
    pub(super) fn hand(&mut self, parcel: Parcel) {
        if self.prompt || !self.rng.percent(self.plan.dawdling) {
            return self.hand_over(parcel);
        }
        let at = self.now + self.rng.spread(1_000, DAWDLING);
        self.office.enter(at, Office::Hand(self.parcels.len()));
        self.parcels.push(Some(parcel));
    }

    /// Hands everything over that somebody has in hand; from now on nobody dawdles.
    pub(super) fn hurry(&mut self) {
        self.prompt = true;
        for index in 0..self.parcels.len() {
            self.hand_late(index);
        }
        self.deliver();
    }

    /// The thread that has this in hand goes on.
    pub(super) fn hand_late(&mut self, index: usize) {
        if let Some(parcel) = self.parcels[index].take() {
            self.hand_over(parcel);
        }
    }

    fn hand_over(&mut self, parcel: Parcel) {
        self.trace.note(self.now, || format!("map     {parcel:?}"));
        match parcel {
            Parcel::News(job, news) => {
                let (map, id) = (self.chunks[&job].map, self.chunks[&job].id);
                self.hear(map, id, news);
            }
            Parcel::Take(map, count, refused) => self.take(map, count, refused),
            Parcel::Prepare(map, count, refused) => self.prepare(map, count, refused),
            Parcel::Hold(map, count) => {
                self.maps[map].safe = !self.closed;
                self.tell(Event::Hold);
                self.hand(Parcel::Take(map, count, false));
            }
            Parcel::Unhold => {
                require(self.core.held > 0, "who lets go has held", String::new);
                self.tell(Event::Unhold);
            }
            Parcel::Submit(map, batch) => self.submit_chunk(map, batch),
            Parcel::Submitted(map, id, key) => {
                let event = self.maps[map].roster.submitted(id, key);
                event.into_iter().for_each(|event| self.withdraw(event));
                let job = self.core.attachment(key).copied();
                let chunk = job.and_then(|job| self.chunks.get_mut(&job));
                if let Some(chunk) = chunk.filter(|_| self.maps[map].abandoned) {
                    // Whether or not the roster has thought of that.
                    chunk.withdrawn = true;
                }
            }
        }
    }

    /// Something has become known of a chunk, under the lock.
    pub(super) fn tell_owner(&mut self, job: usize, news: News) {
        match self.post.last_mut() {
            Some((last, list)) if *last == job => list.push(news),
            _ => self.post.push((job, vec![news])),
        }
    }

    /// The lock is released: whoever has news delivers it.
    pub(super) fn deliver(&mut self) {
        while !self.post.is_empty() {
            for (job, news) in std::mem::take(&mut self.post) {
                self.hand(Parcel::News(job, news));
            }
        }
    }
}
