//! Tasks that are asked to come to their end, by their callers or at their soft limits, and how
//! they learn of it.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use gate::{Gate, mark, pass};
use procpool::task::{CancelReason, CancellationToken};
use procpool::{ProcessPool, ThreadPool};
use support::{PROMPTLY, builder, everywhere, pool, runtime, scene, soon};

/// Nobody sleeps that long in a test.
const FOR_EVER: Duration = Duration::from_secs(3600);
const SOFT: Duration = Duration::from_millis(60);

fn token() -> CancellationToken {
    procpool::task::current().unwrap().cancellation()
}

fn told(reason: Option<CancelReason>) -> String {
    format!("{reason:?}")
}

/// Sleeps until it is to end, and tells why that was.
fn sleep(gate: String) -> String {
    let stop = token();
    assert!(!stop.is_cancelled() && stop.reason().is_none());
    mark(&gate, "sleeps");
    assert!(stop.wait_timeout(FOR_EVER));
    mark(&gate, &told(stop.reason()));
    told(stop.reason())
}

/// The same in a future.
fn sleep_in_a_future(gate: String) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let stop = token();
    runtime.block_on(async {
        let others: Vec<_> = (0..3).map(|_| tokio::spawn(wait(stop.clone()))).collect();
        // One that is dropped is not missed.
        tokio::select! {
            biased;
            () = stop.cancelled() => panic!("nobody has asked"),
            () = tokio::task::yield_now() => {}
        }
        mark(&gate, "sleeps");
        stop.cancelled().await;
        for other in others {
            other.await.unwrap();
        }
    });
    told(stop.reason())
}

async fn wait(stop: CancellationToken) {
    stop.cancelled().await;
}

async fn started(gate: &Gate, marks: usize) {
    assert!(soon(PROMPTLY, || gate.marks().len() >= marks).await);
}

#[test]
fn a_task_that_sleeps_is_woken_when_it_is_asked_to_end_and_its_result_counts() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        for task in [sleep, sleep_in_a_future] {
            let gate = Gate::new();
            let asleep = pool.submit(task, gate.path());
            started(&gate, 1).await;
            assert!(asleep.request_cancel());
            assert!(!asleep.is_cancelled());
            let requested = told(Some(CancelReason::Requested));
            assert_eq!(asleep.await.unwrap(), requested);
        }
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

#[test]
fn what_waits_is_cancelled_by_the_request_and_what_is_over_is_not_touched() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        let waits = pool.submit(|n: u32| n, 1);
        assert!(waits.request_cancel() && waits.is_cancelled());
        assert!(waits.request_cancel(), "it is cancelled");
        assert!(waits.await.unwrap_err().is_cancelled());
        gate.open();
        held.await.unwrap();

        let over = pool.submit(|n: u32| n, 1);
        assert!(soon(PROMPTLY, || over.is_done()).await);
        assert!(!over.request_cancel());
        assert_eq!(over.await.unwrap(), 1);
        pool.shutdown().await;
    });
}

