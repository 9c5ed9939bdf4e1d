//! What a task says while it runs, as its caller has it: a stream of values.
//!
//! Between the pool and the stream is a mailbox of bytes. The pool puts updates in as they arrive,
//! under its lock, which costs no more than that; they are decoded where they are taken out. What
//! was taken out is granted to the worker again, by way of its page.
//!
//! ```text
//!   task: send ──▶ outbox ──▶ pipe ──▶ pool: put ──▶ mailbox ──▶ poll_next: take, decode
//!           ▲                                                      │
//!           └────────────────── page: credit ◀─────────────────────┘
//! ```
//!
//! A task on a thread of this process puts its updates into the mailbox by itself, and sleeps on its
//! thread's bell while there is no room.
//!
//! The worker is not believed: one that sends more than it was granted is ended for that, so the
//! mailbox holds no more than its size whoever is at the other end.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::stream::{FusedStream, Stream};

use super::driver::Driver;
use super::error::{Kind, TaskError};
use crate::supervisor::slot::Slot;
use crate::sys::blocking;
use crate::task::cancel::Asked;
use crate::task::progress::{Admission, Hearing};
use crate::task::{DecodeError, panic};
use crate::wire::Ticket;
use crate::wire::packed::Packed;
use crate::wire::page::{Count, Credit};

/// What happens when a task sends an update and as many wait for their reader as may. Given to
/// [`ProgressTask::when_full`](crate::ProgressTask::when_full).
///
/// ```
/// use futures::StreamExt;
/// use procpool::WhenFull;
/// use procpool::task::Progress;
///
/// fn count(to: u32, progress: Progress<u32>) {
///     for n in 1..=to {
///         progress.send(&n).expect("a number can be sent");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// // Only the latest is of interest.
/// let count = pool.task_with_progress(count).buffer(1).when_full(WhenFull::DropOldest);
/// let (done, mut updates) = count.submit(1_000);
/// done.await?;
/// assert_eq!(updates.next().await.unwrap()?, 1_000);
/// assert!(updates.next().await.is_none());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The task waits until the reader has taken one. No update is lost, and the reader decides how
    /// fast the task is. The default.
    ///
    /// In a pool without workers a task runs to its end before anybody can read; there all that it
    /// sends is kept.
    #[default]
    Wait,
    /// The oldest of those that wait is dropped. The task never waits for the reader, and the reader
    /// finds the newest. For a display of how far a task has come.
    ///
    /// Every update is sent all the same, and dropped here: a task that sends thousands in a
    /// millisecond costs this process something, too.
    DropOldest,
}

/// The updates of a running task, decoded one by one: a stream that ends when the task is over. Got
/// from [`submit_with_progress`](crate::ProcessPool::submit_with_progress).
///
/// All that the task has sent before its end comes before the end of the stream, and so does what
/// it has sent before its worker died. How the task ended its [handle](crate::TaskHandle) says, and
/// only that. An update that cannot be decoded is an error in its place, and others follow it.
///
/// Of a task that is [run again](crate::Task::retry) the updates of all runs come, in their order,
/// each run's from its beginning. To tell them apart the task can send its
/// [`attempt`](crate::task::TaskContext::attempt).
///
/// # A stream that nobody reads
///
/// Where [`WhenFull::Wait`] holds, a task waits for its reader, and with it whoever awaits its
/// handle. So read the stream to its end, or drop it, before or while the handle is awaited.
///
/// # Drop
///
/// Dropping it costs the task nothing: from then on what it sends is not sent, and a task that
/// waits for its reader goes on.
///
/// # Cancel safety
///
/// Cancel safe: to stop waiting for the next update loses none.
///
/// ```
/// use futures::StreamExt;
/// use procpool::task::Progress;
///
/// /// Sends each part as soon as it is there.
/// fn primes(below: u32, found: Progress<u32>) -> usize {
///     let is_prime = |n: &u32| (2..*n).all(|divisor| n % divisor != 0);
///     let primes = (2..below).filter(is_prime);
///     primes.inspect(|prime| assert!(found.send(prime).is_ok())).count()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let (count, mut found) = pool.submit_with_progress(primes, 12);
/// let mut primes = Vec::new();
/// while let Some(prime) = found.next().await {
///     primes.push(prime?);
/// }
/// assert_eq!(primes, [2, 3, 5, 7, 11]);
/// assert_eq!(count.await?, 5);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a task may wait for the reader of its updates; drop them where nobody reads"]
pub struct Updates<P> {
    mailbox: Arc<Mailbox>,
    decode: fn(&[u8]) -> Result<P, DecodeError>,
    /// Who has the task; `None` if it was refused, or if nobody need be driven for it to go on.
    driver: Option<Arc<Driver>>,
    over: bool,
}

