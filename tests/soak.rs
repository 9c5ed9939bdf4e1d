//! Pools in long use: many tasks through one pool, many pools in one program, many items through
//! one map. What the program and its workers take of the system must be the same in the end as
//! after the first tenth.
//!
//! Each is run in small here, and in full by a test that is left out. How much is full can be said:
//! `PROCPOOL_SOAK_TASKS`, `PROCPOOL_SOAK_POOLS`, `PROCPOOL_SOAK_ITEMS`.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/footprint.rs"]
mod footprint;
mod support;

use std::future::{Future, pending};
use std::time::{Duration, Instant};

use deeds::{hang, own_pid};
use footprint::Footprint;
use futures::StreamExt;
use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod, Stdio};
use support::{HANG, PROMPTLY, children, eventually, runtime, scene, soon};
use tokio::time::timeout;

/// By how many KiB a program may differ from itself.
const SLACK: u64 = 2_048;
/// The same for a worker.
const WORKER_SLACK: u64 = 512;
/// No test that is left out may take longer.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What is said in the environment, or else that many.
fn number(variable: &str, full: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => full,
    }
}

fn builder(method: StartMethod) -> ProcessPoolBuilder {
    // What panics say is of no interest. To find out where they come from takes a worker some 40 MiB
    // and so long, where much is going on, that async calls are in want of its thread.
    let builder = ProcessPool::builder().start_method(method);
    let builder = builder.env("RUST_BACKTRACE", "0");
    builder.stderr(Stdio::null())
}

fn within(limit: Duration, test: impl Future<Output = ()>) {
    let done = runtime(2).block_on(async { timeout(limit, test).await });
    assert!(done.is_ok(), "not over after {limit:?}");
}

/// As a task: takes some memory, and leaves none behind.
fn work(number: u64) -> u64 {
    std::hint::black_box(vec![0_u8; 1 << (number % 12)]);
    number
}

async fn work_async(number: u64) -> u64 {
    tokio::task::yield_now().await;
    work(number)
}

async fn never(_: ()) {
    pending().await
}

fn hang_if(kill: bool) {
    if kill {
        hang(());
    }
}

fn fail(number: u64) -> u64 {
    panic!("{number}")
}

async fn fail_async(number: u64) -> u64 {
    tokio::task::yield_now().await;
    fail(number)
}

/// So many tasks are in one round.
const ROUND: u64 = 100;

/// A hundred tasks of all sorts, and what must come of each.
async fn round(pool: &ProcessPool, kill: bool) {
    let plain: Vec<_> = (0..50).map(|n| (n, pool.submit(work, n))).collect();
    let tasks: Vec<_> = (0..15)
        .map(|n| (n, pool.submit_async(work_async, n)))
        .collect();
    let ordered = pool.map(work, 0..12);
    let unordered = pool.map_unordered(work, 0..12);
    let failing = [0, 1, 2].map(|n| pool.submit(fail, n));
    let failing_async = [0, 1].map(|n| pool.submit_async(fail_async, n));
    let dropped = [(), ()].map(|()| pool.submit_async(never, ()));
    let regretted = [0, 1, 2].map(|n| (n, pool.submit(work, n)));
    for (n, handle) in regretted {
        // Whether it is in time is another test's matter.
        match handle.cancel() {
            true => assert!(handle.await.unwrap_err().is_cancelled()),
            false => assert_eq!(handle.await.unwrap(), n),
        }
    }
    // One that runs, and one that may not have been begun. What is not async waits for their room.
    assert!(soon(PROMPTLY, || dropped[0].is_running()).await);
    for handle in dropped {
        assert!(handle.abort());
        assert!(handle.await.unwrap_err().is_aborted());
    }
    for (n, handle) in plain.into_iter().chain(tasks) {
        assert_eq!(handle.await.unwrap(), n);
    }
    let ordered: Vec<_> = ordered.map(Result::unwrap).collect().await;
    assert_eq!(ordered, (0..12).collect::<Vec<_>>());
    let mut unordered: Vec<_> = unordered.map(Result::unwrap).collect().await;
    unordered.sort_unstable();
    assert_eq!(unordered, ordered);
    for handle in failing.into_iter().chain(failing_async) {
        assert!(handle.await.unwrap_err().is_panic());
    }
    let victim = pool.submit(hang_if, kill);
    if kill {
        assert!(soon(PROMPTLY, || victim.is_running()).await);
        assert!(victim.abort());
        assert!(victim.await.unwrap_err().is_aborted());
    } else {
        victim.await.unwrap();
    }
}

