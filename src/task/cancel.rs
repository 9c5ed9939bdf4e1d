//! How a running task learns that it is to come to its end, and how it waits for that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::place::Place;
use super::waiting::{self, Condition, Until};
use crate::sys::futex::Bell;
use crate::wire::Ticket;
use crate::wire::page::{ControlPage, Request};

/// Tells one run of a task when it is to come to its end. Got from
/// [`TaskContext::cancellation`](super::TaskContext::cancellation).
///
/// It fires when the task is [asked](crate::TaskHandle::request_cancel) to come to its end, when it
/// has run past its [soft limit](crate::Task::soft_timeout), and when it was ended: aborted, past
/// its hard limit, or with the pool. Once fired it stays so. In the first two cases what the task
/// returns is its result, and nothing happens to it if it goes on; in the last its outcome is
/// decided, and its worker is killed at once, or after the pool's
/// [`abort_grace`](crate::ProcessPoolBuilder::abort_grace).
///
/// Cheap to clone; clones may go to other threads and into futures. It also fires when the run is
/// over, so that what a task leaves behind on other threads can end as well.
///
/// The methods are named as those of tokio-util's type of this name.
///
/// ```
/// use std::time::Duration;
///
/// // Looks every minute, and ends within the moment when it is asked to.
/// fn watch_a_directory(_: ()) -> u32 {
///     let stop = procpool::task::current().expect("this runs in a worker").cancellation();
///     let mut looks = 1;
///     while !stop.wait_timeout(Duration::from_secs(60)) {
///         looks += 1;
///     }
///     looks
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let watch = pool.submit(watch_a_directory, ());
/// while !watch.is_running() {
///     tokio::time::sleep(Duration::from_millis(1)).await;
/// }
/// assert!(watch.request_cancel());
/// assert_eq!(watch.await?, 1, "it has ended by itself, and this is its result");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CancellationToken(Source);

/// Where it is told that a run is to end.
#[derive(Clone)]
enum Source {
    /// In a worker process: in its page.
    Page {
        page: Arc<ControlPage>,
        ticket: Ticket,
        item: u32,
    },
    /// On a pool's thread: there, while the task of this number runs.
    Thread { asked: Arc<Asked>, number: u64 },
    /// In the place of its caller.
    Place(Place),
}

/// Why a task is to come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// Its caller has [asked](crate::TaskHandle::request_cancel) for it. What it returns counts.
    Requested,
    /// It has run past its [soft limit](crate::Task::soft_timeout). What it returns counts.
    SoftTimeout,
    /// Its outcome is decided, and nobody waits for it: it was aborted, ran past its hard limit, or
    /// is over.
    Ended,
}

impl From<Request> for CancelReason {
    fn from(request: Request) -> Self {
        match request {
            Request::Caller => Self::Requested,
            Request::SoftLimit => Self::SoftTimeout,
        }
    }
}

impl CancellationToken {
    /// The token of a run in a worker process.
    pub(crate) fn of_page(page: &Arc<ControlPage>, ticket: Ticket, item: u32) -> Self {
        let page = page.clone();
        Self(Source::Page { page, ticket, item })
    }

    /// The token of a run in the place of its caller.
    pub(crate) fn of_place(place: Place) -> Self {
        Self(Source::Place(place))
    }

    /// The token of a task on a pool's thread, which was [begun](Asked::begin) there.
    pub(crate) fn of_thread(asked: Arc<Asked>, number: u64) -> Self {
        Self(Source::Thread { asked, number })
    }

    /// Tells whether the task is to come to its end.
    ///
    /// Two loads from memory, so it can be asked often.
    pub fn is_cancelled(&self) -> bool {
        match &self.0 {
            Source::Page { page, ticket, item } => {
                page.is_ended(*ticket, *item) || page.asked(*ticket, *item).is_some()
            }
            Source::Thread { asked, number } => asked.reason(*number).is_some(),
            Source::Place(place) => place.reason().is_some(),
        }
    }

