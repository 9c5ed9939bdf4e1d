//! Calls that are run where they are made: what a pool without workers has instead of them, and
//! the run itself, which threads of this program do as well.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::{Kind, TaskError};
use super::reply::Raw;
use super::stats::WorkerStats;
use crate::process::StartError;
use crate::supervisor::callback::run_aside;
use crate::sys::clock::Moment;
use crate::task::DecodeError;
use crate::task::entry::{self, Sink, Verdict};
use crate::task::hook;
use crate::task::identity::Target;
use crate::wire::packed::Packed;

/// Does on this thread what a worker does with a call: decodes the argument, calls, encodes the
/// result. Its panics end here.
pub(crate) fn run(target: Target, argument: &[u8]) -> Raw {
    let mut ending = Ending(None);
    let unknown = entry::run(target, argument, &mut Vec::new(), &mut ending).err();
    let lost = || {
        // A target that was made here is found here, and then there is a verdict.
        let what =
            unknown.map_or_else(|| "it has no verdict".to_owned(), |error| error.to_string());
        let error = DecodeError::without_bytes::<Target>(what);
        Raw::Failed(TaskError::new(Kind::DecodeArgument(error)))
    };
    ending.0.unwrap_or_else(lost)
}

/// How a run ended, kept until it is told.
struct Ending(Option<Raw>);

impl Sink for Ending {
    fn publish(&mut self, verdict: Verdict<'_>) {
        self.0 = Some(match verdict {
            Verdict::Returned(result) => Raw::Returned(Packed::copy_of(result)),
            Verdict::Panicked(panic) => Raw::Failed(TaskError::new(Kind::Panicked(panic))),
            Verdict::ArgumentUndecodable(error) => {
                Raw::Failed(TaskError::new(Kind::DecodeArgument(error)))
            }
            Verdict::ResultUnencodable(error) => {
                Raw::Failed(TaskError::new(Kind::EncodeResult(error)))
            }
        });
    }
}

/// What a pool without workers has instead of them.
#[derive(Debug)]
pub(crate) struct InPlace {
    /// Run before the first call; encoded.
    initializer: Option<Vec<u8>>,
    /// How that went.
    prepared: OnceLock<Result<(), StartError>>,
    /// Run after the last one, for so long; empty for nothing.
    finalizer: Vec<u8>,
    finalizer_timeout: Duration,
    /// The calls that are running, and since when.
    running: Mutex<BTreeMap<u64, Moment>>,
    /// Nobody waits any more for what is running.
    ended: Arc<AtomicBool>,
}

impl InPlace {
    pub(super) fn new(
        initializer: Option<Vec<u8>>,
        finalizer: Vec<u8>,
        finalizer_timeout: Duration,
    ) -> Self {
        Self {
            initializer,
            prepared: OnceLock::new(),
            finalizer,
            finalizer_timeout,
            running: Mutex::default(),
            ended: Arc::default(),
        }
    }

    /// Runs the initializer, if nobody has; others wait for that. `first` is told when it fails.
    pub(super) fn prepare(&self, first: impl FnOnce(&StartError)) -> Result<(), StartError> {
        let mut is_first = false;
        let prepared = self.prepared.get_or_init(|| {
            is_first = true;
            let run = self.initializer.as_deref().map_or(Ok(()), hook::run);
            run.map_err(StartError::initializer)
        });
        if let (Err(error), true) = (prepared, is_first) {
            first(error);
        }
        prepared.clone()
    }

    /// Runs the finalizer on the callback thread, if anything was prepared for calls and they were
    /// let finish.
    pub(super) async fn finalize(&self) {
        let prepared = matches!(self.prepared.get(), Some(Ok(())));
        if self.finalizer.is_empty() || !prepared || self.is_ended() {
            return;
        }
        let (tell, told) = oneshot::channel::<()>();
        let finalizer = self.finalizer.clone();
        run_aside(move || {
            if let Err(text) = hook::run(&finalizer) {
                // Not `eprintln!`, which panics where nobody can be told.
                let _ = writeln!(io::stderr(), "procpool: finalizer failed: {text}");
            }
            drop(tell);
        });
        let _ = tokio::time::timeout(self.finalizer_timeout, told).await;
    }

    /// Has what is running told that nobody waits for it, which is all that can be done about it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Where those that are running look whether they should end.
    pub(super) fn ending(&self) -> Arc<AtomicBool> {
        self.ended.clone()
    }

    pub(super) fn begin(&self, number: u64, now: Moment) {
        self.lock().insert(number, now);
    }

    pub(super) fn over(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// The threads that are running a call just now, as the workers that they are for so long.
    pub(super) fn workers(&self, pool: &str) -> Vec<WorkerStats> {
        let now = Moment::now();
        let worker = |(number, since): (&u64, &Moment)| WorkerStats {
            name: format!("{pool}-inline"),
            pid: std::process::id(),
            running: Some(*number),
            running_for: Some(since.until(now)),
            held: 1,
            done: 0,
        };
        self.lock().iter().map(worker).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Moment>> {
        // No user code runs under the lock.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
