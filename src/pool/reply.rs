//! The duty to tell a caller how its call ended, and the place where the answer waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::error::{Kind, TaskError};
use crate::supervisor::callback::{report_panic, run_aside};
use crate::task::{DecodeError, panic};
use crate::wire::packed::Packed;

/// How a call ended, its result still encoded.
#[derive(Debug)]
pub(crate) enum Raw {
    /// The function returned this.
    Returned(Packed),
    /// There is no result.
    Failed(TaskError),
}

impl Raw {
    /// Why there is no result, if there is none.
    pub(crate) fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Returned(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

/// Somebody who is to be told, once.
pub(crate) trait Answer: Send + Sync {
    /// Tells. Only the first time counts.
    fn resolve(self: Arc<Self>, raw: Raw);
}

/// Names a registered callback, for [`remove_done_callback`](crate::TaskHandle::remove_done_callback).
///
/// A name holds for the handle that gave it and for no other.
///
/// ```
/// use procpool::CallbackId;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let endless = pool.submit(|_: ()| -> () { loop { std::thread::park() } }, ());
/// let id: CallbackId = endless.add_done_callback(|_| println!("it has ended"));
/// assert!(endless.remove_done_callback(id), "taken back");
/// assert!(!endless.remove_done_callback(id), "there is nothing left to take back");
/// # pool.terminate().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

type Callback<R> = Box<dyn FnOnce(&Result<R, TaskError>) + Send>;

/// The answer to one call, as far as it has come.
pub(crate) struct Reply<R> {
    decode: fn(&Packed) -> Result<R, DecodeError>,
    state: Mutex<State<R>>,
}

struct State<R> {
    phase: Phase<R>,
    /// It is over, and was cancelled; known also while others have the result.
    cancelled: bool,
    waker: Option<Waker>,
    callbacks: Vec<(CallbackId, Callback<R>)>,
    registered: u64,
}

enum Phase<R> {
    /// The call is not over.
    Pending,
    /// It is over, and its result waits to be taken.
    Over(Told<R>),
    /// Callbacks are looking at the result; waiters come after them.
    Calling,
    /// Its owner has taken it.
    Taken,
}

/// How a call ended, in the form in which that was told.
enum Told<R> {
    /// As bytes, which are decoded by whoever wants the result.
    Encoded(Raw),
    /// As it is.
    Plain(Result<R, TaskError>),
}

/// How far a call has come, as its reply knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Pending,
    Over,
    Taken,
}

impl<R: Send + 'static> Reply<R> {
    pub(crate) fn new(decode: fn(&Packed) -> Result<R, DecodeError>) -> Arc<Self> {
        let state = State {
            phase: Phase::Pending,
            cancelled: false,
            waker: None,
            callbacks: Vec::new(),
            registered: 0,
        };
        Arc::new(Self {
            decode,
            state: Mutex::new(state),
        })
    }

    /// A reply to a call whose result stays in this process, and is [given](Self::give) as it is.
    pub(crate) fn of_plain_result() -> Arc<Self> {
        Self::new(|_| Err(DecodeError::without_bytes::<R>("it is never encoded")))
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.lock().phase {
            Phase::Pending => Stage::Pending,
            Phase::Over(_) | Phase::Calling => Stage::Over,
            Phase::Taken => Stage::Taken,
        }
    }

    /// Tells whether the call is over because it was cancelled or aborted.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Takes the result once it is there; `None` if it has been taken.
    pub(crate) fn poll_take(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<R, TaskError>>> {
        let mut state = match self.take() {
            Ok(result) => return Poll::Ready(result),
            Err(unfinished) => unfinished,
        };
        if state
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(context.waker()))
        {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whoever has polled is not woken, for he looks by himself.
    pub(crate) fn forget_waker(&self) {
        self.lock().waker = None;
    }

    /// Takes the result if it is there.
    pub(crate) fn try_take(&self) -> Option<Result<R, TaskError>> {
        self.take().ok().flatten()
    }

    fn take(&self) -> Result<Option<Result<R, TaskError>>, MutexGuard<'_, State<R>>> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.phase, Phase::Taken) {
            Phase::Over(told) => {
                // The result's own code runs without the lock.
                drop(state);
                Ok(Some(self.plain(told)))
            }
            Phase::Taken => Ok(None),
            unfinished => {
                state.phase = unfinished;
                Err(state)
            }
        }
    }

