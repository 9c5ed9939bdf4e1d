//! Bounds on the memory of workers: who is ended for it and who is not.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use deeds::own_pid;
use futures::StreamExt;
use procpool::{ProcessPool, StartMethod};
use support::{PROMPTLY, children, everywhere, scene, soon};

const MIB: usize = 1 << 20;
const LIMIT: u64 = 96 << 20;

fn pool(method: StartMethod, workers: usize) -> ProcessPool {
    ProcessPool::builder()
        .workers(workers)
        .start_method(method)
        .max_memory_per_worker(LIMIT)
        .build()
        .unwrap()
}

/// As a task: takes so many MiB, holds them for so long, and gives them back.
fn take((size, millis): (usize, u64)) -> u32 {
    let memory = std::hint::black_box(vec![1u8; size * MIB]);
    std::thread::sleep(Duration::from_millis(millis));
    drop(memory);
    std::process::id()
}

/// As a task: takes so many MiB for as long as the worker lives.
fn leak(size: usize) -> u32 {
    static LEAKED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    LEAKED.lock().unwrap().push(vec![1u8; size * MIB]);
    std::process::id()
}

/// As a task: takes more and more.
fn balloon(_: ()) {
    loop {
        leak(1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_task_that_balloons_is_ended_soon_and_alone() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let neighbour = pool.submit(take, (10, 400));
        let begun = Instant::now();
        let error = pool.submit(balloon, ()).await.unwrap_err();
        assert!(error.is_memory_exceeded() && error.maybe_executed());
        assert!(!error.is_worker_lost() && !error.is_timeout());
        assert!(begun.elapsed() < PROMPTLY);
        let text = error.to_string();
        assert!(text.contains(&LIMIT.to_string()), "{text}");
        let numbers = text.split(|letter: char| !letter.is_ascii_digit());
        let used = numbers
            .filter_map(|number| number.parse::<u64>().ok())
            .next();
        assert!(used > Some(LIMIT), "{text}");
        assert!(neighbour.await.is_ok());
        let stats = pool.stats();
        assert_eq!((stats.failed, stats.lost), (1, 0));
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_takes_too_much_at_once_and_then_waits_is_ended() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let error = pool.submit(take, (150, 60_000)).await.unwrap_err();
        assert!(error.is_memory_exceeded(), "{error}");
        pool.shutdown().await;
    });
}

#[test]
fn a_worker_that_tasks_have_left_too_large_runs_no_other() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let first = pool.submit(leak, 40).await.unwrap();
        assert_eq!(pool.submit(leak, 40).await.unwrap(), first);
        // The third does not fit any more, and may or may not be measured before it is over.
        match pool.submit(leak, 40).await {
            Ok(pid) => assert_eq!(pid, first),
            Err(error) => assert!(error.is_memory_exceeded(), "{error}"),
        }
        let next = pool.submit(leak, 40).await.unwrap();
        assert_ne!(next, first);
        assert_eq!(pool.submit(leak, 40).await.unwrap(), next);
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

#[test]
fn what_stays_within_the_bound_is_left_alone() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let before = pool.submit(own_pid, ()).await.unwrap();
        assert_eq!(pool.submit(take, (50, 300)).await.unwrap(), before);
        pool.shutdown().await;
    });
}

#[test]
fn of_a_map_only_the_item_fails_that_grows_too_large() {
    everywhere(|method| async move {
        let pool = pool(method, 2);
        let task = |n: usize| {
            if n == 7 {
                take((150, 60_000))
            } else {
                n as u32
            }
        };
        let results: Vec<_> = pool.task(task).chunk_size(5).map(0..20).collect().await;
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(same) => assert_eq!(same, n),
                Err(error) => assert!(n == 7 && error.is_memory_exceeded(), "{n}: {error}"),
            }
        }
        assert_eq!(pool.stats().failed, 1);
        pool.shutdown().await;
    });
}

/// As a task: its worker grows when the task is over.
fn grow_later(_: ()) {
    std::thread::spawn(|| leak(150));
}

#[test]
fn a_worker_that_grows_while_it_is_idle_is_replaced() {
    everywhere(|method| async move {
        let pool = pool(method, 1);
        let before = pool.submit(own_pid, ()).await.unwrap();
        pool.submit(grow_later, ()).await.unwrap();
        let replaced = || {
            let workers = pool.stats().workers;
            workers.first().is_some_and(|worker| worker.pid != before)
        };
        assert!(soon(PROMPTLY, replaced).await, "{}", pool.stats());
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

#[test]
fn a_bound_of_nothing_is_refused() {
    let _scene = scene();
    let refused = ProcessPool::builder().max_memory_per_worker(0).build();
    assert!(refused.unwrap_err().is_invalid_argument());
    assert_eq!(children(), [0_u32; 0]);
}
