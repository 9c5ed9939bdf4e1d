//! How many workers there are: kept warm, let go when they are idle.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

#[path = "support/gate.rs"]
mod gate;

use std::time::Duration;

use deeds::{own_pid, send};
use futures::StreamExt;
use gate::Gate;
use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod};
use support::{PROMPTLY, children, everywhere, is_alive, scene, soon};

const IDLE: Duration = Duration::from_millis(10);

fn pool(method: StartMethod, workers: usize) -> ProcessPoolBuilder {
    ProcessPool::builder().workers(workers).start_method(method)
}

async fn has(pool: &ProcessPool, workers: usize) -> bool {
    soon(PROMPTLY, || pool.stats().workers.len() == workers).await
}

/// CF-040.
#[test]
fn idle_workers_leave_after_the_idle_timeout_and_come_back() {
    everywhere(|method| async move {
        let pool = pool(method, 4).idle_timeout(IDLE).build().unwrap();
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
        let pool = pool(method, 4).min_workers(2).idle_timeout(IDLE);
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
        let pool = pool(method, 3).idle_timeout(Duration::from_micros(1));
        let pool = pool.build().unwrap();
        for _ in 0..5 {
            pool.ready().await.unwrap();
        }
        pool.shutdown().await;
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
    assert_eq!(children(), []);
}