/// What the program takes, and what its largest worker does, when nothing is under way.
async fn look(pool: &ProcessPool) -> (Footprint, Footprint) {
    assert!(soon(PROMPTLY, || pool.stats().unfinished == 0).await);
    let workers = pool.stats().workers;
    let workers = workers.iter().map(|worker| Footprint::of(worker.pid));
    let worst = workers.max_by_key(|worker| worker.memory);
    (Footprint::own(), worst.expect("a worker"))
}

/// In ten legs. In the first five one task in a thousand is ended while it runs, which costs its
/// worker; after that workers live, and are compared with themselves.
fn run_tasks(method: StartMethod, tasks: u64, limit: Duration) {
    let _scene = scene();
    let begun = Instant::now();
    let rounds = tasks.div_ceil(ROUND * 10);
    let all = async {
        let pool = builder(method).workers(2).build().unwrap();
        let (mut first, mut settled) = (None, None);
        for leg in 1..=10 {
            for number in 0..rounds {
                round(&pool, leg <= 5 && number % 10 == 0).await;
            }
            let (program, worker) = look(&pool).await;
            eprintln!("{method}: {leg}0 %: {program}; worker: {worker}");
            let first = *first.get_or_insert(program);
            Footprint::must_not_have_grown(&first, SLACK);
            if leg > 5 {
                let settled: Footprint = *settled.get_or_insert(worker);
                let grown = worker.has_grown(&settled, WORKER_SLACK);
                assert!(!grown, "a worker: {settled} became {worker}");
            }
        }
        let stats = pool.stats();
        assert_eq!(stats.submitted, rounds * 10 * ROUND);
        assert_eq!(stats.failed, rounds * 10 * 5);
        let ended = stats.completed + stats.failed + stats.cancelled;
        assert_eq!((ended, stats.lost), (stats.submitted, 0));
        eprintln!(
            "{method}: {ended} tasks in {:?}, {} workers ended",
            begun.elapsed(),
            stats.workers_ended
        );
        pool.shutdown().await;
    };
    within(limit, all);
}

