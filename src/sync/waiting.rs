//! Waiting for whatever somebody waits for: looking, and sleeping until there is news, in a future or
//! on a thread. What there is to be seen is the primitive's own matter.

use std::io;
use std::time::{Duration, Instant};

use super::vigil::{Rest, Vigil};

/// Somebody who waits.
pub(super) trait Waiter {
    /// What he waits for.
    type End;

    /// Looks at how things are. What happens after this has begun is news to the vigil.
    fn look(&mut self) -> io::Result<Look<Self::End>>;

    /// What he sleeps by.
    fn vigil(&self) -> &Vigil;
}

/// What there is to be seen.
pub(super) enum Look<T> {
    /// It is over.
    Over(T),
    /// Nothing yet: it is time to sleep until there is news, and so long at most.
    Sleep(Option<Duration>),
}

/// When it is that the limit has passed; beyond what a clock can say is never.
pub(super) fn deadline(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

/// How much is left of a limit that begins now, whenever that is asked; `None` where there is none.
pub(super) fn left_of(limit: Option<Duration>) -> impl Fn() -> Option<Duration> {
    let begun = Instant::now();
    move || limit.map(|limit| limit.saturating_sub(begun.elapsed()))
}

/// Waits in a future; `None` when time is up. Cancel safe, as far as looking is.
pub(super) async fn in_future<W: Waiter>(
    waiter: &mut W,
    deadline: Option<Instant>,
) -> io::Result<Option<W::End>> {
    let mut rest: Option<Rest> = None;
    loop {
        let limit = match waiter.look()? {
            Look::Over(end) => return Ok(Some(end)),
            Look::Sleep(limit) => limit,
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        let rest = match &mut rest {
            Some(rest) => rest,
            none => none.insert(waiter.vigil().in_future()?),
        };
        rest.sleep(limit.into_iter().chain(left).min()).await?;
    }
}

/// Waits on a thread that may block; `None` when time is up.
pub(super) fn on_thread<W: Waiter>(
    waiter: &mut W,
    deadline: Option<Instant>,
) -> io::Result<Option<W::End>> {
    loop {
        let limit = match waiter.look()? {
            Look::Over(end) => return Ok(Some(end)),
            Look::Sleep(limit) => limit,
        };
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(None);
        }
        let until = limit.and_then(|limit| now.checked_add(limit));
        waiter
            .vigil()
            .sleep(deadline.into_iter().chain(until).min())?;
    }
}
