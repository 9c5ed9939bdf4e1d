//! The instruments of a pool, and what there is to tell them.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit};

use super::Levels;
use crate::pool::error::TaskError;

/// The instruments of a pool, got from the recorder that was there when it was built.
pub(crate) struct Meters {
    submitted: Counter,
    done: Counter,
    failed: Vec<(&'static str, Counter)>,
    retried: Counter,
    restarted: Counter,
    queued: Gauge,
    workers: Gauge,
    busy: Gauge,
    waited: Histogram,
    ran: Histogram,
    /// What the gauges are to show.
    standing: Mutex<Standing>,
    /// Held by who sets them.
    setting: Mutex<()>,
}

/// How things stood last.
#[derive(Debug, Default)]
struct Standing {
    turn: u64,
    /// Not shown yet.
    unshown: Option<Levels>,
}

impl Meters {
    /// Those of a pool of that kind and name.
    pub(crate) fn new(kind: &'static str, pool: Option<&str>) -> Self {
        describe();
        let pool = pool.map(|pool| Label::new("pool", pool.to_owned()));
        let kind = Label::from_static_parts("kind", kind);
        let labels: Vec<_> = [kind].into_iter().chain(pool).collect();
        let failed = TaskError::REASONS.map(|reason| {
            let reasons = [Label::new("reason", reason)].into_iter();
            let labels: Vec<_> = labels.iter().cloned().chain(reasons).collect();
            (reason, metrics::counter!(FAILED, labels))
        });
        Self {
            submitted: metrics::counter!(SUBMITTED, labels.clone()),
            done: metrics::counter!(DONE, labels.clone()),
            failed: failed.into(),
            retried: metrics::counter!(RETRIED, labels.clone()),
            restarted: metrics::counter!(RESTARTS, labels.clone()),
            queued: metrics::gauge!(QUEUE_DEPTH, labels.clone()),
            workers: metrics::gauge!(WORKERS, labels.clone()),
            busy: metrics::gauge!(BUSY, labels.clone()),
            waited: metrics::histogram!(WAITED, labels.clone()),
            ran: metrics::histogram!(RAN, labels),
            standing: Mutex::default(),
            setting: Mutex::default(),
        }
    }

    /// Tells, which runs code of the program's recorder.
    pub(crate) fn tell(&self, unsaid: Unsaid) {
        add(&self.submitted, unsaid.submitted);
        add(&self.done, unsaid.done);
        add(&self.retried, unsaid.retried);
        add(&self.restarted, unsaid.restarted);
        for (reason, count) in unsaid.failed {
            let known = self.failed.iter().find(|(known, _)| *known == reason);
            known
                .into_iter()
                .for_each(|(_, counter)| add(counter, count));
        }
        for (waited, ran) in unsaid.took {
            self.waited.record(waited);
            self.ran.record(ran);
        }
        if let Some(levels) = unsaid.levels {
            self.show(unsaid.turn, levels);
        }
    }

