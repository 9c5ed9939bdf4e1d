//! What each thread runs before its first call, and how the starts of threads have gone.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use tokio::sync::watch;

use crate::process::StartError;
use crate::task::{HookOutcome, panic};

/// A function with its argument, which each thread runs first.
#[derive(Clone)]
pub(super) struct Initializer(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Initializer {
    pub(super) fn new<A, R>(function: fn(A) -> R, argument: A) -> Self
    where
        A: Clone + Send + Sync + 'static,
        R: HookOutcome + 'static,
    {
        Self(Arc::new(move || function(argument.clone()).into_result()))
    }

    /// Runs it on this thread. It may fail, and panic.
    pub(super) fn run(&self) -> Result<(), StartError> {
        let said = panic::catch(|| (self.0)());
        said.unwrap_or_else(|panic| Err(format!("it panicked: {panic}")))
            .map_err(StartError::initializer)
    }
}

/// What it leaves behind when it panics is its own business already: it is run again on other threads.
impl UnwindSafe for Initializer {}
impl RefUnwindSafe for Initializer {}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initializer").finish_non_exhaustive()
    }
}

/// How the starts of threads that run something first have gone, for those who wait for them.
#[derive(Debug, Default)]
pub(super) struct Starts(watch::Sender<Tally>);

#[derive(Clone, Debug, Default)]
struct Tally {
    under_way: usize,
    failed: u64,
    last: Option<StartError>,
}

impl Starts {
    /// A thread is to be started.
    pub(super) fn begin(&self) {
        self.0.send_modify(|tally| tally.under_way += 1);
    }

    /// It is ready, or there is none.
    pub(super) fn end(&self, error: Option<StartError>) {
        self.0.send_modify(|tally| {
            tally.under_way -= 1;
            if error.is_some() {
                tally.failed += 1;
                tally.last = error;
            }
        });
    }

    /// Whether a thread runs what it runs first.
    pub(super) fn is_any_under_way(&self) -> bool {
        self.0.borrow().under_way > 0
    }

    /// Makes starts, and waits until none is under way any more. If one has failed since, tells how
    /// the last of them did.
    pub(super) async fn all(
        &self,
        start: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let mut tally = self.0.subscribe();
        let before = tally.borrow().failed;
        start()?;
        // The sender is in `self`, so that this ends in no other way.
        let over = tally.wait_for(|tally| tally.under_way == 0).await;
        match over.ok().filter(|tally| tally.failed > before) {
            Some(tally) => tally.last.clone().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }
}
