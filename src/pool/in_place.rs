//! Calls that are run where they are made: what a pool without workers has instead of them, and
//! the run itself, which threads of this program do as well.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::error::{Kind, TaskError};
use super::reply::Raw;
use super::stats::{WorkerState, WorkerStats};
use super::trace::CallTrace;
use crate::process::StartError;
use crate::supervisor::callback::run_aside;
use crate::sys::clock::Moment;
use crate::task::DecodeError;
use crate::task::entry::{self, Argument, Begun, Sink, Verdict};
use crate::task::hook;
use crate::task::identity::Target;
use crate::task::panic::PanicInfo;
use crate::task::place::Ended;
use crate::wire::packed::Packed;

/// Does on this thread what a worker does with a call: decodes the argument, calls, encodes the
/// result. Its panics end here.
pub(crate) fn run(target: Target, argument: Argument<'_>) -> Raw {
    let mut ending = Ending::default();
    let unknown = entry::run(target, argument, &mut Vec::new(), &mut ending).err();
    let lost = || {
        // A target that was made here is found here, and then there is a verdict.
        let what =
            unknown.map_or_else(|| "it has no verdict".to_owned(), |error| error.to_string());
        let error = DecodeError::without_bytes::<Target>(what);
        Raw::Failed(TaskError::new(Kind::DecodeArgument(error)))
    };
    ending.raw.unwrap_or_else(lost)
}

/// The same with a call of an async function, on a thread and a runtime made for it: this thread may
/// be driving one, which cannot wait for the call as well. At `until` it is dropped where it is.
pub(crate) fn run_async(
    target: Target,
    argument: Argument<'_>,
    until: Option<Moment>,
    trace: &CallTrace,
    enter: impl FnOnce() + Send,
) -> Raw {
    let failed = |error: String| {
        Raw::Failed(TaskError::new(Kind::Panicked(PanicInfo::of_text(
            &format!("the task could not be run in place: {error}"),
        ))))
    };
    let run = move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        enter();
        let mut ending = Ending::default();
        LocalSet::new().block_on(&runtime, async {
            let unknown = entry::run(target, argument, &mut Vec::new(), &mut ending);
            unknown.map_err(|error| failed(error.to_string()))?;
            let Some(mut begun) = ending.begun.take() else {
                return Ok(());
            };
            let mut scratch = Vec::new();
            let call = poll_fn(|context| begun.poll(context, &mut scratch, &mut ending));
            match until {
                None => call.await,
                Some(until) => {
                    let left = Moment::now().until(until);
                    // What it is then answered with is decided by whoever has the limits.
                    let _ = tokio::time::timeout(left, call).await;
                }
            }
            Ok(())
        })?;
        Ok(ending.raw)
    };
    let ran: Result<Option<Raw>, Raw> = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("procpool-inline".to_owned());
        match thread.spawn_scoped(scope, || trace.inside(run)) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(failed("it panicked".to_owned()))),
            Err(error) => Err(failed(error.to_string())),
        }
    });
    let unanswered = || failed("it has no verdict".to_owned());
    ran.map_or_else(|failed| failed, |raw| raw.unwrap_or_else(unanswered))
}

/// How a run ended, kept until it is told.
#[derive(Default)]
struct Ending {
    raw: Option<Raw>,
    /// What an async function has begun.
    begun: Option<Box<dyn Begun>>,
}

impl Sink for Ending {
    fn publish(&mut self, verdict: Verdict<'_>) {
        self.raw = Some(match verdict {
            Verdict::Returned(result, beside, _) => {
                Raw::Returned(Packed::beside(Packed::copy_of(result), beside))
            }
            Verdict::Panicked(panic) => Raw::Failed(TaskError::new(Kind::Panicked(panic))),
            Verdict::ArgumentUndecodable(error) => {
                Raw::Failed(TaskError::new(Kind::DecodeArgument(error)))
            }
            Verdict::ResultUnencodable(error) => {
                Raw::Failed(TaskError::new(Kind::EncodeResult(error)))
            }
        });
    }

    fn take_over(&mut self, begun: Box<dyn Begun>) {
        self.begun = Some(begun);
    }
}

/// What a pool without workers has instead of them.
#[derive(Debug)]
pub(crate) struct InPlace {
    /// Run before the first call, one after the other; encoded.
    initializers: Vec<Vec<u8>>,
    /// How that went.
    prepared: OnceLock<Result<(), StartError>>,
    /// Run after the last one, for so long; empty for nothing.
    finalizer: Vec<u8>,
    finalizer_timeout: Duration,
    /// The calls that are running, and since when.
    running: Mutex<BTreeMap<u64, Moment>>,
    /// Nobody waits any more for what is running.
    ended: Arc<Ended>,
}

impl InPlace {
    pub(super) fn new(
        initializers: Vec<Vec<u8>>,
        finalizer: Vec<u8>,
        finalizer_timeout: Duration,
    ) -> Self {
        Self {
            initializers,
            prepared: OnceLock::new(),
            finalizer,
            finalizer_timeout,
            running: Mutex::default(),
            ended: Arc::default(),
        }
    }

    /// Runs the initializers, if nobody has; others wait for that. `first` is told when it fails.
    pub(super) fn prepare(&self, first: impl FnOnce(&StartError)) -> Result<(), StartError> {
        let mut is_first = false;
        let prepared = self.prepared.get_or_init(|| {
            is_first = true;
            let mut hooks = self.initializers.iter();
            let run = hooks.try_for_each(|initializer| hook::run(initializer));
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
        self.ended.set();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_set()
    }

    /// Where those that are running look whether they should end.
    pub(super) fn ending(&self) -> Arc<Ended> {
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
            state: WorkerState::Running,
            ..WorkerStats::default()
        };
        self.lock().iter().map(worker).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Moment>> {
        // No user code runs under the lock.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
