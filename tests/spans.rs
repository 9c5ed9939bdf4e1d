//! What whoever listens to `tracing` is told of calls: a span for each, and what their tasks have
//! logged in the workers.
#![cfg(feature = "tracing")]

mod support;

#[path = "support/collector.rs"]
mod collector;

use std::sync::Once;
use std::time::Duration;

use collector::{Collected, collected};
use futures::StreamExt;
use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod};
use support::{PROMPTLY, everywhere, soon};
use tracing::{Instrument, Level};

fn builder(method: StartMethod) -> ProcessPoolBuilder {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| collector::listen(Level::DEBUG));
    collected().clear();
    ProcessPool::builder().workers(1).start_method(method)
}

fn pool(method: StartMethod) -> ProcessPool {
    builder(method).build().unwrap()
}

fn greet(name: String) -> usize {
    tracing::info!(target: "greeter", name, length = name.len(), loud = false, "hello {name}");
    name.len()
}

/// The span of the call of that number, when it is over.
async fn span_of(call: u64) -> collector::Span {
    let found = || {
        collected()
            .span("call", &call.to_string())
            .filter(|span| span.closed)
    };
    assert!(
        soon(PROMPTLY, || found().is_some()).await,
        "{:#?}",
        collected()
    );
    found().unwrap()
}

#[test]
fn a_call_has_a_span_inside_of_its_callers() {
    everywhere(async |method| {
        let pool = pool(method);
        let caller = tracing::info_span!("request", path = "/x");
        let task = pool.task(|n: u64| n + 1).name("increment");
        let handle = caller.in_scope(|| task.submit(1));
        let call = handle.id();
        handle.await.unwrap();
        let span = span_of(call).await;
        let request = Some(collected().named("request").id);
        assert_eq!((&*span.target, span.parent), ("procpool", request));
        let worker = &pool.stats().workers[0];
        assert_eq!(span.field("name"), "increment");
        assert_eq!(span.field("worker"), worker.name);
        assert_eq!(span.field("pid"), worker.pid.to_string());
        assert_eq!(
            (span.field("attempt"), span.field("outcome")),
            ("1", "returned")
        );
        for time in ["waited", "ran"] {
            assert!(span.field(time).ends_with('s'), "{span:?}");
        }
        // By `run` it is that of whoever awaits.
        let run = pool.run(|n: u64| n + 1, 1).instrument(caller.clone());
        run.await.unwrap();
        assert_eq!(span_of(call + 1).await.parent, request);
        pool.shutdown().await;
    });
}

#[test]
fn a_span_tells_how_its_call_has_failed() {
    everywhere(async |method| {
        let pool = pool(method);
        let quick = Duration::from_millis(30);
        let stuck = pool
            .task(|_: ()| std::thread::park())
            .timeout(quick)
            .submit(());
        let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
        let (stuck_id, crash_id) = (stuck.id(), crash.id());
        stuck.await.unwrap_err();
        let error = crash.await.unwrap_err();
        assert_eq!(span_of(stuck_id).await.field("outcome"), "timed out");
        let span = span_of(crash_id).await;
        assert_eq!(span.field("outcome"), "worker lost");
        let pid = error.worker_exit().unwrap().pid().to_string();
        assert_eq!(span.field("pid"), pid);
        pool.shutdown().await;
    });
}

#[test]
fn what_a_task_logs_comes_back_inside_of_its_calls_span() {
    everywhere(async |method| {
        let pool = pool(method);
        let handle = pool.submit(greet, "world".to_owned());
        let call = handle.id();
        handle.await.unwrap();
        // It is there when the result is.
        let event = collected().event("greeter").expect("it was logged");
        assert_eq!(event.level(), Level::INFO);
        let file = event.file.as_deref();
        assert!(file.is_some_and(|file| file.ends_with("spans.rs")));
        assert!(event.line.is_some_and(|line| line > 20));
        assert_eq!(event.field("message"), "hello world");
        assert_eq!(event.field("name"), "world");
        assert_eq!((event.field("length"), event.field("loud")), ("5", "false"));
        let span = collected().span("call", &call.to_string()).unwrap();
        assert_eq!(event.parent, Some(span.id));
        pool.shutdown().await;
    });
}

#[test]
fn what_was_logged_before_a_crash_comes_before_its_error() {
    everywhere(async |method| {
        let pool = pool(method);
        let crash: fn(u32) = |count| {
            for n in 0..count {
                tracing::warn!(target: "last words", n);
            }
            std::process::abort();
        };
        let handle = pool.submit(crash, 20);
        let call = handle.id();
        handle.await.unwrap_err();
        let span = collected().span("call", &call.to_string()).unwrap();
        let words = collected().events("last words");
        assert_eq!(words.len(), 20);
        for (n, word) in words.iter().enumerate() {
            assert_eq!(
                (word.field("n"), word.parent),
                (&*format!("{n}"), Some(span.id))
            );
        }
        pool.shutdown().await;
    });
}

