//! A pool whose calls run where they are made.

mod support;

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::future::{FutureExt, poll_immediate};
use futures::stream::{self, StreamExt, TryStreamExt};
use procpool::task::current;
use procpool::{
    PoolEvent, ProcessPool, ProcessPoolBuilder, Resource, Restart, Retry, ShutdownOptions,
    StartMethod, Stdio, TaskError, TaskHandle, call,
};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, children, eventually, runtime, scene};

fn inline() -> ProcessPool {
    ProcessPool::builder().inline().build().unwrap()
}

/// Runs a test on each kind of runtime, each in a scene of its own.
fn on_each_runtime<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for threads in [1, 2] {
        let scene = scene();
        let runtime = runtime(threads);
        runtime.block_on(test());
        assert!(children().is_empty(), "it has started a process");
        drop(runtime);
        drop(scene);
    }
}

/// What a handle gives that is done when it is made.
fn at_once<R: Send + 'static>(handle: TaskHandle<R>) -> Result<R, TaskError> {
    assert!(handle.is_done());
    handle.now_or_never().expect("it is done")
}

thread_local! {
    static HERE: Cell<u32> = const { Cell::new(0) };
}

fn count_here(by: u32) -> u32 {
    HERE.set(HERE.get() + by);
    HERE.get()
}

#[test]
fn a_call_is_over_when_it_is_submitted_and_has_run_on_this_thread() {
    on_each_runtime(|| async {
        let pool = inline();
        HERE.set(0);
        let handle = pool.submit(count_here, 2);
        assert_eq!(HERE.get(), 2, "the handle was not polled");
        assert_eq!(handle.id(), 1);
        assert!(!handle.cancel() && !handle.abort() && !handle.is_running());
        assert_eq!(handle.worker_pid(), None);
        assert_eq!(at_once(handle).unwrap(), 2);
        assert_eq!(at_once(pool.submit_call(call!(count_here(3)))).unwrap(), 5);
        assert_eq!(at_once(pool.try_submit(count_here, 1).unwrap()).unwrap(), 6);
        let run = pool.run(count_here, 1);
        assert_eq!(HERE.get(), 6, "what `run` gives has to be polled");
        assert_eq!(run.await.unwrap(), 7);
        let here = pool.submit(|()| std::process::id(), ()).await.unwrap();
        assert_eq!(here, std::process::id());

        let (tell, told) = mpsc::channel();
        let handle = pool.submit(count_here, 0);
        handle.add_done_callback(move |result| tell.send(result.is_ok()).unwrap());
        assert!(told.try_recv().unwrap(), "it was called at once");
        assert_eq!(handle.result().unwrap().as_ref().unwrap(), &7);
        pool.shutdown().await;
    });
}

#[derive(Debug)]
struct Forbidden;

impl Serialize for Forbidden {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a file does not travel"))
    }
}

impl<'de> Deserialize<'de> for Forbidden {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nothing comes back"))
    }
}

/// Can be encoded, and cannot be read again.
#[derive(Debug, Default)]
struct OneWay;

impl Serialize for OneWay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nothing comes back"))
    }
}

#[test]
fn what_goes_wrong_in_a_worker_goes_wrong_in_the_same_way() {
    async fn errors(pool: ProcessPool) -> Vec<String> {
        let mut errors = Vec::new();
        let mut note = |error: TaskError| {
            let known = (error.is_panic(), error.is_encode(), error.is_decode());
            let known = (known, error.is_too_large(), error.maybe_executed());
            errors.push(format!("{error:#} {known:?}"));
        };
        fn failed<R: Debug>(result: Result<R, TaskError>) -> TaskError {
            result.unwrap_err()
        }
        note(failed(pool.submit(|n: i32| 10 / n, 0).await));
        note(failed(pool.submit(drop::<Forbidden>, Forbidden).await));
        note(failed(pool.submit(drop::<OneWay>, OneWay).await));
        note(failed(pool.submit(|()| Forbidden, ()).await));
        note(failed(pool.submit(|()| OneWay, ()).await));
        note(failed(pool.submit(|size| vec![0u8; size], 5_000).await));
        note(failed(pool.submit(|_: Vec<u8>| (), vec![0; 5_000]).await));
        for result in pool.map(|n: i32| 10 / n, [0]).collect::<Vec<_>>().await {
            note(failed(result));
        }
        for result in pool.map(|()| Forbidden, [()]).collect::<Vec<_>>().await {
            note(failed(result));
        }
        let refused = pool.try_submit(drop::<Forbidden>, Forbidden).unwrap_err();
        note(refused.error().clone());
        pool.close();
        note(failed(pool.submit(|n: i32| n, 1).await));
        note(failed(pool.run(|n: i32| n, 1).await));
        pool.join().await.unwrap();
        errors
    }
    on_each_runtime(|| async {
        let builder = || ProcessPool::builder().workers(1).max_frame(4_096);
        let there = errors(builder().build().unwrap()).await;
        let here = errors(builder().inline().build().unwrap()).await;
        assert_eq!(here, there);
        assert_eq!(here.len(), 12);
    });
}

