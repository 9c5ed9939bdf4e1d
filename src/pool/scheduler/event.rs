//! What goes into the scheduler and what comes out: plain data, no behaviour.

use std::time::Duration;

use super::retry::Retry;
use crate::sys::clock::Moment;
pub(crate) use crate::wire::Ticket;
pub(crate) use crate::wire::page::Request;

/// Names a job for as long as it is unfinished; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(super) index: usize,
    pub(super) number: u64,
    /// Which room it is, from one, since several may be opened in the name of one call; zero for a
    /// call.
    pub(super) room: u64,
}

impl JobKey {
    /// The key of a job in a pool that knows its jobs by their numbers alone.
    pub(crate) fn of_number(number: u64) -> Self {
        Self {
            index: 0,
            number,
            room: 0,
        }
    }

    /// The job's number, counted from one in its pool: what users see as the call's id.
    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

/// Names one worker process; a replacement has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerId {
    /// The place it fills, from zero.
    pub(crate) place: usize,
    /// How many workers the pool had started before it.
    pub(crate) number: u64,
}

/// What the scheduler must know of a job; everything else is attached to it unread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JobSpec {
    /// Jobs of one kind are expected to take as long as each other.
    pub(crate) kind: u64,
    /// The size of the encoded call.
    pub(crate) bytes: usize,
    /// How long it may run, from its true start.
    pub(crate) timeout: Option<Duration>,
    /// How long it should run, and is asked to come to its end after that.
    pub(crate) soft_timeout: Option<Duration>,
    /// How long it may wait for its start.
    pub(crate) queue_timeout: Option<Duration>,
    /// When it must be over, waiting and running together.
    pub(crate) deadline: Option<Moment>,
    /// Which of its failures are no end; of a chunk, none: its items are repeated in others.
    pub(crate) retry: Retry,
    /// Jobs of a higher one go first.
    pub(crate) priority: i32,
    /// Jobs of one key go to one worker while it lives.
    pub(crate) key: Option<u64>,
    /// How many items it carries, each of which runs as long as others of its kind; zero for a
    /// call that is no chunk.
    pub(crate) items: u32,
    /// It is a room for async calls, opened in the name of the call with this number: how long it
    /// takes says nothing of others, and it does not count as a task.
    pub(crate) room: Option<u64>,
    /// Its number, or that of its first item, if it has one already.
    pub(crate) number: Option<u64>,
}

impl JobSpec {
    /// Whether it has no limits, no rank and no key, and is run once.
    pub(super) fn is_plain(&self) -> bool {
        let limits = self.timeout.or(self.soft_timeout).or(self.queue_timeout);
        let ranked = self.priority != 0 || self.key.is_some();
        limits.is_none() && self.deadline.is_none() && !self.retry.is_any() && !ranked
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A worker said that it is ready for calls.
    Ready(WorkerId),
    /// A worker ended, or could not be made, before it was ready.
    StartFailed(WorkerId, StartFailure),
    /// The answer to [`Action::TakeBack`]: whether the call had not been started.
    TakenBack(WorkerId, Ticket, bool),
    /// The answer to [`Action::End`]: whether the call was still running.
    Ended(WorkerId, Ticket, bool),
    /// The answer to [`Action::Probe`]: how far the call has come.
    Probed(WorkerId, Ticket, Progress),
    /// The answer to [`Action::Cut`] where there was nothing to cut: the chunk has not been started.
    Uncut(WorkerId, Ticket),
    /// The worker has passed by a call that was taken back or ended.
    Acknowledged(WorkerId, Ticket),
    /// A ready worker is dead, and every response it left has been delivered.
    Exited(WorkerId),
    /// The worker's fork server is gone: it may finish what it runs, no more.
    Orphaned(WorkerId),
    /// The worker runs nothing more, whatever it holds, and is to be replaced.
    Resigned(WorkerId),
    /// At the time of this event the worker used so many bytes of memory.
    Measured(WorkerId, u64),
    /// The worker broke the protocol: nothing that it says can be believed any more.
    Condemned(WorkerId),
    /// Take the job back if it has not been started.
    Cancel(JobKey),
    /// End the job even while it runs.
    Abort(JobKey),
    /// Take the job back if it has not been started, else ask it to come to its end.
    Request(JobKey),
    /// Somebody has accepted work and not submitted it yet.
    Hold,
    /// They have submitted or dropped it.
    Unhold,
    /// There are async calls now, or none any more: they are waited for, however the pool ends.
    AsyncCalls(bool),
    /// A job is over that was run by who submitted it.
    RanInPlace,
    /// No job can be run, and no later try will change that.
    Unfit,
    /// Start every worker there may be.
    StartAll,
    /// There may be so many workers, at least one.
    Resize(usize),
    /// No new jobs; finish those that are in.
    Close,
    /// No new jobs; drop those that have not been started, finish the others.
    CancelPending,
    /// No new jobs; end everything.
    Terminate,
    /// Time has passed.
    Tick,
}

/// How far a call has come in its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not been started.
    Waiting,
    /// It was started at this moment and runs; of a chunk, the item that was begun last.
    Running(Moment),
    /// The item of a chunk that was begun at this moment is over, and the next was not begun yet.
    Between(Moment),
    /// It is over; its response is on the way.
    Over,
}

