//! What happens in a pool, told to whoever listens, as it happens.
//!
//! Nobody listening, nothing is made: the cost is one look at a number.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError};

use super::ProcessPool;
use super::error::{TaskError, WorkerExit};
use super::reply::Raw;
use crate::process::StartError;

/// How many events a listener may be behind before it misses the oldest.
const BACKLOG: usize = 4_096;

/// Something that has happened in a pool. Got from [`ProcessPool::events`] and
/// [`ThreadPool::events`](crate::ThreadPool::events), which tells nothing of workers.
///
/// `task` is the number that [`TaskHandle::id`](crate::TaskHandle::id) and
/// [`task::current`](crate::task::current) give. Shown as `{}` an event is one line, made for logs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A worker is ready for calls.
    WorkerReady {
        /// Its process id.
        pid: u32,
        /// Its name.
        name: Arc<str>,
        /// The process id of the worker whose place it takes, if there was one.
        replaces: Option<u32>,
    },
    /// A worker could not be started; the pool tries again, unless it is broken.
    StartFailed(StartError),
    /// A worker died that was not meant to.
    WorkerLost(WorkerExit),
    /// A worker has ended as it was meant to: it left, or the pool killed it.
    WorkerEnded(WorkerExit),
    /// A task was handed to a worker. It may wait there behind others that are expected to take
    /// almost no time.
    TaskStarted {
        /// Which task; of items that were handed over together, the first.
        task: u64,
        /// How many they are; one for a task that is no item of a map.
        items: u32,
        /// Who has it.
        pid: u32,
    },
    /// A task has returned.
    TaskDone {
        /// Which task.
        task: u64,
        /// How long it ran.
        took: Duration,
    },
    /// A task has failed, or did not come to run.
    TaskFailed {
        /// Which task.
        task: u64,
        /// How.
        error: TaskError,
    },
    /// A task has been running for longer than the pool's
    /// [`slow_call`](crate::ProcessPoolBuilder::slow_call), and goes on. Told once for each run.
    SlowCall {
        /// Which task.
        task: u64,
        /// Its name, if it was given one.
        name: Option<Arc<str>>,
        /// Who runs it.
        pid: u32,
        /// How long it has been running.
        ran_for: Duration,
    },
    /// A task was refused because too many were waiting.
    QueueFull {
        /// How many may.
        max_pending: usize,
    },
    /// The listener was too slow: so many events that belong here were dropped.
    Missed(u64),
}

/// The events of a pool, from the moment at which they were asked for: a stream that ends with the
/// pool. Got from [`ProcessPool::events`].
///
/// # Cancel safety
///
/// Waiting for the next event is cancel safe.
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    stream: Pin<Box<dyn Stream<Item = PoolEvent> + Send>>,
    listeners: Arc<AtomicUsize>,
}

impl fmt::Display for PoolEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = OneLine(f);
        match self {
            Self::WorkerReady {
                pid,
                name,
                replaces,
            } => {
                write!(f, "worker {name} (pid {pid}) is ready")?;
                replaces.map_or(Ok(()), |pid| write!(f, ", in the place of pid {pid}"))
            }
            Self::StartFailed(error) => write!(f, "worker could not be started: {error}"),
            Self::WorkerLost(exit) => write!(f, "lost: {exit}"),
            Self::WorkerEnded(exit) => write!(f, "{exit}"),
            Self::TaskStarted { task, items, pid } => match items {
                0 | 1 => write!(f, "task {task} was handed to pid {pid}"),
                _ => write!(
                    f,
                    "{items} items from task {task} on were handed to pid {pid}"
                ),
            },
            Self::TaskDone { task, took } => write!(f, "task {task} is done after {took:.1?}"),
            Self::TaskFailed { task, error } => write!(f, "task {task} failed: {error:#}"),
            Self::SlowCall {
                task,
                name,
                pid,
                ran_for,
            } => {
                write!(f, "task {task}")?;
                name.as_ref()
                    .map_or(Ok(()), |name| write!(f, " ({name})"))?;
                write!(f, " has been running for {ran_for:.1?} in pid {pid}")
            }
            Self::QueueFull { max_pending } => {
                write!(
                    f,
                    "task was refused: queue is full (max_pending is {max_pending})"
                )
            }
            Self::Missed(count) => write!(f, "{count} events were missed"),
        }
    }
}

