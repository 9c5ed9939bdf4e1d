//! A function with its argument, to be run on another thread, and the duty to answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::timers::Timer;
use crate::pool::error::{Kind, TaskError};
use crate::pool::in_place;
use crate::pool::reply::{Answer, Raw, Reply};
use crate::pool::trace::CallTrace;
use crate::pool::updates::Listener;
use crate::sys::clock::Moment;
use crate::task::entry::Argument;
use crate::task::identity::Target;
use crate::task::panic;
use crate::wire::packed::Packed;

/// A call in the pool.
pub(super) struct Job {
    pub(super) work: Labour,
    pub(super) name: Option<Arc<str>>,
    /// After how long it is asked to come to its end.
    pub(super) soft_timeout: Option<Duration>,
    /// When it was accepted.
    pub(super) since: Moment,
    /// When it was asked for.
    pub(super) asked_for: Moment,
    /// Its part of the room in the queue, given back with it.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// Ends its waiting.
    pub(super) timer: Option<Timer>,
    /// Ends all of it, of an async call.
    pub(super) deadline: Option<(Moment, Timer)>,
    /// How long it may run, if it is an async call.
    pub(super) timeout: Option<Duration>,
    /// Where its updates go, if somebody wants to have them.
    pub(super) listener: Option<Listener>,
    pub(super) trace: CallTrace,
}

impl Job {
    pub(super) fn is_async(&self) -> bool {
        matches!(self.work, Labour::Async(_))
    }
}

/// What is to be done for a call.
pub(super) enum Labour {
    Blocking(Box<dyn Work>),
    Async(Box<dyn AsyncWork>),
}

impl Labour {
    /// Answers a call that was never run.
    pub(super) fn refuse(self, error: TaskError) {
        match self {
            Self::Blocking(work) => work.answer(Some(error)),
            Self::Async(work) => work.refuse(error),
        }
    }
}

/// What the threads know of a blocking call. Its panics stay inside.
pub(super) trait Work: Send {
    /// Runs it here. The error is that of its caller, if it did not return.
    fn run(&mut self) -> Result<(), TaskError>;

    /// Answers its caller: with what became of the run, or with the reason why there was none.
    fn answer(self: Box<Self>, refused: Option<TaskError>);
}

/// A function and an argument that was moved here.
pub(super) struct Moved<F, A, R> {
    pub(super) function: F,
    pub(super) argument: Option<A>,
    pub(super) result: Option<Result<R, TaskError>>,
    pub(super) reply: Arc<Reply<R>>,
}

impl<F, A, R> Work for Moved<F, A, R>
where
    F: Fn(A) -> R + Send,
    A: Send,
    R: Send + 'static,
{
    fn run(&mut self) -> Result<(), TaskError> {
        let Some(argument) = self.argument.take() else {
            return Ok(());
        };
        let result = panic::catch(|| (self.function)(argument));
        let result = result.map_err(|panic| TaskError::new(Kind::Panicked(panic)));
        let told = result.as_ref().map(|_| ()).map_err(TaskError::clone);
        self.result = Some(result);
        told
    }

    fn answer(self: Box<Self>, refused: Option<TaskError>) {
        let Self {
            argument,
            result,
            reply,
            ..
        } = *self;
        // What was never run is dropped before its caller knows.
        panic::contain(|| drop(argument));
        if let Some(outcome) = refused.map(Err).or(result) {
            panic::contain(|| reply.give(outcome));
        }
    }
}

/// What the threads know of an async call. Its panics stay inside.
pub(super) trait AsyncWork: Send {
    /// Who is told if it is ended before it is over.
    fn reply(&self) -> Arc<dyn Answer>;

    /// Turns it into a future of this thread.
    fn begin(self: Box<Self>) -> Begun;

    /// Answers its caller with the reason why it was not run.
    fn refuse(self: Box<Self>, error: TaskError);
}

/// An async call at work.
pub(super) type Begun = Pin<Box<dyn Future<Output = Done>>>;

/// How an async call has ended by itself.
pub(super) struct Done {
    /// The error is that of its caller, if it did not return.
    pub(super) told: Result<(), TaskError>,
    /// Answers the caller.
    pub(super) answer: Box<dyn FnOnce()>,
}

/// An async function and an argument that was moved here.
pub(super) struct MovedAsync<F, A, R> {
    pub(super) function: F,
    pub(super) argument: A,
    pub(super) reply: Arc<Reply<R>>,
}

impl<F, A, Fut, R> AsyncWork for MovedAsync<F, A, R>
where
    F: Fn(A) -> Fut + Send + 'static,
    A: Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    fn reply(&self) -> Arc<dyn Answer> {
        self.reply.clone()
    }

    fn begin(self: Box<Self>) -> Begun {
        Box::pin(async move {
            let Self {
                function,
                argument,
                reply,
            } = *self;
            let result = match panic::catch(|| Box::pin(function(argument))) {
                Ok(mut call) => {
                    let result = poll_fn(|context| {
                        let polled = panic::catch(|| call.as_mut().poll(context));
                        polled.map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
                    });
                    let result = result.await;
                    panic::contain(|| drop(call));
                    result
                }
                Err(panic) => Err(panic),
            };
            let result = result.map_err(|panic| TaskError::new(Kind::Panicked(panic)));
            Done {
                told: result.as_ref().map(|_| ()).map_err(TaskError::clone),
                answer: Box::new(move || panic::contain(|| reply.give(result))),
            }
        })
    }

    fn refuse(self: Box<Self>, error: TaskError) {
        let Self {
            argument, reply, ..
        } = *self;
        panic::contain(|| drop(argument));
        panic::contain(|| reply.give(Err(error)));
    }
}

/// A call that [`call!`](crate::call) has made, which is encoded.
pub(super) struct Encoded {
    pub(super) target: Target,
    pub(super) argument: Packed,
    pub(super) result: Option<Raw>,
    pub(super) reply: Arc<dyn Answer>,
}

impl Work for Encoded {
    fn run(&mut self) -> Result<(), TaskError> {
        let argument = Argument::taken_from(&self.argument);
        self.result = Some(in_place::run(self.target, argument));
        match &self.result {
            Some(Raw::Failed(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn answer(self: Box<Self>, refused: Option<TaskError>) {
        let Self { result, reply, .. } = *self;
        if let Some(outcome) = refused.map(Raw::Failed).or(result) {
            panic::contain(|| reply.resolve(outcome));
        }
    }
}