fn stays(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

#[test]
fn a_limit_is_told_when_the_call_is_over() {
    on_each_runtime(|| async {
        let pool = inline();
        let limit = Duration::from_millis(5);
        let error = at_once(pool.task(stays).timeout(limit).submit(20)).unwrap_err();
        assert_eq!(error.to_string(), "task ran longer than its limit of 5ms");
        assert!(error.is_timeout() && error.maybe_executed());
        let error = at_once(pool.task(stays).deadline(limit).submit(20)).unwrap_err();
        assert_eq!(error.to_string(), "task ran past its deadline of 5ms");
        let both = pool.task(stays).deadline(limit * 2).timeout(limit);
        let error = at_once(both.submit(20)).unwrap_err();
        assert!(error.to_string().contains("limit of 5ms"), "{error}");
        let enough = pool.task(stays).timeout(Duration::from_secs(60));
        assert_eq!(at_once(enough.submit(1)).unwrap(), 1);

        // Of a map the time counts from its beginning; what is late is not begun.
        let map = pool
            .task(stays)
            .deadline(Duration::from_millis(30))
            .map([20, 20, 20]);
        let results: Vec<_> = map.collect().await;
        let begun = |result: &Result<u64, TaskError>| match result {
            Ok(_) => true,
            Err(error) => error.is_timeout() && error.maybe_executed(),
        };
        assert!(results.iter().any(Result::is_err), "{results:?}");
        let begun: Vec<_> = results.iter().map(begun).collect();
        assert!(begun[0] && !begun[2], "{results:?}");

        let stats = pool.stats();
        assert!(stats.timed_out >= 5, "{stats}");
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_asks_is_told_that_its_time_is_up() {
    on_each_runtime(|| async {
        let pool = inline();
        fn until_told(_: ()) -> bool {
            let task = current().unwrap();
            eventually(PROMPTLY, || task.is_cancelled())
        }
        let task = pool.task(until_told).timeout(Duration::from_millis(20));
        assert!(at_once(task.submit(())).unwrap_err().is_timeout());
        pool.shutdown().await;
    });
}

#[test]
fn a_task_knows_itself_and_one_inside_another_does_not_disturb_that() {
    fn inner(_: ()) -> (u64, Option<String>) {
        let task = current().unwrap();
        (task.id(), task.name().map(str::to_owned))
    }
    fn outer(_: ()) -> (u64, (u64, Option<String>), u64) {
        let id = || current().unwrap().id();
        let before = id();
        let pool = inline();
        at_once(pool.submit(drop::<u8>, 1)).unwrap();
        let seen = at_once(pool.task(inner).name("inner").submit(())).unwrap();
        (before, seen, id())
    }
    on_each_runtime(|| async {
        for builder in [
            ProcessPool::builder().workers(1),
            ProcessPool::builder().inline(),
        ] {
            let pool = builder.build().unwrap();
            let seen = pool.submit(outer, ()).await.unwrap();
            assert_eq!(seen, (1, (2, Some("inner".to_owned())), 1));
            assert!(current().is_none());
            pool.shutdown().await;
        }
    });
}

#[test]
fn what_failed_is_repeated_where_that_was_allowed() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fn at_third(_: ()) -> u32 {
        let attempt = current().unwrap().attempt();
        assert_eq!(RUNS.fetch_add(1, Ordering::Relaxed) + 1, attempt);
        assert!(attempt >= 3, "attempt {attempt}");
        attempt
    }
    on_each_runtime(|| async {
        RUNS.store(0, Ordering::Relaxed);
        let pool = inline();
        let pause = Duration::from_millis(1);
        let retry = Retry::new(2).on_panic(true).backoff(pause, pause);
        assert_eq!(
            at_once(pool.task(at_third).retry(retry).submit(())).unwrap(),
            3
        );
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed, stats.retried), (1, 1, 2));

        RUNS.store(0, Ordering::Relaxed);
        let retry = Retry::new(1).on_panic(true);
        let error = at_once(pool.task(at_third).retry(retry).submit(())).unwrap_err();
        assert_eq!((error.attempts(), error.history().len()), (2, 1));
        let slow = pool
            .task(stays)
            .timeout(pause)
            .retry(Retry::new(1).on_timeout(true));
        assert_eq!(at_once(slow.submit(3)).unwrap_err().attempts(), 2);
        let never = pool.task(at_third).retry(5).submit(());
        assert_eq!(
            at_once(never).unwrap_err().attempts(),
            1,
            "panics are not repeated"
        );
        // No pause goes beyond the deadline.
        let pause = Duration::from_secs(3600);
        let task = pool
            .task(at_third)
            .retry(Retry::new(1).on_panic(true).backoff(pause, pause));
        let error = at_once(task.deadline(Duration::from_millis(20)).submit(())).unwrap_err();
        assert!(
            error.is_timeout() && error.history()[0].is_panic(),
            "{error}"
        );
        pool.shutdown().await;
    });
}

#[test]
fn the_initializer_runs_once_before_the_first_call_and_the_finalizer_after_the_last() {
    static SET: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    let builder = || {
        let builder = ProcessPool::builder().inline();
        let builder = builder.initializer(|by| _ = SET.fetch_add(by, Ordering::SeqCst), 7);
        builder.finalizer(|| _ = ENDED.fetch_add(1, Ordering::SeqCst))
    };
    let counts = || {
        (
            SET.swap(0, Ordering::SeqCst),
            ENDED.swap(0, Ordering::SeqCst),
        )
    };
    on_each_runtime(|| async {
        let pool = builder().build().unwrap();
        assert_eq!(SET.load(Ordering::SeqCst), 0, "not before a call");
        for _ in 0..3 {
            let set = pool.submit(|()| SET.load(Ordering::SeqCst), ()).await;
            assert_eq!(set.unwrap(), 7);
        }
        pool.shutdown().await;
        assert_eq!(counts(), (7, 1));

        let pool = builder().build().unwrap();
        pool.ready().await.unwrap();
        pool.ready().await.unwrap();
        pool.terminate().await;
        assert_eq!(counts(), (7, 0), "not by a termination");

        builder().build().unwrap().shutdown().await;
        assert_eq!(counts(), (0, 0), "there was no call");
    });
}

#[test]
fn an_initializer_that_fails_breaks_the_pool() {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    fn fails(text: String) -> Result<(), String> {
        TRIES.fetch_add(1, Ordering::SeqCst);
        Err(text)
    }
    on_each_runtime(|| async {
        TRIES.store(0, Ordering::SeqCst);
        let builder = ProcessPool::builder().inline();
        let pool = builder
            .initializer(fails, "no license".to_owned())
            .build()
            .unwrap();
        let mut events = pool.events();
        let first = at_once(pool.submit(stays, 0)).unwrap_err();
        let second = at_once(pool.submit(stays, 0)).unwrap_err();
        for error in [first, second] {
            assert!(error.is_broken() && !error.maybe_executed(), "{error}");
            assert!(format!("{error:#}").contains("no license"), "{error:#}");
        }
        assert!(pool.ready().await.unwrap_err().is_initializer());
        assert_eq!(TRIES.load(Ordering::SeqCst), 1);
        assert!(pool.is_closed());
        assert!(matches!(
            events.next().await,
            Some(PoolEvent::StartFailed(_))
        ));
        pool.join().await.unwrap();
        assert!(events.next().await.is_none());
    });
}

#[test]
fn a_map_runs_one_item_for_each_result_that_is_read() {
    on_each_runtime(|| async {
        let pool = inline();
        HERE.set(0);
        let mut map = pool.map(count_here, std::iter::repeat(1));
        assert_eq!(HERE.get(), 0, "nobody has read");
        for n in 1..=3 {
            assert_eq!(map.next().await.unwrap().unwrap(), n);
            assert_eq!(HERE.get(), n);
        }
        drop(map);
        assert_eq!(HERE.get(), 3);

        let squares = pool.map_unordered(|n: u64| n * n, 0..50);
        let squares: Vec<_> = squares.try_collect().await.unwrap();
        assert!(squares.into_iter().eq((0..50).map(|n| n * n)));
        let streamed = pool.map_stream(|n: i32| 12 / n, stream::iter([3, 0, 4]));
        let streamed: Vec<_> = streamed.enumerate().collect().await;
        assert!(matches!(
            streamed[..],
            [(0, Ok(4)), (1, Err(_)), (2, Ok(3))]
        ));
        let retry = Retry::new(1).on_panic(true);
        let again = pool.task(|n: u64| assert!(current().unwrap().attempt() == 2, "{n}"));
        let again: Result<Vec<_>, _> = again.retry(retry).map(0..3).try_collect().await;
        assert_eq!(again.unwrap().len(), 3);

        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.failed, stats.retried), (59, 1, 3));
        let mut late = pool.map(count_here, [1]);
        pool.close();
        assert!(late.next().await.unwrap().unwrap_err().is_shut_down());
        assert!(late.next().await.is_none());
        pool.join().await.unwrap();
    });
}

