//! The conformance of all executors: each case is generic over `Executor`, and runs on threads and
//! on processes of each start method, on both kinds of runtime. Cases in which nothing has to
//! happen at the same time run inline as well.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
#[macro_use]
#[path = "support/kinds.rs"]
mod kinds;
mod support;

use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, FusedStream, StreamExt, TryStreamExt};
use gate::{Gate, acquire, mark, pass};
use kinds::{Inline, Kind, Threads, on_each_runtime, started};
use procpool::{
    Ability, Executor, ExecutorTask, PoolEvent, ShutdownOptions, StartMethod, TaskError,
    TaskHandle, call,
};
use support::{HANG, PROMPTLY, everywhere, runtime, soon};

fn add(a: i32, b: i32) -> i32 {
    a + b
}

fn quotient(a: i32, b: i32) -> i32 {
    a / b
}

fn double(n: u64) -> u64 {
    n * 2
}

/// As a task: leaves a mark, then waits to be let go.
fn marked(told: (String, u64)) -> u64 {
    let (gate, n) = told;
    mark(&gate, &n.to_string());
    pass(gate);
    n
}

/// CF-001, CF-002, CF-035, CF-085, CF-090.
#[test]
fn calls_of_every_form_give_their_values_and_a_failing_one_hurts_no_other() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        assert_eq!(pool.submit(double, 4).await.unwrap(), 8);
        assert_eq!(pool.submit(|()| (), ()).await.unwrap(), ());
        assert_eq!(pool.submit_call(call!(add(2, 8))).await.unwrap(), 10);
        assert_eq!(pool.run(|(a, b)| add(a, b), (2, 8)).await.unwrap(), 10);
        let text = pool.submit(|text: String| text.to_uppercase(), "abc".to_owned());
        assert_eq!(text.await.unwrap(), "ABC");

        let error = pool.submit(|n: i32| 10 / n, 0).await.unwrap_err();
        let panic = error.panic().expect("it panicked");
        assert!(panic.message().contains("divide by zero"), "{panic}");
        assert!(panic.location().unwrap().contains(file!()), "{panic}");
        assert!(error.maybe_executed());
        let panicked = pool.submit_call(call!(quotient(1, 0)));
        assert!(panicked.await.unwrap_err().is_panic());
        // An error that the task returns is its value.
        let returned = pool.submit(|n: i32| Err::<(), String>(format!("no {n}")), 5);
        assert_eq!(returned.await.unwrap(), Err("no 5".to_owned()));
        assert_eq!(pool.run(double, 5).await.unwrap(), 10);

        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed), (9, 7), "{stats}");
        assert!(stats.failed == 2 && stats.workers_started <= 1, "{stats}");
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// CF-003, CF-089, CF-091, CF-096, CF-097, CF-118, CF-120, CF-122.
#[test]
fn maps_give_each_result_once_and_ordered_ones_in_order() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let expected: Vec<_> = (0..100).map(double).collect();
        let ordered: Vec<_> = pool.map(double, 0..100).try_collect().await.unwrap();
        assert_eq!(ordered, expected);
        let unordered = pool.map_unordered(double, 0..100);
        let mut unordered: Vec<_> = unordered.try_collect().await.unwrap();
        unordered.sort_unstable();
        assert_eq!(unordered, expected);
        let items = stream::iter(0..100).filter(|n| std::future::ready(n % 2 == 0));
        let streamed: Vec<_> = pool.map_stream(double, items).try_collect().await.unwrap();
        assert_eq!(streamed, (0..50).map(|n| n * 4).collect::<Vec<_>>());

        let first: Vec<_> = pool.map(double, 0..).take(5).try_collect().await.unwrap();
        assert_eq!(first, expected[..5], "of items without an end");
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// The maps of a task with options are those of the executor, with the options.
#[test]
fn a_task_with_options_maps_as_its_executor_does() {
    async fn case<K: Kind>(kind: K) {
        let executor = kind.pool(2);
        let task = executor.task(double).name("double").priority(1);
        let task = task.soft_timeout(HANG).look_ahead(4);
        let expected: Vec<u64> = (0..20).map(double).collect();
        let ordered: Vec<u64> = task.map(0..20).try_collect().await.unwrap();
        assert_eq!(ordered, expected);
        let streamed: Vec<u64> = task
            .map_stream(stream::iter(0..20))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(streamed, expected);
        let loose: Vec<u64> = task.map_unordered(0..20).try_collect().await.unwrap();
        let fed = task.map_stream_unordered(stream::iter(0..20));
        let fed: Vec<u64> = fed.try_collect().await.unwrap();
        for mut results in [loose, fed] {
            results.sort_unstable();
            assert_eq!(results, expected);
        }
        let mut taken = 0;
        let results = task.map((0..).inspect(|_| taken += 1));
        drop(results);
        assert!(taken <= 4, "{taken} were taken ahead");
        executor.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// CF-005, CF-092, CF-094, CF-121.
#[test]
fn the_end_of_a_map_stays_the_end_and_a_failing_item_fails_alone() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let mut nothing = pool.map(double, []);
        assert!(!nothing.is_terminated());
        for _ in 0..2 {
            assert!(nothing.next().await.is_none());
        }
        assert!(nothing.is_terminated());
        assert!(pool.map_unordered(double, []).next().await.is_none());

        let quotients: Vec<_> = pool.map(|n: i32| 12 / n, -2..=2).collect().await;
        assert_eq!(quotients.len(), 5);
        for (n, quotient) in (-2..=2).zip(quotients) {
            match quotient {
                Ok(quotient) => assert_eq!(quotient, 12 / n),
                Err(error) => assert!(n == 0 && error.is_panic(), "{n}: {error}"),
            }
        }
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// CF-007, CF-009, CF-037.
#[test]
fn a_map_works_before_it_is_read_and_stops_when_it_is_dropped() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let path = gate.path();
        let results = pool.map(marked, (0..50).map(|n| (path.clone(), n)));
        assert!(soon(PROMPTLY, || gate.marks() == ["0"]).await);
        drop(results);
        gate.open();
        assert_eq!(pool.submit(double, 1).await.unwrap(), 2);
        assert_eq!(gate.marks(), ["0"], "the rest was never run");
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-104.
#[test]
fn what_a_map_has_taken_is_finished_when_the_pool_is_closed() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let results = pool.map(double, 0..300);
        pool.close();
        let results: Vec<_> = results.try_collect().await.unwrap();
        assert_eq!(results, (0..300).map(double).collect::<Vec<_>>());
        let late: Vec<Result<u64, TaskError>> = pool.map(double, 0..3).collect().await;
        assert_eq!(late.len(), 3);
        for result in late {
            assert!(result.unwrap_err().is_shut_down());
        }
        pool.join().await.unwrap();
    }
    on_every_executor!(case);
}