#[test]
fn the_next_task_knows_nothing_of_what_its_predecessor_was_asked() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        for _ in 0..20 {
            let gate = Gate::new();
            let asleep = pool.submit(sleep, gate.path());
            let next = pool.submit(|_: ()| token().is_cancelled(), ());
            started(&gate, 1).await;
            assert!(asleep.request_cancel());
            asleep.await.unwrap();
            assert!(!next.await.unwrap());
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_heeds_its_soft_limit_returns_and_its_worker_stays() {
    everywhere(|method| async move {
        let gate = Gate::new();
        for grace in [Duration::ZERO, FOR_EVER] {
            let pool = builder(1, method).abort_grace(grace).build().unwrap();
            let asleep = pool.task(sleep).soft_timeout(SOFT).timeout(FOR_EVER);
            let soft = told(Some(CancelReason::SoftTimeout));
            assert_eq!(asleep.run(gate.path()).await.unwrap(), soft);
            assert_eq!(pool.stats().workers_ended, 0);
            pool.shutdown().await;
        }
    });
}

#[test]
fn a_task_that_ignores_its_soft_limit_is_ended_at_the_hard_one() {
    everywhere(|method| async move {
        for grace in [Duration::ZERO, SOFT] {
            let gate = Gate::new();
            let pool = builder(1, method).abort_grace(grace).build().unwrap();
            let deaf = pool.task(|gate: String| {
                let stop = token();
                while stop.reason() != Some(CancelReason::SoftTimeout) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                mark(&gate, "asked");
                pass(gate);
            });
            let deaf = deaf.soft_timeout(SOFT).timeout(5 * SOFT);
            let error = deaf.run(gate.path()).await.unwrap_err();
            assert!(error.is_timeout(), "{error}");
            assert_eq!(gate.marks(), ["asked"]);
            assert_eq!(pool.submit(|n: u32| n, 1).await.unwrap(), 1);
            assert_eq!(pool.stats().workers_ended, 1);
            pool.shutdown().await;
        }
    });
}

#[test]
fn the_pools_soft_limit_holds_where_a_task_has_none_of_its_own() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(1, method).task_soft_timeout(SOFT).build().unwrap();
        let soft = told(Some(CancelReason::SoftTimeout));
        assert_eq!(pool.run(sleep, gate.path()).await.unwrap(), soft);
        let own = pool.task(|_: ()| procpool::task::current().unwrap().soft_deadline().is_some());
        assert!(own.soft_timeout(FOR_EVER).run(()).await.unwrap());
        pool.shutdown().await;
    });
}

#[test]
fn a_sleeping_task_is_woken_by_an_abort_and_its_worker_stays_for_the_grace() {
    everywhere(|method| async move {
        let pool = builder(1, method).abort_grace(FOR_EVER).build().unwrap();
        let pid = pool.submit(|_: ()| std::process::id(), ()).await.unwrap();
        for _ in 0..2 {
            let gate = Gate::new();
            let asleep = pool.submit(sleep, gate.path());
            started(&gate, 1).await;
            assert!(asleep.abort());
            assert!(asleep.await.unwrap_err().is_aborted());
            started(&gate, 2).await;
        }
        let next = pool.submit(|_: ()| std::process::id(), ()).await.unwrap();
        assert_eq!(next, pid);
        pool.shutdown().await;
    });
}

/// Holds up its item until that is asked to end, every third one.
fn every_third(n: u32) -> (u32, bool) {
    (n, n % 3 == 0 && token().wait_timeout(FOR_EVER))
}

#[test]
fn each_item_of_a_map_has_a_soft_limit_of_its_own() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let items = pool.task(every_third).soft_timeout(SOFT).chunk_size(4);
        let asked: Vec<_> = items.map(1..=9).map(Result::unwrap).collect().await;
        let expected: Vec<_> = (1..=9).map(|n| (n, n % 3 == 0)).collect();
        assert_eq!(asked, expected);
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

/// Whether the thread that a task has left behind has learned that the task is over.
static LEFT: AtomicBool = AtomicBool::new(false);

#[test]
fn a_thread_that_a_task_leaves_behind_learns_that_the_task_is_over() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let leave = |_: ()| {
            LEFT.store(false, Ordering::SeqCst);
            let stop = token();
            std::thread::spawn(move || {
                LEFT.store(stop.wait_timeout(FOR_EVER), Ordering::SeqCst);
            });
        };
        pool.submit(leave, ()).await.unwrap();
        let left = |_: ()| {
            while !LEFT.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        pool.submit(left, ()).await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn a_wait_without_news_lasts_as_long_as_it_was_to() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let waited = pool.submit(
            |_: ()| {
                let begun = std::time::Instant::now();
                (token().wait_timeout(SOFT), begun.elapsed())
            },
            (),
        );
        let (news, waited) = waited.await.unwrap();
        assert!(!news && waited >= SOFT);
        pool.shutdown().await;
    });
}