#[test]
fn what_happens_is_counted_and_told() {
    on_each_runtime(|| async {
        let pool = inline();
        let mut events = pool.events();
        let here = std::process::id();
        pool.submit(stays, 3).await.unwrap();
        pool.submit(|n: i32| 10 / n, 0).await.unwrap_err();
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed, stats.failed), (2, 1, 1));
        assert_eq!((stats.unfinished, stats.workers.len()), (0, 0), "{stats}");
        assert_eq!((stats.workers_started, stats.ran.count()), (0, 2));
        pool.shutdown().await;

        let told: Vec<_> = events.by_ref().collect().await;
        let [
            PoolEvent::TaskStarted { task: 1, pid, .. },
            PoolEvent::TaskDone { task: 1, took },
            PoolEvent::TaskStarted { task: 2, .. },
            PoolEvent::TaskFailed { task: 2, error },
        ] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!(*pid, here);
        assert!(*took >= Duration::from_millis(3) && error.is_panic());
    });
}

static HELD: AtomicU32 = AtomicU32::new(0);

/// Runs until it is let go, or until nobody waits for it.
fn held(_: ()) -> bool {
    HELD.store(1, Ordering::SeqCst);
    let task = current().unwrap();
    assert!(eventually(PROMPTLY, || {
        HELD.load(Ordering::SeqCst) == 2 || task.is_cancelled()
    }));
    task.is_cancelled()
}

