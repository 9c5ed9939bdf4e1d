//! How many workers there are: kept warm, let go when they are idle, more or fewer on request.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

#[path = "support/gate.rs"]
mod gate;

use std::time::Duration;

use deeds::{own_pid, send};
use futures::StreamExt;
use gate::Gate;
use procpool::ProcessPool;
use support::{PROMPTLY, builder, children, everywhere, is_alive, pool, scene, soon};

const IDLE: Duration = Duration::from_millis(10);

async fn has(pool: &ProcessPool, workers: usize) -> bool {
    soon(PROMPTLY, || pool.stats().workers.len() == workers).await
}

/// CF-040.
#[test]
fn idle_workers_leave_after_the_idle_timeout_and_come_back() {
    everywhere(|method| async move {
        let pool = builder(4, method).idle_timeout(IDLE).build().unwrap();
        for _ in 0..5 {
            let results: Vec<_> = pool.map(|n: u64| n * n, 0..8).collect().await;
            assert!(
                (0..)
                    .zip(results)
                    .all(|(n, square)| square.unwrap() == n * n)
            );
            let pids: Vec<_> = pool
                .stats()
                .workers
                .iter()
                .map(|worker| worker.pid)
                .collect();
            assert!(has(&pool, 0).await, "{}", pool.stats());
            assert!(!pids.into_iter().any(is_alive));
        }
        assert_eq!(pool.stats().lost, 0);
        assert!(!pool.is_closed());
        pool.shutdown().await;
    });
}

#[test]
fn who_is_kept_warm_is_there_unasked_comes_back_and_stays() {
    everywhere(|method| async move {
        let pool = builder(4, method).min_workers(2).idle_timeout(IDLE);
        let pool = pool.build().unwrap();
        assert!(has(&pool, 2).await, "{}", pool.stats());
        let first = pool.stats().workers[0].pid;
        assert!(send(first, libc::SIGKILL));
        let replaced = || {
            let workers = pool.stats().workers;
            workers.len() == 2 && workers.iter().all(|worker| worker.pid != first)
        };
        assert!(soon(PROMPTLY, replaced).await);

        let gate = Gate::new();
        let held: Vec<_> = (0..4)
            .map(|_| pool.submit(gate::pass, gate.path()))
            .collect();
        assert!(has(&pool, 4).await);
        gate.open();
        for handle in held {
            handle.await.unwrap();
        }
        assert!(has(&pool, 2).await, "{}", pool.stats());
        let kept = pool.submit(own_pid, ()).await.unwrap();
        assert!(!soon(20 * IDLE, || pool.stats().workers.len() != 2).await);
        assert_eq!(pool.submit(own_pid, ()).await.unwrap(), kept);
        pool.shutdown().await;
    });
}

#[test]
fn a_pool_is_ready_also_when_its_workers_leave_at_once() {
    everywhere(|method| async move {
        let pool = builder(3, method).idle_timeout(Duration::from_micros(1));
        let pool = pool.build().unwrap();
        for _ in 0..5 {
            pool.ready().await.unwrap();
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_pool_grows_and_shrinks_while_it_works() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let results: Vec<_> = (0..3_000u64).map(|n| pool.submit(|n| n + 1, n)).collect();
        for workers in [4, 1, 3, 2, 6, 1] {
            pool.resize(workers).unwrap();
            assert_eq!(pool.workers(), workers);
            assert_eq!(pool.stats().max_workers, workers);
            pool.ready().await.unwrap();
        }
        for (n, result) in (0..).zip(results) {
            assert_eq!(result.await.unwrap(), n + 1);
        }
        assert!(has(&pool, 1).await, "{}", pool.stats());
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

#[test]
fn who_is_too_many_finishes_its_task_and_leaves() {
    everywhere(|method| async move {
        let (pool, gate) = (pool(3, method), Gate::new());
        let held: Vec<_> = (0..3)
            .map(|_| pool.submit(gate::pass, gate.path()))
            .collect();
        assert!(soon(PROMPTLY, || held.iter().all(|one| one.is_running())).await);
        pool.resize(1).unwrap();
        assert_eq!(pool.stats().running(), 3);
        gate.open();
        for handle in held {
            handle.await.unwrap();
        }
        assert!(has(&pool, 1).await, "{}", pool.stats());
        pool.shutdown().await;
    });
}

#[test]
fn a_map_that_is_under_way_uses_the_workers_that_come() {
    everywhere(|method| async move {
        let (pool, gate) = (pool(1, method), Gate::new());
        let path = gate.path();
        let task = pool.task(|path: String| {
            gate::mark(&path, &std::process::id().to_string());
            gate::acquire(path);
        });
        let map = task.chunk_size(1).map(std::iter::repeat_n(path, 9));
        assert!(soon(PROMPTLY, || gate.marks().len() == 1).await);
        pool.resize(3).unwrap();
        gate.release(1);
        assert!(soon(PROMPTLY, || gate.marks().len() == 3).await);
        gate.release(9);
        let results: Vec<_> = map.collect().await;
        assert!(results.into_iter().all(|result| result.is_ok()));
        pool.shutdown().await;
    });
}

#[test]
fn the_room_in_the_queue_follows_the_number_of_workers() {
    everywhere(|method| async move {
        let pool = builder(2, method).max_pending(1).build().unwrap();
        let gate = Gate::new();
        let offer = || pool.try_submit(gate::pass, gate.path());
        let fill = || {
            let mut taken = Vec::new();
            while let Ok(handle) = offer() {
                taken.push(handle);
            }
            taken
        };
        let mut taken = fill();
        assert_eq!(taken.len(), 3, "two run, one waits");
        pool.resize(4).unwrap();
        taken.extend(fill());
        assert_eq!(taken.len(), 5);
        pool.resize(1).unwrap();
        assert!(offer().unwrap_err().is_queue_full());
        gate.open();
        for handle in taken {
            handle.await.unwrap();
        }
        assert!(has(&pool, 1).await);
        let shut = Gate::new();
        let mut held = Vec::new();
        // The room that was too much is taken away in a moment.
        let two = || {
            held.clear();
            while let Ok(handle) = pool.try_submit(gate::pass, shut.path()) {
                held.push(handle.abort_on_drop());
            }
            held.len() == 2
        };
        assert!(soon(PROMPTLY, two).await);
        pool.terminate().await;
    });
}

#[test]
fn impossible_sizes_are_refused() {
    let _scene = scene();
    let builder = ProcessPool::builder;
    for refused in [
        builder().workers(2).min_workers(3),
        builder().idle_timeout(Duration::ZERO),
    ] {
        assert!(refused.build().unwrap_err().is_invalid_argument());
    }
    let pool = builder().workers(2).build().unwrap();
    for workers in [0, usize::MAX] {
        assert!(pool.resize(workers).is_err());
        assert_eq!(pool.workers(), 2);
    }
    drop(pool);
    assert_eq!(children(), [0_u32; 0]);
}
