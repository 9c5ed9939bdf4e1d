//! How often somebody wakes up in a pool that has nothing to do: its program, its fork server, or a worker.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Setting;
use crate::apart;
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, pool};
use crate::work::Job;

/// The names of the measurement, in a program of its own.
pub(crate) const FOR_TEN_SECONDS: &str = "idle_for_ten_seconds";
pub(crate) const FOR_A_SECOND: &str = "idle_for_a_second";

pub(super) fn idle_wakeups(setting: &Setting) -> Vec<Subject> {
    let measurement = setting.by_care(FOR_A_SECOND, FOR_TEN_SECONDS, FOR_TEN_SECONDS);
    vec![Subject::new("procpool", move || {
        apart::measured(measurement)
    })]
}

/// Counts for so many seconds, in a pool that has just had something to do.
pub(crate) fn wakeups(seconds: u64) -> f64 {
    let scene = Scene {
        flavor: Flavor::Multi,
        seat: Seat::Spawned,
        place: Place::Free,
    };
    let runtime = scene.runtime("procpool");
    let pool = pool::start(&runtime, scene.place, scene.place.workers());
    for n in 0..1_000 {
        let answer = runtime.block_on(pool.submit(Job::run, Job::nothing(n)));
        assert_eq!(answer.expect("the job is plain"), n + 1);
    }
    let workers = pool.stats().workers;
    let mut processes: Vec<_> = workers.iter().map(|worker| worker.pid).collect();
    processes.extend([parent_of(processes[0]), std::process::id()]);
    // What comes of that is over by then.
    thread::sleep(Duration::from_millis(500));
    let before = switches(&processes);
    thread::sleep(Duration::from_secs(seconds));
    let after = switches(&processes);
    let since = |(thread, count): (&PathBuf, &u64)| {
        let earlier = before.get(thread).copied().unwrap_or(0);
        count.saturating_sub(earlier)
    };
    // Whoever is not there any more woke up for that.
    let ended = before
        .keys()
        .filter(|thread| !after.contains_key(*thread))
        .count();
    after.iter().map(since).sum::<u64>() as f64 + ended as f64
}

/// How often each thread of these processes was switched to; without the one that wakes up to count.
fn switches(processes: &[u32]) -> HashMap<PathBuf, u64> {
    let own = format!("/proc/{0}/task/{0}", std::process::id());
    let threads = |pid: &u32| {
        fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
    };
    let threads = processes.iter().flat_map(threads).filter_map(Result::ok);
    let threads = threads
        .map(|thread| thread.path())
        .filter(|thread| thread != Path::new(&own));
    let count = |thread: PathBuf| {
        let voluntary = number(&thread, "voluntary_ctxt_switches:")?;
        let others = number(&thread, "nonvoluntary_ctxt_switches:")?;
        Some((thread, voluntary + others))
    };
    threads.filter_map(count).collect()
}

fn parent_of(pid: u32) -> u32 {
    let parent = number(Path::new(&format!("/proc/{pid}")), "PPid:");
    parent
        .and_then(|pid| pid.try_into().ok())
        .expect("it is there")
}

/// What the line of that name says, in the status of a process or a thread; `None` if it has ended.
fn number(of: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(of.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line?.trim().parse().ok()
}
