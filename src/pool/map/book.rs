//! The bookkeeping of one `map`: which items have been taken, which are out in which chunk, which
//! results are there. Pure: it submits nothing and decodes nothing.
//!
//! ```text
//!   taken ──▶ waiting ──▶ chunk out ──▶ result ──▶ given to the reader
//!                ▲            │
//!                ├── rest ◀───┤  cut short, or broken by one of its items
//!                └── pause ◀──┘  an item that failed and is to be run again
//! ```
//!
//! News of a chunk may come out of order, so nothing here depends on it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::pool::error::TaskError;
use crate::pool::job::{Break, News, Relapse};
use crate::pool::reply::Raw;
use crate::sys::clock::Moment;
use crate::task::items;
use crate::wire::packed::Packed;

/// How much work goes into a chunk: enough to make the hand-over cheap, little enough that workers
/// share the work evenly to the end.
const AIM: Duration = Duration::from_micros(500);
/// How many bytes of items go into a chunk: as much as may be sent ahead.
const BYTES: usize = 32 * 1024;
/// So many times as large as the one before may a chunk be.
const GROWTH: usize = 4;
/// A look-ahead of no more items than this is filled one by one. It is so small because each item is
/// dear, and then a place that is empty is a worker with nothing to do.
const FEW: usize = 16;

/// What does not change while a map lives.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Measure {
    /// How many results may be out or unread.
    pub(in crate::pool) look_ahead: usize,
    /// The number of items in each chunk; `None` to go by the time they take.
    pub(in crate::pool) chunk_size: Option<usize>,
    /// Whether results are given in the order of the items.
    pub(in crate::pool) ordered: bool,
    /// How many workers there may be.
    pub(in crate::pool) workers: usize,
}

/// Items that go out together.
#[derive(Debug)]
pub(in crate::pool) struct Batch {
    /// Names the chunk in [`Book::hear`].
    pub(in crate::pool) id: u64,
    /// How many items there are.
    pub(in crate::pool) count: u32,
    /// The items.
    pub(in crate::pool) bytes: Packed,
    /// How its only item has failed before, if it has.
    pub(in crate::pool) failures: Vec<TaskError>,
}

/// One map's books.
#[derive(Debug)]
pub(in crate::pool) struct Book {
    measure: Measure,
    /// The first item that the reader has not been given; where order counts.
    first: u64,
    /// How many items have been taken from the source.
    taken: u64,
    /// How many results the reader has been given.
    given: u64,
    /// Where order counts: the results of the items from `first` on.
    window: VecDeque<Option<Raw>>,
    /// Where it does not: results in the order in which they came, each with its item's number.
    ready: VecDeque<(u64, Raw)>,
    /// Items that have not been out.
    waiting: VecDeque<(u64, Packed)>,
    /// Rests of chunks, to be sent before anything that waits.
    rests: VecDeque<Rest>,
    /// Items that go out again after a pause.
    pauses: Vec<Pause>,
    chunks: Vec<Chunk>,
    chunks_made: u64,
    /// Nothing more will be taken.
    exhausted: bool,
    /// How long an item takes, in nanoseconds.
    each: Option<u64>,
    /// The size of the last chunk.
    size: usize,
}

/// Items that were out and came back.
#[derive(Debug)]
struct Rest {
    first: u64,
    count: u32,
    bytes: Packed,
    /// How its only item has failed before, if it has.
    failures: Vec<TaskError>,
}

/// An item that is to be run again.
#[derive(Debug)]
struct Pause {
    rest: Rest,
    length: Duration,
    /// When it is over, once it has begun.
    until: Option<Moment>,
}

/// A chunk that is out.
#[derive(Debug)]
struct Chunk {
    id: u64,
    first: u64,
    bytes: Packed,
    /// Which of its items have a result; those behind its end have gone elsewhere.
    answered: Vec<bool>,
    /// How its only item has failed before, if it has.
    failures: Vec<TaskError>,
    /// It has ended, whatever is still on the way.
    over: bool,
    /// An item that is to be run again when its run is over for certain, and whether that is known.
    relapse: Option<(u32, Relapse)>,
    settled: bool,
}

impl Book {
    pub(in crate::pool) fn new(measure: Measure) -> Self {
        Self {
            measure,
            first: 0,
            taken: 0,
            given: 0,
            window: VecDeque::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            rests: VecDeque::new(),
            pauses: Vec::new(),
            chunks: Vec::new(),
            chunks_made: 0,
            exhausted: false,
            each: None,
            size: 1,
        }
    }

    /// How many items may be taken now. Where many are, nothing until there is room for several, so that
    /// chunks are not made of crumbs.
    pub(in crate::pool) fn room(&self) -> usize {
        if self.exhausted {
            return 0;
        }
        let unread = self.unread();
        let ahead = self.measure.look_ahead;
        let room = ahead.saturating_sub(unread);
        if ahead > FEW && room * 4 < ahead && unread > 0 {
            0
        } else {
            room
        }
    }

