//! The instruments of a pool, and what there is to tell them.

use std::panic::{RefUnwindSafe, UnwindSafe};
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
}

impl Meters {
    /// Those of a pool of that name.
    pub(crate) fn new(pool: Option<&str>) -> Self {
        describe();
        let labels: Vec<_> = pool
            .map(|pool| Label::new("pool", pool.to_owned()))
            .into_iter()
            .collect();
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
            self.queued.set(levels.queued as f64);
            self.workers.set(levels.workers as f64);
            self.busy.set(levels.busy as f64);
        }
    }
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

    /// How things stand now.
    pub(crate) fn stand(&mut self, levels: impl FnOnce() -> Levels) {
        self.levels = Some(levels());
    }

    /// What there is to tell; what is not told yet goes on from here.
    pub(crate) fn take(&mut self) -> Self {
        let again = self.again;
        std::mem::replace(
            self,
            Self {
                again,
                ..Self::default()
            },
        )
    }
}
