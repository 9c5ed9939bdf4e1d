//! What a pool tells the `metrics` facade, to a recorder that keeps it.
#![cfg(feature = "metrics")]

#[path = "support/recorder.rs"]
mod recorder;
mod support;

use std::time::Duration;

use futures::StreamExt;
use procpool::{ProcessPool, StartMethod};
use recorder::Kept;
use support::{PROMPTLY, everywhere, soon};

fn pool(method: StartMethod, name: Option<&str>) -> (ProcessPool, Kept) {
    let kept = Kept::default();
    let mut builder = ProcessPool::builder().workers(1).start_method(method);
    if let Some(name) = name {
        builder = builder.worker_name(name);
    }
    let pool = metrics::with_local_recorder(&kept, || builder.build().unwrap());
    (pool, kept)
}

#[test]
fn calls_are_counted_by_how_they_end() {
    everywhere(async |method| {
        let (pool, kept) = pool(method, Some("images"));
        for n in 0..3u64 {
            pool.submit(|n: u64| n, n).await.unwrap();
        }
        let nap = |millis: u64| std::thread::sleep(Duration::from_millis(millis));
        pool.submit(nap, 30).await.unwrap();
        // What is told is told before the answer is.
        assert_eq!(
            kept.value("procpool_calls_submitted_total pool=images"),
            4.0
        );
        assert_eq!(kept.value("procpool_calls_done_total pool=images"), 4.0);
        let ran = kept.change("procpool_call_run_seconds pool=images", |ran| ran.clone());
        assert!(
            ran.count == 4 && ran.value >= 0.03,
            "{} {}",
            ran.count,
            ran.value
        );
        let waited = kept.change("procpool_call_wait_seconds pool=images", |waited| {
            waited.count
        });
        assert_eq!(waited, 4);
        pool.submit(|n: u64| 1 / n, 0).await.unwrap_err();
        pool.submit(|_: ()| -> () { std::process::abort() }, ())
            .await
            .unwrap_err();
        let park = pool
            .task(|_: ()| std::thread::park())
            .timeout(Duration::from_millis(20));
        park.submit(()).await.unwrap_err();
        for reason in ["panicked", "worker lost", "timed out"] {
            let name = format!("procpool_calls_failed_total pool=images reason={reason}");
            assert_eq!(kept.value(&name), 1.0, "{reason}");
        }
        pool.submit(|n: u64| n, 1).await.unwrap();
        // Told by whoever has started the worker, which may answer before that.
        let restarts = || kept.value("procpool_worker_restarts_total pool=images");
        assert!(soon(PROMPTLY, || restarts() == 2.0).await, "{}", restarts());
        pool.shutdown().await;
    });
}

#[test]
fn gauges_follow_the_queue_and_the_workers() {
    everywhere(async |method| {
        let (pool, kept) = pool(method, None);
        pool.ready().await.unwrap();
        let levels = || {
            [
                "procpool_queue_depth",
                "procpool_workers",
                "procpool_workers_busy",
            ]
            .map(|name| kept.value(name))
        };
        assert!(
            soon(PROMPTLY, || levels() == [0.0, 1.0, 0.0]).await,
            "{:?}",
            levels()
        );
        let park = |_: ()| std::thread::park();
        let parked = [(); 3].map(|()| pool.submit(park, ()));
        assert_eq!(levels(), [2.0, 1.0, 1.0]);
        pool.terminate().await;
        drop(parked);
        assert_eq!(levels(), [0.0; 3]);
        assert_eq!(
            kept.value("procpool_calls_failed_total reason=shut down"),
            3.0
        );
    });
}

/// Chunks that are cut short go back and come again, and each item counts once.
#[test]
fn every_item_of_a_map_counts_once() {
    everywhere(async |method| {
        let kept = Kept::default();
        let builder = ProcessPool::builder().workers(2).start_method(method);
        let pool = metrics::with_local_recorder(&kept, || builder.build().unwrap());
        let uneven = |n: u64| std::thread::sleep(Duration::from_millis(n % 7));
        let items = pool.task(uneven).chunk_size(20).map(0..60);
        assert_eq!(items.count().await, 60);
        pool.shutdown().await;
        assert_eq!(kept.value("procpool_calls_submitted_total"), 60.0);
        assert_eq!(kept.value("procpool_calls_done_total"), 60.0);
    });
}
