//! Async tasks: many beside each other in one worker, and beside blocking ones. How they end is in
//! `async_endings.rs`.

#[path = "support/asleep.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod asleep;
#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use asleep::{add_one, hog, marked, nap, never, pass, stay, until};
use deeds::own_pid;
use futures::future::{join_all, try_join_all};
use gate::{Gate, mark};
use procpool::ProcessPool;
use support::{PROMPTLY, builder, everywhere, pool};

#[test]
fn an_async_task_gives_its_result() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit_async(add_one, 1).await.unwrap(), 2);
        for n in 0..50 {
            assert_eq!(pool.submit_async(add_one, n).await.unwrap(), n + 1);
        }
        // A closure that captures nothing, whose future is not `Send`.
        let local = |n: u64| async move {
            let kept = std::rc::Rc::new(n);
            tokio::task::yield_now().await;
            *kept * 2
        };
        assert_eq!(pool.submit_async(local, 21).await.unwrap(), 42);
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed), (52, 52));
        assert_eq!((stats.queued, stats.unfinished), (0, 0));
        pool.shutdown().await;
    });
}

#[test]
fn many_are_under_way_in_one_worker_at_once() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        // Each waits for all the others: none could end alone.
        let gate = Gate::new();
        let together = |(gate, name): (String, String)| async move {
            mark(&gate, &name);
            pass(gate).await;
            std::process::id()
        };
        let tasks: Vec<_> = (0..40)
            .map(|n| pool.submit_async(together, (gate.path(), format!("task {n}"))))
            .collect();
        marked(&gate, 40).await;
        gate.open();
        let pids = try_join_all(tasks).await.unwrap();
        assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 1);
        pool.shutdown().await;
    });
}

#[test]
fn no_more_are_in_a_worker_than_allowed() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(3).build().unwrap();
        thread_local! {
            static IN: Cell<u32> = const { Cell::new(0) };
        }
        let count = |_: u64| async move {
            let there = IN.get() + 1;
            IN.set(there);
            tokio::time::sleep(Duration::from_millis(1)).await;
            IN.set(IN.get() - 1);
            there
        };
        let most = try_join_all((0..50).map(|n| pool.submit_async(count, n))).await;
        assert_eq!(most.unwrap().into_iter().max(), Some(3));
        pool.shutdown().await;
    });
}

#[test]
fn blocking_and_async_tasks_take_turns_in_a_worker() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let mut tasks = Vec::new();
        let mut blocking = Vec::new();
        for n in 0..100 {
            tasks.push(pool.submit_async(nap, n % 3));
            blocking.push(pool.submit(|n: u64| n * 2, n));
        }
        for (n, task) in blocking.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), n as u64 * 2);
        }
        try_join_all(tasks).await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[test]
fn a_stream_of_async_tasks_starves_no_blocking_one() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let mut under_way: std::collections::VecDeque<_> =
            (0..8).map(|_| pool.submit_async(nap, 5)).collect();
        let blocking = pool.submit(own_pid, ());
        let begun = Instant::now();
        // There is never a moment in which no async task waits or runs.
        while !blocking.is_done() {
            assert!(begun.elapsed() < PROMPTLY, "it was starved");
            under_way.push_back(pool.submit_async(nap, 5));
            under_way.pop_front().unwrap().await.unwrap();
        }
        blocking.await.unwrap();
        join_all(under_way).await;
        pool.shutdown().await;
    });
}

#[test]
fn one_worker_is_left_for_blocking_tasks_while_the_rooms_are_not_full() {
    everywhere(|method| async move {
        let pool = builder(1, method).workers(2).build().unwrap();
        let gate = Gate::new();
        let endless: Vec<_> = (0..10)
            .map(|_| pool.submit_async(stay, gate.path()))
            .collect();
        marked(&gate, 10).await;
        let pids: HashSet<_> = endless
            .iter()
            .map(|task| task.worker_pid().unwrap())
            .collect();
        assert_eq!(pids.len(), 1);
        let blocking = pool.submit(own_pid, ()).await.unwrap();
        assert!(!pids.contains(&blocking));
        pool.terminate().await;
    });
}