#[test]
fn on_threads_the_same_token_works() {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = ThreadPool::builder().workers(1).build().unwrap();
        for (task, abort) in [
            (sleep as fn(String) -> String, false),
            (sleep_in_a_future, false),
            (sleep, true),
        ] {
            let gate = Gate::new();
            let asleep = pool.submit(task, gate.path());
            let waits = pool.submit(|n: u32| n, 1);
            started(&gate, 1).await;
            assert!(waits.request_cancel() && waits.is_cancelled());
            if abort {
                assert!(!asleep.abort(), "what runs on a thread is only asked");
            } else {
                assert!(asleep.request_cancel());
            }
            let requested = told(Some(CancelReason::Requested));
            assert_eq!(asleep.await.unwrap(), requested);
        }
        let (gate, soft) = (Gate::new(), told(Some(CancelReason::SoftTimeout)));
        let asleep = pool.task(sleep).soft_timeout(SOFT);
        assert_eq!(asleep.run(gate.path()).await.unwrap(), soft);

        // It fires for those who have it beyond the end of the run.
        let stop = pool.submit(|_: ()| token(), ()).await.unwrap();
        assert!(stop.wait_timeout(FOR_EVER));
        stop.cancelled().await;
        assert_eq!(stop.reason(), Some(CancelReason::Ended));
        pool.shutdown().await;
    });
}

/// An async task that waits until it is to end.
async fn wait_for_the_end(gate: String) -> String {
    let stop = token();
    mark(&gate, "waits");
    stop.cancelled().await;
    told(stop.reason())
}

#[test]
fn an_async_task_is_asked_while_others_run_beside_it() {
    everywhere(|method| async move {
        let (gate, other) = (Gate::new(), Gate::new());
        let pool = pool(1, method);
        let beside = pool.submit_async(wait_for_the_end, other.path());
        let waits = pool.submit_async(wait_for_the_end, gate.path());
        started(&gate, 1).await;
        started(&other, 1).await;
        let requested = told(Some(CancelReason::Requested));
        assert!(waits.request_cancel());
        assert_eq!(waits.await.unwrap(), requested);
        assert!(!beside.is_done());

        let soft = pool.task_async(wait_for_the_end).soft_timeout(SOFT);
        let soft = soft.timeout(FOR_EVER).run(gate.path());
        let for_its_limit = told(Some(CancelReason::SoftTimeout));
        assert_eq!(soft.await.unwrap(), for_its_limit);
        assert!(!beside.is_done());
        assert!(beside.request_cancel());
        assert_eq!(beside.await.unwrap(), requested);

        let unstarted = builder(1, method).max_async_per_worker(1).build().unwrap();
        let runs = unstarted.submit_async(wait_for_the_end, gate.path());
        let waits = unstarted.submit_async(wait_for_the_end, gate.path());
        assert!(waits.request_cancel() && waits.is_cancelled());
        assert!(runs.abort());
        assert!(!runs.request_cancel() || runs.is_cancelled());
        for pool in [pool, unstarted] {
            assert_eq!(pool.stats().workers_ended, 0);
            pool.shutdown().await;
        }
    });
}

#[test]
fn without_workers_a_task_is_woken_at_its_soft_limit_as_well() {
    let _scene = scene();
    runtime(1).block_on(async {
        let pool = ProcessPool::builder().inline().build().unwrap();
        let soft = told(Some(CancelReason::SoftTimeout));
        let gate = Gate::new();
        let task = pool.task(sleep).soft_timeout(SOFT).timeout(FOR_EVER);
        assert_eq!(task.run(gate.path()).await.unwrap(), soft);
        let task = pool.task_async(wait_for_the_end).soft_timeout(SOFT);
        assert_eq!(task.run(gate.path()).await.unwrap(), soft);
        pool.shutdown().await;
    });
}