    /// Registers a callback, or gives it back if the call is over and no callback is running.
    pub(crate) fn register(&self, callback: Callback<R>) -> (CallbackId, Option<Callback<R>>) {
        let mut state = self.lock();
        state.registered += 1;
        let id = CallbackId(state.registered);
        match state.phase {
            Phase::Pending | Phase::Calling => {
                state.callbacks.push((id, callback));
                (id, None)
            }
            Phase::Over(_) | Phase::Taken => (id, Some(callback)),
        }
    }

    /// Takes a callback back; false if it has run, is about to, or was never registered.
    pub(crate) fn unregister(&self, id: CallbackId) -> bool {
        let removed = {
            let mut state = self.lock();
            let position = state.callbacks.iter().position(|(known, _)| *known == id);
            position.map(|position| state.callbacks.remove(position))
        };
        // What the callback has captured is dropped without the lock.
        removed.is_some()
    }

    /// Tells the result of a call that was run in this process. Only the first word counts.
    pub(crate) fn give(self: Arc<Self>, result: Result<R, TaskError>) {
        self.settle(Told::Plain(result));
    }

    fn settle(self: Arc<Self>, told: Told<R>) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Pending) {
            return;
        }
        state.cancelled = told.error().is_some_and(TaskError::is_cancelled);
        if state.callbacks.is_empty() {
            state.phase = Phase::Over(told);
            let waker = state.waker.take();
            drop(state);
            return waker.into_iter().for_each(Waker::wake);
        }
        state.phase = Phase::Calling;
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        run_aside(move || self.call_back(told, callbacks));
    }

    fn plain(&self, told: Told<R>) -> Result<R, TaskError> {
        match told {
            Told::Encoded(raw) => decode(self.decode, raw),
            Told::Plain(result) => result,
        }
    }

    /// Shows the result to the callbacks, those that come meanwhile included, then to the waiter.
    fn call_back(&self, told: Told<R>, mut callbacks: Vec<(CallbackId, Callback<R>)>) {
        let result = self.plain(told);
        loop {
            for (_, callback) in callbacks {
                run_callback(callback, &result);
            }
            let mut state = self.lock();
            callbacks = std::mem::take(&mut state.callbacks);
            if callbacks.is_empty() {
                state.phase = Phase::Over(Told::Plain(result));
                let waker = state.waker.take();
                drop(state);
                return waker.into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl<R> Reply<R> {
    /// Says in words how far the call has come; `runs` is asked only while it is not over.
    pub(crate) fn describe(&self, name: &str, runs: impl FnOnce() -> Option<bool>) -> String {
        let finished = match &self.lock().phase {
            Phase::Pending => None,
            Phase::Over(told) => match told.error() {
                None => Some(true),
                Some(error) if error.is_cancelled() => return String::from("cancelled"),
                Some(_) => Some(false),
            },
            Phase::Calling => return String::from("finished, in its callbacks"),
            Phase::Taken => return String::from("finished, its result taken"),
        };
        match finished {
            Some(true) => format!("finished with a value of type {name}"),
            Some(false) => String::from("finished with an error of type TaskError"),
            None if runs() == Some(true) => String::from("running"),
            None => String::from("pending"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Told<R> {
    fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Encoded(Raw::Failed(error)) | Self::Plain(Err(error)) => Some(error),
            Self::Encoded(Raw::Returned(_)) | Self::Plain(Ok(_)) => None,
        }
    }
}

impl<R: Send + 'static> Answer for Reply<R> {
    fn resolve(self: Arc<Self>, raw: Raw) {
        self.settle(Told::Encoded(raw));
    }
}

/// Decodes a result, in code of the user's that may panic.
pub(crate) fn decode<R>(
    decode: fn(&Packed) -> Result<R, DecodeError>,
    raw: Raw,
) -> Result<R, TaskError> {
    match raw {
        Raw::Failed(error) => Err(error),
        Raw::Returned(bytes) => {
            let decoded = panic::catch(|| decode(&bytes));
            let decoded = decoded.unwrap_or_else(|panic| Err(DecodeError::panicked::<R>(&panic)));
            decoded.map_err(|error| TaskError::new(Kind::DecodeResult(error)))
        }
    }
}

/// Runs one callback; its panic is logged and hurts nobody.
pub(crate) fn run_callback<R>(callback: Callback<R>, result: &Result<R, TaskError>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(result))) {
        report_panic(&*panic);
        std::mem::forget(panic);
    }
}