#[test]
fn who_waits_behind_one_that_does_not_yield_goes_elsewhere() {
    everywhere(|method| async move {
        let pool = builder(1, method).workers(2).build().unwrap();
        let gate = Gate::new();
        let hog = pool.submit_async(hog, gate.path());
        until(|| gate.marks().contains(&"hog".to_owned())).await;
        let pid = hog.worker_pid().unwrap();
        let others = try_join_all((0..5).map(|_| pool.submit_async(nap, 1)))
            .await
            .unwrap();
        assert!(others.iter().all(|other| *other != pid));
        assert!(hog.is_running());
        pool.terminate().await;
    });
}

#[test]
fn a_task_knows_itself_across_its_awaits() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let who = |_: ()| async {
            let before = procpool::task::current().unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            let after = procpool::task::current().unwrap();
            assert_eq!(before.id(), after.id());
            (
                after.id(),
                after.name().map(str::to_owned),
                after.deadline().is_some(),
            )
        };
        let task = pool
            .task_async(who)
            .name("me")
            .timeout(Duration::from_secs(60));
        let tasks: Vec<_> = (0..20).map(|_| task.submit(())).collect();
        for task in tasks {
            let id = task.id();
            let told = task.await.unwrap();
            assert_eq!(told, (id, Some("me".to_owned()), true));
        }
        pool.shutdown().await;
    });
}

#[test]
fn what_a_task_leaves_on_the_runtime_goes_on_with_the_next() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        thread_local! {
            static CLOCK: Cell<u64> = const { Cell::new(0) };
        }
        let start = |_: ()| async {
            tokio::task::spawn_local(async {
                loop {
                    CLOCK.set(CLOCK.get() + 1);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        };
        let read = |_: ()| async {
            let before = CLOCK.get();
            while CLOCK.get() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        pool.submit_async(start, ()).await.unwrap();
        pool.submit(own_pid, ()).await.unwrap();
        pool.submit_async(read, ()).await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn a_queue_bounds_async_tasks_as_well() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .max_async_per_worker(1)
            .max_pending(1)
            .build()
            .unwrap();
        let never = pool.task_async(never);
        let (one, two) = (never.try_submit(()).unwrap(), never.try_submit(()).unwrap());
        let refused = never.try_submit(()).unwrap_err();
        assert!(refused.is_queue_full());
        assert!(two.abort() && one.abort());
        assert_eq!(pool.task_async(add_one).run(1).await.unwrap(), 2);
        pool.shutdown().await;
    });
}

#[test]
fn workers_are_renewed_between_async_tasks() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_tasks_per_worker(5).build().unwrap();
        let tasks = (0..40).map(|n| pool.submit_async(nap, n % 2));
        let pids = try_join_all(tasks).await.unwrap();
        for pid in &pids {
            let runs = pids.iter().filter(|other| *other == pid).count();
            assert!(runs <= 5, "{runs} in one worker");
        }
        pool.shutdown().await;
    });
}

#[test]
fn what_does_not_decode_or_encode_costs_the_task_alone() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Fussy(#[serde(deserialize_with = "refuse")] u8);
    fn refuse<'de, D: serde::Deserializer<'de>>(_: D) -> Result<u8, D::Error> {
        Err(serde::de::Error::custom("not today"))
    }
    everywhere(|method| async move {
        let pool = pool(1, method);
        let takes = |_: Fussy| async {};
        let error = pool.submit_async(takes, Fussy(1)).await.unwrap_err();
        assert!(error.is_decode(), "{error:#}");
        let gives = |_: ()| async { Fussy(1) };
        let error = pool.submit_async(gives, ()).await.map(|_| ()).unwrap_err();
        assert!(error.is_decode(), "{error:#}");
        let large = |size: usize| async move { vec![7u8; size] };
        let bytes = pool.submit_async(large, 3_000_000).await.unwrap();
        assert_eq!(bytes.len(), 3_000_000);
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[tokio::test]
async fn a_pool_without_workers_runs_an_async_task_where_it_is_submitted() {
    let pool = ProcessPool::builder().inline().build().unwrap();
    let task = pool.submit_async(nap, 1);
    assert!(task.is_done());
    assert_eq!(task.await.unwrap(), std::process::id());
    let limited = pool.task_async(never).timeout(Duration::from_millis(20));
    assert!(limited.submit(()).await.unwrap_err().is_timeout());
    let panics = |_: ()| async { panic!("boom") };
    let outcome: Result<(), _> = pool.submit_async(panics, ()).await;
    assert!(outcome.unwrap_err().to_string().contains("boom"));
    pool.shutdown().await;
    assert!(pool.submit_async(nap, 1).await.unwrap_err().is_shut_down());
}
