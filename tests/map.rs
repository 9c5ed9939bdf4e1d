//! One function over many items, as a stream.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "permits are not needed here")]
mod gate;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, FusedStream, StreamExt, TryStreamExt};
use gate::Gate;
use procpool::{ProcessPool, TaskError};
use support::{PROMPTLY, everywhere, pool, soon};

/// CF-003, CF-089, CF-096.
#[test]
fn results_come_in_the_order_of_the_items_however_they_are_cut() {
    everywhere(async |method| {
        for workers in [1, 5] {
            let pool = pool(workers, method);
            let task = pool.task(|n: u32| n.pow(2));
            let expected: Vec<_> = (0..100).map(|n: u32| n.pow(2)).collect();
            let plain: Vec<_> = task.map(0..100).try_collect().await.unwrap();
            assert_eq!(plain, expected);
            for size in [1, 3, 20, 100, 1_000] {
                let task = task.clone().chunk_size(size);
                let got: Vec<_> = task.map(0..100).try_collect().await.unwrap();
                assert_eq!(got, expected, "in chunks of {size}");
            }
            pool.shutdown().await;
        }
    });
}

/// CF-004.
#[test]
fn chunks_need_not_divide_the_items() {
    everywhere(async |method| {
        let pool = pool(2, method);
        for size in [6, 40, 50] {
            let task = pool.task(|n: i64| -n).chunk_size(size);
            let got: Vec<_> = task.map(0..40).try_collect().await.unwrap();
            assert_eq!(got, (0..40).map(|n| -n).collect::<Vec<_>>());
        }
        pool.shutdown().await;
    });
}

/// CF-004, CF-099.
#[test]
#[should_panic(expected = "a chunk size must be greater than 0")]
fn a_chunk_of_nothing_is_refused_at_once() {
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let _ = pool.task(|n: u8| n).chunk_size(0);
}

/// CF-092, CF-093, CF-094.
#[test]
fn nothing_in_nothing_out_and_the_end_stays_the_end() {
    everywhere(async |method| {
        let pool = pool(1, method);
        for task in [pool.task(|n: u8| n), pool.task(|n: u8| n).chunk_size(1)] {
            let mut results = task.map(Vec::new());
            assert!(!results.is_terminated());
            for _ in 0..3 {
                assert!(results.next().await.is_none());
            }
            assert!(results.is_terminated());
            assert!(task.map_unordered([]).next().await.is_none());
        }
        pool.shutdown().await;
    });
}

/// CF-097.
#[test]
fn unordered_gives_everything_once() {
    everywhere(async |method| {
        let pool = pool(2, method);
        for size in [1, 100] {
            let task = pool.task(|n: u32| n * n).chunk_size(size);
            let mut got: Vec<_> = task.map_unordered(0..1_000).try_collect().await.unwrap();
            got.sort_unstable();
            assert_eq!(got, (0..1_000).map(|n| n * n).collect::<Vec<_>>());
        }
        pool.shutdown().await;
    });
}

/// CF-005: an item's failure is its own.
#[test]
fn an_item_that_panics_fails_alone() {
    everywhere(async |method| {
        let pool = pool(2, method);
        for size in [1, 4, 10] {
            let task = pool.task(|n: i32| 12 / n).chunk_size(size);
            let got: Vec<_> = task.map(-4..=5).collect().await;
            assert_eq!(got.len(), 10);
            for (n, result) in (-4..=5).zip(got) {
                match result {
                    Ok(quotient) => assert_eq!(quotient, 12 / n),
                    Err(error) => assert!(n == 0 && error.is_panic(), "{n}: {error}"),
                }
            }
        }
        pool.shutdown().await;
    });
}