/// CF-013, CF-014.
#[test]
fn workers_are_started_on_demand_and_are_never_more_than_they_may() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(3), Gate::new());
        assert_eq!((pool.workers(), pool.stats().workers_started), (3, 0));
        for n in 0..3 {
            pool.submit(double, n).await.unwrap();
        }
        assert_eq!(pool.stats().workers_started, 1);
        let handles: Vec<_> = (0..20).map(|_| pool.submit(acquire, gate.path())).collect();
        assert!(soon(PROMPTLY, || pool.stats().running() == 3).await);
        assert_eq!(pool.stats().unfinished, 20);
        gate.release(20);
        for handle in handles {
            handle.await.unwrap();
            assert!(pool.stats().running() <= 3);
        }
        let stats = pool.stats();
        assert_eq!((stats.workers_started, stats.completed), (3, 23), "{stats}");
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-066, CF-067.
#[test]
fn cancel_takes_back_what_waits_and_touches_nothing_else() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let waiting = pool.submit(marked, (gate.path(), 1));
        assert!(!waiting.is_running() && !waiting.is_done() && !waiting.is_cancelled());
        assert!(running.is_running() && !running.is_done());
        assert!(!running.cancel(), "it runs");
        for _ in 0..2 {
            assert!(waiting.cancel());
            assert!(waiting.is_cancelled() && waiting.is_done() && !waiting.is_running());
        }
        let aborted = pool.submit(marked, (gate.path(), 2));
        assert!(aborted.abort(), "it waits");
        let error = aborted.await.unwrap_err();
        assert!(error.is_aborted() && !error.maybe_executed());
        gate.open();
        assert!(soon(PROMPTLY, || running.is_done()).await);
        assert!(!running.cancel() && !running.abort() && !running.is_cancelled());
        running.await.unwrap();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert!(gate.marks().is_empty());
        assert_eq!(pool.stats().cancelled, 2);
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-060, CF-061, CF-062, CF-063, CF-064, CF-074, CF-084.
#[test]
fn callbacks_are_called_once_however_the_task_ends() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let (tell, told) = std::sync::mpsc::channel();
        let say = |what: &'static str| {
            let tell = tell.clone();
            move |result: &Result<u64, TaskError>| {
                let shown = result.as_ref().map_err(TaskError::is_cancelled).copied();
                tell.send((what, shown)).unwrap();
            }
        };
        let held = pool.submit(pass, gate.path());
        let value = pool.submit(double, 21);
        value.add_done_callback(|_| panic!("hurts nobody"));
        value.add_done_callback(say("value"));
        let unwanted = value.add_done_callback(say("unwanted"));
        assert!(value.remove_done_callback(unwanted));
        let failed = pool.submit(|n: u64| 10 / n, 0);
        failed.add_done_callback(say("failed"));
        let cancelled = pool.submit(double, 1);
        cancelled.add_done_callback(say("cancelled"));
        assert!(cancelled.cancel());
        gate.open();
        held.await.unwrap();
        assert!(failed.await.unwrap_err().is_panic());
        assert!(matches!(soon_result(&value).await, Ok(42)));
        value.add_done_callback(say("late"));
        assert_eq!(value.await.unwrap(), 42);
        let heard: Vec<_> = told.try_iter().collect();
        let expected = [
            ("cancelled", Err(true)),
            ("value", Ok(42)),
            ("failed", Err(false)),
            ("late", Ok(42)),
        ];
        assert_eq!(heard, expected);
        pool.shutdown().await;
    }
    async fn soon_result(handle: &TaskHandle<u64>) -> &Result<u64, TaskError> {
        assert!(soon(PROMPTLY, || handle.result().is_some()).await);
        handle.result().unwrap()
    }
    on_every_executor!(case);
}

