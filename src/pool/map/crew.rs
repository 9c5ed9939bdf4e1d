//! What a `map` and its chunks share: the books, and the way into the pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::book::{Batch, Book, Measure};
use crate::pool::driver::Driver;
use crate::pool::error::TaskError;
use crate::pool::job::{Break, ChunkOwner, Client, Deadline, Job, News};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey, Retry};
use crate::pool::task::Options;
use crate::sys::clock::Moment;
use crate::task::head::CallHead;
use crate::task::identity::Target;
use crate::wire::packed::Packed;

/// One map at work.
pub(super) struct Crew {
    driver: Arc<Driver>,
    target: Target,
    options: Options,
    deadline: Option<Deadline>,
    state: Mutex<State>,
}

struct State {
    book: Book,
    /// The chunks that are out and not over, by their names in the book.
    out: Vec<(u64, Option<JobKey>)>,
    reader: Option<Waker>,
    /// The pool has been told that we have taken work which we have not submitted.
    holding: bool,
    /// What is to become of everything, since nobody reads any more.
    abandoned: Option<Ending>,
}

/// How a map ends that nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
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

impl Crew {
    pub(super) fn new(
        driver: Arc<Driver>,
        target: Target,
        options: Options,
        measure: Measure,
    ) -> Arc<Self> {
        Arc::new(Self {
            driver,
            target,
            deadline: options.deadline.map(Deadline::after),
            options,
            state: Mutex::new(State {
                book: Book::new(measure),
                out: Vec::new(),
                reader: None,
                holding: false,
                abandoned: None,
            }),
        })
    }

    /// How many items may be taken now.
    pub(super) fn room(&self) -> usize {
        self.lock().book.room()
    }

    /// Why the pool takes nothing new, if that is so.
    pub(super) fn refusal(&self) -> Option<TaskError> {
        self.driver.refusal()
    }

    /// The longest item that may be sent.
    pub(super) fn max_item(&self) -> usize {
        self.driver.plan.recipe.max_frame
    }

    /// Items have been taken; `exhausted` if there will be no more.
    pub(super) fn take(
        self: &Arc<Self>,
        items: impl IntoIterator<Item = Result<Packed, TaskError>>,
        exhausted: bool,
    ) {
        let mut state = self.lock();
        items.into_iter().for_each(|item| state.book.take(item));
        if exhausted {
            state.book.exhaust();
        }
        // Said before anything is submitted: a pool that is closed meanwhile waits for us.
        let hold = state.book.is_at_work() && !std::mem::replace(&mut state.holding, true);
        drop(state);
        if hold {
            self.driver.tell(Event::Hold);
        }
        self.send_out();
    }

    /// Submits chunks as long as there should be more of them out.
    fn send_out(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some(batch) = state.book.next_batch() else {
                let release = state.holding && !state.book.is_at_work();
                state.holding &= !release;
                drop(state);
                if release {
                    self.driver.tell(Event::Unhold);
                }
                return;
            };
            let id = batch.id;
            state.out.push((id, None));
            drop(state);
            // Refused here: what the pool refuses comes back to us from within the call.
            let late = self
                .deadline
                .filter(|deadline| deadline.at <= Moment::now());
            if let Some(deadline) = late {
                self.note(id, vec![refused(deadline.missed())]);
                continue;
            }
            match self.driver.submit(self.job(batch)) {
                Ok(key) => self.submitted(id, key),
                Err(error) => self.note(id, vec![refused(error)]),
            }
        }
    }

    fn job(self: &Arc<Self>, batch: Batch) -> Job {
        let head = CallHead {
            target: self.target,
            attempt: 1,
            items: batch.count,
            deadline: self.deadline.map(|deadline| deadline.at),
            name: self.options.name.as_deref(),
        };
        let owner = Arc::new(Chunk {
            crew: self.clone(),
            id: batch.id,
        });
        Job {
            head: head.pack(),
            argument: Packed::from(batch.bytes),
            kind: self.target.kind(),
            timeout: self.options.timeout.or(self.driver.plan.task_timeout),
            queue_timeout: self.options.queue_timeout,
            deadline: self.deadline,
            retry: Retry::default(),
            failures: Vec::new(),
            priority: self.options.priority,
            key: self.options.key,
            client: Client::Chunk {
                items: batch.count,
                answered: 0,
                owner,
            },
            permit: None,
        }
    }

    /// A chunk has a name in the pool now; it may be over already.
    fn submitted(&self, id: u64, key: JobKey) {
        let mut state = self.lock();
        let known = state.out.iter_mut().find(|(known, _)| *known == id);
        match known {
            Some((_, place)) => *place = Some(key),
            None => {
                let ending = state.abandoned;
                drop(state);
                if let Some(ending) = ending {
                    self.driver.tell(ending.event(key));
                }
            }
        }
    }

    fn note(&self, id: u64, news: Vec<News>) {
        let mut state = self.lock();
        for news in news {
            if matches!(news, News::Over(..) | News::Broke(_)) {
                state.out.retain(|(known, _)| *known != id);
            }
            if state.abandoned.is_none() {
                state.book.hear(id, news);
            }
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The next result; `None` at the end.
    pub(super) fn poll_give(&self, context: &mut Context<'_>) -> Poll<Option<Raw>> {
        let mut state = self.lock();
        if let Some(raw) = state.book.give() {
            return Poll::Ready(Some(raw));
        }
        if state.book.is_finished() {
            return Poll::Ready(None);
        }
        let waker = context.waker();
        if !state
            .reader
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            state.reader = Some(waker.clone());
        }
        drop(state);
        self.driver.awaited_here();
        Poll::Pending
    }

    /// Nobody reads any more.
    pub(super) fn abandon(self: &Arc<Self>, ending: Ending) {
        let mut state = self.lock();
        state.abandoned = Some(ending);
        state.book.abandon();
        let out = std::mem::take(&mut state.out);
        drop(state);
        for key in out.into_iter().filter_map(|(_, key)| key) {
            self.driver.tell(ending.event(key));
        }
        self.send_out();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chunk that the pool would not take: none of it will be run.
fn refused(error: TaskError) -> News {
    News::Broke(Break {
        victim: None,
        unbegun: 0,
        rest: Some(error),
    })
}

/// A chunk that is out, as the pool knows it.
struct Chunk {
    crew: Arc<Crew>,
    id: u64,
}

impl ChunkOwner for Chunk {
    fn hear(self: Arc<Self>, news: Vec<News>) {
        let items_only = news.iter().all(|news| matches!(news, News::Item(..)));
        self.crew.note(self.id, news);
        if !items_only {
            self.crew.send_out();
        }
    }
}