/// CF-097: which item a result is of, where their order does not tell, and some are of no worker.
#[test]
fn results_are_told_with_the_numbers_of_their_items() {
    everywhere(async |method| {
        let pool = pool(2, method);
        for size in [1, 5, 100] {
            let task = pool.task(end_at_seven).chunk_size(size);
            for (kind, results) in [
                ("unordered", task.map_unordered(0..50)),
                ("map", task.map(0..50)),
            ] {
                let mut results: Vec<_> = results.enumerate().collect().await;
                results.sort_unstable_by_key(|(item, _)| *item);
                assert_eq!(results.len(), 50);
                for (expected, (item, result)) in results.into_iter().enumerate() {
                    assert_eq!(item, expected, "{kind} in chunks of {size}");
                    match result {
                        Ok(n) => assert_eq!(n as usize, item),
                        Err(error) => assert!(item % 10 == 7 && error.is_worker_lost()),
                    }
                }
            }
        }
        pool.shutdown().await;
    });
}

fn end_at_seven(n: u32) -> u32 {
    if n % 10 == 7 {
        std::process::abort();
    }
    n
}

#[test]
fn an_item_that_kills_its_worker_fails_alone_and_the_rest_of_its_chunk_is_run_elsewhere() {
    everywhere(async |method| {
        let pool = pool(2, method);
        for size in [1, 8, 30] {
            let task = pool.task(end_at_seven).chunk_size(size);
            let got: Vec<_> = task.map(0..30).collect().await;
            for (n, result) in (0..30).zip(&got) {
                match result {
                    Ok(value) => assert_eq!(*value, n),
                    Err(error) => {
                        let exit = error.worker_exit().expect("its worker died");
                        assert!(
                            n % 10 == 7 && exit.exit().signal() == Some(6),
                            "{n}: {error}"
                        );
                    }
                }
            }
            assert_eq!(got.iter().filter(|result| result.is_err()).count(), 3);
        }
        let stats = pool.stats();
        assert_eq!(
            (stats.submitted, stats.completed, stats.lost),
            (90, 81, 9),
            "{stats}"
        );
        pool.shutdown().await;
    });
}

fn hang_at_three(n: u32) -> u32 {
    if n == 3 {
        loop {
            std::thread::park();
        }
    }
    n
}

/// CF-047: the limit of a map is each item's.
#[test]
fn an_item_that_runs_too_long_is_ended_alone() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let limit = Duration::from_millis(200);
        let task = pool.task(hang_at_three).chunk_size(4).timeout(limit);
        let got: Vec<_> = task.map(0..12).collect().await;
        for (n, result) in (0..12).zip(got) {
            match result {
                Ok(value) => assert_eq!(value, n),
                Err(error) => assert!(n == 3 && error.is_timeout(), "{n}: {error}"),
            }
        }
        pool.shutdown().await;
    });
}

/// The limit counts from the start of the item, not of its chunk.
#[test]
fn many_items_within_their_limits_may_take_longer_together() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let nap = |_: u32| std::thread::sleep(Duration::from_millis(40));
        let task = pool
            .task(nap)
            .chunk_size(20)
            .timeout(Duration::from_millis(500));
        task.map(0..20).try_collect::<Vec<()>>().await.unwrap();
        pool.shutdown().await;
    });
}

fn record(at: (String, u32)) -> u32 {
    gate::mark(&at.0, &format!("{:02}", at.1));
    if at.1 == 0 {
        gate::pass(at.0.clone());
    }
    at.1
}

#[test]
fn the_rest_of_a_chunk_does_not_wait_behind_a_slow_item() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let gate = Gate::new();
        let items: Vec<_> = (0..20).map(|n| (gate.path(), n)).collect();
        let mut results = pool.task(record).chunk_size(20).map_unordered(items);
        let mut got = BTreeSet::new();
        while got.len() < 19 {
            got.insert(results.next().await.unwrap().unwrap());
        }
        assert!(!got.contains(&0), "it still runs");
        gate.open();
        assert_eq!(results.next().await.unwrap().unwrap(), 0);
        assert!(results.next().await.is_none());
        assert_eq!(gate.marks().len(), 20, "and nothing ran twice");
        pool.shutdown().await;
    });
}

