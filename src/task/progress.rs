//! What a task says while it runs: values that go to its caller one by one.
//!
//! How many of them may be on the way the caller decides, and says so in the page
//! ([`Credit`]). How they get there is the worker's business ([`Outlet`]).

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use thiserror::Error;

use super::cancel::CancellationToken;
use super::context;
use super::error::EncodeError;
use super::payload;
use super::waiting::{Condition, Until};
use crate::wire::Ticket;
use crate::wire::page::{ControlPage, Count, Credit};

/// Sends values to the caller of a task while the task runs: how far it has come, or parts of its
/// result. The second parameter of a function that is submitted with
/// [`submit_with_progress`](crate::ProcessPool::submit_with_progress), whose caller has them as
/// [`Updates`](crate::Updates).
///
/// Cheap to clone; clones may go to other threads and into futures of the task. What one thread
/// sends arrives in that order. When the task is over, nothing more is sent.
///
/// ```
/// use futures::StreamExt;
/// use procpool::task::Progress;
///
/// fn countdown(from: u32, progress: Progress<u32>) -> String {
///     for left in (1..=from).rev() {
///         if !progress.send(&left).expect("a number can be sent") {
///             break; // nobody reads
///         }
///     }
///     "lift-off".to_owned()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let (end, mut updates) = pool.submit_with_progress(countdown, 3);
/// while let Some(left) = updates.next().await {
///     println!("{}", left?);
/// }
/// assert_eq!(end.await?, "lift-off");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Progress<P> {
    /// `None` where there is no caller.
    way: Option<Way>,
    value: PhantomData<fn(&P)>,
}

/// Why a value could not be sent. That nobody reads it is no error.
#[derive(Clone, Debug, Error)]
#[error(transparent)]
pub struct ProgressError(#[from] Fault);

#[derive(Clone, Debug, Error)]
enum Fault {
    #[error("progress value could not be encoded")]
    Encode(#[source] EncodeError),
    #[error("progress value of {size} bytes is larger than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
}

impl ProgressError {
    /// Tells whether the value could not be encoded; the source says why.
    pub fn is_encode(&self) -> bool {
        matches!(self.0, Fault::Encode(_))
    }

    /// Tells whether the value is larger than the pool's
    /// [`max_frame`](crate::ProcessPoolBuilder::max_frame).
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, Fault::TooLarge { .. })
    }
}

/// How updates leave a worker.
pub(crate) trait Outlet: RefUnwindSafe + Send + Sync {
    /// Sends an update of a call if `admit` says so when it is its turn; tells whether it did.
    fn report(
        &self,
        source: (Ticket, u64),
        update: &[u8],
        admit: &mut dyn FnMut() -> bool,
    ) -> io::Result<bool>;

    /// Has what was sent leave at once, because nothing more will be sent for a while.
    fn flush(&self);

    /// How long an update may be.
    fn max_frame(&self) -> usize;
}

/// Who hears the updates of a task that is run in the process of its caller. Whether there is room
/// where there was none is worth a look when the bell of the task's
/// [token](CancellationToken) rings.
pub(crate) trait Hearing: RefUnwindSafe + Send + Sync {
    /// Takes an update if there is room for it.
    fn hear(&self, update: &[u8]) -> Admission;

    /// What would become of an update.
    fn admission(&self) -> Admission;

    /// How long an update may be.
    fn max_frame(&self) -> usize;
}

/// How updates get to the caller.
#[derive(Clone)]
enum Way {
    /// Out of a worker.
    Line(Arc<Line>),
    /// The caller is in this process.
    Here(Here),
}

/// The way to a caller in this process.
#[derive(Clone)]
struct Here {
    hearing: Arc<dyn Hearing>,
    token: CancellationToken,
}

/// The line from one run of a task to its caller.
pub(super) struct Line {
    outlet: Arc<dyn Outlet>,
    page: Arc<ControlPage>,
    ticket: Ticket,
    call: u64,
    /// How many updates this run has sent. Changed where the outlet asks.
    sent: Mutex<Count>,
    /// The line is dead, whatever the page says.
    broken: AtomicBool,
}

/// What becomes of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may be sent.
    Room,
    /// There is no room for it now.
    Full,
    /// Nobody wants to have it.
    Closed,
}

impl<P> Progress<P> {
    /// The way from the task that runs on this thread.
    pub(crate) fn of_current() -> Self {
        let way = context::current().and_then(|task| {
            let line = task.line().map(|line| Way::Line(Arc::new(line)));
            let token = task.cancellation();
            let here = |hearing| Way::Here(Here { hearing, token });
            line.or_else(|| task.hearing().map(here))
        });
        let value = PhantomData;
        Self { way, value }
    }

    /// Tells whether nobody reads what is sent: the caller has dropped its
    /// [`Updates`](crate::Updates), or the task is over. Then sending costs next to nothing.
    pub fn is_closed(&self) -> bool {
        let admission = self.way.as_ref().map(Way::admission);
        matches!(admission, None | Some(Admission::Closed))
    }
}

impl<P: Serialize> Progress<P> {
    /// Sends a value. Returns whether it was sent; if not, nobody reads it, or there was no room
    /// for it and the task was told to come to its end.
    ///
    /// Where the reader is slow and [`WhenFull::Wait`](crate::WhenFull::Wait) holds, which is the
    /// default, it waits until there is room. It stops waiting when the reader goes away, and when
    /// the task [is to come to its end](super::CancellationToken).
    ///
    /// A value that was sent reaches its reader even if this process dies in the next moment.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or is too large. The task can go on.
    pub fn send(&self, value: &P) -> Result<bool, ProgressError> {
        let Some((way, update)) = self.prepare(value)? else {
            return Ok(false);
        };
        loop {
            match way.offer(&update) {
                Admission::Room => return Ok(true),
                Admission::Full if way.waits_for_room() => way.wait(),
                _ => return Ok(false),
            }
        }
    }