/// CF-038, CF-083.
#[test]
fn many_tasks_and_threads_share_one_executor() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let handles: Vec<_> = (0..20).map(|n| pool.submit(double, task + n)).collect();
                    for (n, handle) in (0..).zip(handles) {
                        assert_eq!(handle.await.unwrap(), (task + n) * 2);
                    }
                    pool.run(double, task).await.unwrap()
                })
            })
            .collect();
        let elsewhere = pool.submit(double, 4);
        let outside = pool.clone();
        let thread = std::thread::spawn(move || {
            let (mut elsewhere, mut mine) = (elsewhere, outside.submit(double, 5));
            let here = elsewhere.blocking_wait(Some(PROMPTLY)).unwrap();
            let mapped: Vec<u64> = runtime(1)
                .block_on(outside.map(double, 0..9).try_collect())
                .unwrap();
            here + mine.blocking_wait(None).unwrap() + mapped[8]
        });
        let joined = tokio::task::spawn_blocking(|| thread.join().unwrap());
        assert_eq!(joined.await.unwrap(), 8 + 10 + 16);
        for (task, handle) in (0..).zip(tasks) {
            assert_eq!(handle.await.unwrap(), task * 2);
        }
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-075, CF-087.
#[test]
fn a_full_queue_gives_the_argument_back_and_run_waits_for_room() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.bounded(1, 1), Gate::new());
        let running = pool.try_submit(pass, gate.path()).unwrap();
        started(&running).await;
        let mut waiting = pool.try_submit(marked, (gate.path(), 1)).unwrap();
        let refused = pool.try_submit(double, 7).unwrap_err();
        assert!(refused.is_queue_full());
        assert_eq!(refused.into_argument(), 7);
        assert!(pool.submit(double, 7).await.unwrap_err().is_queue_full());
        // Given up while it waits for room, and while it waits for its turn.
        let mut never = Box::pin(pool.run(marked, (gate.path(), 2)));
        assert!((&mut never).now_or_never().is_none());
        drop(never);
        let limit = Duration::from_millis(1);
        assert!(waiting.timeout(limit).await.unwrap_err().is_elapsed());
        assert!(waiting.cancel());
        let mut never = Box::pin(pool.run(marked, (gate.path(), 3)));
        assert!((&mut never).now_or_never().is_none());
        drop(never);
        let (value, ()) = tokio::join!(pool.run(double, 8), async { gate.open() });
        assert_eq!(value.unwrap(), 16);
        running.await.unwrap();
        assert!(gate.marks().is_empty());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-018, CF-019, CF-020, CF-104, CF-105.
