//! The way of a map's chunks into the pool, and of their answers back. What is to be done says the
//! [`roster`](super::roster).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::book::{Batch, Measure};
use super::roster::{Duty, Ending, Roster};
use crate::pool::driver::Driver;
use crate::pool::driver::parts::Tally;
use crate::pool::error::TaskError;
use crate::pool::job::{Break, ChunkOwner, Client, Deadline, Job, News};
use crate::pool::reply::Raw;
use crate::pool::scheduler::Event;
use crate::pool::task::Options;
use crate::pool::trace::Origin;
use crate::sys::clock::Moment;
use crate::task::identity::Target;
use crate::wire::packed::Packed;

/// One map at work.
pub(super) struct Crew {
    driver: Arc<Driver>,
    target: Target,
    options: Options,
    deadline: Option<Deadline>,
    /// Where the map was asked for.
    origin: Origin,
    state: Mutex<State>,
}

struct State {
    roster: Roster,
    reader: Option<Waker>,
    /// When somebody will look whether a pause is over.
    alarm: Option<Moment>,
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
            origin: Origin::here(),
            state: Mutex::new(State {
                roster: Roster::new(measure),
                reader: None,
                alarm: None,
            }),
        })
    }

    /// How many items may be taken now.
    pub(super) fn room(&self) -> usize {
        self.lock().roster.book().room()
    }

    /// How many items have been taken whose results have not been given.
    pub(super) fn unread(&self) -> usize {
        self.lock().roster.book().unread()
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
    pub(super) fn take(self: &Arc<Self>, items: Vec<Result<Packed, TaskError>>, exhausted: bool) {
        if items.iter().any(Result::is_ok) {
            let hold = self.lock().roster.prepare();
            if hold {
                self.driver.tell(Event::Hold);
            }
        }
        self.lock().roster.take(items, exhausted);
        self.send_out();
    }

    /// Submits chunks as long as there should be more of them out.
    fn send_out(self: &Arc<Self>) {
        self.resume();
        loop {
            let duty = self.duty();
            match duty {
                Some(Duty::Submit(batch)) => self.submit(batch),
                Some(Duty::Unhold) => return self.driver.tell(Event::Unhold),
                None => return,
            }
        }
    }

    fn duty(&self) -> Option<Duty> {
        let workers = self.driver.workers();
        let roster = &mut self.lock().roster;
        roster.book().resize(workers);
        roster.duty()
    }

    /// Lets items go out again whose pauses are over, and has somebody come for the others.
    fn resume(self: &Arc<Self>) {
        let mut state = self.lock();
        let book = state.roster.book();
        if !book.pauses() {
            return;
        }
        let now = Moment::now();
        let deadline = self.deadline.map(|deadline| deadline.at);
        let hurried = self.driver.is_dropping() || deadline.is_some_and(|at| at <= now);
        let next = book.resume(if hurried { Moment(u64::MAX) } else { now });
        let next = next.map(|at| deadline.map_or(at, |deadline| at.min(deadline)));
        let Some(at) = next.filter(|at| state.alarm.is_none_or(|alarm| *at < alarm)) else {
            return;
        };
        state.alarm = Some(at);
        drop(state);
        // A map that nobody reads or works for any more is not kept for this.
        let crew = Arc::downgrade(self);
        self.driver.at(at, move || {
            if let Some(crew) = crew.upgrade() {
                crew.lock().alarm.take_if(|alarm| *alarm <= at);
                crew.send_out();
            }
        });
    }

    fn submit(self: &Arc<Self>, batch: Batch) {
        let id = batch.id;
        // Refused here: what the pool refuses comes back to us from within the call.
        let failures = batch.failures.clone();
        let late = self
            .deadline
            .filter(|deadline| deadline.at <= Moment::now());
        if let Some(deadline) = late {
            self.note(id, vec![refused(deadline.missed().after(failures))]);
            return;
        }
        match self.driver.submit(self.job(batch)) {
            Ok(key) => {
                let event = self.lock().roster.submitted(id, key);
                event.into_iter().for_each(|event| self.driver.tell(event));
            }
            Err(error) => {
                self.note(id, vec![refused(error.after(failures))]);
            }
        }
    }

    fn job(self: &Arc<Self>, batch: Batch) -> Job {
        let owner = Arc::new(Chunk {
            crew: self.clone(),
            id: batch.id,
        });
        let tally = Tally::new(batch.count);
        let client = Client::Chunk { tally, owner };
        let options = &self.options;
        let mut job = options.job(
            &self.driver,
            &self.origin,
            self.target,
            batch.bytes,
            self.deadline,
            client,
        );
        for failure in batch.failures {
            job.try_again(failure);
            // It has been started in time once.
            job.terms_mut().queue_timeout = None;
        }
        job
    }

    /// Takes in what has become known of a chunk. True if there may be more to send out.
    fn note(&self, id: u64, news: Vec<News>) -> bool {
        let mut state = self.lock();
        let more = state.roster.hear(id, news);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        more
    }

    /// The next result and its item's number; `None` at the end.
    pub(super) fn poll_give(&self, context: &mut Context<'_>) -> Poll<Option<(u64, Raw)>> {
        let mut state = self.lock();
        if let Some(given) = state.roster.give() {
            return Poll::Ready(Some(given));
        }
        if state.roster.book().is_finished() {
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
        let events = self.lock().roster.abandon(ending);
        events.into_iter().for_each(|event| self.driver.tell(event));
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
        unbegun: 0..u32::MAX,
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
        if self.crew.note(self.id, news) {
            self.crew.send_out();
        }
    }
}