/// Why a worker did not become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// The worker itself failed: it exited, was silent, or its initialiser failed.
    Worker,
    /// The system had no room for it (descriptors, processes, memory): worth trying again.
    System,
    /// It can never succeed: the other end is another build.
    Permanent,
}

/// Something to be done, in order, before the scheduler is told anything else.
#[derive(Debug)]
pub(crate) enum Action<T> {
    /// Start a process for this worker; ends in `Ready` or `StartFailed`.
    Start(WorkerId),
    /// Send the job to the worker.
    Assign(WorkerId, Ticket, JobKey),
    /// Swap *waiting* for *taken back* in the page; answered by `TakenBack`.
    TakeBack(WorkerId, Ticket),
    /// Swap *running* for *ended* in the page, if it runs since that moment or before; answered by
    /// `Ended`.
    End(WorkerId, Ticket, Moment),
    /// Ask the call to come to its end, if it runs since that moment or before. How it ends is its
    /// own doing.
    Ask(WorkerId, Ticket, Moment, Request),
    /// Cut the chunk short behind the item that runs, and tell its owner; answered by `Uncut` if it
    /// has not been started.
    Cut(WorkerId, Ticket, JobKey),
    /// Read from the page how far the call has come; answered by `Probed`.
    Probe(WorkerId, Ticket),
    /// Tell that what runs of the job since that moment takes longer than is usual.
    Slow(WorkerId, Ticket, JobKey, Moment),
    /// Send no more and close the request pipe: the worker ends when it has read everything.
    Retire(WorkerId),
    /// Kill the worker's process group, or give up starting it.
    Kill(WorkerId),
    /// Nothing will be asked about this worker again.
    Release(WorkerId),
    /// The job has failed like this and will be run again: note it down, and that its next run
    /// is another attempt.
    Repeat(JobKey, Outcome),
    /// Answer the job's caller. The sending that has ended like this, if it was sent.
    Resolve(Box<T>, JobKey, Outcome, Option<(WorkerId, Ticket)>),
    /// No new job is accepted from here on.
    Closed,
    /// What has not been begun ends like this from here on, and what has as
    /// [`of_begun`](Outcome::of_begun) says: to be told to the async calls.
    Over(Outcome),
    /// Everything is over: no job and no worker is left, and none will come.
    Finished,
}

/// How a job ended, other than by a response from its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its worker died while it ran.
    Lost(WorkerId),
    /// It was cancelled before it was started.
    Cancelled,
    /// It was aborted; true if it had been started.
    Aborted(bool),
    /// It ran longer than it may.
    RanTooLong,
    /// Its worker used so many bytes of memory while it ran, more than so many.
    GrewTooLarge(u64, u64),
    /// It waited longer than it may.
    WaitedTooLong,
    /// Its deadline passed; true if it had been started.
    Expired(bool),
    /// The pool was shut down; true if it had been started.
    ShutDown(bool),
    /// The pool is broken: it cannot start workers, or lost this one and must not replace it; true
    /// if it had been started.
    Broken(Option<WorkerId>, bool),
}

impl Outcome {
    /// What becomes of the items of a chunk that ends like this before they are begun; `None` if
    /// they may be run elsewhere.
    pub(crate) fn of_unbegun(self) -> Option<Self> {
        match self {
            Self::Lost(_) | Self::RanTooLong | Self::GrewTooLarge(..) => None,
            Self::Aborted(_) => Some(Self::Aborted(false)),
            Self::ShutDown(_) => Some(Self::ShutDown(false)),
            Self::Expired(_) => Some(Self::Expired(false)),
            Self::Broken(worker, _) => Some(Self::Broken(worker, false)),
            Self::Cancelled | Self::WaitedTooLong => Some(self),
        }
    }

    /// What becomes of a call that has been begun when all that has not ends like this; `None` if it
    /// is let finish.
    pub(crate) fn of_begun(self) -> Option<Self> {
        match self {
            Self::ShutDown(_) => Some(Self::ShutDown(true)),
            Self::Broken(Some(worker), _) => Some(Self::Broken(Some(worker), true)),
            _ => None,
        }
    }
}

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The pool is closed.
    Closed,
    /// It was accepted, and then everything that had not been started was cancelled.
    Dropped,
    /// The pool is broken, by the loss of this worker or because none can be started.
    Broken(Option<WorkerId>),
}

/// What happens when a worker is lost.
///
/// ```
/// use procpool::{ProcessPool, Restart};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPool::builder().workers(1).restart(Restart::Never).build()?;
/// let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
/// assert!(crash.await.unwrap_err().is_broken());
/// assert!(pool.submit(|n: u64| n + 1, 1).await.unwrap_err().is_broken());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// The worker is replaced, and only the call that was running in it fails. The default.
    #[default]
    OnFailure,
    /// The pool is broken at the first loss, as CPython's `ProcessPoolExecutor` is: every
    /// unfinished call fails and later ones are refused.
    Never,
}