#[test]
fn shutdown_finishes_what_was_accepted_and_refuses_what_comes_later() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        assert!(pool.join().await.is_err(), "it is open");
        let handles: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
        assert!(!pool.is_closed());
        pool.shutdown().await;
        assert!(pool.is_closed());
        assert!(handles.iter().all(TaskHandle::is_done));
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n * 2);
        }
        let late = pool.submit(double, 1).await.unwrap_err();
        assert!(late.is_shut_down() && !late.maybe_executed());
        assert_eq!(pool.try_submit(double, 9).unwrap_err().into_argument(), 9);
        assert!(pool.run(double, 1).await.unwrap_err().is_shut_down());
        pool.close();
        pool.join().await.unwrap();
        pool.shutdown_now().await;
        pool.terminate().await.unwrap();
    }
    on_every_executor!(case and inline);
}

/// CF-021, CF-022, CF-025.
#[test]
fn shutdown_now_cancels_what_waits_and_lets_finish_what_runs() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let waiting: Vec<_> = (0..9)
            .map(|n| pool.submit(marked, (gate.path(), n)))
            .collect();
        let at_once = ShutdownOptions::new().cancel_pending(true).wait(false);
        pool.shutdown_with(at_once).await.unwrap();
        for handle in waiting {
            assert!(handle.await.unwrap_err().is_cancelled());
        }
        assert!(!running.is_done());
        let (over, ()) = tokio::join!(pool.join(), async { gate.open() });
        over.unwrap();
        running.await.unwrap();
        assert!(gate.marks().is_empty());
    }
    on_every_executor!(case);
}

/// CF-024, CF-053.
#[test]
fn dropping_the_last_clone_lets_outstanding_handles_resolve() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let first = pool.submit(pass, gate.path());
        let second = pool.clone().submit(double, 3);
        drop(pool);
        gate.open();
        first.await.unwrap();
        assert_eq!(second.await.unwrap(), 6);
    }
    on_every_executor!(case);
}

/// CF-030, CF-103, CF-107, CF-117.
#[test]
fn terminate_ends_what_waits_at_once() {
    async fn case<K: Kind>(kind: K) {
        let unused = kind.pool(1);
        unused.terminate().await.unwrap();
        assert!(unused.submit(double, 1).await.unwrap_err().is_shut_down());

        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let waiting = pool.submit(marked, (gate.path(), 1));
        let mut map = pool.map(marked, (2..5).map(|n| (gate.path(), n)));
        // It does not wait to be polled.
        let terminated = pool.terminate();
        assert!(waiting.await.unwrap_err().is_shut_down());
        while let Some(result) = map.next().await {
            assert!(result.unwrap_err().is_shut_down());
        }
        let ended = terminated.await;
        assert_eq!(ended, pool.require(Ability::EndRunning));
        gate.open();
        pool.join().await.unwrap();
        assert_eq!(running.await.is_err(), ended.is_ok());
        assert!(gate.marks().is_empty());
    }
    on_every_executor!(case);
}