    /// Tells why the task is to come to its end; `None` while it is not.
    ///
    /// ```
    /// use procpool::task::CancelReason;
    /// use std::time::Duration;
    ///
    /// fn as_much_as_there_is_time_for(_: ()) -> (u64, bool) {
    ///     let stop = procpool::task::current().expect("this runs in a worker").cancellation();
    ///     let mut rounds = 0;
    ///     while !stop.wait_timeout(Duration::from_millis(1)) {
    ///         rounds += 1;
    ///     }
    ///     (rounds, stop.reason() == Some(CancelReason::SoftTimeout))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let task = pool.task(as_much_as_there_is_time_for).soft_timeout(Duration::from_millis(50));
    /// let (rounds, for_the_time) = task.run(()).await?;
    /// assert!(rounds > 0 && for_the_time);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn reason(&self) -> Option<CancelReason> {
        match &self.0 {
            Source::Page { page, ticket, item } => {
                if page.is_ended(*ticket, *item) {
                    return Some(CancelReason::Ended);
                }
                page.asked(*ticket, *item).map(CancelReason::from)
            }
            Source::Thread { asked, number } => asked.reason(*number),
            Source::Place(place) => place.reason(),
        }
    }

    /// Waits until the task is to come to its end. For futures in a task: under `select!`, it ends
    /// whatever else is waited for.
    ///
    /// Needs no runtime of any kind; the first future that waits in a process starts a thread there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: to drop it loses nothing.
    ///
    /// ```
    /// use procpool::task::CancellationToken;
    ///
    /// async fn unless_cancelled(stop: CancellationToken, work: impl Future) -> bool {
    ///     tokio::select! {
    ///         _ = work => true,
    ///         () = stop.cancelled() => false,
    ///     }
    /// }
    /// # let _ = |stop| unless_cancelled(stop, std::future::ready(()));
    /// ```
    pub async fn cancelled(&self) {
        if let Source::Place(place) = &self.0 {
            place.wake_in_time();
        }
        Until::new(self.clone()).await;
    }

    /// Sleeps on this thread for so long, or until the task is to come to its end; tells whether
    /// it is. A `Duration` of any length may be given.
    ///
    /// Whoever asks the task to end, or ends it, wakes it: nothing is polled.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let bell = match &self.0 {
            Source::Page { page, .. } => page.bell(),
            Source::Thread { asked, .. } => asked.bell(),
            Source::Place(place) => return place.wait(deadline),
        };
        bell.wait(deadline, || self.is_cancelled())
    }

    /// Sleeps on this thread until something holds, which is looked at whenever the token's bell
    /// rings. In the place of its caller a task has none, and does not sleep.
    pub(super) fn sleep_until(&self, holds: impl FnMut() -> bool) -> bool {
        let bell = match &self.0 {
            Source::Page { page, .. } => page.bell(),
            Source::Thread { asked, .. } => asked.bell(),
            Source::Place(_) => return false,
        };
        bell.wait(None, holds)
    }

    /// The page that tells, and which call is meant there.
    pub(super) fn page(&self) -> Option<(&Arc<ControlPage>, Ticket)> {
        match &self.0 {
            Source::Page { page, ticket, .. } => Some((page, *ticket)),
            Source::Thread { .. } | Source::Place(_) => None,
        }
    }

    /// The run is over: those who wait for its end on other threads are woken.
    pub(super) fn run_is_over(&self) {
        match &self.0 {
            // Who waits in futures sleeps on the bell as well, by a thread.
            Source::Page { page, .. } => page.bell().ring_if_awaited(),
            Source::Thread { asked, .. } => {
                asked.over();
            }
            Source::Place(place) => place.run_is_over(),
        }
    }
}

impl Condition for CancellationToken {
    fn holds(&self) -> bool {
        self.is_cancelled()
    }

    fn page(&self) -> Option<&Arc<ControlPage>> {
        self.page().map(|(page, _)| page)
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken")
            .field("reason", &self.reason())
            .finish()
    }
}

/// Which task runs on a thread, and whether it was asked to come to its end.
///
/// One for each thread, so that no task has to carry a flag of its own.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The task's number and, in the lowest bits, the reason if it was asked.
    word: AtomicU64,
    rung: AtomicU32,
    sleepers: AtomicU32,
}

impl Asked {
    const REASON: u64 = 3;

    /// Another task runs, or with zero none. From the moment at which others know that it runs, a
    /// request must find it here.
    pub(crate) fn begin(&self, number: u64) {
        self.word.store(number << 2, Ordering::SeqCst);
    }

    /// Asks the task of that number, if it runs and was not asked before.
    pub(crate) fn ask(&self, number: u64, why: Request) {
        let (old, new) = (number << 2, number << 2 | why as u64);
        let word = &self.word;
        // Naming the number, a request that is late never hits the next task.
        if word
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
        {
            self.bell().ring();
            waiting::look();
        }
    }

    /// No task runs any more.
    pub(crate) fn over(&self) {
        self.begin(0);
        self.look_again();
    }

    /// There are news for the task that runs here: whoever waits on its behalf looks for them. They
    /// were stored in a sequentially consistent way, or behind a lock that is free again.
    pub(crate) fn look_again(&self) {
        self.bell().ring_if_awaited();
        waiting::look();
    }

    fn reason(&self, number: u64) -> Option<CancelReason> {
        let word = self.word.load(Ordering::SeqCst);
        if word >> 2 != number {
            return Some(CancelReason::Ended);
        }
        [Request::Caller, Request::SoftLimit]
            .into_iter()
            .find(|why| word & Self::REASON == *why as u64)
            .map(CancelReason::from)
    }

    fn bell(&self) -> Bell<'_> {
        Bell {
            rung: &self.rung,
            sleepers: &self.sleepers,
        }
    }
}
