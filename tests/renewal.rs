//! Workers that are replaced though nothing is wrong with them.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeSet;

use deeds::own_pid;
use futures::StreamExt;
use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod};
use support::{PROMPTLY, children, everywhere, is_alive, scene, soon};

fn pool(method: StartMethod, workers: usize) -> ProcessPoolBuilder {
    ProcessPool::builder().workers(workers).start_method(method)
}

/// CF-026, CF-102.
#[test]
fn a_worker_runs_as_many_tasks_as_it_may_and_another_runs_the_next() {
    everywhere(|method| async move {
        let pool = pool(method, 1).max_tasks_per_worker(3).build().unwrap();
        let mut pids = Vec::new();
        for _ in 0..7 {
            let pid = pool.submit(own_pid, ()).await.unwrap();
            if let Some(before) = pids.last().filter(|before| **before != pid) {
                assert!(!is_alive(*before), "one place has one worker");
            }
            pids.push(pid);
        }
        let [a, b, c] = [pids[0], pids[3], pids[6]];
        assert_eq!(pids, [a, a, a, b, b, b, c]);
        assert!(a != b && b != c);
        assert_eq!(pool.stats().workers_started, 3);
        pool.shutdown().await;
    });
}

/// CF-102.
#[test]
fn with_a_limit_of_one_every_task_has_a_process_of_its_own() {
    everywhere(|method| async move {
        let pool = pool(method, 2).max_tasks_per_worker(1).build().unwrap();
        let handles: Vec<_> = (0..20).map(|_| pool.submit(own_pid, ())).collect();
        let mut pids = BTreeSet::new();
        for handle in handles {
            pids.insert(handle.await.unwrap());
        }
        assert_eq!(pids.len(), 20);
        pool.shutdown().await;
    });
}

/// CF-027.
#[test]
fn what_was_accepted_is_finished_by_ever_new_workers_after_a_shutdown() {
    everywhere(|method| async move {
        let pool = pool(method, 3).max_tasks_per_worker(1).build().unwrap();
        let handles: Vec<_> = (0..6).map(|n: u64| pool.submit(|n| n * n, n)).collect();
        pool.shutdown().await;
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n * n);
        }
    });
}

/// CF-102.
#[test]
fn nothing_is_lost_while_workers_are_replaced_and_all_are_back_afterwards() {
    everywhere(|method| async move {
        let pool = pool(method, 3).max_tasks_per_worker(10).build().unwrap();
        pool.ready().await.unwrap();
        let before: BTreeSet<_> = pids(&pool);
        let handles: Vec<_> = (0..100u64).map(|n| pool.submit(|n| n * n, n)).collect();
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n * n);
        }
        let all_new = || {
            let now = pids(&pool);
            now.len() == 3 && now.is_disjoint(&before)
        };
        assert!(soon(PROMPTLY, all_new).await, "{}", pool.stats());
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

fn pids(pool: &ProcessPool) -> BTreeSet<u32> {
    let workers = pool.stats().workers;
    workers.into_iter().map(|worker| worker.pid).collect()
}

#[test]
fn each_item_of_a_map_is_a_task_however_large_its_chunks_are() {
    everywhere(|method| async move {
        let pool = pool(method, 2).max_tasks_per_worker(7).build().unwrap();
        for size in [1, 5, 7, 100] {
            let results = pool
                .task(|n: u32| (n, std::process::id()))
                .chunk_size(size)
                .map(0..150);
            let results: Vec<_> = results.collect().await;
            let mut by_worker = std::collections::BTreeMap::new();
            for (n, result) in (0..).zip(results) {
                let (item, pid) = result.unwrap();
                assert_eq!(item, n);
                *by_worker.entry(pid).or_insert(0) += 1;
            }
            let most = by_worker.values().max();
            assert!(most <= Some(&7), "chunks of {size}: {by_worker:?}");
        }
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed), (600, 600), "{stats}");
        pool.shutdown().await;
    });
}

/// CF-101.
#[test]
fn a_limit_of_no_tasks_is_refused() {
    let _scene = scene();
    let refused = ProcessPool::builder().max_tasks_per_worker(0).build();
    assert!(refused.unwrap_err().is_invalid_argument());
    assert_eq!(children(), []);
}