/// CF-009, CF-100: the source is read only so far ahead.
#[test]
fn a_source_without_end_is_read_as_far_as_the_stream_is() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let endless = (0..).inspect(move |_: &u64| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut results = pool.task(|n: u64| n * 2).look_ahead(50).map(endless);
        assert_eq!(taken.load(Ordering::Relaxed), 50, "taken at once");
        for n in 0..200 {
            assert_eq!(results.next().await.unwrap().unwrap(), n * 2);
        }
        assert!(taken.load(Ordering::Relaxed) <= 250);
        drop(results);
        pool.shutdown().await;
    });
}

#[test]
fn work_starts_before_the_stream_is_read() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let gate = Gate::new();
        let results = pool.map(record, [(gate.path(), 1), (gate.path(), 2)]);
        assert!(soon(PROMPTLY, || gate.marks().len() == 2).await);
        assert_eq!(results.count().await, 2);
        pool.shutdown().await;
    });
}

/// CF-006: dropped, what has not been started never is.
#[test]
fn dropping_the_stream_drops_what_has_not_been_started() {
    everywhere(async |method| {
        for chunk in [1, 10] {
            let pool = pool(1, method);
            let gate = Gate::new();
            let items: Vec<_> = (0..10).map(|n| (gate.path(), n)).collect();
            let results = pool.task(record).chunk_size(chunk).map(items);
            assert!(soon(PROMPTLY, || gate.marks() == ["00"]).await);
            drop(results);
            gate.open();
            pool.shutdown().await;
            assert_eq!(gate.marks(), ["00"]);
        }
    });
}

#[test]
fn dropping_the_stream_can_end_what_runs() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let gate = Gate::new();
        let items: Vec<_> = (0..10).map(|n| (gate.path(), n)).collect();
        let results = pool.map(record, items).abort_on_drop();
        assert!(soon(PROMPTLY, || !gate.marks().is_empty()).await);
        drop(results);
        // The gate is never opened: only its end lets the pool shut down.
        pool.shutdown().await;
        assert_eq!(gate.marks(), ["00"]);
    });
}

#[test]
fn what_was_taken_is_finished_when_the_pool_is_closed() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let results = pool.map(|n: u32| n + 1, 0..1_000);
        pool.close();
        let got: Vec<_> = results.try_collect().await.unwrap();
        assert_eq!(got, (1..=1_000).collect::<Vec<_>>());
        pool.join().await.unwrap();
    });
}

#[test]
fn a_pool_that_was_closed_before_gives_every_item_its_refusal() {
    everywhere(async |method| {
        let pool = pool(1, method);
        pool.shutdown().await;
        let got: Vec<_> = pool.map(|n: u32| n + 1, 0..3).collect().await;
        assert_eq!(got.len(), 3);
        assert!(
            got.iter()
                .all(|result| result.as_ref().is_err_and(TaskError::is_shut_down))
        );
    });
}

#[test]
fn the_end_of_the_pool_ends_every_item() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let gate = Gate::new();
        let items: Vec<_> = (0..100).map(|_| (gate.path(), 0)).collect();
        let results = pool.task(record).chunk_size(7).map(items);
        assert!(soon(PROMPTLY, || !gate.marks().is_empty()).await);
        pool.terminate().await;
        let got: Vec<_> = results.collect().await;
        assert_eq!(got.len(), 100);
        for result in got {
            assert!(result.unwrap_err().is_shut_down());
        }
    });
}

#[test]
fn shutdown_now_finishes_what_runs_and_drops_the_rest() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let gate = Gate::new();
        let items: Vec<_> = (0..10).map(|n| (gate.path(), n)).collect();
        let results = pool.task(record).chunk_size(5).map(items);
        assert!(soon(PROMPTLY, || gate.marks() == ["00"]).await);
        let (_, got) = tokio::join!(pool.shutdown_now(), async {
            gate.open();
            results.collect::<Vec<_>>().await
        });
        assert_eq!(*got[0].as_ref().unwrap(), 0);
        assert!(
            got[1..]
                .iter()
                .all(|result| result.as_ref().is_err_and(TaskError::is_cancelled))
        );
        assert_eq!(gate.marks(), ["00"]);
    });
}

