//! Where the items of a map come from, how far ahead they are taken, and what becomes of a source
//! that fails.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use gate::{Gate, pass};
use procpool::ProcessPool;
use support::{PROMPTLY, everywhere, pool, soon};

/// Counts what is taken out of a source.
fn counted<I: Iterator>(items: I) -> (Arc<AtomicUsize>, impl Iterator<Item = I::Item>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let items = items.inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (taken, items)
}

/// CF-010.
#[test]
fn no_more_is_taken_than_the_look_ahead_says() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        for ahead in [1, 5, 10] {
            let (taken, items) = counted(0..5);
            let done = pool.stats().completed;
            let are_done = |n: usize| {
                let pool = pool.clone();
                soon(PROMPTLY, move || pool.stats().completed - done == n as u64)
            };
            let mut results = pool.task(|n: u64| n).look_ahead(ahead).map(items);
            assert_eq!(taken.load(Ordering::Relaxed), ahead.min(5));
            assert!(are_done(ahead.min(5)).await);
            assert_eq!(results.next().await.unwrap().unwrap(), 0);
            // Nobody polls any more, and the place of what was read is not empty.
            assert_eq!(taken.load(Ordering::Relaxed), (ahead + 1).min(5));
            assert!(are_done((ahead + 1).min(5)).await);
            let rest: Vec<_> = results.try_collect().await.unwrap();
            assert_eq!(rest, [1, 2, 3, 4]);
        }
        for ahead in [1, 5, 10] {
            let (taken, items) = counted(0..);
            let mut results = pool.task(|n: u64| n).look_ahead(ahead).map(items);
            for read in 1..30 {
                results.next().await.unwrap().unwrap();
                assert_eq!(taken.load(Ordering::Relaxed), ahead + read);
            }
        }
        let texts = pool.task(|n: u64| n.to_string()).look_ahead(2).map(0..);
        let texts: Vec<_> = texts.take(3).try_collect().await.unwrap();
        assert_eq!(texts, ["0", "1", "2"]);
        for ahead in [1, 2, 4, 8] {
            let results = pool.task(|n: u64| n * n).look_ahead(ahead).map(0..4);
            assert_eq!(results.try_collect::<Vec<_>>().await.unwrap(), [0, 1, 4, 9]);
        }
        let (taken, items) = counted(0..4);
        let unread = pool.task(|n: u64| n).look_ahead(2).map(items);
        pool.shutdown().await;
        assert_eq!(taken.load(Ordering::Relaxed), 2, "nobody has read");
        drop(unread);
    });
}

/// CF-010.
#[test]
#[should_panic(expected = "a look-ahead must be greater than 0")]
fn a_look_ahead_of_nothing_is_refused_at_once() {
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let _ = pool.task(|n: u8| n).look_ahead(0);
}

/// CF-095, CF-109: a source that panics is its reader's, and no task's failure.
#[test]
fn a_source_that_panics_does_so_where_it_is_read_and_harms_no_other_map() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let failing = |at: u64| (0..10).inspect(move |n| assert_ne!(*n, at, "no more items"));
        for at in [0, 3, 3] {
            let map = || pool.map(|n: u64| n, failing(at));
            let panic = catch_unwind(AssertUnwindSafe(map))
                .map(|_| ())
                .expect_err("it panics");
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains("no more items"), "{text}");
        }
        // One that panics later, when the results are read.
        let mut map = pool.task(|n: u64| n).look_ahead(2).map(failing(5));
        let mut seen = Vec::new();
        let panic = loop {
            let next = AssertUnwindSafe(map.next());
            match futures::FutureExt::catch_unwind(next).await {
                Ok(result) => seen.push(result.expect("it does not end").unwrap()),
                Err(panic) => break panic,
            }
        };
        // What was to be given then is still there.
        seen.push(map.next().await.unwrap().unwrap());
        assert!(
            panic
                .downcast_ref::<String>()
                .unwrap()
                .contains("no more items")
        );
        assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
        drop(map);
        let good: Vec<_> = pool.map(|n: u64| n, 0..3).try_collect().await.unwrap();
        assert_eq!(good, [0, 1, 2]);
        pool.shutdown().await;
    });
}

/// CF-098.
#[test]
fn giving_up_on_the_next_result_loses_none() {
    everywhere(|method| async move {
        let (pool, gate) = (pool(1, method), Gate::new());
        let mut results = pool.map(pass, vec![gate.path(); 3]);
        for _ in 0..3 {
            let early = tokio::time::timeout(Duration::from_millis(1), results.next());
            assert!(early.await.is_err(), "nothing is ready");
        }
        gate.open();
        for _ in 0..3 {
            results.next().await.unwrap().unwrap();
        }
        let limit = Duration::from_millis(1);
        let end = tokio::time::timeout(limit, results.next()).await;
        assert!(end.expect("the end is no timeout").is_none());
        pool.shutdown().await;
    });
}
