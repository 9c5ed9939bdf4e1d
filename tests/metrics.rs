//! What a pool tells the `metrics` facade, to a recorder that keeps it.
#![cfg(feature = "metrics")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use procpool::{ProcessPool, StartMethod};
use support::{PROMPTLY, everywhere, soon};

/// The instruments by name, labels and what is described of them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, Instrument>>>);

#[derive(Clone, Default)]
struct Instrument {
    value: f64,
    count: u64,
}

/// One instrument of them.
struct Pen(Kept, String);

impl Kept {
    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Instrument) -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kept.entry(name.to_owned()).or_default())
    }

    fn value(&self, name: &str) -> f64 {
        self.change(name, |instrument| instrument.value)
    }

    fn pen(&self, key: &Key) -> Arc<Pen> {
        let labels = key
            .labels()
            .filter(|label| label.value() != "process")
            .map(|label| format!("{}={}", label.key(), label.value()));
        let name = [key.name().to_owned()].into_iter().chain(labels);
        Arc::new(Pen(self.clone(), name.collect::<Vec<_>>().join(" ")))
    }
}

impl CounterFn for Pen {
    fn increment(&self, by: u64) {
        self.0
            .change(&self.1, |instrument| instrument.value += by as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters grow by what happens");
    }
}

impl GaugeFn for Pen {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0
            .change(&self.1, |instrument| instrument.value = value);
    }
}

impl HistogramFn for Pen {
    fn record(&self, value: f64) {
        self.0.change(&self.1, |instrument| {
            instrument.value += value;
            instrument.count += 1;
        });
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.pen(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.pen(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.pen(key))
    }
}

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