    /// Sets the gauges, unless they show already how things stood after that: threads that have come
    /// out of the pool's lock overtake each other on the way here.
    fn show(&self, turn: u64, levels: Levels) {
        let mut standing = lock(&self.standing);
        if turn < standing.turn {
            return;
        }
        *standing = Standing {
            turn,
            unshown: Some(levels),
        };
        drop(standing);
        while lock(&self.standing).unshown.is_some() {
            let _setting = match self.setting.try_lock() {
                Ok(setting) => setting,
                // A recorder has panicked.
                Err(TryLockError::Poisoned(setting)) => setting.into_inner(),
                // Whoever sets them finds these as well.
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(levels) = { lock(&self.standing).unshown.take() } {
                self.queued.set(levels.queued as f64);
                self.workers.set(levels.workers as f64);
                self.busy.set(levels.busy as f64);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// An instrument is the recorder's, and nothing of ours is left half done by a panic in it. Without
// these a pool could not be carried across a `catch_unwind`.
impl UnwindSafe for Meters {}
impl RefUnwindSafe for Meters {}

fn add(counter: &Counter, count: u64) {
    if count > 0 {
        counter.increment(count);
    }
}

const SUBMITTED: &str = "procpool_calls_submitted_total";
const DONE: &str = "procpool_calls_done_total";
const FAILED: &str = "procpool_calls_failed_total";
const RETRIED: &str = "procpool_calls_retried_total";
const RESTARTS: &str = "procpool_worker_restarts_total";
const QUEUE_DEPTH: &str = "procpool_queue_depth";
const WORKERS: &str = "procpool_workers";
const BUSY: &str = "procpool_workers_busy";
const WAITED: &str = "procpool_call_wait_seconds";
const RAN: &str = "procpool_call_run_seconds";

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    counter!(SUBMITTED, "Calls that were accepted.");
    counter!(DONE, "Calls that returned.");
    counter!(FAILED, "Calls that gave an error, by the reason.");
    counter!(RETRIED, "Runs that failed and were repeated.");
    counter!(RESTARTS, "Workers that took the place of another.");
    gauge!(QUEUE_DEPTH, "Calls that wait and were given to no worker.");
    gauge!(WORKERS, "Workers that are ready.");
    gauge!(BUSY, "Workers that hold a call.");
    let unit = Unit::Seconds;
    metrics::describe_histogram!(WAITED, unit, "How long answered calls had waited.");
    metrics::describe_histogram!(RAN, unit, "How long answered calls ran.");
}

/// What there is to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaid {
    submitted: u64,
    /// So many that were told as submitted are to be submitted again.
    again: u64,
    done: u64,
    failed: Vec<(&'static str, u64)>,
    took: Vec<(Duration, Duration)>,
    retried: u64,
    restarted: u64,
    levels: Option<Levels>,
    /// How many times it was noted how things stand.
    turn: u64,
}

impl Unsaid {
    /// So many calls were accepted.
    pub(crate) fn submitted(&mut self, calls: u64) {
        let again = calls.min(self.again);
        self.again -= again;
        self.submitted += calls - again;
    }

    /// So many calls will be accepted again.
    pub(crate) fn taken_back(&mut self, calls: u64) {
        self.again += calls;
    }

    /// A call has returned.
    pub(crate) fn done(&mut self) {
        self.done += 1;
    }

    /// So many calls have failed for that reason.
    pub(crate) fn failed(&mut self, reason: &'static str, calls: u64) {
        match self.failed.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += calls,
            None => self.failed.push((reason, calls)),
        }
    }

    /// A call was answered that had waited and has run so long.
    pub(crate) fn took(&mut self, waited: Duration, ran: Duration) {
        self.took.push((waited, ran));
    }

    /// A call is run again.
    pub(crate) fn retried(&mut self) {
        self.retried += 1;
    }

    /// A worker has taken the place of another.
    pub(crate) fn restarted(&mut self) {
        self.restarted += 1;
    }

    /// Whether there is nothing to tell. How things stand may have changed in any case.
    pub(crate) fn is_nothing(&self) -> bool {
        false
    }

    /// How things stand now.
    pub(crate) fn stand(&mut self, levels: impl FnOnce() -> Levels) {
        self.levels = Some(levels());
        self.turn += 1;
    }

    /// What there is to tell; what is not told yet goes on from here.
    pub(crate) fn take(&mut self) -> Self {
        let rest = Self {
            again: self.again,
            turn: self.turn,
            ..Self::default()
        };
        std::mem::replace(self, rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_gauge_does_not_go_back_to_how_things_stood_before() {
        let shown = Arc::new(AtomicU64::new(0));
        let meters = Meters {
            busy: Gauge::from_arc(shown.clone()),
            ..Meters::new("thread", None)
        };
        let mut unsaid = Unsaid::default();
        let [first, second] = [1, 0].map(|busy| {
            let levels = Levels::default();
            unsaid.stand(|| Levels { busy, ..levels });
            unsaid.take()
        });
        meters.tell(second);
        meters.tell(first);
        assert_eq!(f64::from_bits(shown.load(Ordering::Relaxed)), 0.0);
    }
}
