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
use gate::{Gate, mark, pass};
use kinds::{Inline, Kind, Threads, WANTED, Wanted, on_each_runtime, started};
use procpool::task::{CancelReason, Progress};
use procpool::{
    Ability, Executor, ExecutorAsyncTask, ExecutorProgressTask, ExecutorTask, ExecutorTaskCall,
    PoolEvent, StartMethod, TaskError, Updates, WhenFull, call,
};
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
        for impossible in [0, 1 << 17] {
            assert!(!pool.resize(impossible).unwrap_err().is_closed());
        }
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
        pool.close();
        assert!(pool.resize(2).unwrap_err().is_closed() && pool.workers() == 1);
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

/// Sends the numbers up to this one, and returns how many could be sent.
fn count(to: u32, progress: Progress<u32>) -> u32 {
    (1..=to)
        .map(|n| u32::from(progress.send(&n).unwrap()))
        .sum()
}

async fn all<P>(updates: Updates<P>) -> Vec<P> {
    updates.map(Result::unwrap).collect().await
}

#[test]
fn updates_come_in_their_order_and_before_the_end_of_their_stream() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        for buffer in [1, 7, 1_000] {
            let task = pool.task_with_progress(count).buffer(buffer);
            let (sent, updates) = task.submit(500);
            assert_eq!(all(updates).await, (1..=500).collect::<Vec<_>>());
            assert_eq!(sent.await.unwrap(), 500);
        }
        let (sent, updates) = pool.submit_with_progress(count, 3);
        assert_eq!(
            (sent.await.unwrap(), all(updates).await),
            (3, vec![1, 2, 3])
        );
        // What is sent before a panic arrives, and the panic is told by the handle alone.
        let fails = |n: u32, progress: Progress<String>| -> u32 {
            progress.send(&format!("{n} it is")).unwrap();
            10 / (n - n)
        };
        let task = pool.task_with_progress(fails).name("fails");
        let (failed, updates) = task.run(8);
        let (failed, updates) = tokio::join!(failed, all(updates));
        assert!(failed.unwrap_err().is_panic());
        assert_eq!(updates, ["8 it is"]);
        // The stream of one that is refused has ended.
        pool.shutdown().await;
        let (refused, updates) = pool.submit_with_progress(count, 1);
        assert!(refused.await.unwrap_err().is_shut_down());
        assert!(all(updates).await.is_empty());
        let task = pool.task_with_progress(count);
        assert_eq!(task.try_submit(5).unwrap_err().into_argument(), 5);
    }
    on_every_executor!(case and inline);
}

#[test]
fn without_a_reader_there_is_room_for_as_many_as_the_buffer_holds() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let as_many_as_fit = |_: (), progress: Progress<u32>| {
            (0..).take_while(|n| progress.try_send(n).unwrap()).count()
        };
        for buffer in [1, 5, 64] {
            let task = pool.task_with_progress(as_many_as_fit).buffer(buffer);
            let (sent, updates) = task.submit(());
            assert_eq!(sent.await.unwrap(), buffer);
            assert_eq!(all(updates).await.len(), buffer);
        }
        let latest = pool.task_with_progress(count).buffer(3);
        let (sent, updates) = latest.when_full(WhenFull::DropOldest).submit(1_000);
        assert_eq!(sent.await.unwrap(), 1_000);
        assert_eq!(updates.dropped(), 997);
        assert_eq!(all(updates).await, [998, 999, 1_000]);
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// Leaves a mark before it sends the next number.
fn count_with_marks(gate: String, progress: Progress<usize>) {
    for n in 0..8 {
        mark(&gate, &n.to_string());
        assert!(progress.send(&n).unwrap());
    }
}

#[test]
fn a_task_waits_for_its_reader_and_keeps_nobody_else_waiting() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(2), Gate::new());
        let task = pool.task_with_progress(count_with_marks).buffer(3);
        let (done, mut updates) = task.submit(gate.path());
        for taken in 0..5 {
            // So many are in the buffer, and it is about to send the next.
            let marks = 3 + taken + 1;
            assert!(soon(PROMPTLY, || gate.marks().len() == marks).await);
            for n in 0..20 {
                assert_eq!(pool.submit(double, n).await.unwrap(), n * 2);
            }
            assert_eq!(gate.marks().len(), marks);
            assert!(!done.is_done());
            assert_eq!(updates.next().await.unwrap().unwrap(), taken);
        }
        assert_eq!(all(updates).await, [5, 6, 7]);
        done.await.unwrap();
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// What is left of a budget may be nothing.
#[test]
fn a_call_whose_deadline_has_passed_is_not_run() {
    fn is_late<R>(result: Result<R, TaskError>) -> bool {
        result.is_err_and(|error| error.is_timeout() && !error.maybe_executed())
    }
    fn run(gate: String) {
        mark(&gate, "run");
    }
    async fn case<K: Kind>(kind: K) {
        let (gate, pool) = (Gate::new(), kind.pool(1));
        pool.ready().await.unwrap();
        let late = pool.task(run).deadline(Duration::ZERO);
        assert!(is_late(late.submit(gate.path()).await));
        assert!(is_late(late.run(gate.path()).await));
        let (error, path) = late.try_submit(gate.path()).unwrap_err().into_parts();
        assert!(is_late::<()>(Err(error)) && path == gate.path());
        let items = late.map(vec![gate.path(); 3]).map(is_late);
        assert_eq!(items.collect::<Vec<_>>().await, [true; 3]);

        let late = pool
            .task_async(|path| async move { run(path) })
            .deadline(Duration::ZERO);
        assert!(is_late(late.submit(gate.path()).await));
        assert!(is_late(late.run(gate.path()).await));
        assert!(is_late(
            late.try_submit(gate.path())
                .map_err(|refused| refused.into_parts().0)
        ));

        let late = pool.task_with_progress(|path, _: Progress<u32>| run(path));
        let late = late.deadline(Duration::ZERO);
        let (handle, updates) = late.submit(gate.path());
        assert!(is_late(handle.await) && all(updates).await.is_empty());
        let late = pool.task_async_with_progress(|path, _: Progress<u32>| async move { run(path) });
        let (handle, updates) = late.deadline(Duration::ZERO).submit(gate.path());
        assert!(is_late(handle.await) && all(updates).await.is_empty());
        pool.shutdown().await;
        assert!(gate.marks().is_empty());
    }
    on_every_executor!(case and inline);
}