fn in_a_thread(pool: &ProcessPool) -> std::thread::JoinHandle<Result<bool, TaskError>> {
    HELD.store(0, Ordering::SeqCst);
    let pool = pool.clone();
    let thread = std::thread::spawn(move || at_once(pool.submit(held, ())));
    assert!(eventually(PROMPTLY, || HELD.load(Ordering::SeqCst) == 1));
    thread
}

#[test]
fn the_end_waits_for_calls_on_other_threads() {
    on_each_runtime(|| async {
        let builder = ProcessPool::builder().inline().workers(1).max_pending(0);
        let pool = builder.build().unwrap();
        let busy = in_a_thread(&pool);
        let stats = pool.stats();
        assert_eq!((stats.running(), stats.unfinished), (1, 1), "{stats}");
        assert_eq!(stats.workers[0].pid, std::process::id());
        assert!(pool.try_submit(stays, 0).unwrap_err().is_queue_full());

        let patient = ShutdownOptions::new().cancel_pending(true);
        let mut shutdown = Box::pin(pool.shutdown_with(patient));
        assert!(poll_immediate(&mut shutdown).await.is_none());
        assert!(at_once(pool.submit(stays, 0)).unwrap_err().is_shut_down());
        HELD.store(2, Ordering::SeqCst);
        shutdown.await;
        assert!(!busy.join().unwrap().unwrap());

        // What cannot be ended is asked to, and what it returns does not count.
        let pool = inline();
        let busy = in_a_thread(&pool);
        pool.terminate().await;
        assert!(busy.join().unwrap().unwrap_err().is_shut_down());
    });
}