/// Where updates wait for their reader, still encoded.
#[derive(Debug)]
pub(crate) struct Mailbox {
    size: usize,
    when_full: WhenFull,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    updates: VecDeque<Packed>,
    sending: Option<Sending>,
    /// The thread of this process that runs the task, where it may sleep until there is room.
    thread: Option<Arc<Asked>>,
    /// The task is over.
    over: bool,
    /// Nobody reads any more.
    closed: bool,
    dropped: u64,
    reader: Option<Waker>,
}

/// The run of the task that may send.
#[derive(Debug)]
struct Sending {
    /// Not kept alive by whoever forgets to read.
    slot: Weak<Slot>,
    ticket: Ticket,
    /// How many updates have come of it.
    arrived: Count,
    /// What the page says.
    credit: Credit,
}

/// The job's hold on a mailbox. When the job is over and this is dropped, the stream ends.
#[derive(Debug)]
pub(crate) struct Listener(Arc<Mailbox>);

impl Mailbox {
    /// A mailbox, and its two ends.
    pub(crate) fn new(size: usize, when_full: WhenFull) -> (Listener, Arc<Self>) {
        let mailbox = Arc::new(Self {
            size,
            when_full,
            state: Mutex::new(State {
                updates: VecDeque::new(),
                sending: None,
                thread: None,
                over: false,
                closed: false,
                dropped: 0,
                reader: None,
            }),
        });
        (Listener(mailbox.clone()), mailbox)
    }

    /// What a run may send of which so many updates have come.
    fn credit(&self, state: &State, arrived: Count) -> Credit {
        match self.when_full {
            _ if state.closed => Credit::Closed,
            WhenFull::DropOldest => Credit::Unlimited,
            WhenFull::Wait => Credit::Until(arrived.plus(self.size - state.updates.len())),
        }
    }

    /// What becomes of an update of a task that is run in this process.
    fn admission(&self, state: &State) -> Admission {
        let full = state.updates.len() >= self.size && self.when_full == WhenFull::Wait;
        if state.closed || state.over {
            Admission::Closed
        } else if full && state.thread.is_some() {
            Admission::Full
        } else {
            Admission::Room
        }
    }

    /// Tells the worker what it may send by now.
    fn grant(&self, state: &mut State) {
        let Some(arrived) = state.sending.as_ref().map(|sending| sending.arrived) else {
            return;
        };
        let credit = self.credit(state, arrived);
        let Some(sending) = state.sending.as_mut() else {
            return;
        };
        if sending.credit != credit {
            let old = std::mem::replace(&mut sending.credit, credit);
            if let Some(slot) = sending.slot.upgrade() {
                slot.page.change_credit(sending.ticket, old, credit);
            }
        }
    }

