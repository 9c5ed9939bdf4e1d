//! Who is served when: short calls among long ones of the same function, calls that were sent ahead to a
//! worker that turns out to be busy, and a thousand who submit at once.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use gate::{Gate, pass};
use procpool::{ProcessPool, TaskHandle};
use support::{HANG, PROMPTLY, everywhere, on_each_runtime, pool, soon};

/// Takes no time, or as long as the gate is shut: nobody can tell before.
fn work(gate: Option<String>) -> u32 {
    if let Some(gate) = gate {
        pass(gate);
    }
    std::process::id()
}

/// From now on this function counts as short, and its calls are sent ahead.
async fn get_used_to_short_calls(pool: &ProcessPool) {
    for _ in 0..5 {
        let calls = (0..100).map(|_| pool.submit(work, None));
        try_join_all(calls).await.unwrap();
    }
}

async fn within_a_while<T>(calls: Vec<TaskHandle<T>>) -> Vec<T>
where
    T: Send + 'static,
{
    let all = tokio::time::timeout(PROMPTLY, try_join_all(calls));
    all.await.expect("they wait for nothing").unwrap()
}

#[test]
fn a_long_call_delays_no_short_one_that_another_worker_can_take() {
    everywhere(|method| async move {
        for workers in [2, 4] {
            let (gate, pool) = (Gate::new(), pool(workers, method));
            get_used_to_short_calls(&pool).await;
            // All workers but one get a long call, and each of these has short ones behind it.
            let (mut long, mut short) = (Vec::new(), Vec::new());
            for _ in 1..workers {
                short.extend((0..50).map(|_| pool.submit(work, None)));
                long.push(pool.submit(work, Some(gate.path())));
                short.extend((0..50).map(|_| pool.submit(work, None)));
            }
            assert_eq!(within_a_while(short).await.len(), (workers - 1) * 100);
            // As do those that come later.
            assert!(soon(PROMPTLY, || long.iter().all(TaskHandle::is_running)).await);
            for _ in 0..20 {
                let later = (0..50).map(|_| pool.submit(work, None)).collect();
                let pids = within_a_while(later).await;
                assert!(!long.iter().any(|call| {
                    let busy = call.worker_pid();
                    busy.is_some_and(|busy| pids.contains(&busy))
                }));
            }
            assert!(!long.iter().any(TaskHandle::is_done));
            gate.open();
            assert_eq!(within_a_while(long).await.len(), workers - 1);
            pool.shutdown().await;
        }
    });
}

#[test]
fn what_was_sent_ahead_to_a_busy_worker_is_run_by_another() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        get_used_to_short_calls(&pool).await;
        // Both workers are held, with calls behind; then one of them is let go.
        let other = Gate::new();
        let held = [&gate, &other].map(|gate| pool.submit(work, Some(gate.path())));
        let behind = (0..100).map(|_| pool.submit(work, None)).collect();
        assert!(soon(PROMPTLY, || held.iter().all(TaskHandle::is_running)).await);
        other.open();
        let pids = within_a_while(behind).await;
        assert!(held[1].is_done() && !held[0].is_done());
        let busy = held[0].worker_pid().unwrap();
        assert!(!pids.contains(&busy));
        gate.open();
        within_a_while(Vec::from(held)).await;
        pool.shutdown().await;
    });
}

#[test]
fn a_slow_item_holds_up_no_other_of_a_fast_batch() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let slow = gate.path();
        let items = (0..5_000).map(move |n| (n == 2_500).then(|| slow.clone()));
        let task = pool.task(work).look_ahead(5_000);
        let mut results = task.map_unordered(items);
        for _ in 0..4_999 {
            let next = tokio::time::timeout(HANG, results.next()).await;
            next.expect("all but one wait for nothing")
                .unwrap()
                .unwrap();
        }
        gate.open();
        results.next().await.unwrap().unwrap();
        assert!(results.next().await.is_none());
        pool.shutdown().await;
    });
}

#[test]
fn a_thousand_who_submit_are_served_in_turn() {
    const ROUNDS: u64 = 20;
    on_each_runtime(|| async {
        let pool = Arc::new(ProcessPool::builder().workers(2).build().unwrap());
        let served: Arc<[AtomicU64]> = (0..1000).map(|_| AtomicU64::new(0)).collect();
        let submitters = (0..1000).map(|place| {
            let (pool, served) = (pool.clone(), served.clone());
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    pool.submit(work, None).await.unwrap();
                    served[place].fetch_add(1, Ordering::Relaxed);
                }
                // How many have had half of what they want when this one has all of it.
                let counts = served.iter().map(|count| count.load(Ordering::Relaxed));
                counts.filter(|count| *count >= ROUNDS / 2).count()
            })
        });
        let submitters: Vec<_> = submitters.collect();
        let all = tokio::time::timeout(HANG, join_all(submitters)).await;
        let halfway = all.expect("all are served").into_iter().map(Result::unwrap);
        let halfway = halfway.min().unwrap();
        // First come, first served: nobody is served much more often than the others. Those fall behind who
        // wait for a thread of the runtime, or for a worker, that the system keeps from the processor.
        assert!(
            halfway >= 500,
            "somebody had all {ROUNDS} when only {halfway} had half of them"
        );
        Arc::into_inner(pool).unwrap().shutdown().await;
    });
}