/// CF-049: what an executor is unable to do it says, and does not pretend.
#[test]
fn abort_ends_what_runs_just_where_that_is_an_ability() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let able = pool.require(Ability::EndRunning).is_ok();
        assert_eq!(running.abort(), able);
        assert_eq!(running.is_done(), able);
        gate.open();
        match running.await {
            Ok(()) => assert!(!able),
            Err(error) => assert!(able && error.is_aborted(), "{error}"),
        }
        assert_eq!(pool.submit(double, 1).await.unwrap(), 2);
        let limit = ShutdownOptions::new().timeout(PROMPTLY);
        pool.shutdown_with(limit).await.unwrap();
    }
    on_every_executor!(case);
}

/// CF-046, CF-048.
#[test]
fn limits_are_kept_or_refused_and_never_ignored() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let limit = Duration::from_millis(30);
        let able = pool.require(Ability::EndRunning);
        let limited = pool.task(pass).timeout(limit).name("limited");
        // Long enough for a worker to start in place of the one that was ended.
        let late = pool.task(pass).deadline(20 * limit);
        for error in [
            limited.submit(gate.path()).await.unwrap_err(),
            limited.run(gate.path()).await.unwrap_err(),
            late.submit(gate.path()).await.unwrap_err(),
        ] {
            assert_eq!(error.is_unsupported(), able.is_err(), "{error}");
            assert_eq!(error.is_timeout(), able.is_ok(), "{error}");
            assert_eq!(error.maybe_executed(), able.is_ok(), "{error}");
        }
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let hurried = pool.task(marked).queue_timeout(limit);
        let error = hurried.try_submit((gate.path(), 1)).unwrap().await;
        let error = error.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        gate.open();
        running.await.unwrap();
        assert!(gate.marks().is_empty());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-014.
#[test]
fn ready_starts_all_workers_and_says_when_it_cannot() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        pool.ready().await.unwrap();
        pool.ready().await.unwrap();
        let stats = pool.stats();
        assert_eq!(
            (stats.workers.len(), stats.workers_started),
            (2, 2),
            "{stats}"
        );
        assert_eq!(pool.submit(double, 1).await.unwrap(), 2);
        pool.shutdown().await;
        assert!(pool.ready().await.unwrap_err().is_shutting_down());
    }
    on_every_executor!(case);
}

#[test]
fn what_has_the_higher_priority_goes_first() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit(pass, gate.path());
        started(&running).await;
        let (tell, told) = std::sync::mpsc::channel();
        let handles: Vec<_> = [(1, -1), (2, 0), (3, 7), (4, 0), (5, 7)]
            .into_iter()
            .map(|(n, priority)| {
                let handle = pool.task(double).priority(priority).submit(n);
                let tell = tell.clone();
                handle.add_done_callback(move |_| tell.send(n).unwrap());
                handle
            })
            .collect();
        gate.open();
        for handle in handles {
            handle.await.unwrap();
        }
        let order: Vec<_> = told.try_iter().collect();
        assert_eq!(order, [3, 5, 2, 4, 1]);
        running.await.unwrap();
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// CF-050, CF-119: failures are told once to whoever listens.
#[test]
fn events_tell_of_each_task_and_end_with_the_executor() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.bounded(1, 0);
        let events = pool.events();
        pool.submit(double, 1).await.unwrap();
        pool.submit(|n: u64| 10 / n, 0).await.unwrap_err();
        let gate = Gate::new();
        let running = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || pool.try_submit(double, 1).is_err()).await);
        gate.open();
        running.await.unwrap();
        pool.shutdown().await;

        let (mut started, mut ended, mut full) = (Vec::new(), Vec::new(), 0);
        for event in events.collect::<Vec<_>>().await {
            match event {
                PoolEvent::TaskStarted { task, items: 1, .. } => started.push(task),
                PoolEvent::TaskDone { task, .. } => ended.push((task, true)),
                PoolEvent::TaskFailed { task, error } => {
                    assert!(error.is_panic());
                    ended.push((task, false));
                }
                PoolEvent::QueueFull { max_pending: 0 } => full += 1,
                PoolEvent::WorkerReady { .. } | PoolEvent::WorkerEnded(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(started, [1, 2, 3]);
        assert_eq!(ended, [(1, true), (2, false), (3, true)]);
        assert!(full > 0);
        assert!(pool.events().next().await.is_none(), "it is over");
    }
    on_every_executor!(case);
}
