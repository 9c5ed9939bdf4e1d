//! Async tasks: many beside each other in one worker, each with an end of its own.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::future::pending;
use std::time::{Duration, Instant};

use deeds::{Misdeed, commit, hang, own_pid, send};
use futures::future::{join_all, try_join_all};
use gate::{Gate, mark};
use procpool::{ProcessPool, Retry, ShutdownOptions};
use support::{PROMPTLY, builder, everywhere, pool, soon};

async fn add_one(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n + 1
}

async fn nap(millis: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    std::process::id()
}

async fn never(_: ()) {
    pending().await
}

/// Marks that it is there, and then waits for ever.
async fn stay(gate: String) {
    mark(
        &gate,
        &format!("in {}", procpool::task::current().unwrap().id()),
    );
    pending().await
}

/// Waits until the gate is open.
async fn pass(gate: String) {
    while !std::path::Path::new(&gate).join("open").exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until so many marks have been made.
async fn marked(gate: &Gate, count: usize) {
    until(|| gate.marks().len() >= count).await;
}

async fn until(condition: impl FnMut() -> bool) {
    assert!(soon(PROMPTLY, condition).await, "it does not happen");
}

/// Marks that it is there, and that it is dropped.
async fn stay_until_dropped((gate, name): (String, String)) {
    struct Last(String, String);
    impl Drop for Last {
        fn drop(&mut self) {
            mark(&self.0, &format!("{} dropped", self.1));
        }
    }
    let _last = Last(gate.clone(), name.clone());
    mark(&gate, &name);
    pending().await
}

/// Keeps the thread to itself.
async fn hog(gate: String) {
    mark(&gate, "hog");
    hang(());
}

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
fn a_panic_costs_the_task_alone() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let beside = pool.submit_async(nap, 30);
        let panics = |n: u64| async move {
            tokio::task::yield_now().await;
            assert_eq!(n, 0, "boom");
        };
        let error = pool.submit_async(panics, 7).await.unwrap_err();
        let panic = error.panic().unwrap();
        assert!(panic.message().contains("boom"), "{panic}");
        assert!(
            panic
                .location()
                .is_some_and(|at| at.contains("async_tasks.rs")),
            "{panic}"
        );
        let at_once = |_: ()| -> std::future::Ready<()> { panic!("before there is a future") };
        let error = pool.submit_async(at_once, ()).await.unwrap_err();
        assert!(
            error.to_string().contains("before there is a future"),
            "{error}"
        );
        beside.await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[test]
fn an_abort_drops_the_task_where_it_is_and_spares_its_neighbours() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let gate = Gate::new();
        let one = pool.submit_async(stay_until_dropped, (gate.path(), "one".to_owned()));
        let beside = pool.submit_async(nap, 50);
        until(|| gate.marks().contains(&"one".to_owned())).await;
        assert!(one.is_running());
        assert!(!one.cancel(), "it has been begun");
        assert!(one.abort());
        let error = one.await.unwrap_err();
        assert!(error.is_aborted() && error.maybe_executed(), "{error}");
        until(|| gate.marks().contains(&"one dropped".to_owned())).await;
        beside.await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[test]
fn time_limits_count_from_the_start_and_end_the_task_alone() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let limited = pool.task_async(never).timeout(Duration::from_millis(40));
        let (one, two, beside) = (
            limited.submit(()),
            limited.submit(()),
            pool.submit_async(nap, 5),
        );
        for task in [one, two] {
            let error = task.await.unwrap_err();
            assert!(error.is_timeout() && error.maybe_executed(), "{error}");
        }
        beside.await.unwrap();
        let late = pool
            .task_async(nap)
            .deadline(Duration::from_millis(30))
            .submit(3_600_000);
        assert!(late.await.unwrap_err().is_timeout());
        assert_eq!(pool.stats().workers_started, 1);

        // What waits for its start is never begun.
        let gate = Gate::new();
        let full: Vec<_> = (0..2)
            .map(|_| pool.submit_async(stay, gate.path()))
            .collect();
        marked(&gate, 2).await;
        let waits = pool
            .task_async(nap)
            .queue_timeout(Duration::from_millis(20))
            .submit(0);
        let error = waits.await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        full.iter().for_each(|task| assert!(task.abort()));
        assert_eq!(pool.submit_async(add_one, 1).await.unwrap(), 2);
        pool.shutdown().await;
    });
}

