//! What a running task can learn about itself.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::cancel::{Asked, CancellationToken};
use super::place::Place;
use super::progress::{Hearing, Line, Outlet};
use crate::sys::clock::Moment;
use crate::wire::Ticket;
use crate::wire::page::ControlPage;

thread_local! {
    static CURRENT: RefCell<Option<TaskContext>> = const { RefCell::new(None) };
}

/// A running task, as it sees itself in its worker. Got from [`current`].
///
/// Cheap to clone, and it may be handed to other threads of the task.
///
/// ```
/// use std::time::Duration;
///
/// fn wait_to_be_stopped(_: ()) -> String {
///     let task = procpool::task::current().expect("this runs in a worker");
///     while !task.is_cancelled() {
///         std::thread::sleep(Duration::from_millis(1));
///     }
///     eprintln!("{} stops by itself", task.name().unwrap_or("it")); // and its worker stays
///     String::from("nobody sees this")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = procpool::ProcessPool::builder().workers(1);
/// let pool = pool.abort_grace(Duration::from_secs(30)).build()?;
/// let task = pool.task(wait_to_be_stopped).name("patience").timeout(Duration::from_millis(50));
/// assert!(task.submit(()).await.unwrap_err().is_timeout());
///
/// assert_eq!(pool.submit(|n: u64| n + 1, 1).await?, 2);
/// assert_eq!(pool.stats().workers_ended, 0, "no worker was killed");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TaskContext {
    cancellation: CancellationToken,
    id: u64,
    name: Option<Arc<str>>,
    attempt: u32,
    soft_deadline: Option<Moment>,
    deadline: Option<Moment>,
    outlet: Option<Arc<dyn Outlet>>,
    /// Who hears its updates in this process, where it is not run in a worker.
    hearing: Option<Arc<dyn Hearing>>,
}

/// Returns the context of the task that runs on this thread of a worker process, or on this thread
/// of a [`ThreadPool`](crate::ThreadPool).
///
/// `None` outside of a worker, between tasks, and on threads that the task itself has started:
/// hand them a clone.
///
/// ```
/// fn sum_until_told_to_stop(limit: u64) -> Option<u64> {
///     let task = procpool::task::current();
///     let mut sum = 0u64;
///     for number in 0..limit {
///         if number % 1_000 == 0 && task.as_ref().is_some_and(|task| task.is_cancelled()) {
///             return None;
///         }
///         sum = sum.wrapping_add(number);
///     }
///     Some(sum)
/// }
///
/// // Called in place there is no worker, so there is nothing that could be cancelled.
/// assert_eq!(sum_until_told_to_stop(10), Some(45));
/// ```
pub fn current() -> Option<TaskContext> {
    CURRENT.with_borrow(Clone::clone)
}

/// Has the worker that runs this task replaced when the task is over.
///
/// For a task that knows that its process is not fit for another one: it has leaked, a library in
/// it has lost its connection, a thread of it is stuck. The task itself ends as any other, and what
/// it returns counts. Nothing is run in this worker after it: calls that were sent there already,
/// and the items behind it in a chunk of a [`map`](crate::ProcessPool::map), go to other workers.
///
/// May be called from any thread of the worker, any number of times; it is looked at when a task
/// is over. Outside of a worker it does nothing. To ask after every task, whatever it is, see
/// [`retire_when`](crate::ProcessPoolBuilder::retire_when).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// fn wears_out(_: ()) -> u32 {
///     procpool::task::retire_worker();
///     std::process::id()
/// }
///
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let (one, two) = (pool.submit(wears_out, ()).await?, pool.submit(wears_out, ()).await?);
/// assert_ne!(one, two);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub fn retire_worker() {
    RETIRE.store(true, Ordering::Relaxed);
}

/// Whether a task has asked that its worker be replaced.
pub(crate) fn is_to_retire() -> bool {
    RETIRE.load(Ordering::Relaxed)
}

static RETIRE: AtomicBool = AtomicBool::new(false);

