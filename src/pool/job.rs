//! A call in the pool, or a chunk of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::driver::parts::Tally;
use super::error::{Kind, TaskError};
use super::reply::{Answer, Raw};
use super::scheduler::Retry;
use super::trace::CallTrace;
use super::updates::Listener;
use crate::sys::clock::Moment;
use crate::task::head::CallHead;
use crate::wire::packed::Packed;

/// What the scheduler carries along unread: what the worker gets, and who gets the answer.
pub(crate) struct Job {
    /// The call's particulars, encoded.
    pub(crate) head: Packed,
    /// Its argument, encoded; of a chunk, its items.
    pub(crate) argument: Packed,
    /// Which function it calls.
    pub(crate) kind: u64,
    /// That is an async one.
    pub(crate) is_async: bool,
    /// When it was accepted.
    pub(crate) since: Moment,
    /// Who is to be told.
    pub(crate) client: Client,
    /// Its part of the room in the queue, given back with it.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// Its span, if anybody wants to see it.
    pub(crate) trace: CallTrace,
    /// What else was agreed of it, if anything was.
    terms: Option<Box<Terms>>,
}

/// What is agreed of some calls beside that they are run once, some time.
pub(crate) struct Terms {
    /// How long it may run; of a chunk, each item.
    pub(crate) timeout: Option<Duration>,
    /// How long it should run, and is asked to come to its end after that.
    pub(crate) soft_timeout: Option<Duration>,
    /// How long it may wait.
    pub(crate) queue_timeout: Option<Duration>,
    /// When it must be over.
    pub(crate) deadline: Option<Deadline>,
    /// Which of its failures, or of those of its items, are no end.
    pub(crate) retry: Retry,
    /// Those failures, so far. A chunk with any has one item.
    pub(crate) failures: Vec<TaskError>,
    /// Jobs of a higher one go first.
    pub(crate) priority: i32,
    /// Jobs of one key go to one worker while it lives.
    pub(crate) key: Option<u64>,
    /// Who wants to hear what it says while it runs.
    pub(crate) listener: Option<Listener>,
}

impl Terms {
    /// What is agreed of a call of which nothing was said.
    pub(crate) const PLAIN: Self = Self {
        timeout: None,
        soft_timeout: None,
        queue_timeout: None,
        deadline: None,
        retry: Retry::NEVER,
        failures: Vec::new(),
        priority: 0,
        key: None,
        listener: None,
    };

    fn are_plain(&self) -> bool {
        let limits = self.timeout.or(self.soft_timeout).or(self.queue_timeout);
        let limited = limits.is_some() || self.deadline.is_some();
        let ranked = self.priority != 0 || self.key.is_some();
        let repeated = self.retry.is_any() || !self.failures.is_empty();
        !(limited || ranked || repeated || self.listener.is_some())
    }
}

/// The terms of every plain job.
static PLAIN: Terms = Terms::PLAIN;

impl Job {
    /// A call on these terms, or a chunk; it is not accepted yet.
    pub(crate) fn new(
        head: Packed,
        argument: Packed,
        kind: u64,
        client: Client,
        trace: CallTrace,
        terms: Terms,
    ) -> Self {
        Self {
            head,
            argument,
            kind,
            is_async: false,
            since: Moment::default(),
            client,
            permit: None,
            trace,
            terms: (!terms.are_plain()).then(|| Box::new(terms)),
        }
    }

    /// A room for async calls.
    pub(crate) fn room() -> Self {
        let nothing = || Packed::copy_of(&[]);
        let (client, trace) = (Client::Room, CallTrace::default());
        Self::new(nothing(), nothing(), 0, client, trace, Terms::PLAIN)
    }

    /// The same with its part of the room in the queue.
    pub(crate) fn admitted(mut self, permit: Option<OwnedSemaphorePermit>) -> Self {
        self.permit = permit;
        self
    }

    /// What was agreed of it.
    pub(crate) fn terms(&self) -> &Terms {
        self.terms.as_deref().unwrap_or(&PLAIN)
    }

    /// What was agreed of it, to be changed.
    pub(crate) fn terms_mut(&mut self) -> &mut Terms {
        self.terms.get_or_insert_with(|| Box::new(Terms::PLAIN))
    }