    /// How many items have been taken whose results have not been given.
    pub(in crate::pool) fn unread(&self) -> usize {
        (self.taken - self.given) as usize
    }

    /// There may be so many workers now.
    pub(in crate::pool) fn resize(&mut self, workers: usize) {
        self.measure.workers = workers;
    }

    /// An item was taken: its encoding, or why there is none.
    pub(in crate::pool) fn take(&mut self, item: Result<Packed, TaskError>) {
        let index = self.taken;
        self.taken += 1;
        if self.measure.ordered {
            self.window.push_back(None);
        }
        match item {
            Ok(item) => self.waiting.push_back((index, item)),
            Err(error) => self.answer(index, Raw::Failed(error)),
        }
    }

    /// Nothing more will be taken.
    pub(in crate::pool) fn exhaust(&mut self) {
        self.exhausted = true;
    }

    /// The next chunk to go out, if one should. Submit it, or [`hear`](Self::hear) why not.
    pub(in crate::pool) fn next_batch(&mut self) -> Option<Batch> {
        let out = self.chunks.iter().filter(|chunk| !chunk.over).count();
        if out >= self.measure.workers.saturating_mul(2) {
            return None;
        }
        let Rest {
            first,
            count,
            bytes,
            failures,
        } = match self.rests.pop_front() {
            Some(rest) => rest,
            None => self.chunk_of_waiting(out)?,
        };
        self.chunks_made += 1;
        self.chunks.push(Chunk {
            id: self.chunks_made,
            first,
            bytes: bytes.clone(),
            answered: vec![false; count as usize],
            failures: failures.clone(),
            over: false,
            relapse: None,
            settled: false,
        });
        Some(Batch {
            id: self.chunks_made,
            count,
            bytes,
            failures,
        })
    }

    fn chunk_of_waiting(&mut self, out: usize) -> Option<Rest> {
        let size = self.next_size(out)?;
        let (first, _) = self.waiting.front()?;
        let (first, mut count) = (*first, 0);
        let (mut bytes, mut beside) = (Vec::new(), Vec::new());
        while let Some((index, item)) = self.waiting.front() {
            let full = bytes.len() + items::size_of(item.len()) > BYTES;
            // An item that could not be encoded leaves a gap, and a chunk has none.
            let gap = *index != first + u64::from(count);
            let alone = item.has_descriptors();
            if count as usize == size || (count > 0 && (gap || full || alone)) {
                break;
            }
            items::push(item, &mut bytes);
            count += 1;
            beside = item.take_descriptors();
            self.waiting.pop_front();
            if alone {
                break;
            }
        }
        self.size = count as usize;
        let bytes = Packed::beside(Packed::from(Bytes::from(bytes)), beside);
        Some(Rest {
            first,
            count,
            bytes,
            failures: Vec::new(),
        })
    }

    /// How many items the next chunk should have; `None` if it should wait for more.
    fn next_size(&self, out: usize) -> Option<usize> {
        let waiting = self.waiting.len();
        if let Some(size) = self.measure.chunk_size {
            let whole = waiting >= size || self.exhausted || out == 0;
            return whole.then_some(size).filter(|_| waiting > 0);
        }
        let aim = match self.each {
            Some(each) => AIM.as_nanos() as u64 / each.max(1),
            None => 1,
        };
        // What waits is shared by all workers, two chunks each.
        let share = waiting.div_ceil(self.measure.workers.saturating_mul(2).max(1));
        let size = (aim as usize)
            .min(self.size.saturating_mul(GROWTH))
            .min(share);
        (waiting > 0).then_some(size.max(1))
    }

    /// Something has become known of a chunk.
    pub(in crate::pool) fn hear(&mut self, id: u64, news: News) {
        let Some(position) = self.chunks.iter().position(|chunk| chunk.id == id) else {
            return;
        };
        match news {
            News::Item(item, raw) => self.answer_item(position, item, raw),
            News::Again(item, relapse) => self.relapse(position, item, relapse),
            News::Settled => {
                let chunk = &mut self.chunks[position];
                chunk.settled = true;
                if let Some((item, relapse)) = chunk.relapse.take() {
                    self.pause(position, item, relapse);
                }
            }
            News::Cut(last) => self.send_back(position, last + 1),
            News::Over(count, took) => {
                self.send_back(position, count);
                self.chunks[position].over = true;
                self.learn(took / count.max(1));
            }
            News::Broke(Break {
                victim,
                unbegun,
                rest,
            }) => {
                if let Some((item, error)) = victim {
                    self.answer_item(position, item, Raw::Failed(error));
                }
                if let Some(error) = rest {
                    // What was cut off stays until that is heard.
                    let items = self.chunks[position].answered.len() as u32;
                    for item in unbegun.start..unbegun.end.min(items) {
                        self.answer_item(position, item, Raw::Failed(error.clone()));
                    }
                } else {
                    self.send_back(position, unbegun.start);
                }
                self.chunks[position].over = true;
            }
        }
        let chunk = &self.chunks[position];
        if chunk.over && chunk.answered.iter().all(|answered| *answered) {
            self.chunks.swap_remove(position);
        }
    }

