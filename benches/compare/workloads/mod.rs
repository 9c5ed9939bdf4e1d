//! The workloads, each with the subjects that it is measured for.

mod copied;
mod flights;
mod headline;
pub(crate) mod idle;
mod map;
pub(crate) mod memory;
mod payload;
mod scale;
mod shared;
mod starts;
mod tail;
mod working;

use std::time::Duration;

use crate::arguments::Care;
use crate::figure::Figure;
use crate::place::{Place, cores};
use crate::rounds::{self, Subject};
use crate::subjects::Timed;
pub(crate) use payload::look;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    unit: &'static str,
    /// In how many rounds the subjects take turns: quickly, and with care.
    rounds: [usize; 2],
    subjects: fn(&Setting) -> Vec<Subject>,
}

pub(crate) struct Setting {
    pub(crate) care: Care,
}

impl Setting {
    pub(crate) fn new(care: Care) -> Self {
        // Of which the cores are asked before anything is pinned, and the descriptors before they run out.
        cores();
        raise_limit_of_descriptors();
        Self { care }
    }

    /// How long a subject takes in a round, about.
    pub(crate) fn slice(&self) -> Duration {
        Duration::from_millis(self.by_care(0, 20, 200))
    }

    /// What is for a trial, quick, or full.
    pub(crate) fn by_care<T>(&self, trial: T, quick: T, full: T) -> T {
        match self.care {
            Care::Trial => trial,
            Care::Quick => quick,
            Care::Full => full,
        }
    }

    /// Subjects that are measured by how long it takes them to do something often.
    fn repeated(
        &self,
        value: impl Fn(f64) -> f64 + Copy + 'static,
        timed: impl IntoIterator<Item = Timed>,
    ) -> Vec<Subject> {
        let timed = timed.into_iter();
        timed
            .map(|(name, pass)| Subject::repeated(name, self.slice(), value, pass))
            .collect()
    }
}

impl Workload {
    pub(crate) fn measure(&self, setting: &Setting) -> Vec<Figure> {
        Place::Free.take();
        let mut subjects = (self.subjects)(setting);
        let [quick, full] = self.rounds;
        let values = rounds::interleave(&mut subjects, setting.by_care(1, quick, full));
        rounds::figures(self.name, self.unit, &subjects, &values)
    }
}

/// Time for one, in seconds, as what is usually said of it.
fn micros(seconds: f64) -> f64 {
    seconds * 1e6
}

fn millis(seconds: f64) -> f64 {
    seconds * 1e3
}

/// `procspawn` has four descriptors for each call.
fn raise_limit_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(refused) = setrlimit(Resource::Nofile, raised) {
        eprintln!("the limit of descriptors stays: {refused}");
    }
}

/// All of them, in the order in which they are measured.
pub(crate) fn all() -> Vec<Workload> {
    let workload = |name, unit, rounds, subjects| Workload {
        name,
        unit,
        rounds,
        subjects,
    };
    vec![
        workload("lone_pinned", "us", [9, 31], flights::lone_pinned),
        workload("lone_cross", "us", [9, 31], flights::lone_cross),
        workload(
            "lone_free_spawned",
            "us",
            [9, 31],
            flights::lone_free_spawned,
        ),
        workload(
            "lone_free_block_on",
            "us",
            [9, 31],
            flights::lone_free_block_on,
        ),
        workload(
            "lone_latency_mode",
            "us",
            [9, 31],
            flights::lone_latency_mode,
        ),
        workload(
            "inflight1024_ct",
            "calls/s",
            [5, 21],
            flights::inflight1024_ct,
        ),
        workload(
            "inflight1024_mt",
            "calls/s",
            [5, 21],
            flights::inflight1024_mt,
        ),
        workload("inflight64_ct", "calls/s", [9, 31], flights::inflight64_ct),
        workload("inflight64_mt", "calls/s", [9, 31], flights::inflight64_mt),
        workload("map_auto", "items/s", [3, 15], map::map_auto),
        workload("work10us", "share", [9, 31], working::work10us),
        workload("work100us", "share", [9, 31], working::work100us),
        workload("payload_copy_1M", "GiB/s", [5, 21], copied::payload_copy_1m),
        workload(
            "payload_copy_16M",
            "GiB/s",
            [5, 21],
            copied::payload_copy_16m,
        ),
        workload(
            "payload_copy_256M",
            "GiB/s",
            [1, 7],
            copied::payload_copy_256m,
        ),
        workload(
            "payload_shared_1M",
            "GiB/s",
            [5, 21],
            shared::payload_shared_1m,
        ),
        workload(
            "payload_shared_16M",
            "GiB/s",
            [5, 21],
            shared::payload_shared_16m,
        ),
        workload(
            "payload_shared_256M",
            "GiB/s",
            [3, 9],
            shared::payload_shared_256m,
        ),
        workload("first_result", "ms", [9, 31], starts::first_result),
        workload("one_more_worker", "ms", [9, 31], starts::one_more_worker),
        workload("slot_again", "ms", [9, 31], starts::slot_again),
        workload(
            "headline_speedup",
            "jobs/s",
            [1, 7],
            headline::headline_speedup,
        ),
        workload("idle_wakeups", "in 10 s", [1, 3], idle::idle_wakeups),
        workload(
            "bytes_per_waiting_call",
            "B",
            [1, 3],
            memory::bytes_of_calls,
        ),
        workload(
            "worker_private_kib",
            "KiB",
            [1, 3],
            memory::private_kib_of_workers,
        ),
        workload("scale_waiting", "us", [2, 9], scale::scale_waiting),
        workload("scale_workers", "us", [5, 15], scale::scale_workers),
        workload("tail_half_load", "us", [2, 6], tail::tail_half_load),
    ]
}
