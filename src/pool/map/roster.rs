//! Which chunks of a map are out under which keys, and whether the pool has been asked to wait for
//! more: what the threads that serve one map agree on. Pure: it says what is to be done, and
//! somebody else does it, at leisure, while others come here.

use super::book::{Batch, Book, Measure};
use crate::pool::error::TaskError;
use crate::pool::job::News;
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey};
use crate::wire::packed::Packed;

/// How a map ends that nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Ending {
    /// What runs may finish.
    Cancel,
    /// What runs is ended.
    Abort,
}

impl Ending {
    fn event(self, key: JobKey) -> Event {
        match self {
            Self::Cancel => Event::Cancel(key),
            Self::Abort => Event::Abort(key),
        }
    }
}

/// What is to be done for a map.
#[derive(Debug)]
pub(in crate::pool) enum Duty {
    /// Submit this chunk, then [`submitted`](Roster::submitted) or hear why not.
    Submit(Batch),
    /// Tell the pool that it need not wait for us.
    Unhold,
}

/// One map's chunks, and its books.
#[derive(Debug)]
pub(in crate::pool) struct Roster {
    book: Book,
    /// The chunks that are out and not over, by their names in the book.
    out: Vec<(u64, Option<JobKey>)>,
    /// The pool has been told, or is just being told, that we have work which is not submitted.
    holding: bool,
    /// Items are about to be put into the books.
    taking: bool,
    /// What is to become of everything, since nobody reads any more.
    abandoned: Option<Ending>,
}

impl Roster {
    pub(in crate::pool) fn new(measure: Measure) -> Self {
        Self {
            book: Book::new(measure),
            out: Vec::new(),
            holding: false,
            taking: false,
            abandoned: None,
        }
    }

    /// The books, to be read from.
    pub(in crate::pool) fn book(&mut self) -> &mut Book {
        &mut self.book
    }

    /// Items that may be sent are about to be [taken](Self::take). True if the pool must be told
    /// [`Event::Hold`] before that: one that is closed meanwhile waits for us. Until then nobody
    /// says that it need not.
    pub(in crate::pool) fn prepare(&mut self) -> bool {
        self.taking = true;
        !std::mem::replace(&mut self.holding, true)
    }

    /// Puts items into the books; `exhausted` if there will be no more.
    pub(in crate::pool) fn take(
        &mut self,
        items: impl IntoIterator<Item = Result<Packed, TaskError>>,
        exhausted: bool,
    ) {
        self.taking = false;
        items.into_iter().for_each(|item| self.book.take(item));
        if exhausted {
            self.book.exhaust();
        }
    }

    /// Whether the pool has been told to wait, or is just being told.
    #[cfg(test)]
    pub(in crate::pool) fn is_holding(&self) -> bool {
        self.holding
    }

    /// What is to be done next, if anything is.
    pub(in crate::pool) fn duty(&mut self) -> Option<Duty> {
        if let Some(batch) = self.book.next_batch() {
            self.out.push((batch.id, None));
            return Some(Duty::Submit(batch));
        }
        let release = self.holding && !self.taking && !self.book.is_at_work();
        self.holding &= !release;
        release.then_some(Duty::Unhold)
    }

    /// A chunk has a name in the pool now; it may be over already. The pool is to be told what
    /// comes back.
    pub(in crate::pool) fn submitted(&mut self, id: u64, key: JobKey) -> Option<Event> {
        let known = self.out.iter_mut().find(|(known, _)| *known == id);
        match known {
            Some((_, place)) => {
                *place = Some(key);
                None
            }
            None => Some(self.abandoned?.event(key)),
        }
    }

    /// Something has become known of a chunk. True if there may be a [`duty`](Self::duty) now.
    pub(in crate::pool) fn hear(&mut self, id: u64, news: Vec<News>) -> bool {
        let mut more = false;
        for news in news {
            more |= !matches!(news, News::Item(..));
            if matches!(news, News::Over(..) | News::Broke(_)) {
                self.out.retain(|(known, _)| *known != id);
            }
            if self.abandoned.is_none() {
                self.book.hear(id, news);
            }
        }
        // What is heard last may be an answer.
        more || (self.holding && !self.book.is_at_work())
    }

    /// The next result for the reader.
    pub(in crate::pool) fn give(&mut self) -> Option<(u64, Raw)> {
        self.book.give()
    }

    /// Nobody reads any more. The pool is to be told what comes back.
    pub(in crate::pool) fn abandon(&mut self, ending: Ending) -> Vec<Event> {
        self.abandoned = Some(ending);
        self.book.abandon();
        let out = std::mem::take(&mut self.out).into_iter();
        out.filter_map(|(_, key)| Some(ending.event(key?)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