impl TaskContext {
    /// Returns the task's number in its pool, which is also its handle's
    /// [`id`](crate::TaskHandle::id).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the name that was given with [`Task::name`](crate::Task::name).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns how many times the task has been started, this time included. Above one only for
    /// tasks that [may be repeated](crate::Task::retry).
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the moment at which a limit ends the task, if it has one: the earlier of its
    /// [timeout](crate::Task::timeout), counted from its start, and its
    /// [deadline](crate::Task::deadline).
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(Moment::to_instant)
    }

    /// Returns the moment at which the task is asked to come to its end because of its
    /// [soft limit](crate::Task::soft_timeout), if it has one.
    pub fn soft_deadline(&self) -> Option<Instant> {
        self.soft_deadline.map(Moment::to_instant)
    }

    /// Tells whether the task is to come to its end: it was
    /// [asked](crate::TaskHandle::request_cancel) to, has run past its
    /// [soft limit](crate::Task::soft_timeout), was aborted, or its time is up.
    ///
    /// Two loads from memory, so it can be asked often. In the first two cases what the task
    /// returns is its result. In the others it is thrown away; whether the worker is then killed
    /// at once or has time to come to the end of the task is the pool's
    /// [`abort_grace`](crate::ProcessPoolBuilder::abort_grace), by default none. Which it is says
    /// [`CancellationToken::reason`].
    ///
    /// On a thread of a [`ThreadPool`](crate::ThreadPool) no blocking task can be ended, and what one
    /// returns is always its result.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// The run is over: who waits for that on other threads is woken.
    pub(crate) fn run_is_over(&self) {
        self.cancellation.run_is_over();
    }

    /// What its updates go through, if there is somebody who may want them.
    pub(super) fn line(&self) -> Option<Line> {
        let (page, ticket) = self.cancellation.page()?;
        Some(Line::new(
            self.outlet.clone()?,
            page.clone(),
            ticket,
            self.id,
        ))
    }

    /// Who hears its updates in this process.
    pub(super) fn hearing(&self) -> Option<Arc<dyn Hearing>> {
        self.hearing.clone()
    }

    /// Returns what tells this run when it is to come to its end, to wait for that or to hand it
    /// on.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancellation.clone()
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What a worker knows of the call that it is about to run.
pub(crate) struct Running<'a> {
    /// The worker's page.
    pub(crate) page: &'a Arc<ControlPage>,
    /// Which sending it is.
    pub(crate) ticket: Ticket,
    /// Which item of a chunk; zero for a call that is none.
    pub(crate) item: u32,
    /// The call's number.
    pub(crate) id: u64,
    /// The call's name.
    pub(crate) name: Option<Arc<str>>,
    /// How many times it has been started, with this one.
    pub(crate) attempt: u32,
    /// When it is asked to come to its end.
    pub(crate) soft_deadline: Option<Moment>,
    /// When its time is up.
    pub(crate) deadline: Option<Moment>,
    /// What its updates go through.
    pub(crate) outlet: Option<&'a Arc<dyn Outlet>>,
}

impl TaskContext {
    /// The context of a call that a worker runs.
    pub(crate) fn of(running: Running<'_>) -> Self {
        Self {
            cancellation: CancellationToken::of_page(running.page, running.ticket, running.item),
            id: running.id,
            name: running.name,
            attempt: running.attempt,
            soft_deadline: running.soft_deadline,
            deadline: running.deadline,
            outlet: running.outlet.cloned(),
            hearing: None,
        }
    }
}

/// Makes a call the current task of this thread until the guard is dropped.
pub(crate) fn enter(running: Running<'_>) -> impl Drop + use<> {
    Entered::with(TaskContext::of(running), true)
}

/// The same for a call that is gone on with.
pub(crate) fn enter_again(context: &TaskContext) -> impl Drop + use<> {
    Entered::with(context.clone(), false)
}

/// What a pool's thread knows of the call that it is about to run.
pub(crate) struct OnThread {
    /// The call's number.
    pub(crate) id: u64,
    /// The call's name.
    pub(crate) name: Option<Arc<str>>,
    /// Says which task is to end.
    pub(crate) asked: Arc<Asked>,
    /// When it is asked to come to its end.
    pub(crate) soft_deadline: Option<Moment>,
    /// When its time is up.
    pub(crate) deadline: Option<Moment>,
    /// Who hears its updates.
    pub(crate) hearing: Option<Arc<dyn Hearing>>,
}

impl TaskContext {
    /// The context of a call that a pool's thread runs.
    pub(crate) fn of_thread(running: OnThread) -> Self {
        Self {
            cancellation: CancellationToken::of_thread(running.asked, running.id),
            id: running.id,
            name: running.name,
            attempt: 1,
            soft_deadline: running.soft_deadline,
            deadline: running.deadline,
            outlet: None,
            hearing: running.hearing,
        }
    }
}

/// The same on a thread of a pool.
pub(crate) fn enter_on_thread(running: OnThread) -> impl Drop + use<> {
    Entered::with(TaskContext::of_thread(running), true)
}

/// The same for a call that is run in the place of its caller, which may be a task itself.
pub(crate) fn enter_in_place(
    id: u64,
    name: Option<&str>,
    attempt: u32,
    place: Place,
    hearing: Option<Arc<dyn Hearing>>,
) -> impl Drop + use<> {
    let context = TaskContext {
        id,
        name: name.map(Arc::from),
        attempt,
        soft_deadline: place.soft_deadline,
        deadline: place.deadline,
        cancellation: CancellationToken::of_place(place),
        outlet: None,
        hearing,
    };
    Entered::with(context, true)
}

/// This thread has a current task; before, it had this. When that ends here, its run is over.
struct Entered {
    before: Option<TaskContext>,
    ends: bool,
}

impl Entered {
    fn with(context: TaskContext, ends: bool) -> Self {
        let before = CURRENT.replace(Some(context));
        Self { before, ends }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.replace(self.before.take());
        if let Some(over) = left.filter(|_| self.ends) {
            over.run_is_over();
        }
    }
}
