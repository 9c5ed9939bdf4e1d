//! The conformance of all executors, continued: maps and the life of their pools. As in
//! `executors.rs`, each case is generic.

#[macro_use]
#[path = "support/kinds.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod kinds;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, Stream as _, StreamExt, TryStreamExt};
use kinds::{Inline, Kind, Threads, on_each_runtime};
use procpool::{Executor, ExecutorTask, StartMethod, TaskError};
use support::everywhere;

fn double(n: u64) -> u64 {
    n * 2
}

/// Several times the look-ahead.
const MANY: u64 = 3_000;

#[test]
fn a_map_keeps_its_pool_open_until_it_has_taken_everything() {
    async fn case<K: Kind>(kind: K) {
        let expected: Vec<_> = (0..MANY).map(double).collect();
        let results = kind.pool(2).map(double, 0..MANY);
        assert_eq!(results.try_collect::<Vec<_>>().await.unwrap(), expected);

        let results = kind.pool(2).map_stream(double, stream::iter(0..MANY));
        assert_eq!(results.try_collect::<Vec<_>>().await.unwrap(), expected);

        let results = kind.pool(2).map_unordered(double, 0..MANY);
        let mut doubled: Vec<_> = results.try_collect().await.unwrap();
        doubled.sort_unstable();
        assert_eq!(doubled, expected);

        let results = kind.pool(2).task(double).look_ahead(7).map(0..100);
        assert_eq!(
            results.try_collect::<Vec<_>>().await.unwrap(),
            expected[..100]
        );
    }
    on_every_executor!(case and inline);
}

#[test]
fn so_does_one_whose_results_have_numbers() {
    everywhere(async |method| {
        let results = method.pool(2).map_unordered(double, 0..MANY).enumerate();
        let results: Vec<_> = results.collect().await;
        assert!(
            results
                .iter()
                .all(|(n, result)| *result.as_ref().unwrap() == double(*n as u64))
        );
        let results = Threads.pool(2).map_unordered(double, 0..MANY).enumerate();
        let results: Vec<_> = results.collect().await;
        assert!(
            results
                .iter()
                .all(|(n, result)| *result.as_ref().unwrap() == double(*n as u64))
        );
    });
}

#[test]
fn a_map_that_is_dropped_lets_go_of_its_pool() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let events = pool.events();
        let (mut one, mut other) = (pool.map(double, 0..), pool.map(double, 0..));
        drop(pool);
        for n in 0..1_500 {
            assert_eq!(one.next().await.unwrap().unwrap(), n * 2);
        }
        drop(one);
        for n in 0..1_500 {
            assert_eq!(
                other.next().await.unwrap().unwrap(),
                n * 2,
                "it is still open"
            );
        }
        drop(other);
        // They end with the pool.
        events.count().await;
    }
    on_every_executor!(case and inline);
}

#[test]
fn a_map_that_has_taken_everything_needs_its_pool_no_more() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        let events = pool.events();
        let results = pool.map(double, 0..100);
        drop(pool);
        events.count().await;
        let doubled: Vec<_> = results.try_collect().await.unwrap();
        assert!(doubled.into_iter().eq((0..100).map(double)));
    }
    on_every_executor!(case);
}

#[test]
fn the_items_behind_a_shutdown_are_refused_one_by_one() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        let task = pool.task(double).look_ahead(4);
        let (some, endless) = (task.map(0..10), task.map(0..));
        pool.shutdown().await;
        let results: Vec<_> = some.collect().await;
        for (n, result) in (0..).zip(&results) {
            match result {
                Ok(doubled) => assert_eq!((n < 4, *doubled), (true, n * 2)),
                Err(error) => assert!(n >= 4 && error.is_shut_down(), "{n}: {error}"),
            }
        }
        assert_eq!(results.len(), 10);
        let is_open = |result: &Result<_, TaskError>| {
            let open = !result.as_ref().is_err_and(TaskError::is_shut_down);
            std::future::ready(open)
        };
        assert_eq!(endless.take_while(is_open).count().await, 4);
    }
    on_every_executor!(case);
}

#[test]
fn a_map_knows_how_many_results_there_will_be() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(2);
        for ahead in [1, 4, 100] {
            let task = pool.task(double).look_ahead(ahead);
            let (mut ordered, mut unordered) = (task.map(0..10), task.map_unordered(0..10));
            for left in (0..10).rev() {
                assert_eq!(ordered.size_hint(), (left + 1, Some(left + 1)));
                ordered.next().await.unwrap().unwrap();
                assert_eq!(unordered.size_hint(), (left + 1, Some(left + 1)));
                unordered.next().await.unwrap().unwrap();
            }
            assert_eq!(ordered.size_hint(), (0, Some(0)));
            assert!(ordered.next().await.is_none());
            assert_eq!(ordered.size_hint(), (0, Some(0)));
        }
        assert_eq!(pool.map(double, 0..).size_hint(), (usize::MAX, None));

        // Where the source knows less, so does the map.
        let mut even = pool.map(double, (0..10).filter(|n| n % 2 == 0));
        for left in (0..5).rev() {
            let (least, most) = even.size_hint();
            assert!(least <= left + 1 && most.is_some_and(|most| most > left));
            even.next().await.unwrap().unwrap();
        }
        assert!(even.next().await.is_none());
        assert_eq!(even.size_hint(), (0, Some(0)));
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// CF-010: who has read a result may take his time with it.
#[test]
fn the_place_of_what_is_read_is_filled_before_the_reader_has_it() {
    async fn case<K: Kind>(kind: K) {
        let pool = kind.pool(1);
        for ahead in [1, 5] {
            let taken = Arc::new(AtomicU64::new(0));
            let count = taken.clone();
            let items = (0..).inspect(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let mut results = pool.task(double).look_ahead(ahead).map(items);
            for read in 0..10 {
                assert_eq!(taken.load(Ordering::Relaxed), ahead as u64 + read);
                assert_eq!(results.next().await.unwrap().unwrap(), double(read));
            }
        }
        pool.shutdown().await;
    }
    on_every_executor!(case);
}
