//! What the tests of the whole crate share: a scene that finds out what a test leaves behind,
//! waiting for conditions with a limit, and the matrix of runtimes and start methods.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary has this as a module and uses its own part of it"
)]

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod};
use tokio::runtime::{Builder, Runtime};

/// No test may take longer: beyond this it hangs.
pub const HANG: Duration = Duration::from_secs(60);
/// What counts as promptly on a machine that is busy with other things, too.
pub const PROMPTLY: Duration = Duration::from_secs(10);

static STAGE: Mutex<()> = Mutex::new(());

/// One test's time alone in this process. When it is dropped nothing may be left that was not
/// there before: no child, no zombie, no descriptor, no thread and no mapping of the crate.
pub struct Scene {
    before: Belongings,
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test runs in this process, and looks around.
pub fn scene() -> Scene {
    let alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    // The first runtime of a process makes descriptors that stay: those of its signal handling.
    drop(runtime(1));
    // What an earlier, failed test left behind is not this one's.
    Scene {
        before: Belongings::now(),
        _alone: alone,
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut left = Belongings::default();
        let gone = eventually(PROMPTLY, || {
            left = Belongings::now().minus(&self.before);
            left == Belongings::default()
        });
        assert!(gone, "left behind: {left:#?}");
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Belongings {
    children: Vec<String>,
    descriptors: BTreeMap<String, usize>,
    threads: Vec<String>,
    mappings: usize,
}

impl Belongings {
    fn now() -> Self {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(target) = fs::read_link(entry.path()) {
                // The kind of it: numbers of pipes and sockets differ from one to the next.
                let target = target.to_string_lossy().into_owned();
                let kind = target.split(":[").next().unwrap_or_default().to_owned();
                *descriptors.entry(kind).or_default() += 1;
            }
        }
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self {
            children: children().iter().map(|pid| describe(*pid)).collect(),
            descriptors,
            threads: threads()
                .into_iter()
                .filter(|name| name.starts_with("procpool"))
                .collect(),
            mappings: maps
                .lines()
                .filter(|line| line.contains("procpool"))
                .count(),
        }
    }

    fn minus(self, before: &Self) -> Self {
        let less = |now: Vec<String>, before: &Vec<String>| {
            now.into_iter()
                .filter(|one| !before.contains(one))
                .collect()
        };
        let more = |(kind, count): (String, usize)| {
            let count = count.saturating_sub(before.descriptors.get(&kind).copied().unwrap_or(0));
            (count > 0).then_some((kind, count))
        };
        Self {
            children: less(self.children, &before.children),
            descriptors: self.descriptors.into_iter().filter_map(more).collect(),
            threads: less(self.threads, &before.threads),
            mappings: self.mappings.saturating_sub(before.mappings),
        }
    }
}

/// How many descriptors of each kind are open.
pub fn open_descriptors() -> BTreeMap<String, usize> {
    Belongings::now().descriptors
}

/// The process ids of this process's children, zombies among them.
pub fn children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The process ids of all descendants of a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut all = Vec::new();
    for list in lists {
        for child in list
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
        {
            all.push(child);
            all.extend(descendants(child));
        }
    }
    all
}

fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

fn describe(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    format!(
        "{pid}: {}",
        status
            .split(' ')
            .skip(1)
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Waits for a condition, but not longer than `limit`; tells whether it came about.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same without blocking the runtime.
pub async fn soon(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A runtime of one thread, or of two.
pub fn runtime(threads: usize) -> Runtime {
    match threads {
        1 => Builder::new_current_thread().enable_all().build().unwrap(),
        _ => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap(),
    }
}

/// Runs a test on each kind of runtime, in a scene of its own.
pub fn on_each_runtime<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for threads in [1, 2] {
        let scene = scene();
        let runtime = runtime(threads);
        runtime.block_on(async {
            let test = tokio::time::timeout(HANG, test());
            assert!(test.await.is_ok(), "hangs on {threads} threads");
        });
        drop(runtime);
        drop(scene);
    }
}

/// A pool of so many workers, to be given further options.
pub fn builder(workers: usize, method: StartMethod) -> ProcessPoolBuilder {
    ProcessPool::builder().workers(workers).start_method(method)
}

/// A pool of so many workers.
pub fn pool(workers: usize, method: StartMethod) -> ProcessPool {
    builder(workers, method).build().unwrap()
}

/// Runs a test once for each start method on each kind of runtime, each in a scene of its own.
pub fn everywhere<F: Future<Output = ()>>(test: impl Fn(StartMethod) -> F) {
    for threads in [1, 2] {
        for method in StartMethod::available() {
            let scene = scene();
            let runtime = runtime(threads);
            runtime.block_on(async {
                let test = tokio::time::timeout(HANG, test(*method));
                assert!(
                    test.await.is_ok(),
                    "hangs with {method} on {threads} threads"
                );
            });
            drop(runtime);
            drop(scene);
        }
    }
}
