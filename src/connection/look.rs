//! Looking whether there is something to receive, and taking nothing.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Receiver;
use super::error::ConnectionError;
use crate::process::{Keeper, Sleep};
use crate::sys::ready;

impl<T> Receiver<T> {
    /// Waits until there is something to receive: a message or the beginning of one, or the end.
    /// Takes nothing, and so says the same again until it is received.
    ///
    /// # Errors
    ///
    /// Where the system refuses to wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn readable(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|context| self.poll_something(context)).await
    }

    /// Tells whether there is something to receive, at the latest after `limit`; as CPython's `poll`
    /// does. With a limit of zero it looks and does not wait. See [`readable`](Self::readable).
    ///
    /// # Errors
    ///
    /// Where the system refuses to wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn poll(&mut self, limit: Duration) -> Result<bool, ConnectionError> {
        let there = self.has_something()?;
        if there || limit.is_zero() {
            return Ok(there);
        }
        // By the crate's own clock: the runtime may have none.
        let keeper = Keeper::get().map_err(ConnectionError::receiving)?;
        let mut asleep = Sleep::on(keeper.handle(), limit);
        poll_fn(|context| {
            if let Poll::Ready(seen) = self.poll_something(context) {
                return Poll::Ready(seen.map(|()| true));
            }
            let asleep = Pin::new(&mut asleep);
            asleep.poll(context).map(|()| self.has_something())
        })
        .await
    }

    /// The same on a thread that may block.
    ///
    /// # Errors
    ///
    /// Where the system refuses to wait.
    pub fn blocking_poll(&mut self, limit: Option<Duration>) -> Result<bool, ConnectionError> {
        if self.inbox.has_something() {
            return Ok(true);
        }
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let seen = self.link.wait_to_read(deadline);
        seen.map_err(ConnectionError::receiving)
    }

    fn poll_something(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.inbox.has_something() {
            return Poll::Ready(Ok(()));
        }
        self.link.poll_readable(context)
    }

    fn has_something(&self) -> Result<bool, ConnectionError> {
        let there = self.inbox.has_something();
        let there = if there {
            Ok(true)
        } else {
            ready::is_readable(self.as_fd())
        };
        there.map_err(ConnectionError::receiving)
    }
}