/// Shows the line breaks in what tasks and users have said.
struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(line) => write!(self.0, "{line}\\n")?,
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Where events are told.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Nothing: that was the last one.
    sender: broadcast::Sender<Option<PoolEvent>>,
    over: AtomicBool,
    /// What has been noted and not been told.
    noted: Mutex<VecDeque<Option<PoolEvent>>>,
    /// Held by whoever tells.
    telling: Mutex<()>,
    listeners: Arc<AtomicUsize>,
}

impl Hub {
    /// A pool's, of which nobody has heard yet.
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            over: AtomicBool::new(false),
            noted: Mutex::default(),
            telling: Mutex::default(),
            listeners: Arc::default(),
        }
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Notes an event, if anybody listens. Called where the order of events is decided: under the
    /// pool's lock.
    pub(crate) fn note(&self, event: impl FnOnce() -> PoolEvent) {
        if self.is_heard() {
            lock(&self.noted).push_back(Some(event()));
        }
    }

    /// Notes that a task was answered by its worker.
    pub(crate) fn note_answer(&self, task: u64, raw: &Raw, took: Duration) {
        match raw {
            Raw::Returned(_) => self.note_return(task, took),
            Raw::Failed(error) => self.note_failure(task, error),
        }
    }

    /// Notes that a task has returned.
    pub(crate) fn note_return(&self, task: u64, took: Duration) {
        self.note(|| PoolEvent::TaskDone { task, took });
    }

    /// Notes that a task failed.
    pub(crate) fn note_failure(&self, task: u64, error: &TaskError) {
        self.note(|| PoolEvent::TaskFailed {
            task,
            error: error.clone(),
        });
    }

    /// Tells what has been noted, in its order. Wakes listeners, so no lock of the pool may be held.
    pub(crate) fn tell(&self) {
        while !lock(&self.noted).is_empty() {
            let _telling = match self.telling.try_lock() {
                Ok(telling) => telling,
                // A listener's waker has panicked; the others still want to hear.
                Err(TryLockError::Poisoned(telling)) => telling.into_inner(),
                // Whoever tells already will find what has been noted since.
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(event) = { lock(&self.noted).pop_front() } {
                // Nobody has to listen.
                let _ = self.sender.send(event);
            }
        }
    }

    /// Nothing more will happen.
    pub(crate) fn close(&self) {
        self.over.store(true, Ordering::SeqCst);
        lock(&self.noted).push_back(None);
        self.tell();
    }

    /// Begins to listen.
    pub(crate) fn listen(&self) -> Events {
        // What was noted for listeners that are gone is not for this one.
        self.tell();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        let receiver = self.sender.subscribe();
        // Looked at after subscribing: the end comes through the channel, or is seen here.
        let over = self.over.load(Ordering::SeqCst);
        let next = async |mut receiver: broadcast::Receiver<Option<PoolEvent>>| {
            let event = match receiver.recv().await {
                Ok(event) => event?,
                Err(RecvError::Lagged(count)) => PoolEvent::Missed(count),
                Err(RecvError::Closed) => return None,
            };
            Some((event, receiver))
        };
        Events {
            stream: if over {
                stream::empty().boxed()
            } else {
                stream::unfold(receiver, next).boxed()
            },
            listeners: self.listeners.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Events {
    type Item = PoolEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PoolEvent>> {
        self.stream.poll_next_unpin(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Listening.
impl ProcessPool {
    /// Returns what happens in the pool from now on, as a stream. It ends when the pool has been
    /// shut down and no process of it is left.
    ///
    /// Any number of listeners hear the same. One that falls behind by 4,096 events
    /// [misses](PoolEvent::Missed) the oldest; nobody waits for it.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use procpool::PoolEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let mut events = pool.events();
    /// let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
    /// crash.await.unwrap_err();
    /// while let Some(event) = events.next().await {
    ///     if let PoolEvent::WorkerLost(exit) = event {
    ///         println!("{exit}");
    ///         break;
    ///     }
    /// }
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn events(&self) -> Events {
        self.driver().hub.listen()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use futures::FutureExt;

    use super::*;
    use crate::pool::error::Kind;
    use crate::task::panic;

    #[test]
    fn who_begins_to_listen_hears_nothing_of_before() {
        let hub = Hub::new();
        let first = hub.listen();
        hub.note(|| PoolEvent::QueueFull { max_pending: 1 });
        drop(first);
        let mut second = hub.listen();
        hub.note(|| PoolEvent::QueueFull { max_pending: 2 });
        hub.tell();
        let heard = second.next().now_or_never().flatten();
        let expected = matches!(heard, Some(PoolEvent::QueueFull { max_pending: 2 }));
        assert!(expected, "{heard:?}");
        assert!(second.next().now_or_never().is_none());
    }

    #[test]
    fn each_is_shown_as_one_line() {
        let (task, pid, took) = (5, 7, Duration::from_millis(1_500));
        let error = TaskError::new(Kind::Cancelled);
        let name: Arc<str> = Arc::from("two\nlines");
        for (event, line) in [
            (
                PoolEvent::WorkerReady {
                    pid,
                    name: name.clone(),
                    replaces: Some(6),
                },
                r"worker two\nlines (pid 7) is ready, in the place of pid 6",
            ),
            (
                PoolEvent::StartFailed(StartError::shutting_down()),
                "worker could not be started: no worker is started any more: shutting down",
            ),
            (
                PoolEvent::TaskStarted {
                    task,
                    items: 1,
                    pid,
                },
                "task 5 was handed to pid 7",
            ),
            (
                PoolEvent::TaskStarted {
                    task,
                    items: 3,
                    pid,
                },
                "3 items from task 5 on were handed to pid 7",
            ),
            (
                PoolEvent::TaskDone { task, took },
                "task 5 is done after 1.5s",
            ),
            (
                PoolEvent::TaskFailed { task, error },
                "task 5 failed: task was cancelled before it was started",
            ),
            (
                PoolEvent::SlowCall {
                    task,
                    name: Some(name),
                    pid,
                    ran_for: took,
                },
                r"task 5 (two\nlines) has been running for 1.5s in pid 7",
            ),
            (
                PoolEvent::QueueFull { max_pending: 9 },
                "task was refused: queue is full (max_pending is 9)",
            ),
            (PoolEvent::Missed(2), "2 events were missed"),
        ] {
            assert_eq!(event.to_string(), line);
        }
    }

    #[test]
    fn a_listener_whose_waker_panics_silences_nobody() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a listener's");
            }
        }
        let hub = Hub::new();
        let mut listener = hub.listen();
        let waker = Waker::from(Arc::new(Panics));
        let waits = listener.poll_next_unpin(&mut Context::from_waker(&waker));
        assert!(waits.is_pending());
        hub.note(|| PoolEvent::QueueFull { max_pending: 1 });
        panic::catch(|| hub.tell()).unwrap_err();
        hub.note(|| PoolEvent::QueueFull { max_pending: 2 });
        hub.tell();
        for expected in 1..=2 {
            let heard = listener.next().now_or_never().flatten();
            let as_expected = matches!(heard, Some(PoolEvent::QueueFull { max_pending }) if max_pending == expected);
            assert!(as_expected, "{heard:?}");
        }
    }
}