/// Sends until it cannot; with the number of those that it could send, and whether nobody reads.
fn send_on(gate: String, progress: Progress<u32>) -> (u32, bool) {
    for n in 0.. {
        mark(&gate, &n.to_string());
        if !progress.send(&n).unwrap() {
            return (n, progress.is_closed());
        }
    }
    (u32::MAX, false)
}

#[test]
fn a_task_that_waits_for_its_reader_goes_on_when_it_is_asked_to_end_or_the_reader_goes() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let task = pool.task_with_progress(send_on).buffer(2);
        for asked in [true, false] {
            let gate = Gate::new();
            let (told, updates) = task.submit(gate.path());
            assert!(soon(PROMPTLY, || gate.marks().len() == 3).await);
            if asked {
                assert!(told.request_cancel());
                assert_eq!(told.await.unwrap(), (2, false));
                assert_eq!(all(updates).await, [0, 1]);
            } else {
                drop(updates);
                assert_eq!(told.await.unwrap(), (2, true));
            }
        }
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn updates_can_be_waited_for_on_a_thread_and_end_with_the_task() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let leaves_one_behind = |gate: String, progress: Progress<u32>| {
            let other = progress.clone();
            progress.send(&1).unwrap();
            std::thread::spawn(move || {
                pass(gate.clone());
                let sent = other.send(&2).unwrap();
                mark(&gate, &format!("{sent} {}", other.is_closed()));
            });
        };
        let gate = Gate::new();
        let (done, mut updates) = pool.submit_with_progress(leaves_one_behind, gate.path());
        let reader = tokio::task::spawn_blocking(move || {
            let first = updates.blocking_next().map(Result::unwrap);
            (first, updates.blocking_next().is_none())
        });
        assert_eq!(reader.await.unwrap(), (Some(1), true));
        done.await.unwrap();
        gate.open();
        assert!(
            soon(PROMPTLY, || gate.marks() == ["false true"]).await,
            "{:?}",
            gate.marks()
        );
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

/// What a call gives of which an ability is asked: its result, or that it is refused and was not run.
fn as_able(able: bool, result: Result<u64, TaskError>) {
    match result {
        Ok(result) => assert!(able && result == 4),
        Err(error) => {
            assert!(!able && error.is_unsupported(), "{error:#}");
            assert!(!error.maybe_executed());
        }
    }
}

#[test]
fn an_option_is_kept_or_its_calls_are_refused() {
    fn telling(n: u64, _: Progress<u64>) -> u64 {
        double(n)
    }
    async fn telling_async(n: u64, _: Progress<u64>) -> u64 {
        double(n)
    }
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let able = pool.require(Ability::Retry).is_ok();
        let task = pool.task(double).chunk_size(2).retry(2);
        as_able(able, task.submit(2).await);
        as_able(able, task.run(2).await);
        match task.try_submit(2) {
            Ok(handle) => as_able(able, handle.await),
            Err(refused) => assert!(!able && refused.into_argument() == 2),
        }
        let mut items = task.map([2, 2, 2]);
        while let Some(result) = items.next().await {
            as_able(able, result);
        }
        as_able(able, pool.task_call(call!(double(2))).retry(2).run().await);
        let (handle, _updates) = pool.task_with_progress(telling).retry(2).submit(2);
        as_able(able, handle.await);
        let is_async = pool.task_async(|n: u64| async move { double(n) }).retry(2);
        as_able(able, is_async.submit(2).await);
        let talks = pool.task_async_with_progress(telling_async).retry(2);
        as_able(able, talks.run(2).0.await);

        let able = pool.require(Ability::Key).is_ok();
        as_able(able, pool.task(double).key("a").submit(2).await);
        let keyed = pool
            .task_call(call!(double(2)))
            .key(7)
            .name("keyed")
            .priority(1);
        as_able(able, keyed.submit().await);
        let plain = pool.task_call(call!(double(2))).soft_timeout(PROMPTLY);
        assert_eq!(plain.queue_timeout(PROMPTLY).run().await.unwrap(), 4);
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// Calls inline can be repeated, and neither be ended nor do without the process they are in.
#[test]
fn executors_say_beforehand_what_they_can_do() {
    use Ability::{EndRunning, Isolate, Key, Retry};
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let able = [EndRunning, Isolate, Retry, Key].map(|ability| pool.require(ability).is_ok());
        let expected = match std::any::type_name::<K>() {
            name if name == std::any::type_name::<Threads>() => [false; 4],
            name if name == std::any::type_name::<Inline>() => [false, false, true, true],
            _ => [true; 4],
        };
        assert_eq!(able, expected);
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}
