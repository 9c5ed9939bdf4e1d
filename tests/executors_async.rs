//! The conformance of all executors, continued: calls of async functions. As in `executors.rs`, each
//! case is generic.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
#[macro_use]
#[path = "support/kinds.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod kinds;
mod support;

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use gate::{Gate, mark, pass};
use kinds::{Inline, Kind, Threads, on_each_runtime, started};
use procpool::task::Progress;
use procpool::{
    Executor, ExecutorAsyncTask, ExecutorProgressTask, StartMethod, ThreadPool, WhenFull,
};
use support::{PROMPTLY, everywhere, soon};

const LIMIT: Duration = Duration::from_millis(30);

async fn double(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n * 2
}

/// Leaves a mark when it is dropped.
struct Dropped(String, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        mark(&self.0, self.1);
    }
}

/// Never comes to its end.
async fn for_ever(gate: String) -> u64 {
    let _dropped = Dropped(gate.clone(), "dropped");
    mark(&gate, "begun");
    std::future::pending().await
}

/// Waits until so many of its kind have come.
async fn together((gate, number, all): (String, usize, usize)) -> usize {
    mark(&gate, &number.to_string());
    let here = std::path::PathBuf::from(gate);
    while std::fs::read_dir(&here).unwrap().count() < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    number
}

async fn asked_to_end(_: ()) -> bool {
    let stop = procpool::task::current().unwrap().cancellation();
    stop.cancelled().await;
    stop.is_cancelled()
}

async fn marks(gate: &Gate, number: usize) -> bool {
    soon(PROMPTLY, || gate.marks().len() == number).await
}

#[test]
fn async_calls_give_their_values_and_a_failing_one_hurts_no_other() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        assert_eq!(pool.submit_async(double, 4).await.unwrap(), 8);
        let task = pool.task_async(double).name("double").priority(1);
        assert_eq!(task.run(5).await.unwrap(), 10);
        assert_eq!(task.try_submit(6).unwrap().await.unwrap(), 12);
        let fails = |n: u64| async move { 10 / (n - n) };
        assert!(pool.submit_async(fails, 1).await.unwrap_err().is_panic());
        let many: Vec<_> = (0..200).map(|n| pool.submit_async(double, n)).collect();
        for (n, result) in (0..).zip(join_all(many).await) {
            assert_eq!(result.unwrap(), n * 2);
        }
        assert_eq!(pool.submit(|n: u64| n, 3).await.unwrap(), 3);
        let stats = pool.stats();
        assert_eq!(
            (stats.submitted, stats.completed, stats.failed),
            (205, 204, 1)
        );
        assert_eq!((stats.unfinished, stats.queued), (0, 0), "{stats}");
        pool.shutdown().await;
        assert!(
            pool.submit_async(double, 1)
                .await
                .unwrap_err()
                .is_shut_down()
        );
    }
    on_every_executor!(case and inline);
}

#[test]
fn async_calls_run_beside_each_other_in_one_worker_and_blocking_ones_have_their_turn() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(2), Gate::new());
        let many = (0..40).map(|n| pool.submit_async(together, (gate.path(), n, 40)));
        let many: Vec<_> = many.collect();
        for (n, result) in join_all(many).await.into_iter().enumerate() {
            assert_eq!(result.unwrap(), n);
        }
        // One that never ends leaves the other worker to the blocking ones.
        let gate = Gate::new();
        let endless = pool.submit_async(for_ever, gate.path());
        started(&endless).await;
        assert_eq!(pool.submit(|n: u64| n, 3).await.unwrap(), 3);
        let held = pool.submit(pass, gate.path());
        started(&held).await;
        assert_eq!(pool.submit_async(double, 3).await.unwrap(), 6);
        assert_eq!(
            pool.stats()
                .workers
                .iter()
                .map(|worker| worker.async_tasks)
                .sum::<usize>(),
            1
        );
        gate.open();
        held.await.unwrap();
        assert!(endless.abort());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn an_async_call_is_ended_where_it_is() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let gate = Gate::new();
        let running = pool.submit_async(for_ever, gate.path());
        assert!(marks(&gate, 1).await);
        let beside = pool.submit_async(asked_to_end, ());
        started(&beside).await;
        assert!(running.abort() && running.is_done() && running.is_cancelled());
        assert!(running.abort() && running.cancel(), "that is its outcome");
        assert!(marks(&gate, 2).await, "its future is dropped");
        let error = running.await.unwrap_err();
        assert!(error.is_aborted() && error.maybe_executed());
        // Its neighbour goes on, until it is asked not to.
        assert!(!beside.is_done() && beside.request_cancel());
        assert!(beside.await.unwrap());
        let asked = pool.task_async(asked_to_end).soft_timeout(LIMIT);
        assert!(asked.run(()).await.unwrap());

        for deadline in [false, true] {
            let gate = Gate::new();
            let task = pool.task_async(for_ever);
            let task = if deadline {
                task.deadline(LIMIT)
            } else {
                task.timeout(LIMIT)
            };
            let error = task.run(gate.path()).await.unwrap_err();
            assert!(error.is_timeout() && error.maybe_executed(), "{error}");
            assert!(marks(&gate, 2).await);
        }
        let gate = Gate::new();
        let dropped = tokio::time::timeout(LIMIT, pool.task_async(for_ever).run(gate.path())).await;
        assert!(dropped.is_err());
        assert!(marks(&gate, 2).await || gate.marks().is_empty());
        let stats = pool.stats();
        assert_eq!((stats.timed_out, stats.workers_ended), (2, 0), "{stats}");
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn what_waits_behind_a_blocking_call_can_be_taken_back_or_expires() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.bounded(1, 3), Gate::new());
        let held = pool.submit(pass, gate.path());
        started(&held).await;
        let waiting = pool.submit_async(for_ever, gate.path());
        assert!(waiting.cancel());
        let expired = pool
            .task_async(for_ever)
            .deadline(LIMIT)
            .submit(gate.path());
        let error = expired.await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        let late = pool.task_async(for_ever).queue_timeout(LIMIT);
        assert!(late.run(gate.path()).await.unwrap_err().is_timeout());
        let fill: Vec<_> = (0..3).map(|n| pool.submit_async(double, n)).collect();
        let refused = pool.task_async(double).try_submit(9).unwrap_err();
        assert!(refused.is_queue_full() && refused.into_argument() == 9);
        // A deadline is kept while there is no room, too.
        let error = pool
            .task_async(double)
            .deadline(LIMIT)
            .run(1)
            .await
            .unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        gate.open();
        for (n, result) in (0..).zip(join_all(fill).await) {
            assert_eq!(result.unwrap(), n * 2);
        }
        held.await.unwrap();
        assert!(gate.marks().is_empty());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn a_terminated_executor_ends_its_async_calls() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let running = pool.submit_async(for_ever, gate.path());
        assert!(marks(&gate, 1).await);
        pool.terminate().await.unwrap();
        let error = running.await.unwrap_err();
        assert!(error.is_shut_down() && error.maybe_executed(), "{error}");
    }
    on_every_executor!(case);
}