#[test]
fn who_does_not_yield_is_killed_and_named_to_those_that_it_takes_with_it() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let gate = Gate::new();
        let beside = pool.submit_async(stay, gate.path());
        marked(&gate, 1).await;
        let hog = pool.task_async(hog).name("greedy").submit(gate.path());
        let id = hog.id();
        until(|| gate.marks().contains(&"hog".to_owned())).await;
        let pid = hog.worker_pid().unwrap();
        // Not begun, so not harmed.
        let later = pool.submit_async(nap, 0);
        assert!(hog.abort());
        assert!(hog.await.unwrap_err().is_aborted());
        let error = beside.await.unwrap_err();
        let exit = error.worker_exit().unwrap();
        assert_eq!(exit.pid(), pid);
        assert_eq!(
            exit.culprit(),
            Some(&*format!("task {id} (greedy)")),
            "{exit}"
        );
        assert!(exit.ran_for().is_some() && exit.violation().is_none());
        assert!(error.to_string().contains("greedy"), "{error:#}");
        assert_ne!(later.await.unwrap(), pid);
        pool.shutdown().await;
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
fn a_crash_costs_those_that_were_running_and_no_others() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(3).build().unwrap();
        let gate = Gate::new();
        let crash = |gate: String| async move {
            pass(gate).await;
            commit(Misdeed::Abort);
        };
        let beside = pool.submit_async(stay, gate.path());
        let crash = pool.submit_async(crash, gate.path());
        let done = pool.submit_async(add_one, 1);
        assert_eq!(done.await.unwrap(), 2);
        marked(&gate, 1).await;
        let third = pool.submit_async(stay, gate.path());
        marked(&gate, 2).await;
        let waits = pool.submit_async(add_one, 2);
        gate.open();
        for task in [beside, crash, third] {
            let error = task.await.unwrap_err();
            assert_eq!(
                error.worker_exit().unwrap().exit().signal(),
                Some(libc::SIGABRT)
            );
        }
        assert_eq!(waits.await.unwrap(), 3);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_may_be_repeated_survives_its_worker() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let dies = |last: u32| async move {
            tokio::task::yield_now().await;
            let attempt = procpool::task::current().unwrap().attempt();
            if attempt < last {
                commit(Misdeed::Abort);
            }
            attempt
        };
        assert_eq!(pool.task_async(dies).retry(3).submit(3).await.unwrap(), 3);
        let error = pool.task_async(dies).retry(1).submit(9).await.unwrap_err();
        assert!(error.is_worker_lost());
        assert_eq!((error.attempts(), error.history().len()), (2, 1));
        let panics = |last: u32| async move {
            let attempt = procpool::task::current().unwrap().attempt();
            assert!(attempt >= last, "too early");
            attempt
        };
        let retry = Retry::new(2).on_panic(true);
        assert_eq!(
            pool.task_async(panics)
                .retry(retry)
                .submit(3)
                .await
                .unwrap(),
            3
        );
        pool.shutdown().await;
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
fn a_shutdown_waits_for_async_tasks_and_takes_in_those_that_wait() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let tasks: Vec<_> = (0..20).map(|_| pool.submit_async(nap, 3)).collect();
        pool.shutdown().await;
        assert!(tasks.iter().all(|task| task.is_done()));
        for task in tasks {
            task.await.unwrap();
        }
        let refused = pool.submit_async(nap, 0).await.unwrap_err();
        assert!(refused.is_shut_down() && !refused.maybe_executed());
    });
}

#[test]
fn a_shutdown_that_cancels_drops_what_waits_and_lets_the_rest_finish() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let gate = Gate::new();
        let finish = |gate: String| async move {
            mark(&gate, &procpool::task::current().unwrap().id().to_string());
            pass(gate).await;
        };
        let run: Vec<_> = (0..2)
            .map(|_| pool.submit_async(finish, gate.path()))
            .collect();
        marked(&gate, 2).await;
        let wait: Vec<_> = (0..10).map(|_| pool.submit_async(nap, 0)).collect();
        let ending = pool.shutdown_with(ShutdownOptions::new().cancel_pending(true).wait(false));
        ending.await;
        for task in wait {
            let error = task.await.unwrap_err();
            assert!(error.is_cancelled() && !error.maybe_executed(), "{error}");
        }
        gate.open();
        for task in run {
            task.await.unwrap();
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_termination_ends_all_at_once() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let gate = Gate::new();
        let tasks: Vec<_> = (0..5)
            .map(|_| pool.submit_async(stay, gate.path()))
            .collect();
        marked(&gate, 2).await;
        pool.terminate().await;
        let mut begun = 0;
        for task in tasks {
            let error = task.await.unwrap_err();
            assert!(error.is_shut_down(), "{error}");
            begun += usize::from(error.maybe_executed());
        }
        assert_eq!(begun, 2);
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

#[test]
fn workers_killed_from_outside_cost_no_task_twice() {
    everywhere(|method| async move {
        let pool = builder(1, method).workers(2).build().unwrap();
        let gate = Gate::new();
        let once = |(gate, n): (String, u64)| async move {
            // Fails where there is such a file already.
            mark(&gate, &format!("run {n}"));
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
            n
        };
        let tasks: Vec<_> = (0..400)
            .map(|n| pool.submit_async(once, (gate.path(), n)))
            .collect();
        let (mut lost, mut kills) = (0, 0);
        for (n, task) in tasks.into_iter().enumerate() {
            if n % 50 == 20 {
                if let Some(worker) = pool.stats().workers.first() {
                    kills += u32::from(send(worker.pid, libc::SIGKILL));
                }
            }
            match task.await {
                Ok(result) => assert_eq!(result, n as u64),
                Err(error) => {
                    assert!(error.is_worker_lost(), "{error}");
                    lost += 1;
                }
            }
        }
        assert!(
            kills > 0 && lost <= kills * 64,
            "{lost} lost by {kills} kills"
        );
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