#[test]
fn thousands_of_tasks_leave_nothing_behind() {
    for method in StartMethod::available() {
        run_tasks(*method, 3_000, HANG);
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_million_tasks_leave_nothing_behind() {
    let tasks = number("PROCPOOL_SOAK_TASKS", 1_000_000);
    run_tasks(StartMethod::ForkServer, tasks, LIMIT);
}

/// How a pool is used before it ends.
async fn use_pool(pool: &ProcessPool, how: u64) {
    match how {
        0 => {}
        // Its workers are starting, or there.
        1 => drop(pool.submit(own_pid, ())),
        2 => pool.ready().await.unwrap(),
        3 => assert_eq!(pool.submit(work, 1).await.unwrap(), 1),
        4 => assert_eq!(pool.submit_async(work_async, 1).await.unwrap(), 1),
        5 => {
            // The rest of it is dropped.
            let mut results = pool.map(work, 0..100);
            assert_eq!(results.next().await.unwrap().unwrap(), 0);
        }
        6 => assert!(pool.submit(fail, 1).await.unwrap_err().is_panic()),
        _ => {
            let handle = pool.submit_async(never, ());
            assert!(soon(PROMPTLY, || handle.is_running()).await);
            assert!(handle.abort());
        }
    }
}

/// One pool from its beginning to its end; what sort of one follows from its number.
fn one_pool(number: u64, runtime: &tokio::runtime::Runtime) {
    let [sort, end, how, home] = [3, 4, 8, 2].map({
        let mut rest = number;
        move |count| {
            let digit = rest % count;
            rest /= count;
            digit
        }
    });
    let builder = match sort {
        0 => builder(StartMethod::ForkServer),
        1 => builder(StartMethod::Spawn),
        _ => ProcessPool::builder().inline(),
    };
    // Inside of a runtime, or outside of any.
    let entered = (home == 0).then(|| runtime.enter());
    let pool = builder.workers(1).build().unwrap();
    drop(entered);
    // In place a panic would be printed, and nobody ends what never ends.
    let how = if sort == 2 && how >= 6 { 3 } else { how };
    runtime.block_on(use_pool(&pool, how));
    match end {
        0 => runtime.block_on(pool.shutdown()),
        1 => drop(pool),
        2 => runtime.block_on(pool.terminate()),
        _ => runtime.block_on(pool.shutdown_now()),
    }
}

fn make_pools(pools: u64, limit: Duration) {
    let _scene = scene();
    let begun = Instant::now();
    let runtime = runtime(2);
    let mut first = None;
    for tenth in 0..10 {
        for number in tenth * pools / 10..(tenth + 1) * pools / 10 {
            one_pool(number, &runtime);
            assert!(begun.elapsed() < limit, "takes too long: {number} pools");
        }
        let gone = eventually(PROMPTLY, || children().is_empty());
        assert!(gone, "left behind: {:?}", children());
        let first = *first.get_or_insert_with(Footprint::own);
        let now = Footprint::must_not_have_grown(&first, SLACK);
        eprintln!("{}0 % of {pools} pools: {now}", tenth + 1);
    }
    eprintln!("{pools} pools in {:?}", begun.elapsed());
}

#[test]
fn hundreds_of_pools_leave_nothing_behind() {
    make_pools(200, HANG);
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_pools_leave_nothing_behind() {
    make_pools(number("PROCPOOL_SOAK_POOLS", 10_000), LIMIT);
}

/// One map with so many items; with look-ahead, chunks and books all of the time at work.
async fn run_items(method: StartMethod, items: u64, ordered: bool) {
    let begun = Instant::now();
    let pool = builder(method).workers(2).build().unwrap();
    let mut results = match ordered {
        true => pool.map(work, 0..items),
        false => pool.map_unordered(work, 0..items),
    };
    let (mut count, mut sum) = (0, 0);
    let mut first = None;
    while let Some(result) = results.next().await {
        let number = result.unwrap();
        assert!(!ordered || number == count);
        (count, sum) = (count + 1, sum + number);
        if count % items.div_ceil(20) == 0 && count >= items / 10 {
            let workers = pool.stats().workers;
            let workers = workers.iter().map(|worker| Footprint::of(worker.pid));
            let now = (
                Footprint::own(),
                workers.max_by_key(|worker| worker.memory).unwrap(),
            );
            let first: (Footprint, Footprint) = *first.get_or_insert(now);
            let grown = now.0.has_grown(&first.0, SLACK);
            assert!(!grown, "{} became {}", first.0, now.0);
            let grown = now.1.has_grown(&first.1, WORKER_SLACK);
            assert!(!grown, "a worker: {} became {}", first.1, now.1);
            let percent = count * 100 / items;
            eprintln!("{method}: {percent} %: {}; worker: {}", now.0, now.1);
        }
    }
    assert_eq!((count, sum), (items, items * (items - 1) / 2));
    eprintln!("{method}: {items} items in {:?}", begun.elapsed());
    pool.shutdown().await;
}

fn run_maps(method: StartMethod, items: u64, limit: Duration) {
    for ordered in [true, false] {
        let _scene = scene();
        within(limit, run_items(method, items, ordered));
    }
}

#[test]
fn the_memory_of_a_map_does_not_follow_from_the_number_of_its_items() {
    for method in StartMethod::available() {
        run_maps(*method, 50_000, HANG);
    }
}

#[test]
#[ignore = "takes a minute"]
fn the_memory_of_a_map_of_ten_million_items_is_flat() {
    let items = number("PROCPOOL_SOAK_ITEMS", 10_000_000);
    run_maps(StartMethod::ForkServer, items, LIMIT);
}
