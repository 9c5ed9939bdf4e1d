//! The conformance of all executors, continued: how many workers there are, what is told of a task
//! while it runs, and what it is asked. As in `executors.rs`, each case is generic.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
#[macro_use]
#[path = "support/kinds.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod kinds;
mod support;

use std::time::Duration;

use futures::StreamExt;
use gate::{Gate, pass};
use kinds::{Kind, Threads, WANTED, Wanted, on_each_runtime, started};
use procpool::task::CancelReason;
use procpool::{Executor, ExecutorTask, PoolEvent, StartMethod};
use support::{PROMPTLY, everywhere, soon};

const IDLE: Duration = Duration::from_millis(10);

fn double(n: u64) -> u64 {
    n * 2
}

/// As a task: runs until it is asked to end, and tells why.
fn until_asked(_: ()) -> String {
    let stop = procpool::task::current().unwrap().cancellation();
    stop.wait_timeout(Duration::from_secs(60));
    match stop.reason() {
        Some(CancelReason::Requested) => "requested".to_owned(),
        Some(CancelReason::SoftTimeout) => "soft timeout".to_owned(),
        other => format!("{other:?}"),
    }
}

async fn has(pool: &impl Executor, workers: usize) -> bool {
    soon(PROMPTLY, || pool.stats().workers.len() == workers).await
}

#[test]
fn an_executor_grows_and_shrinks_while_it_works() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let results: Vec<_> = (0..1_000).map(|n| pool.submit(double, n)).collect();
        for workers in [4, 1, 3, 2, 6, 1] {
            pool.resize(workers).unwrap();
            assert_eq!(
                (pool.workers(), pool.stats().max_workers),
                (workers, workers)
            );
            pool.ready().await.unwrap();
        }
        assert!(pool.resize(0).is_err() && pool.resize(1 << 17).is_err());
        for (n, result) in (0..).zip(results) {
            assert_eq!(result.await.unwrap(), n * 2);
        }
        assert!(has(&pool, 1).await, "{}", pool.stats());
        // A busy one that is too many finishes first, and what waits is for the others.
        pool.resize(2).unwrap();
        let gate = Gate::new();
        let held = [(); 2].map(|()| pool.submit(pass, gate.path()));
        for handle in &held {
            started(handle).await;
        }
        pool.resize(1).unwrap();
        let waiting = pool.submit(double, 4);
        assert!(held.iter().all(|handle| !handle.is_done()));
        gate.open();
        assert_eq!(waiting.await.unwrap(), 8);
        for handle in held {
            handle.await.unwrap();
        }
        assert!(has(&pool, 1).await, "{}", pool.stats());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn what_waits_is_run_at_once_when_there_may_be_more_workers() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.bounded(1, 1), Gate::new());
        let held = [(); 2].map(|()| pool.submit(pass, gate.path()));
        started(&held[0]).await;
        assert!(pool.try_submit(double, 1).unwrap_err().is_queue_full());
        pool.resize(3).unwrap();
        started(&held[1]).await;
        // There is room for one that runs, and for one that waits.
        assert_eq!(pool.submit(double, 1).await.unwrap(), 2);
        let more = [(); 2].map(|()| pool.try_submit(pass, gate.path()).unwrap());
        assert!(pool.try_submit(double, 1).unwrap_err().is_queue_full());
        gate.open();
        for handle in held.into_iter().chain(more) {
            handle.await.unwrap();
        }
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-040.
#[test]
fn who_is_idle_leaves_and_who_is_kept_warm_stays() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.build(Wanted {
            workers: 4,
            min_workers: 1,
            idle_timeout: IDLE,
            ..WANTED
        });
        assert!(has(&pool, 1).await, "it is there unasked");
        for _ in 0..3 {
            let gate = Gate::new();
            let held = [(); 4].map(|()| pool.submit(pass, gate.path()));
            assert!(has(&pool, 4).await, "{}", pool.stats());
            gate.open();
            for handle in held {
                handle.await.unwrap();
            }
            assert!(has(&pool, 1).await, "{}", pool.stats());
        }
        assert!(!soon(5 * IDLE, || pool.stats().workers.len() != 1).await);
        assert_eq!(pool.submit(double, 1).await.unwrap(), 2);
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn a_slow_call_is_told_of_once_while_it_runs() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.build(Wanted {
            slow_call: 2 * IDLE,
            ..WANTED
        });
        let (mut events, gate) = (pool.events(), Gate::new());
        let slow = pool.task(pass).name("slow").submit(gate.path());
        let told = loop {
            match events.next().await.unwrap() {
                PoolEvent::SlowCall {
                    task,
                    name,
                    ran_for,
                    ..
                } => break (task, name, ran_for),
                _ => continue,
            }
        };
        assert_eq!((told.0, told.1.as_deref()), (slow.id(), Some("slow")));
        assert!(told.2 >= 2 * IDLE && !slow.is_done());
        let worker = &pool.stats().workers[0];
        assert_eq!(worker.running_name.as_deref(), Some("slow"));
        assert_eq!(worker.running, Some(slow.id()));
        gate.open();
        slow.await.unwrap();
        pool.shutdown().await;
        let slow = |event: &PoolEvent| matches!(event, PoolEvent::SlowCall { .. });
        assert!(!events.any(|event| std::future::ready(slow(&event))).await);
    }
    on_every_executor!(case);
}

#[test]
fn a_task_that_is_asked_to_end_has_its_result_counted() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let running = pool.submit(until_asked, ());
        started(&running).await;
        let waiting = pool.submit(until_asked, ());
        assert!(waiting.request_cancel(), "it is taken back");
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert!(running.request_cancel());
        assert_eq!(running.await.unwrap(), "requested");
        let limited = pool.task(until_asked).soft_timeout(IDLE);
        assert_eq!(limited.run(()).await.unwrap(), "soft timeout");
        pool.shutdown().await;
    }
    on_every_executor!(case);
}