    /// Takes the oldest update out.
    fn take(&self, reader: &Waker) -> Poll<Option<Packed>> {
        let mut state = self.lock();
        if let Some(update) = state.updates.pop_front() {
            self.grant(&mut state);
            let thread = state.thread.clone();
            drop(state);
            // Who waits there looks into the mailbox, so its lock must be free.
            thread.inspect(|thread| thread.look_again());
            return Poll::Ready(Some(update));
        }
        if state.over {
            return Poll::Ready(None);
        }
        let old = state.reader.replace(reader.clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Nobody will take anything out.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let unread = std::mem::take(&mut state.updates);
        let reader = state.reader.take();
        self.grant(&mut state);
        let thread = state.thread.take();
        drop(state);
        thread.inspect(|thread| thread.look_again());
        drop((unread, reader));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// The job is sent to that worker, and may send updates from there.
    pub(super) fn sent_to(&self, slot: &Arc<Slot>, ticket: Ticket) {
        let mut state = self.0.lock();
        let arrived = Count::default();
        let credit = self.0.credit(&state, arrived);
        slot.page.grant(ticket, credit);
        state.sending = Some(Sending {
            slot: Arc::downgrade(slot),
            ticket,
            arrived,
            credit,
        });
    }

    /// The job is run in the place of its caller.
    pub(super) fn here(&self, max_frame: usize) -> Arc<dyn Hearing> {
        let mailbox = self.0.clone();
        Arc::new(Here { mailbox, max_frame })
    }

    /// The job is run on a thread of this process, which may sleep there.
    pub(crate) fn on_thread(&self, thread: &Arc<Asked>) -> Arc<dyn Hearing> {
        self.0.lock().thread = Some(thread.clone());
        self.here(usize::MAX)
    }

    /// An update has come; returns who is to be told of it.
    ///
    /// # Errors
    ///
    /// When it is none that this worker may send.
    pub(super) fn put(&self, ticket: Ticket, update: Packed) -> Result<Option<Waker>, String> {
        let mut state = self.0.lock();
        let Some(sending) = state.sending.as_mut().filter(|it| it.ticket == ticket) else {
            return Err(format!("an update under a ticket of the past: {ticket:?}"));
        };
        if sending.credit == Credit::Until(sending.arrived) {
            return Err(format!("more updates than it may send: {ticket:?}"));
        }
        sending.arrived = sending.arrived.plus(1);
        if state.closed {
            // It was on the way.
            return Ok(None);
        }
        if state.updates.len() == self.0.size {
            state.updates.pop_front();
            state.dropped += 1;
        }
        state.updates.push_back(update);
        Ok(state.reader.take())
    }
}

/// The mailbox of a task that is run in this process. One in the place of its caller never finds it
/// full: the caller cannot read meanwhile, and to wait for a reader would be to wait for oneself.
struct Here {
    mailbox: Arc<Mailbox>,
    max_frame: usize,
}

impl Hearing for Here {
    fn hear(&self, update: &[u8]) -> Admission {
        let mut state = self.mailbox.lock();
        let admission = self.mailbox.admission(&state);
        if admission != Admission::Room {
            return admission;
        }
        let drops = self.mailbox.when_full == WhenFull::DropOldest;
        if drops && state.updates.len() == self.mailbox.size {
            state.updates.pop_front();
            state.dropped += 1;
        }
        state.updates.push_back(Packed::copy_of(update));
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        admission
    }

    fn admission(&self) -> Admission {
        self.mailbox.admission(&self.mailbox.lock())
    }

    fn max_frame(&self) -> usize {
        self.max_frame
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.over = true;
        state.sending = None;
        let thread = state.thread.take();
        let reader = state.reader.take();
        drop(state);
        thread.inspect(|thread| thread.look_again());
        reader.into_iter().for_each(Waker::wake);
    }
}

impl<P> Updates<P> {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        decode: fn(&[u8]) -> Result<P, DecodeError>,
        driver: Option<Arc<Driver>>,
    ) -> Self {
        Self {
            mailbox,
            decode,
            driver,
            over: false,
        }
    }

    /// Returns how many updates have been dropped so far because this reader was too slow: none,
    /// unless [`WhenFull::DropOldest`] holds.
    pub fn dropped(&self) -> u64 {
        self.mailbox.lock().dropped
    }

    /// Waits for the next update on a thread that may be blocked; `None` at the end of the stream.
    ///
    /// Works with and without a runtime, as [`blocking_wait`](crate::TaskHandle::blocking_wait)
    /// does. In async code await [`next`](futures::StreamExt::next).
    ///
    /// # Errors
    ///
    /// When this update cannot be decoded; others may follow.
    ///
    /// ```
    /// use procpool::task::Progress;
    ///
    /// fn count(to: u32, progress: Progress<u32>) {
    ///     for n in 1..=to {
    ///         progress.send(&n).expect("a number can be sent");
    ///     }
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pool = procpool::ProcessPool::builder().workers(1).build()?;
    ///     let (mut done, mut updates) = pool.submit_with_progress(count, 3);
    ///     while let Some(n) = updates.blocking_next() {
    ///         println!("{}", n?);
    ///     }
    ///     done.blocking_wait(None)?;
    ///     Ok(())
    /// }
    /// ```
    pub fn blocking_next(&mut self) -> Option<Result<P, TaskError>> {
        let driver = self.driver.clone();
        let help = || driver.iter().for_each(|driver| driver.help());
        let next = blocking::wait(
            None,
            |context| Pin::new(&mut *self).poll_next(context),
            help,
        );
        next.flatten()
    }

    /// Decodes an update, in code of the user's that may panic.
    fn decode(&self, update: &[u8]) -> Result<P, TaskError> {
        let decoded = panic::catch(|| (self.decode)(update));
        let decoded = decoded.unwrap_or_else(|panic| Err(DecodeError::panicked::<P>(&panic)));
        decoded.map_err(|error| TaskError::new(Kind::DecodeUpdate(error)))
    }
}

impl<P> Stream for Updates<P> {
    type Item = Result<P, TaskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        match self.mailbox.take(context.waker()) {
            Poll::Ready(Some(update)) => Poll::Ready(Some(self.decode(&update))),
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                if let Some(driver) = &self.driver {
                    driver.awaited_here();
                }
                Poll::Pending
            }
        }
    }
}

impl<P> FusedStream for Updates<P> {
    fn is_terminated(&self) -> bool {
        self.over
    }
}

// Nothing in it is pinned: updates are decoded as they are taken out.
impl<P> Unpin for Updates<P> {}

impl<P> Drop for Updates<P> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<P> fmt::Debug for Updates<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.mailbox.lock();
        f.debug_struct("Updates")
            .field("waiting", &state.updates.len())
            .field("dropped", &state.dropped)
            .field("over", &state.over)
            .finish_non_exhaustive()
    }
}
