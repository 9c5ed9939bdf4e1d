//! Waiting for many at once: connections, and whatever else is a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::io::Interest;

use super::{Connection, Receiver};
use crate::process::{Keeper, Sleep, home};
use crate::sys::{reactor, ready};

/// One of those that [`wait`] looks at: a connection, a receiver, or the descriptor of anything that
/// can be polled, such as a socket or a pidfd.
#[derive(Clone, Copy, Debug)]
pub struct Waitable<'a> {
    descriptor: BorrowedFd<'a>,
    /// Whether something of it is in this process already, where no descriptor shows it.
    is_here: bool,
}

impl<'a, T> From<&'a Receiver<T>> for Waitable<'a> {
    fn from(receiver: &'a Receiver<T>) -> Self {
        Self {
            descriptor: receiver.as_fd(),
            is_here: receiver.inbox.has_something(),
        }
    }
}

impl<'a, S, R> From<&'a Connection<S, R>> for Waitable<'a> {
    fn from(connection: &'a Connection<S, R>) -> Self {
        Self::from(&connection.receiver)
    }
}

impl<'a> From<BorrowedFd<'a>> for Waitable<'a> {
    fn from(descriptor: BorrowedFd<'a>) -> Self {
        Self {
            descriptor,
            is_here: false,
        }
    }
}

/// Waits until there is something to receive on one of these, at most for `limit`, and returns the
/// places of all on which there is. Nothing is taken. As CPython's `multiprocessing.connection.wait`
/// does.
///
/// An end counts as something, and so does the beginning of a message. Where the limit passes first
/// the list is empty; a limit of zero looks and does not wait. Of nothing to wait for, nothing is
/// ready: without a limit that waits for ever.
///
/// # Errors
///
/// Where the system refuses to wait, for example because this process may have no more descriptors:
/// two are needed meanwhile.
///
/// # Cancel safety
///
/// Dropping the future changes nothing.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use procpool::{connection::{Waitable, wait}, one_way};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut sender, first) = one_way::<String>()?;
/// let (_quiet, second) = one_way::<u32>()?;
/// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
/// sender.send(&"hello".to_owned()).await?;
/// let all = [Waitable::from(&first), Waitable::from(&second), socket.as_fd().into()];
/// assert_eq!(wait(all, Some(Duration::from_secs(1))).await?, [0]);
/// # Ok(()) }
/// ```
pub async fn wait<'a, I>(sources: I, limit: Option<Duration>) -> io::Result<Vec<usize>>
where
    I: IntoIterator,
    I::Item: Into<Waitable<'a>>,
{
    let sources: Vec<Waitable<'a>> = sources.into_iter().map(Into::into).collect();
    let found = look(&sources, Some(Instant::now()))?;
    if !found.is_empty() || limit == Some(Duration::ZERO) {
        return Ok(found);
    }
    let some = pin!(some_ready(&sources));
    let Some(limit) = limit else {
        return some.await;
    };
    // By the crate's own clock: the runtime may have none.
    let keeper = Keeper::get()?;
    match select(some, Sleep::on(keeper.handle(), limit)).await {
        Either::Left((found, _)) => found,
        Either::Right(_) => look(&sources, Some(Instant::now())),
    }
}

/// The same on a thread that may block.
///
/// # Errors
///
/// Where the system refuses to wait.
pub fn blocking_wait<'a, I>(sources: I, limit: Option<Duration>) -> io::Result<Vec<usize>>
where
    I: IntoIterator,
    I::Item: Into<Waitable<'a>>,
{
    let sources: Vec<Waitable<'a>> = sources.into_iter().map(Into::into).collect();
    look(
        &sources,
        limit.and_then(|limit| Instant::now().checked_add(limit)),
    )
}

/// Sleeps until some are ready, at most until `deadline`.
fn look(sources: &[Waitable<'_>], deadline: Option<Instant>) -> io::Result<Vec<usize>> {
    let is_here = sources.iter().any(|source| source.is_here);
    let deadline = if is_here {
        Some(Instant::now())
    } else {
        deadline
    };
    let descriptors: Vec<_> = sources.iter().map(|source| source.descriptor).collect();
    let readable = ready::readable(&descriptors, deadline)?;
    let each = sources.iter().zip(readable).enumerate();
    let found = each.filter(|(_, (source, readable))| source.is_here || *readable);
    Ok(found.map(|(place, _)| place).collect())
}

/// One registration stands for all: theirs may be registered by others, which can be done but once.
async fn some_ready(sources: &[Waitable<'_>]) -> io::Result<Vec<usize>> {
    let descriptors: Vec<_> = sources.iter().map(|source| source.descriptor).collect();
    let together = Arc::new(ready::together(&descriptors)?);
    let (home, _keeper) = home()?;
    let together = {
        let _inside = home.enter();
        reactor::register(together, Interest::READABLE)?
    };
    loop {
        let mut guard = together.readable().await?;
        let found = look(sources, Some(Instant::now()))?;
        if !found.is_empty() {
            return Ok(found);
        }
        guard.clear_ready();
    }
}