#[test]
fn every_option_is_accepted_and_impossible_ones_are_refused() {
    let scene = scene();
    let rich = |builder: ProcessPoolBuilder| {
        builder
            .workers(3)
            .min_workers(2)
            .idle_timeout(Duration::from_secs(60))
            .max_async_per_worker(2)
            .start_method(StartMethod::Spawn)
            .task_timeout(Duration::from_secs(60))
            .start_timeout(Duration::from_secs(60))
            .handshake_timeout(Duration::from_secs(60))
            .max_frame(1 << 20)
            .max_pending(10)
            .max_tasks_per_worker(1)
            .max_age(Duration::from_nanos(1))
            .max_memory_per_worker(1)
            .retire_when(|| panic!("there is no worker to retire"))
            .abort_grace(Duration::from_secs(1))
            .restart(Restart::Never)
            .worker_name("nobody")
            .env("PROCPOOL_TEST_INLINE", "1")
            .env_remove("PATH")
            .current_dir("/")
            .nice(19)
            .cpu_affinity([0])
            .rlimit(Resource::OpenFiles, 3, 3)
            .oom_score_adj(1000)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
    };
    let pool = rich(ProcessPool::builder().inline()).build().unwrap();
    assert_eq!(pool.workers(), 3);
    let task = pool.task(|()| std::env::var_os("PROCPOOL_TEST_INLINE"));
    let task = task.key("key").priority(7).queue_timeout(Duration::ZERO);
    for _ in 0..3 {
        let mut handle = task.submit(());
        assert_eq!(handle.blocking_wait(None).unwrap(), None);
    }
    assert_ne!(std::env::var_os("PATH"), None);
    pool.resize(5).unwrap();
    assert_eq!((pool.workers(), pool.stats().workers_started), (5, 0));
    let mut ended = pool.shutdown().boxed();
    let over = || (&mut ended).now_or_never().is_some();
    assert!(eventually(PROMPTLY, over), "it waits for workers");
    drop(ended);
    drop((pool, task));

    let refused = |builder: ProcessPoolBuilder| builder.inline().build().unwrap_err();
    assert!(
        refused(ProcessPool::builder().workers(0))
            .to_string()
            .contains("workers")
    );
    let nice = refused(ProcessPool::builder().nice(20)).to_string();
    assert!(nice.contains("nice"), "{nice}");
    drop(scene);
}

#[test]
fn no_runtime_is_needed() {
    let scene = scene();
    let pool = inline();
    assert_eq!(pool.submit(stays, 1).blocking_wait(None).unwrap(), 1);
    let results = pool.map(stays, [1, 2]).try_collect::<Vec<_>>();
    let results = results
        .now_or_never()
        .expect("nothing is waited for")
        .unwrap();
    assert_eq!(results, [1, 2]);
    drop(pool);
    drop(scene);
}

async fn nap(millis: u64) -> (u64, u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    tokio::task::yield_now().await;
    (millis, current().unwrap().id())
}

#[test]
fn an_async_task_is_driven_to_its_end_and_its_limit_holds() {
    on_each_runtime(|| async {
        let pool = inline();
        assert_eq!(at_once(pool.submit_async(nap, 5)).unwrap(), (5, 1));
        let limited = pool.task_async(nap).timeout(Duration::from_millis(20));
        let error = at_once(limited.submit(3_600_000)).unwrap_err();
        assert!(error.is_timeout() && error.maybe_executed(), "{error}");
        let in_time = pool.task_async(nap).timeout(PROMPTLY);
        assert_eq!(in_time.run(1).await.unwrap(), (1, 3));
        async fn panics(n: u64) -> u64 {
            tokio::task::yield_now().await;
            10 / n
        }
        let error = at_once(pool.submit_async(panics, 0)).unwrap_err();
        assert!(
            error.panic().unwrap().message().contains("divide"),
            "{error}"
        );
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.timed_out, stats.failed), (2, 1, 1));
        pool.shutdown().await;
        assert!(
            at_once(pool.submit_async(nap, 1))
                .unwrap_err()
                .is_shut_down()
        );
    });
}