    /// The items of a chunk from this one on are to go out again.
    fn send_back(&mut self, position: usize, from: u32) {
        let chunk = &mut self.chunks[position];
        let (all, from) = (chunk.answered.len() as u32, from);
        if from >= all {
            return;
        }
        chunk.answered.truncate(from as usize);
        self.rests.push_back(Rest {
            first: chunk.first + u64::from(from),
            count: all - from,
            bytes: items::skip(&chunk.bytes, from as usize),
            failures: chunk.failures.clone(),
        });
    }

    /// An item is to be run again, but not while this run of it may go on.
    fn relapse(&mut self, position: usize, item: u32, relapse: Relapse) {
        let chunk = &mut self.chunks[position];
        if relapse.settled || chunk.settled {
            self.pause(position, item, relapse);
        } else {
            chunk.relapse = Some((item, relapse));
        }
    }

    /// An item is to be run again after a while, in a chunk of its own.
    fn pause(&mut self, position: usize, item: u32, relapse: Relapse) {
        let chunk = &mut self.chunks[position];
        match chunk.answered.get_mut(item as usize) {
            Some(answered) if !*answered => *answered = true,
            // The first word about an item counts.
            _ => return,
        }
        let mut failures = chunk.failures.clone();
        failures.push(relapse.failure);
        let bytes = items::skip(&chunk.bytes, item as usize);
        let rest = Rest {
            first: chunk.first + u64::from(item),
            count: 1,
            bytes: items::first(&bytes),
            failures,
        };
        self.pauses.push(Pause {
            rest,
            length: relapse.pause,
            until: None,
        });
    }

    /// Whether any item pauses: then somebody has to [`resume`](Self::resume).
    pub(in crate::pool) fn pauses(&self) -> bool {
        !self.pauses.is_empty()
    }

    /// Begins new pauses, and lets those items go out again whose pauses are over. Returns when the
    /// next one will be.
    pub(in crate::pool) fn resume(&mut self, now: Moment) -> Option<Moment> {
        for mut pause in std::mem::take(&mut self.pauses) {
            let until = *pause.until.get_or_insert(now + pause.length);
            if until <= now {
                self.rests.push_back(pause.rest);
            } else {
                self.pauses.push(pause);
            }
        }
        self.pauses.iter().filter_map(|pause| pause.until).min()
    }

    fn answer_item(&mut self, position: usize, item: u32, raw: Raw) {
        let chunk = &mut self.chunks[position];
        let index = chunk.first + u64::from(item);
        match chunk.answered.get_mut(item as usize) {
            Some(answered) if !*answered => *answered = true,
            // The first word about an item counts.
            _ => return,
        }
        self.answer(index, raw);
    }

    fn answer(&mut self, index: u64, raw: Raw) {
        if !self.measure.ordered {
            return self.ready.push_back((index, raw));
        }
        let place = index.checked_sub(self.first);
        if let Some(place) = place.and_then(|place| self.window.get_mut(place as usize)) {
            *place = Some(raw);
        }
    }

    /// Quick to believe that items take long, slow to believe that they became short.
    fn learn(&mut self, each: Duration) {
        let each = each.as_nanos() as u64;
        self.each = Some(match self.each {
            Some(known) if each < known => (known * 3 + each) / 4,
            _ => each,
        });
    }

    /// The next result for the reader, and which item's it is.
    pub(in crate::pool) fn give(&mut self) -> Option<(u64, Raw)> {
        let given = if self.measure.ordered {
            let raw = self.window.front_mut()?.take()?;
            self.window.pop_front();
            self.first += 1;
            (self.first - 1, raw)
        } else {
            self.ready.pop_front()?
        };
        self.given += 1;
        Some(given)
    }

    /// Whether the reader has been given everything there will ever be.
    pub(in crate::pool) fn is_finished(&self) -> bool {
        self.exhausted && self.given == self.taken
    }

    /// Whether anything that was taken has not been out, or may come back: also from a chunk that is
    /// over, as long as the last of its answers is on the way, which may say that it has failed.
    pub(in crate::pool) fn is_at_work(&self) -> bool {
        let at_rest = self.waiting.is_empty() && self.rests.is_empty() && self.pauses.is_empty();
        !at_rest || !self.chunks.is_empty()
    }

    /// Nobody reads any more: drops what has not gone out, and what comes back.
    pub(in crate::pool) fn abandon(&mut self) {
        self.exhausted = true;
        self.waiting.clear();
        self.rests.clear();
        self.pauses.clear();
        self.chunks.clear();
        self.window.clear();
        self.ready.clear();
        self.taken = self.given;
    }
}

#[cfg(test)]
mod tests;
