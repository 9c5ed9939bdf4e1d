//! Between those who come in and whoever takes them: clients that have proved themselves, refusals,
//! and the end. It lets nobody in itself.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;

use super::error::AcceptError;
use crate::connection::greet::Greeted;
use crate::connection::peer::Peer;
use crate::connection::refusal::Refusal;

/// So many refusals are kept for whoever asks; of more, the last.
const REFUSALS: usize = 64;

/// A client that may come in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) peer: Peer,
    pub(super) greeted: Greeted,
    /// Its place among those who wait, for somebody else when it is taken.
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    pub(super) fn new(peer: Peer, greeted: Greeted, place: OwnedSemaphorePermit) -> Self {
        Self {
            peer,
            greeted,
            _place: place,
        }
    }
}

/// The waiting room of one listener.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Result<Visitor, Refusal>>,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Why nobody comes any more. It is told each time.
#[derive(Clone, Debug)]
pub(super) enum End {
    Closed,
    Failed(Arc<io::Error>),
}

impl Lobby {
    /// Lets a client wait here, or the news of one that was turned away.
    pub(super) fn admit(&self, who: Result<Visitor, Refusal>) {
        self.change(|state| {
            // Who was closed out here is told by being closed.
            if state.end.is_some() {
                return;
            }
            let refused = |one: &Result<_, _>| one.is_err();
            let refusals = state.waiting.iter().filter(|one| refused(one)).count();
            if who.is_err() && refusals == REFUSALS {
                let oldest = state.waiting.iter().position(refused);
                oldest.and_then(|oldest| state.waiting.remove(oldest));
            }
            state.waiting.push_back(who);
        });
    }

    /// Nobody comes any more. Whoever has come can still be taken, unless it is closed.
    pub(super) fn end(&self, why: End) {
        let unwanted = self.change(|state| {
            let closed = matches!(why, End::Closed);
            state.end.get_or_insert(why);
            closed.then(|| std::mem::take(&mut state.waiting))
        });
        drop(unwanted);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }

    /// Takes the next.
    pub(super) fn poll_next(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Result<Visitor, Refusal>, AcceptError>> {
        let mut state = self.lock();
        match state.next() {
            Some(next) => Poll::Ready(next),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is kept under it is left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Result<Result<Visitor, Refusal>, AcceptError>> {
        let next = self.waiting.pop_front().map(Ok);
        next.or_else(|| Some(Err(AcceptError::from(self.end.clone()?))))
    }
}
