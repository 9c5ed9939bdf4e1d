//! The conformance of all executors, continued: what those hear who listen to `tracing` and to
//! `metrics`. As in `executors.rs`, each case is generic.
#![cfg(all(feature = "tracing", feature = "metrics"))]

#[path = "support/collector.rs"]
mod collector;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
#[macro_use]
#[path = "support/kinds.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod kinds;
#[path = "support/recorder.rs"]
mod recorder;
mod support;

use std::sync::Once;
use std::time::Duration;

use collector::{collected, listen};
use futures::StreamExt;
use futures::future::join_all;
use gate::{Gate, pass};
use kinds::{Inline, Kind, Threads, WANTED, Wanted, on_each_runtime, started};
use procpool::{Executor, ExecutorAsyncTask, ExecutorTask, StartMethod, TaskError};
use recorder::Kept;
use support::{PROMPTLY, everywhere, soon};
use tracing::{Instrument, Level};

/// A pool, when somebody listens who has heard nothing yet.
fn heard<K: Kind>(kind: K, workers: usize) -> K::Pool {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| listen(Level::DEBUG));
    collected().clear();
    kind.pool(workers)
}

fn greet(name: String) -> usize {
    tracing::info!(target: "greeter", name, "hello {name}");
    name.len()
}

/// The span of the call of that number, when it is over.
async fn span_of(call: u64) -> collector::Span {
    let call = call.to_string();
    let found = || collected().span("call", &call).filter(|span| span.closed);
    let there = soon(PROMPTLY, || found().is_some()).await;
    assert!(there, "{:#?}", collected());
    found().unwrap()
}

/// What was logged of a failed call, by the number of its span.
fn told_of(span: &collector::Span) -> String {
    let events = collected().events("procpool");
    let mut own = events.iter().filter(|event| event.parent == Some(span.id));
    own.next().expect("it is told").field("error").to_owned()
}

