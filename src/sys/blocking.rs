//! Waiting for a future's kind of news on a thread that may be blocked, with the thread parked.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// A waiter gives those whose work it is this long before it sees to it that it is done.
const PATIENCE: Duration = Duration::from_millis(20);

/// Sees to it that this thread may wait.
///
/// # Panics
///
/// Where it drives async tasks, as tokio's own blocking calls do.
#[track_caller]
pub(crate) fn must_be_allowed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let _ = tell.send(());
    // It is there: this only asks.
    let _ = told.blocking_recv();
}

/// Polls until there is something, with the thread parked in between; `None` when time is up.
///
/// `help` has somebody else do the work that is waited for, in case that nobody does it: it may be
/// this very thread that would have to.
#[track_caller]
pub(crate) fn wait<T>(
    limit: Option<Duration>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    help: impl FnOnce(),
) -> Option<T> {
    let begun = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut help = Some(help);
    loop {
        if let Poll::Ready(news) = poll(&mut context) {
            return Some(news);
        }
        let waited = begun.elapsed();
        if limit.is_some_and(|limit| waited >= limit) {
            return None;
        }
        if let Some(help) = help.take_if(|_| waited >= PATIENCE) {
            help();
        }
        let left = limit.map(|limit| limit - waited);
        let patience = help.is_some().then_some(PATIENCE);
        match left.into_iter().chain(patience).min() {
            Some(pause) => std::thread::park_timeout(pause),
            None => std::thread::park(),
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