/// What is particular to threads: the future need not be `Send`, values are moved, and berths bound
/// how many share a thread.
#[test]
fn futures_of_a_thread_pool_stay_on_their_thread() {
    async fn on_one_thread(told: std::sync::mpsc::Sender<usize>) -> bool {
        let shared = std::rc::Rc::new(());
        let before = std::thread::current().id();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let local = tokio::task::spawn_local({
            let shared = shared.clone();
            async move { std::rc::Rc::strong_count(&shared) }
        });
        told.send(local.await.unwrap()).unwrap();
        before == std::thread::current().id()
    }
    on_each_runtime(|| async {
        let pool = ThreadPool::builder().workers(3).max_async_per_worker(2);
        let pool = pool.build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let many: Vec<_> = (0..50)
            .map(|_| pool.submit_async(on_one_thread, tell.clone()))
            .collect();
        for same in join_all(many).await {
            assert!(same.unwrap());
        }
        assert_eq!(told.try_iter().count(), 50);
        assert!(pool.stats().workers_started > 1);
        pool.shutdown().await;
    });
    for builder in [0, 1_025].map(|berths| ThreadPool::builder().max_async_per_worker(berths)) {
        assert!(builder.build().unwrap_err().is_invalid_argument());
    }
}

async fn count(to: u64, progress: Progress<u64>) -> u64 {
    let mut sent = 0;
    for n in 1..=to {
        sent += u64::from(progress.send_async(&n).await.unwrap());
    }
    sent
}

/// Sends until it is ended, and marks when it is.
async fn send_for_ever(gate: String, progress: Progress<u64>) {
    let _dropped = Dropped(gate, "dropped");
    for n in 0.. {
        progress.send_async(&n).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[test]
fn async_tasks_say_how_far_they_have_come_and_wait_for_their_readers_apart() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let task = pool.task_async_with_progress(count).name("count").buffer(2);
        let (unread, kept) = task.submit(5);
        // It waits for its reader, and the one beside it does not wait for it.
        let (read, updates) = task.submit(100);
        let updates: Vec<_> = updates.try_collect().await.unwrap();
        assert_eq!(updates, (1..=100).collect::<Vec<_>>());
        assert_eq!(read.await.unwrap(), 100);
        assert!(!unread.is_done());
        let kept: Vec<_> = kept.try_collect().await.unwrap();
        assert_eq!((kept.len(), unread.await.unwrap()), (5, 5));
        // Nobody is waited for where the oldest may be dropped, or nobody reads.
        let newest = task.clone().buffer(1).when_full(WhenFull::DropOldest);
        let (result, updates) = newest.run(50);
        assert_eq!(result.await.unwrap(), 50);
        assert_eq!(updates.try_collect::<Vec<_>>().await.unwrap(), [50]);
        let (result, updates) = task.try_submit(1_000).unwrap();
        drop(updates);
        assert!(result.await.unwrap() < 1_000);
        pool.shutdown().await;
        let (refused, mut none) = task.submit(1);
        assert!(refused.await.unwrap_err().is_shut_down());
        assert!(none.next().await.is_none());
        assert!(task.try_submit(1).unwrap_err().error().is_shut_down());
    }
    on_every_executor!(case);
}

#[test]
fn an_async_task_that_is_ended_says_nothing_more() {
    async fn case<K: Kind>(kind: K) {
        let (pool, gate) = (kind.pool(1), Gate::new());
        let task = pool.task_async_with_progress(send_for_ever);
        let (endless, mut updates) = task.submit(gate.path());
        for n in 0..10 {
            assert_eq!(updates.next().await.unwrap().unwrap(), n);
        }
        assert!(endless.abort());
        assert!(endless.await.unwrap_err().is_aborted());
        assert!(updates.count().await < 1_000);
        assert!(marks(&gate, 1).await);
        let (late, updates) = task.timeout(LIMIT).submit(gate.path());
        assert!(late.await.unwrap_err().is_timeout());
        drop(updates);
        pool.shutdown().await;
    }
    on_every_executor!(case);
}
