//! A function with its argument, to be run on another thread, and the duty to answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::timers::Timer;
use crate::pool::error::{Kind, TaskError};
use crate::pool::in_place;
use crate::pool::reply::{Answer, Raw, Reply};
use crate::pool::updates::Listener;
use crate::sys::clock::Moment;
use crate::task::identity::Target;
use crate::task::panic;
use crate::wire::packed::Packed;

/// A call in the pool.
pub(super) struct Job {
    pub(super) work: Box<dyn Work>,
    pub(super) name: Option<Arc<str>>,
    /// After how long it is asked to come to its end.
    pub(super) soft_timeout: Option<Duration>,
    /// When it was accepted.
    pub(super) since: Moment,
    /// Its part of the room in the queue, given back with it.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// Ends its waiting.
    pub(super) timer: Option<Timer>,
    /// Where its updates go, if somebody wants to have them.
    pub(super) listener: Option<Listener>,
}

/// What the threads know of a call. Its panics stay inside.
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

/// A call that [`call!`](crate::call) has made, which is encoded.
pub(super) struct Encoded {
    pub(super) target: Target,
    pub(super) argument: Packed,
    pub(super) result: Option<Raw>,
    pub(super) reply: Arc<dyn Answer>,
}

impl Work for Encoded {
    fn run(&mut self) -> Result<(), TaskError> {
        self.result = Some(in_place::run(self.target, &self.argument));
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
