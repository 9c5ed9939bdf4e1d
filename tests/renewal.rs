//! Workers that are replaced though nothing is wrong with them.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deeds::{Scratch, own_pid, touch, wait_for};
use futures::StreamExt;
use procpool::{ProcessPool, Stdio, WorkerState};
use support::{PROMPTLY, builder, children, everywhere, is_alive, pool, scene, soon};

/// CF-026, CF-028, CF-102.
#[test]
fn a_worker_runs_as_many_tasks_as_it_may_and_another_runs_the_next() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_tasks_per_worker(3).build().unwrap();
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

/// One that does not yield keeps the others from being begun, and they are cancelled.
#[test]
fn async_tasks_that_were_taken_back_do_not_wear_out_a_worker() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = builder(1, method).max_tasks_per_worker(4);
        let pool = pool.build().unwrap();
        let blocks = |path: String| async move { wait_for(path) };
        let first = pool.submit_async(blocks, scratch.at("gate"));
        assert!(soon(PROMPTLY, || first.is_running()).await);
        let others = [(); 3].map(|()| pool.submit_async(|()| async {}, ()));
        assert!(others.iter().all(|other| other.cancel()));
        touch(scratch.at("gate"));
        let pid = first.await.unwrap();
        for _ in 0..3 {
            let next = pool.submit_async(blocks, scratch.at("gate"));
            assert_eq!(next.await.unwrap(), pid);
        }
        pool.shutdown().await;
    });
}

/// CF-102.
#[test]
fn with_a_limit_of_one_every_task_has_a_process_of_its_own() {
    everywhere(|method| async move {
        let pool = builder(2, method).max_tasks_per_worker(1).build().unwrap();
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
        let pool = builder(3, method).max_tasks_per_worker(1).build().unwrap();
        let handles: Vec<_> = (0..6).map(|n: u64| pool.submit(|n| n * n, n)).collect();
        pool.shutdown().await;
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n * n);
        }
    });
}

/// CF-102. How many of its tasks each worker gets is nobody's promise.
#[test]
fn nothing_is_lost_while_workers_are_replaced_and_all_are_back_afterwards() {
    everywhere(|method| async move {
        let pool = builder(3, method).max_tasks_per_worker(10).build().unwrap();
        pool.ready().await.unwrap();
        let handles: Vec<_> = (0..100u64).map(|n| pool.submit(|n| n * n, n)).collect();
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n * n);
        }
        let all_back = || {
            let now = pool.stats();
            // A hundred tasks are ten workers' at least, which are gone then or have just been replaced.
            let replaced =
                now.workers_started >= 10 && now.workers_started - now.workers_ended == 3;
            replaced
                && now
                    .workers
                    .iter()
                    .all(|worker| worker.state == WorkerState::Idle)
        };
        assert!(soon(PROMPTLY, all_back).await, "{}", pool.stats());
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
        let pool = builder(2, method).max_tasks_per_worker(7).build().unwrap();
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

/// What a task may count in its worker.
static RUN: AtomicU32 = AtomicU32::new(0);

/// As a task: the worker's process id, and how many tasks it has run with this one.
fn count(_: ()) -> (u32, u32) {
    (std::process::id(), RUN.fetch_add(1, Ordering::Relaxed) + 1)
}

#[test]
fn the_programs_own_function_is_asked_after_every_task() {
    everywhere(|method| async move {
        let worn = || RUN.load(Ordering::Relaxed) >= 3;
        let pool = builder(2, method).retire_when(worn).build().unwrap();
        let handles: Vec<_> = (0..60).map(|_| pool.submit(count, ())).collect();
        for handle in handles {
            let (_, nth) = handle.await.unwrap();
            assert!(nth <= 3, "task {nth} of a worn worker");
        }
        let results: Vec<_> = pool
            .task(count)
            .chunk_size(10)
            .map([(); 60])
            .collect()
            .await;
        assert!(results.into_iter().all(|result| result.unwrap().1 <= 3));
        let stats = pool.stats();
        assert_eq!(
            (stats.submitted, stats.completed, stats.lost),
            (120, 120, 0)
        );
        pool.shutdown().await;
    });
}

#[test]
fn a_function_that_panics_when_it_is_asked_costs_the_worker_and_no_result() {
    everywhere(|method| async move {
        let asked = || -> bool { panic!("who knows") };
        let pool = builder(1, method).retire_when(asked).stderr(Stdio::null());
        let pool = pool.build().unwrap();
        for _ in 0..3 {
            assert_eq!(pool.submit(count, ()).await.unwrap().1, 1);
        }
        pool.shutdown().await;
    });
}

/// As a task: the same, and from the fifth on its worker is not to be used again.
fn count_to_five(_: ()) -> (u32, u32) {
    let counted = count(());
    if counted.1 >= 5 {
        procpool::task::retire_worker();
    }
    counted
}

#[test]
fn nothing_is_run_in_a_worker_after_a_task_has_had_it_retired() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        // Many are sent ahead once it is known how short they are.
        let handles: Vec<_> = (0..600).map(|_| pool.submit(count_to_five, ())).collect();
        for handle in handles {
            assert!(handle.await.unwrap().1 <= 5);
        }
        let map = pool.task(count_to_five).chunk_size(12).map([(); 100]);
        let results: Vec<_> = map.collect().await;
        assert!(results.into_iter().all(|result| result.unwrap().1 <= 5));
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_panics_can_have_its_worker_retired_too() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let breaks = |_: ()| -> u32 {
            procpool::task::retire_worker();
            panic!("nothing is left as it was");
        };
        let before = pool.submit(own_pid, ()).await.unwrap();
        assert!(pool.submit(breaks, ()).await.unwrap_err().is_panic());
        assert_ne!(pool.submit(own_pid, ()).await.unwrap(), before);
        pool.shutdown().await;
    });
}

#[test]
fn an_idle_worker_is_replaced_when_it_is_old_enough() {
    everywhere(|method| async move {
        let pool = builder(2, method)
            .max_age(Duration::from_millis(100))
            .build()
            .unwrap();
        pool.ready().await.unwrap();
        let before = pids(&pool);
        let all_new = || {
            let now = pids(&pool);
            now.len() == 2 && now.is_disjoint(&before)
        };
        assert!(soon(PROMPTLY, all_new).await, "{}", pool.stats());
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_is_not_cut_short_because_its_worker_is_old() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .max_age(Duration::from_millis(30))
            .build()
            .unwrap();
        let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
        pool.submit(nap, 150).await.unwrap();
        assert!(soon(PROMPTLY, || pool.stats().workers_started > 1).await);
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

/// CF-101.
#[test]
fn a_limit_of_nothing_is_refused() {
    let _scene = scene();
    let builder = ProcessPool::builder;
    for refused in [
        builder().max_tasks_per_worker(0),
        builder().max_age(Duration::ZERO),
    ] {
        assert!(refused.build().unwrap_err().is_invalid_argument());
    }
    assert_eq!(children(), [0_u32; 0]);
}