    /// Sends a value if that can be done without waiting; returns whether it was sent.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or is too large.
    pub fn try_send(&self, value: &P) -> Result<bool, ProgressError> {
        let Some((way, update)) = self.prepare(value)? else {
            return Ok(false);
        };
        let admission = way.offer(&update);
        if let (Admission::Full, Way::Line(line)) = (admission, &way) {
            line.outlet.flush();
        }
        Ok(admission == Admission::Room)
    }

    /// Does the same as [`send`](Self::send), and waits without blocking the thread: for futures in
    /// a task. The value is encoded here and now.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or is too large.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it is ready, the value was not sent.
    pub fn send_async(
        &self,
        value: &P,
    ) -> impl Future<Output = Result<bool, ProgressError>> + Send + 'static + use<P> {
        let prepared = self.prepare(value);
        async move {
            let Some((way, update)) = prepared? else {
                return Ok(false);
            };
            loop {
                match way.offer(&update) {
                    Admission::Room => return Ok(true),
                    Admission::Full if way.waits_for_room() => Until::new(way.clone()).await,
                    _ => return Ok(false),
                }
            }
        }
    }

    /// Encodes a value for which somebody waits.
    fn prepare(&self, value: &P) -> Result<Option<Prepared>, ProgressError> {
        let way = self.way.as_ref();
        let Some(way) = way.filter(|way| way.admission() != Admission::Closed) else {
            return Ok(None);
        };
        let mut update = Vec::new();
        payload::encode(value, &mut update).map_err(Fault::Encode)?;
        let (size, limit) = (update.len(), way.max_frame());
        if size > limit {
            return Err(Fault::TooLarge { size, limit }.into());
        }
        Ok(Some((way.clone(), update)))
    }
}

/// An update for which somebody waits.
type Prepared = (Way, Vec<u8>);

impl Way {
    fn admission(&self) -> Admission {
        match self {
            Self::Line(line) => line.admission(),
            Self::Here(here) => here.hearing.admission(),
        }
    }

    /// Sends an update if there is room for it.
    fn offer(&self, update: &[u8]) -> Admission {
        match self {
            Self::Line(line) => line.offer(update),
            Self::Here(here) => here.hearing.hear(update),
        }
    }

    /// There was no room: shows the reader what there is, and tells whether the task may wait.
    fn waits_for_room(&self) -> bool {
        match self {
            Self::Line(line) => line.waits_for_room(),
            Self::Here(here) => !here.token.is_cancelled(),
        }
    }

    /// Sleeps on this thread until there is no use in waiting for room any longer.
    fn wait(&self) {
        match self {
            Self::Line(line) => line.page.bell().wait(None, || self.holds()),
            Self::Here(here) => here.token.sleep_until(|| self.holds()),
        };
    }

    fn max_frame(&self) -> usize {
        match self {
            Self::Line(line) => line.outlet.max_frame(),
            Self::Here(here) => here.hearing.max_frame(),
        }
    }
}

impl Line {
    /// A line on which nothing was sent.
    pub(super) fn new(
        outlet: Arc<dyn Outlet>,
        page: Arc<ControlPage>,
        ticket: Ticket,
        call: u64,
    ) -> Self {
        Self {
            outlet,
            page,
            ticket,
            call,
            sent: Mutex::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// Sends an update if there is room for it.
    fn offer(&self, update: &[u8]) -> Admission {
        let mut admission = Admission::Closed;
        let mut admit = || {
            admission = self.admission();
            if admission == Admission::Room {
                let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                *sent = sent.plus(1);
            }
            admission == Admission::Room
        };
        let source = (self.ticket, self.call);
        if self.outlet.report(source, update, &mut admit).is_err() {
            // The parent has gone, or has given us up. The serving thread will find out.
            self.broken.store(true, Ordering::Relaxed);
            return Admission::Closed;
        }
        admission
    }

    fn admission(&self) -> Admission {
        if self.page.is_ended(self.ticket, 0) || self.broken.load(Ordering::Relaxed) {
            return Admission::Closed;
        }
        match self.page.credit(self.ticket) {
            Credit::Closed => Admission::Closed,
            Credit::Unlimited => Admission::Room,
            Credit::Until(granted) => {
                let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                if *sent == granted {
                    Admission::Full
                } else {
                    Admission::Room
                }
            }
        }
    }

    /// There was no room: shows the reader what there is, and tells whether the task may wait.
    fn waits_for_room(&self) -> bool {
        self.outlet.flush();
        self.page.asked(self.ticket, 0).is_none()
    }
}

/// That there is no use in waiting for room any longer.
impl Condition for Way {
    fn holds(&self) -> bool {
        let asked = match self {
            Self::Line(line) => line.page.asked(line.ticket, 0).is_some(),
            Self::Here(here) => here.token.is_cancelled(),
        };
        asked || self.admission() != Admission::Full
    }

    fn page(&self) -> Option<&Arc<ControlPage>> {
        match self {
            Self::Line(line) => Some(&line.page),
            Self::Here(_) => None,
        }
    }
}

impl<P> Clone for Progress<P> {
    fn clone(&self) -> Self {
        Self {
            way: self.way.clone(),
            value: PhantomData,
        }
    }
}

impl<P> fmt::Debug for Progress<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A function that takes a [`Progress`] behind its argument. It is made in the worker, of the call
/// that runs there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporting<F>(pub(crate) F);