    /// The name that its caller has given it.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        CallHead::read(&self.head)?.0.labels.name().map(Arc::from)
    }

    /// How many times it was started, as long as it runs.
    pub(crate) fn attempt(&self) -> u32 {
        u32::try_from(self.terms().failures.len()).map_or(u32::MAX, |failures| failures + 1)
    }

    /// It will be run again after this.
    pub(crate) fn try_again(&mut self, failure: TaskError) {
        self.terms_mut().failures.push(failure);
        if let Some((head, _)) = CallHead::read(&self.head) {
            let attempt = head.attempt.saturating_add(1);
            self.head = CallHead { attempt, ..head }.pack();
        }
    }

    /// How it has ended, at last.
    pub(crate) fn conclude(&mut self, raw: Raw) -> Raw {
        match raw {
            Raw::Failed(error) => match &mut self.terms {
                Some(terms) => Raw::Failed(error.after(std::mem::take(&mut terms.failures))),
                None => Raw::Failed(error),
            },
            returned => returned,
        }
    }
}

/// The pause before another run of what has failed like this, after so many failures before it, if
/// there may be another.
pub(crate) fn again(retry: Retry, failure: &TaskError, before: &[TaskError]) -> Option<Duration> {
    let before = before.len() as u32;
    let again = retry.allows(failure.failure()?, before);
    again.then(|| retry.pause(before + 1))
}

/// A limit on waiting and running together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// How long that was, from the beginning.
    pub(crate) limit: Duration,
    /// When it passes.
    pub(crate) at: Moment,
}

impl Deadline {
    /// A deadline for what begins now.
    pub(crate) fn after(limit: Duration) -> Self {
        let at = Moment::now() + limit;
        Self { limit, at }
    }

    /// What is said of a call that has not been started by then.
    pub(crate) fn missed(self) -> TaskError {
        TaskError::new(Kind::Expired {
            limit: self.limit,
            started: false,
        })
    }
}

/// Who is to be told of a job.
pub(crate) enum Client {
    /// One caller, once.
    Call(Arc<dyn Answer>),
    /// Who has put many items into one job.
    Chunk {
        /// How many there are, and how many have been answered.
        tally: Tally,
        /// Who is to be told.
        owner: Arc<dyn ChunkOwner>,
    },
    /// Nobody: the job is a room, in which async calls are run.
    Room,
}

impl Client {
    /// How many items there are; zero for a call that is no chunk.
    pub(crate) fn items(&self) -> u32 {
        match self {
            Self::Call(_) | Self::Room => 0,
            Self::Chunk { tally, .. } => tally.items(),
        }
    }
}

/// Somebody who is to be told what becomes of a chunk. May be told by several threads, so what
/// has come first may be told last; no two pieces of news contradict each other.
pub(crate) trait ChunkOwner: Send + Sync {
    /// Tells.
    fn hear(self: Arc<Self>, news: Vec<News>);
}

/// Something about a chunk. Items are named by their places in it.
#[derive(Debug)]
pub(crate) enum News {
    /// An item has come to its end; it may have been lost with its worker.
    Item(u32, Raw),
    /// An item has failed, and is to be run again.
    Again(u32, Relapse),
    /// The run of an item that was ended is over for certain.
    Settled,
    /// Nothing behind this item will be run by that worker.
    Cut(u32),
    /// So many items have come to their ends, and no more will; it took so long.
    Over(u32, Duration),
    /// The job has ended otherwise.
    Broke(Break),
}

/// An item that is to be run again.
#[derive(Debug)]
pub(crate) struct Relapse {
    /// How it has failed.
    pub(crate) failure: TaskError,
    /// How long to wait before the next run.
    pub(crate) pause: Duration,
    /// Whether this run is over for certain; else that is told by [`News::Settled`].
    pub(crate) settled: bool,
}

impl Relapse {
    /// What becomes of an item that has failed like this after those failures; an error is its end,
    /// with its history.
    pub(crate) fn of(
        retry: Retry,
        failure: TaskError,
        before: &[TaskError],
        settled: bool,
    ) -> Result<Self, TaskError> {
        match again(retry, &failure, before) {
            Some(pause) => Ok(Self {
                failure,
                pause,
                settled,
            }),
            None => Err(failure.after(before.to_vec())),
        }
    }
}

/// How a chunk ended that did not come to its own end.
#[derive(Debug)]
pub(crate) struct Break {
    /// The item that was running, and what became of it.
    pub(crate) victim: Option<(u32, TaskError)>,
    /// These items were not begun; what was cut off before is not among them.
    pub(crate) unbegun: std::ops::Range<u32>,
    /// What becomes of those; `None` if they may be run elsewhere.
    pub(crate) rest: Option<TaskError>,
}