#[test]
fn what_a_task_logs_comes_while_it_runs_and_from_all_its_threads() {
    everywhere(async |method| {
        let pool = pool(method);
        let handle = pool.submit(
            |_: ()| {
                let other = || tracing::info!(target: "thread", "here");
                std::thread::spawn(other).join().unwrap();
                tracing::info_span!("outer", a = 1).in_scope(|| {
                    let _inner = tracing::info_span!("inner").entered();
                    tracing::info!(target: "nested", "there");
                });
                std::thread::park();
            },
            (),
        );
        let heard = |target: &'static str| move || collected().event(target).is_some();
        assert!(soon(PROMPTLY, heard("nested")).await);
        assert!(!handle.is_done());
        let span = collected().span("call", &handle.id().to_string()).unwrap();
        for target in ["thread", "nested"] {
            assert_eq!(collected().event(target).unwrap().parent, Some(span.id));
        }
        let nested = collected().event("nested").unwrap();
        assert_eq!(nested.field("task.spans"), "outer{a=1}:inner");
        assert!(handle.abort());
        pool.shutdown().await;
    });
}

#[test]
fn a_flood_is_cut_counted_and_in_nobodys_way() {
    everywhere(async |method| {
        let pool = pool(method);
        let flood: fn(u64) -> u64 = |count| {
            let text = "x".repeat(1_000);
            for _ in 0..count {
                tracing::info!(target: "flood", text);
            }
            count
        };
        const COUNT: u64 = 20_000;
        assert_eq!(pool.submit(flood, COUNT).await.unwrap(), COUNT);
        let heard = collected().events("flood").len() as u64;
        let told = collected().events("procpool");
        let dropped = told.iter().filter_map(|event| event.find("dropped"));
        let number = |text: &str| text.parse::<u64>().unwrap();
        let dropped: u64 = dropped.map(number).sum();
        assert!(heard >= 20, "{heard}");
        assert_eq!(heard + dropped, COUNT);
        pool.shutdown().await;
    });
}

#[test]
fn nothing_comes_back_that_nobody_wants_to_hear() {
    everywhere(async |method| {
        let pool = builder(method).worker_events(false).build().unwrap();
        pool.submit(greet, "world".to_owned()).await.unwrap();
        pool.shutdown().await;
        let pool = super_quiet(method).await;
        pool.shutdown().await;
        assert!(collected().event("greeter").is_none());
    });
}

/// A pool whose task has logged below the level at which anybody listens.
async fn super_quiet(method: StartMethod) -> ProcessPool {
    let pool = pool(method);
    let trace: fn(()) -> bool = |()| {
        tracing::trace!(target: "greeter", "not this");
        tracing::enabled!(Level::TRACE)
    };
    assert!(!pool.submit(trace, ()).await.unwrap());
    pool
}

#[test]
fn a_subscriber_of_the_initializer_stays_and_sees_the_calls_span() {
    everywhere(async |method| {
        let listen: fn(()) = |()| collector::listen(Level::INFO);
        let pool = builder(method).initializer(listen, ()).build().unwrap();
        let caller = tracing::info_span!("request");
        let seen: fn(String) -> (usize, Option<Collected>) =
            |name| (greet(name), Some(collected().clone()));
        let task = pool.task(seen).name("look");
        let (_, there) = caller
            .in_scope(|| task.submit("there".to_owned()))
            .await
            .unwrap();
        let there = there.unwrap();
        assert_eq!(
            there.event("greeter").unwrap().field("message"),
            "hello there"
        );
        let span = there.span("call", "1").expect("the task's");
        assert_eq!((&*span.name, span.field("name")), ("task", "look"));
        let caller_id = caller.id().unwrap().into_u64().to_string();
        assert_eq!(span.field("caller.id"), caller_id);
        assert_eq!(span.field("caller.name"), "request");
        assert!(collected().event("greeter").is_none());
        pool.shutdown().await;
    });
}

async fn count_slowly(name: String) {
    for n in 0..3 {
        tracing::info!(target: "counter", name, n);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn async_tasks_beside_each_other_log_each_inside_of_its_own_span() {
    everywhere(async |method| {
        let pool = pool(method);
        let names = ["a", "b", "c"];
        let handles = names.map(|name| pool.submit_async(count_slowly, name.to_owned()));
        let calls = handles.each_ref().map(|handle| handle.id());
        for handle in handles {
            handle.await.unwrap();
        }
        let events = collected().events("counter");
        assert_eq!(events.len(), 9);
        for (name, call) in names.into_iter().zip(calls) {
            let span = span_of(call).await;
            assert_eq!(span.field("outcome"), "returned");
            let own = events.iter().filter(|event| event.field("name") == name);
            assert!(own.clone().all(|event| event.parent == Some(span.id)));
            assert_eq!(own.count(), 3);
        }
        pool.shutdown().await;
    });
}

#[test]
fn the_items_of_a_map_log_inside_of_their_chunk() {
    everywhere(async |method| {
        let pool = pool(method);
        let caller = tracing::info_span!("batch");
        let task = pool.task(greet).chunk_size(3);
        let names = ["a", "bb", "ccc", "dddd"].map(str::to_owned);
        let lengths = caller
            .in_scope(|| task.map(names))
            .collect::<Vec<_>>()
            .await;
        assert_eq!(lengths.len(), 4);
        let events = collected().events("greeter");
        assert_eq!(events.len(), 4);
        let spans: Vec<_> = collected().spans_named("call");
        assert_eq!(spans.len(), 2, "{spans:#?}");
        let batch = collected().named("batch").id;
        assert!(spans.iter().all(|span| span.parent == Some(batch)));
        let inside = |span: &collector::Span| {
            events
                .iter()
                .filter(|event| event.parent == Some(span.id))
                .count()
        };
        assert_eq!(spans.iter().map(inside).collect::<Vec<_>>(), [3, 1]);
        pool.shutdown().await;
    });
}
