//! What `procpool` is to reach in each workload, and whether it does.

use crate::figure::Figure;

/// The subject that the goals are for.
pub(crate) const OURS: &str = "procpool";

/// A bound for a ratio, or for a figure by itself where it is compared with nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}
use Goal::{AtLeast, AtMost};

impl Goal {
    /// The goal that this figure is measured by, if it is one of ours that has one.
    pub(crate) fn of(figure: &Figure) -> Option<Self> {
        if figure.subject != OURS {
            return None;
        }
        let against = figure.against.as_ref().map(|against| against.subject);
        let mut goals = GOALS.iter();
        let goal = goals.find(|(workload, to, _)| (*workload, *to) == (figure.workload, against));
        goal.map(|(_, _, goal)| *goal)
    }

    pub(crate) fn is_reached_by(self, figure: &Figure) -> bool {
        let against = figure.against.as_ref();
        let reached = against.map_or(figure.value, |against| against.ratio).median;
        match self {
            AtMost(bound) => reached <= bound,
            AtLeast(bound) => reached >= bound,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AtMost(bound) => write!(f, "<= {bound}"),
            AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

/// Workload, what it is compared with, and the bound.
pub(crate) const GOALS: &[(&str, Option<&str>, Goal)] = &[
    ("lone_pinned", Some("pipe"), AtMost(1.5)),
    ("lone_pinned", Some("spawn_blocking"), AtMost(1.0)),
    ("lone_cross", Some("pipe"), AtMost(1.1)),
    ("lone_free_spawned", Some("spawn_blocking"), AtMost(1.0)),
    ("lone_free_block_on", Some("spawn_blocking"), AtMost(1.0)),
    ("lone_latency_mode", Some("spawn_blocking"), AtMost(0.2)),
    (
        "inflight1024_ct",
        Some("spawn_blocking_cores"),
        AtLeast(2.5),
    ),
    ("inflight1024_ct", Some("spawn_blocking"), AtLeast(40.0)),
    ("inflight1024_ct", Some("tokio_batched"), AtLeast(1.5)),
    ("inflight1024_ct", Some("procspawn"), AtLeast(100.0)),
    ("inflight1024_ct", Some("python_ppe"), AtLeast(100.0)),
    ("inflight1024_ct", Some("python_pool"), AtLeast(100.0)),
    (
        "inflight1024_mt",
        Some("spawn_blocking_cores"),
        AtLeast(2.0),
    ),
    ("inflight1024_mt", Some("spawn_blocking"), AtLeast(30.0)),
    ("inflight1024_mt", Some("tokio_batched"), AtLeast(1.5)),
    ("inflight1024_mt", Some("procspawn"), AtLeast(100.0)),
    ("inflight1024_mt", Some("python_ppe"), AtLeast(100.0)),
    ("inflight1024_mt", Some("python_pool"), AtLeast(100.0)),
    ("inflight64_ct", Some("spawn_blocking_cores"), AtLeast(1.2)),
    ("inflight64_mt", Some("spawn_blocking_cores"), AtLeast(1.0)),
    ("map_auto", Some("map_best_fixed"), AtLeast(0.9)),
    ("work10us", Some("spawn_blocking_cores"), AtLeast(0.95)),
    ("work100us", Some("spawn_blocking_cores"), AtLeast(1.0)),
    ("payload_copy_1M", Some("memcpy"), AtLeast(0.25)),
    ("payload_copy_16M", Some("memcpy"), AtLeast(0.45)),
    ("payload_copy_256M", Some("memcpy"), AtLeast(0.45)),
    ("payload_shared_1M", Some("memcpy"), AtLeast(0.3)),
    ("payload_shared_16M", Some("memcpy"), AtLeast(0.85)),
    ("payload_shared_256M", Some("memcpy"), AtLeast(0.85)),
    ("first_result", Some("posix_spawn"), AtMost(1.5)),
    ("one_more_worker", Some("posix_spawn"), AtMost(0.3)),
    ("slot_again", Some("forkserver_launch"), AtMost(2.0)),
    ("headline_speedup", Some("sequential"), AtLeast(1.97)),
    ("idle_wakeups", None, AtMost(0.0)),
    ("bytes_per_waiting_call", None, AtMost(512.0)),
    ("worker_private_kib", None, AtMost(300.0)),
    ("scale_waiting", Some("procpool_1"), AtMost(1.2)),
    ("scale_waiting", Some("procpool_1k"), AtMost(1.2)),
    ("scale_workers", Some("procpool_1"), AtMost(2.0)),
    ("tail_half_load", Some("spawn_blocking"), AtMost(1.5)),
];