#[test]
fn a_call_has_a_span_inside_of_its_callers_and_what_its_task_logs_is_inside_of_it() {
    async fn case<K: Kind>(kind: K) {
        let pool = heard(kind, 1);
        let caller = tracing::info_span!("request");
        let task = pool.task(greet).name("greet");
        let handle = caller.in_scope(|| task.submit("world".to_owned()));
        let call = handle.id();
        handle.await.unwrap();
        let span = span_of(call).await;
        assert_eq!((&*span.name, &*span.target), ("call", "procpool"));
        assert_eq!(span.parent, Some(collected().named("request").id));
        assert_eq!(span.field("name"), "greet");
        assert_eq!(
            (span.field("attempt"), span.field("outcome")),
            ("1", "returned")
        );
        assert!(span.field("ran").ends_with('s'));
        if let Some(worker) = pool.stats().workers.first() {
            assert_eq!(span.field("worker"), worker.name);
            assert_eq!(span.field("pid"), worker.pid.to_string());
        }
        let event = collected().event("greeter").unwrap();
        assert_eq!(event.field("message"), "hello world");
        assert_eq!(event.parent, Some(span.id));
        // By `run` it is that of whoever awaits.
        let run = pool.run(greet, "moon".to_owned()).instrument(caller);
        run.await.unwrap();
        assert_eq!(span_of(call + 1).await.parent, span.parent);
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

async fn greet_async(name: String) -> usize {
    greet(name)
}

/// However soon a call runs: what is logged first shows its number.
#[test]
fn what_is_logged_in_a_call_knows_its_number() {
    async fn case<K: Kind>(kind: K) {
        let pool = heard(kind, 2);
        let mut calls = Vec::new();
        for _ in 0..40 {
            let call = pool.submit(greet, "one".to_owned());
            calls.push(call.id().to_string());
            call.await.unwrap();
            let call = pool.task_async(greet_async).submit("two".to_owned());
            calls.push(call.id().to_string());
            call.await.unwrap();
        }
        let told = || collected().events("greeter");
        assert!(soon(PROMPTLY, || told().len() == calls.len()).await);
        let told = told();
        let mut known: Vec<_> = told
            .iter()
            .filter_map(|event| event.around("call"))
            .collect();
        // Those who run beside each other may be heard in another order.
        known.sort_by_key(|call| call.parse::<u64>().unwrap());
        assert_eq!(known, calls);
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

#[test]
fn a_span_tells_how_its_call_has_ended() {
    async fn case<K: Kind>(kind: K) {
        let pool = heard(kind, 1);
        let panics = pool.submit(|n: u64| [1, 2, 3][n as usize], 7);
        let call = panics.id();
        panics.await.unwrap_err();
        let span = span_of(call).await;
        assert_eq!(span.field("outcome"), "panicked");
        assert!(told_of(&span).contains("out of bounds"), "{span:?}");

        let gate = Gate::new();
        let held = pool.submit(pass, gate.path());
        started(&held).await;
        let waits = pool.submit(greet, "nobody".to_owned());
        assert!(waits.cancel());
        let span = span_of(waits.id()).await;
        assert_eq!(span.field("outcome"), "cancelled");
        assert!(told_of(&span).contains("cancelled"), "{span:?}");
        gate.open();
        held.await.unwrap();

        let late = pool.task_async(|()| std::future::pending::<()>());
        let late = late.timeout(Duration::from_millis(30)).submit(());
        let call = late.id();
        late.await.unwrap_err();
        let span = span_of(call).await;
        assert_eq!(span.field("outcome"), "timed out");
        assert!(told_of(&span).contains("30ms"), "{span:?}");
        assert!(collected().event("greeter").is_none());
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

#[test]
fn a_slow_call_is_told_of_inside_of_its_span() {
    async fn case<K: Kind>(kind: K) {
        heard(kind, 1).shutdown().await;
        let slow_call = Duration::from_millis(20);
        let pool = kind.build(Wanted {
            slow_call,
            ..WANTED
        });
        let gate = Gate::new();
        let blocking = pool.submit(pass, gate.path());
        let warned = || {
            let told = collected().events("procpool");
            let slow = |event: &&collector::Event| event.field("message") == "a call is slow";
            told.iter().find(slow).cloned()
        };
        assert!(soon(PROMPTLY, || warned().is_some()).await);
        gate.open();
        let call = blocking.id();
        blocking.await.unwrap();
        let warning = warned().unwrap();
        assert_eq!(warning.field("call"), call.to_string());
        assert_eq!(warning.parent, Some(span_of(call).await.id));
        pool.shutdown().await;
    }
    on_every_executor!(case);
}

async fn count_slowly(name: String) {
    for n in 0..3 {
        tracing::info!(target: "counter", name, n);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn async_tasks_beside_each_other_log_each_inside_of_its_own_span() {
    async fn case<K: Kind>(kind: K) {
        let pool = heard(kind, 1);
        let names = ["a", "b", "c"];
        let handles = names.map(|name| pool.submit_async(count_slowly, name.to_owned()));
        let calls = handles.each_ref().map(|handle| handle.id());
        for result in join_all(handles).await {
            result.unwrap();
        }
        let events = collected().events("counter");
        for (name, call) in names.into_iter().zip(calls) {
            let span = span_of(call).await;
            assert_eq!(span.field("outcome"), "returned");
            let own = events.iter().filter(|event| event.field("name") == name);
            assert!(own.clone().all(|event| event.parent == Some(span.id)));
            assert_eq!(own.count(), 3);
        }
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// Also of those that are taken when the stream is read, elsewhere.
#[test]
fn the_items_of_a_map_are_inside_of_the_span_in_which_it_was_made() {
    async fn case<K: Kind>(kind: K) {
        let pool = heard(kind, 2);
        let batch = tracing::info_span!("batch");
        let names = (0..20).map(|n| "x".repeat(n));
        let map = batch.in_scope(|| pool.task(greet).look_ahead(3).map(names));
        let lengths: Vec<_> = map.collect().await;
        assert_eq!(lengths.len(), 20);
        let closed = || {
            collected()
                .spans_named("call")
                .iter()
                .all(|span| span.closed)
        };
        assert!(soon(PROMPTLY, closed).await);
        let batch = Some(collected().named("batch").id);
        let spans = collected().spans_named("call");
        assert!(spans.iter().all(|span| span.parent == batch), "{spans:#?}");
        let events = collected().events("greeter");
        let inside =
            |event: &&collector::Event| spans.iter().any(|span| event.parent == Some(span.id));
        assert_eq!(events.iter().filter(inside).count(), 20);
        pool.shutdown().await;
    }
    on_every_executor!(case and inline);
}

/// An instrument's name as the recorder has it: pools of processes need not say what they are.
fn named<K: Kind>(name: &str, rest: &str) -> String {
    let threads = std::any::type_name::<K>() == std::any::type_name::<Threads>();
    let kind = if threads { " kind=thread" } else { "" };
    format!("procpool_{name}{kind}{rest}")
}

#[test]
fn calls_are_counted_by_how_they_end_and_gauges_follow() {
    async fn case<K: Kind>(kind: K) {
        let kept = Kept::default();
        let pool = metrics::with_local_recorder(&kept, || kind.pool(1));
        let value = |name: &str| kept.value(&named::<K>(name, ""));
        let levels = || ["queue_depth", "workers", "workers_busy"].map(value);
        for n in 0..3 {
            pool.submit(|n: u64| n, n).await.unwrap();
        }
        let failed: Result<u64, TaskError> = pool.submit(|n: u64| 1 / n, 0).await;
        failed.unwrap_err();
        let gate = Gate::new();
        let held = pool.submit(pass, gate.path());
        started(&held).await;
        let waits = [(); 2].map(|()| pool.submit(pass, gate.path()));
        let queued = soon(PROMPTLY, || levels() == [2.0, 1.0, 1.0]).await;
        assert!(queued, "{:?}", levels());
        assert!(waits.iter().all(|waits| waits.cancel()));
        gate.open();
        held.await.unwrap();
        let late = pool.task_async(|()| std::future::pending::<()>());
        let late = late.timeout(Duration::from_millis(20)).submit(());
        late.await.unwrap_err();
        pool.shutdown().await;
        assert_eq!(value("calls_submitted_total"), 8.0);
        assert_eq!(value("calls_done_total"), 4.0);
        for (reason, count) in [("panicked", 1.0), ("cancelled", 2.0), ("timed out", 1.0)] {
            let failed = named::<K>("calls_failed_total", &format!(" reason={reason}"));
            assert_eq!(kept.value(&failed), count, "{reason}");
        }
        assert!(value("call_run_seconds") > 0.0 && value("call_wait_seconds") > 0.0);
        let gone = soon(PROMPTLY, || levels() == [0.0; 3]).await;
        assert!(gone, "{:?}", levels());
    }
    on_every_executor!(case);
}

/// Who listens panics whenever he is told something.
struct Panics;

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {
        panics();
    }

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panics();
    }

    fn enter(&self, _: &tracing::Id) {
        panics();
    }

    fn exit(&self, _: &tracing::Id) {
        panics();
    }

    fn try_close(&self, _: tracing::Id) -> bool {
        panics();
        true
    }
}

/// On the caller's own thread it is the caller's business.
fn panics() {
    let name = std::thread::current().name().map(str::to_owned);
    assert!(
        !name.is_some_and(|name| name.starts_with("procpool-thread")),
        "a listener's"
    );
}

#[test]
fn a_subscriber_that_panics_costs_a_thread_nothing() {
    on_each_runtime(async || {
        let pool = heard(Threads, 1);
        let listening = tracing::subscriber::set_default(Panics);
        let blocking = pool.submit(|n: u64| n + 1, 1);
        let is_async = pool.submit_async(|n: u64| async move { n + 1 }, 2);
        let fails = pool.submit(|n: u64| 1 / n, 0);
        drop(listening);
        assert_eq!((blocking.await.unwrap(), is_async.await.unwrap()), (2, 3));
        assert!(fails.await.unwrap_err().is_panic());
        assert_eq!(pool.submit(|n: u64| n + 1, 3).await.unwrap(), 4);
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}