#[test]
fn items_may_come_from_a_stream() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let slow = stream::unfold(0u32, async |n| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            (n < 30).then_some((n, n + 1))
        });
        let got: Vec<_> = pool
            .map_stream(|n| n * 3, slow)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(got, (0..30).map(|n| n * 3).collect::<Vec<_>>());
        let task = pool.task(|n: u32| n * 3);
        let results = task.map_stream_unordered(stream::iter(0..30));
        assert_eq!(
            results.try_collect::<BTreeSet<_>>().await.unwrap().len(),
            30
        );
        pool.shutdown().await;
    });
}

#[test]
fn an_item_that_does_not_encode_fails_in_its_place() {
    #[derive(serde::Deserialize)]
    struct Picky(u32);
    impl serde::Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 2 {
                return Err(serde::ser::Error::custom("not two"));
            }
            serializer.serialize_u32(self.0)
        }
    }
    everywhere(async |method| {
        let pool = pool(1, method);
        let items = (0..4).map(Picky);
        let got: Vec<_> = pool.map(|item: Picky| item.0, items).collect().await;
        for (n, result) in (0..4).zip(got) {
            match result {
                Ok(value) => assert_eq!(value, n),
                Err(error) => assert!(n == 2 && error.is_encode(), "{n}: {error}"),
            }
        }
        pool.shutdown().await;
    });
}

/// Results larger than the outbox, and than a pipe.
#[test]
fn large_items_and_large_results_arrive_whole() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let fill = |n: usize| vec![n as u8; n * 30_000];
        let got: Vec<_> = pool
            .task(fill)
            .chunk_size(4)
            .map(0..12)
            .try_collect()
            .await
            .unwrap();
        for (n, bytes) in got.iter().enumerate() {
            assert!(bytes.len() == n * 30_000 && bytes.iter().all(|byte| *byte == n as u8));
        }
        let back = pool.map(|bytes: Vec<u8>| bytes.len(), got);
        let lengths: Vec<_> = back.try_collect().await.unwrap();
        assert_eq!(lengths, (0..12).map(|n| n * 30_000).collect::<Vec<_>>());
        pool.shutdown().await;
    });
}

#[test]
fn maps_and_single_calls_share_a_pool() {
    everywhere(async |method| {
        let pool = pool(2, method);
        let maps = (0..4u64).map(|k| {
            let results = pool.task(|n: u64| n + 1).map((0..300).map(move |n| n * k));
            results.try_fold(0u64, async |sum, n| Ok(sum + n))
        });
        let calls = (0..50u64).map(|n| pool.submit(|n: u64| n, n));
        let (sums, calls) = tokio::join!(
            futures::future::try_join_all(maps),
            futures::future::try_join_all(calls),
        );
        let whole: u64 = (0..300).sum();
        assert_eq!(
            sums.unwrap(),
            (0..4).map(|k| whole * k + 300).collect::<Vec<_>>()
        );
        assert_eq!(calls.unwrap(), (0..50).collect::<Vec<_>>());
        pool.shutdown().await;
    });
}

/// The queue's limit is for single calls: a map is bounded by itself.
#[test]
fn a_map_takes_no_room_in_the_queue() {
    everywhere(async |method| {
        let builder = ProcessPool::builder()
            .workers(1)
            .max_pending(1)
            .start_method(method);
        let pool = builder.build().unwrap();
        let got: Vec<_> = pool.map(|n: u32| n, 0..100).try_collect().await.unwrap();
        assert_eq!(got.len(), 100);
        pool.shutdown().await;
    });
}

#[test]
fn tasks_of_a_map_know_themselves() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let who = |_: u8| {
            procpool::task::current().map(|task| (task.id(), task.name().map(str::to_owned)))
        };
        let task = pool.task(who).chunk_size(5).name("counting");
        let got: Vec<_> = task.map(0..5).try_collect().await.unwrap();
        let ids: BTreeSet<_> = got.iter().map(|seen| seen.as_ref().unwrap().0).collect();
        assert_eq!(ids.len(), 5, "each its own");
        assert!(
            got.iter()
                .all(|seen| seen.as_ref().unwrap().1.as_deref() == Some("counting"))
        );
        pool.shutdown().await;
    });
}
