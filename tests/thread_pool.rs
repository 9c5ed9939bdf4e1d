//! What is particular to a pool of threads: values that are moved, what it cannot end, the hook
//! for panics, and threads that leave.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
#[path = "support/program.rs"]
mod program;
mod support;

use std::cell::Cell;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use futures::StreamExt;
use gate::{Gate, pass};
use procpool::{
    Ability, PoolEvent, ProcessPool, ShutdownOptions, TaskHandle, ThreadPool, Unsupported, call,
    task,
};
use program::{Program, role};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{PROMPTLY, eventually, on_each_runtime, scene, soon};

fn pool(workers: usize) -> ThreadPool {
    ThreadPool::builder().workers(workers).build().unwrap()
}

/// A task that runs until it is let go.
fn held(pool: &ThreadPool) -> (Sender<()>, TaskHandle<()>) {
    let (let_go, told) = channel();
    let handle = pool.submit(
        |told: Receiver<()>| {
            let _ = told.recv();
        },
        told,
    );
    assert!(eventually(PROMPTLY, || handle.is_running()));
    (let_go, handle)
}

#[test]
fn values_are_moved_and_need_not_be_encodable() {
    on_each_runtime(|| async {
        let pool = pool(2);
        let sent = Arc::new(vec![1, 2, 3]);
        let back = pool.submit(|numbers: Arc<Vec<i32>>| numbers, sent.clone());
        assert!(Arc::ptr_eq(&sent, &back.await.unwrap()));
        // A result that cannot be shared, and one that borrows for ever.
        let cell = pool.run(|n: i32| Cell::new(n), 7).await.unwrap();
        assert_eq!(cell.get(), 7);
        let word = |text: &'static str| text.split(' ').next();
        assert_eq!(pool.submit(word, "one two").await.unwrap(), Some("one"));
        let sent = sent.clone();
        let shared: Vec<_> = pool
            .map(|numbers: Arc<Vec<i32>>| numbers.len(), vec![sent; 9])
            .map(Result::unwrap)
            .collect()
            .await;
        assert_eq!(shared, [3; 9]);
        pool.shutdown().await;
    });
}

#[test]
fn a_running_task_is_asked_to_end_and_its_result_stands() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let patient = pool.task(|tell: Sender<(u64, String)>| {
            let task = task::current().unwrap();
            tell.send((task.id(), task.name().unwrap().to_owned()))
                .unwrap();
            assert_eq!((task.attempt(), task.deadline()), (1, None));
            while !task.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            "ended by itself"
        });
        let (tell, told) = channel();
        let handle = patient.name("patience").submit(tell);
        let other = pool.submit(|_: ()| task::current().unwrap().is_cancelled(), ());
        assert!(soon(PROMPTLY, || handle.is_running()).await);
        assert_eq!(handle.worker_pid(), None);
        assert!(!handle.abort());
        assert!(!handle.is_cancelled());
        let id = handle.id();
        assert_eq!(handle.await.unwrap(), "ended by itself");
        assert_eq!(told.recv().unwrap(), (id, "patience".to_owned()));
        assert!(!other.await.unwrap(), "the next one was not asked");
        assert!(task::current().is_none());
        pool.shutdown().await;
    });
}

#[test]
fn a_limit_on_running_code_is_refused_and_nothing_is_run() {
    on_each_runtime(|| async {
        let pool = pool(1);
        static RUN: AtomicU32 = AtomicU32::new(0);
        let limited = pool
            .task(|n: u32| RUN.fetch_add(n, Ordering::Relaxed))
            .timeout(Duration::from_secs(3600));
        let error = limited.submit(1).await.unwrap_err();
        assert!(error.is_unsupported() && !error.maybe_executed() && !error.is_timeout());
        let source = error.source().and_then(|source| source.downcast_ref());
        let unsupported: &Unsupported = source.expect("it says why");
        assert_eq!(unsupported.ability(), Ability::EndRunning);
        let refused = limited.try_submit(2).unwrap_err();
        assert!(refused.error().is_unsupported());
        assert_eq!(refused.into_argument(), 2);
        assert!(limited.run(3).await.unwrap_err().is_unsupported());
        let items: Vec<_> = limited.map([4, 5]).collect().await;
        assert_eq!(items.len(), 2);
        for item in items {
            assert!(item.unwrap_err().is_unsupported());
        }
        assert_eq!(RUN.load(Ordering::Relaxed), 0);
        assert_eq!(pool.stats().submitted, 0);
        pool.shutdown().await;
    });
}

/// CF-046, CF-048.
#[test]
fn a_limit_on_waiting_ends_what_waits_and_not_what_runs() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let limit = Duration::from_millis(50);
        let (let_go, running) = held(&pool);
        let begun = Instant::now();
        let hurried = pool.task(|n: u64| n + 1).queue_timeout(limit);
        let error = hurried.submit(1).await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        assert!(begun.elapsed() >= limit);
        assert_eq!(pool.stats().timed_out, 1);
        let patient = pool.submit(|n: u64| n + 1, 2);
        let_go.send(()).unwrap();
        running.await.unwrap();
        assert_eq!(patient.await.unwrap(), 3);
        // It starts at once, and runs longer than it may have waited.
        let slow = pool.task(|limit: Duration| std::thread::sleep(limit * 2));
        slow.queue_timeout(limit).run(limit).await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn an_ending_with_a_limit_says_what_goes_on() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let (let_go, running) = held(&pool);
        let waiting = pool.submit(|n: u64| n, 1);
        let limit = ShutdownOptions::new().timeout(Duration::from_millis(30));
        let unsupported = pool.shutdown_with(limit).await.unwrap_err();
        assert_eq!(unsupported.ability(), Ability::EndRunning);
        assert!(waiting.await.unwrap_err().is_shut_down());
        assert!(pool.terminate().await.is_err());
        assert!(running.is_running());
        let_go.send(()).unwrap();
        pool.join().await.unwrap();
        running.await.unwrap();
        assert!(pool.shutdown_with(limit).await.is_ok());
        assert!(pool.terminate().await.is_ok());
    });
}

/// As an abort does; else whoever waits for what goes on would wait for ever.
#[test]
fn an_ending_asks_what_runs_to_come_to_its_end() {
    fn until_asked(_: ()) -> bool {
        let task = procpool::task::current().unwrap();
        eventually(PROMPTLY, || task.is_cancelled())
    }
    on_each_runtime(|| async {
        for limit in [None, Some(Duration::from_millis(30))] {
            let pool = pool(1);
            let runs = pool.submit(until_asked, ());
            assert!(soon(PROMPTLY, || runs.is_running()).await);
            // It may be over by the time that this is told.
            let _ = match limit {
                None => pool.terminate().await,
                Some(limit) => {
                    let options = ShutdownOptions::new().timeout(limit);
                    pool.shutdown_with(options).await
                }
            };
            assert!(runs.await.unwrap(), "asked, after {limit:?}");
            pool.join().await.unwrap();
        }
    });
}

/// CF-024: nothing waits, and the scene finds that no thread is left.
#[test]
fn dropping_a_busy_pool_does_not_wait() {
    let _scene = scene();
    let pool = pool(2);
    let (let_go, running) = held(&pool);
    let queued = pool.submit(|n: u64| n + 1, 1);
    let begun = Instant::now();
    drop(pool);
    drop(running);
    assert!(begun.elapsed() < PROMPTLY);
    let_go.send(()).unwrap();
    assert_eq!({ queued }.blocking_wait(Some(PROMPTLY)).unwrap(), 2);
}

#[test]
fn the_last_clone_may_be_dropped_by_the_pools_own_task() {
    let _scene = scene();
    let pool = pool(1);
    let (let_go, _) = held(&pool);
    let mut dropping = pool.submit(drop, pool.clone());
    let mut waiting = pool.submit(|n: u64| n + 1, 1);
    drop(pool);
    let_go.send(()).unwrap();
    dropping.blocking_wait(Some(PROMPTLY)).unwrap();
    assert_eq!(waiting.blocking_wait(Some(PROMPTLY)).unwrap(), 2);
}

/// CF-039: made, used and ended without any runtime.
#[test]
fn no_runtime_is_needed() {
    let _scene = scene();
    let pool = pool(2);
    let mut product = pool.submit_call(call!(u64::pow(2, 5)));
    assert_eq!(product.blocking_wait(None).unwrap(), 32);
    let (_let_go, first) = held(&pool);
    let (_let_go_too, second) = held(&pool);
    let hurried = pool
        .task(|_: ()| ())
        .queue_timeout(Duration::from_millis(5));
    let error = { hurried.submit(()) }.blocking_wait(Some(PROMPTLY));
    assert!(error.unwrap_err().is_timeout());
    drop((first, second));
}

/// CF-059.
#[test]
fn threads_have_the_names_that_they_were_given() {
    on_each_runtime(|| async {
        let builder = ThreadPool::builder().workers(1);
        let pool = builder.worker_name("resize").build().unwrap();
        let name = |_: ()| std::thread::current().name().map(str::to_owned);
        let name = pool.submit(name, ()).await.unwrap();
        assert_eq!(name.as_deref(), Some("resize-1"));
        assert_eq!(pool.stats().workers[0].name, "resize-1");
        pool.shutdown().await;
    });
    for (builder, why) in [
        (ThreadPool::builder().workers(0), "greater than 0"),
        (ThreadPool::builder().workers(usize::MAX), "65536"),
        (ThreadPool::builder().worker_name("a\0b"), "zero bytes"),
        (ThreadPool::builder().worker_name(""), "a text"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.is_invalid_argument());
        assert!(error.to_string().contains(why), "{error}");
    }
}

thread_local! {
    static PREPARED: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn each_thread_is_prepared_before_its_first_call() {
    on_each_runtime(|| async {
        let prepare = |level: u32| PREPARED.set(PREPARED.get() + level);
        let builder = ThreadPool::builder().workers(2).initializer(prepare, 7);
        let pool = builder.build().unwrap();
        pool.ready().await.unwrap();
        let level = |_: u32| (PREPARED.get(), std::thread::current().id());
        let async_level = |_: u32| async { PREPARED.get() };
        let levels: Vec<_> = pool.map(level, 0..100).collect().await;
        assert!(levels.into_iter().all(|level| level.unwrap().0 == 7));
        assert_eq!(pool.submit_async(async_level, 0).await.unwrap(), 7);
        assert_eq!(pool.stats().workers_started, 2);
        pool.shutdown().await;
    });
}

#[test]
fn a_thread_that_cannot_be_prepared_fails_what_nobody_else_can_run_and_the_next_may() {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

    fn prepare(good: Arc<AtomicBool>) -> Result<(), &'static str> {
        ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        match good.load(Ordering::Relaxed) {
            true => Ok(()),
            false if ATTEMPTS.load(Ordering::Relaxed) % 2 == 0 => panic!("no table"),
            false => Err("no table"),
        }
    }

    on_each_runtime(|| async {
        let good = Arc::new(AtomicBool::new(false));
        let builder = ThreadPool::builder().workers(3).min_workers(1);
        let pool = builder.initializer(prepare, good.clone()).build().unwrap();
        let mut events = pool.events();
        let error = pool.ready().await.unwrap_err();
        assert!(error.is_initializer(), "{error}");
        assert!(error.to_string().contains("no table"), "{error}");
        for _ in 0..5 {
            let error = pool.submit(|n: u32| n, 1).await.unwrap_err();
            assert!(error.is_broken() && !error.maybe_executed(), "{error:#}");
            assert!(format!("{error:#}").contains("no table"), "{error:#}");
        }
        assert!(matches!(
            events.next().await,
            Some(PoolEvent::StartFailed(_))
        ));

        good.store(true, Ordering::Relaxed);
        assert_eq!(pool.submit(|n: u32| n, 1).await.unwrap(), 1);
        pool.ready().await.unwrap();
        let stats = pool.stats();
        assert_eq!(stats.workers_started - stats.workers_ended, 3);
        assert_eq!(stats.workers.len(), 3);
        pool.shutdown().await;
    });
}

/// While its only thread is being prepared, a pool can be ended as any other.
#[test]
fn a_pool_ends_while_a_thread_is_prepared() {
    on_each_runtime(|| async {
        let gate = Gate::new();
        let builder = ThreadPool::builder().workers(1);
        let pool = builder.initializer(pass, gate.path()).build().unwrap();
        let dropped = pool.submit(|n: u32| n, 1);
        let (waits, late) = (pool.clone(), pool.clone());
        let waits = tokio::spawn(async move { waits.ready().await });
        assert!(pool.terminate().await.is_err(), "nobody can end that");
        let ended = dropped.await.unwrap_err();
        assert!(ended.is_shut_down() && !ended.maybe_executed());
        assert!(late.ready().await.unwrap_err().is_shutting_down());
        gate.open();
        pool.join().await.unwrap();
        let _ = waits.await.unwrap();
    });
}

#[test]
fn panics_of_the_values_own_code_cost_no_thread() {
    struct Spiteful;

    impl Drop for Spiteful {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }

    on_each_runtime(|| async {
        let pool = pool(1);
        // Its argument is dropped inside of the task, its result by nobody but the pool.
        let dropped = pool.submit(drop::<Spiteful>, Spiteful).await.unwrap_err();
        assert!(dropped.is_panic());
        let (let_go, running) = held(&pool);
        drop(pool.submit(|_: ()| Spiteful, ()));
        let never_run = pool.submit(std::mem::forget::<Spiteful>, Spiteful);
        assert!(never_run.cancel());
        let_go.send(()).unwrap();
        running.await.unwrap();
        assert_eq!(pool.submit(|n: u64| n + 1, 1).await.unwrap(), 2);
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

/// CF-112, CF-296.
#[test]
fn a_worker_process_can_have_threads_of_its_own() {
    on_each_runtime(|| async {
        let processes = ProcessPool::builder().workers(1).build().unwrap();
        let threads = pool(2);
        let squares = |numbers: Vec<u64>| -> Vec<u64> {
            let inner = pool(2);
            let handles: Vec<_> = numbers
                .into_iter()
                .map(|n| inner.submit(|n| n * n, n))
                .collect();
            let results = handles.into_iter().map(|mut n| n.blocking_wait(None));
            results.map(Result::unwrap).collect()
        };
        let inside = processes.submit(squares, vec![1, 2, 3]).await.unwrap();
        assert_eq!(inside, [1, 4, 9]);
        assert_eq!(threads.submit(squares, vec![4]).await.unwrap(), [16]);
        processes.shutdown().await;
        threads.shutdown().await;
    });
}

/// Two threads that take, one that cancels, and everything ends in one of the two ways.
#[test]
fn a_cancel_that_races_with_the_start_is_exact() {
    on_each_runtime(|| async {
        static RUN: AtomicU32 = AtomicU32::new(0);
        RUN.store(0, Ordering::Relaxed);
        let pool = pool(2);
        let count = |_: u32| {
            RUN.fetch_add(1, Ordering::Relaxed);
        };
        let handles: Vec<_> = (0..2_000).map(|n| pool.submit(count, n)).collect();
        let cancelled = handles.iter().rev().filter(|handle| handle.cancel());
        let cancelled = cancelled.count() as u32;
        for handle in handles {
            let said = handle.is_cancelled();
            assert_eq!(handle.await.is_err(), said);
        }
        assert_eq!(RUN.load(Ordering::Relaxed) + cancelled, 2_000);
        pool.shutdown().await;
    });
}

/// A request that came between the start and the task's first word was lost.
#[test]
fn a_task_that_is_known_to_run_hears_what_it_is_asked() {
    on_each_runtime(|| async {
        let pool = pool(2);
        let until_asked = |_: u32| {
            let stop = task::current().unwrap().cancellation();
            assert!(stop.wait_timeout(PROMPTLY));
        };
        for n in 0..500 {
            let handle = pool.submit(until_asked, n);
            while !handle.is_running() {
                std::hint::spin_loop();
            }
            assert!(handle.request_cancel());
            handle.await.unwrap();
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_gate_holds_a_map_only_as_far_as_it_looks_ahead() {
    on_each_runtime(|| async {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        TAKEN.store(0, Ordering::Relaxed);
        let (pool, gate) = (pool(1), Gate::new());
        let path = gate.path();
        let items = (0..100).map(|_| {
            TAKEN.fetch_add(1, Ordering::Relaxed);
            path.clone()
        });
        let mut results = pool.task(pass).look_ahead(7).map(items);
        assert_eq!(TAKEN.load(Ordering::Relaxed), 7);
        gate.open();
        results.next().await.unwrap().unwrap();
        assert!(TAKEN.load(Ordering::Relaxed) <= 8);
        assert_eq!(results.count().await, 99);
        pool.shutdown().await;
    });
}

/// What nobody can be found to run fails, and the next call is tried anew.
#[test]
fn calls_fail_while_no_thread_is_to_be_had() {
    const NAME: &str = "calls_fail_while_no_thread_is_to_be_had";
    if role().is_some() {
        let pool = pool(2);
        let before = getrlimit(Resource::As);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size = size.unwrap().trim().trim_end_matches(" kB");
        // Room for what is small, and for no stack.
        let tight = Rlimit {
            current: Some((size.parse::<u64>().unwrap() + 1024) * 1024),
            ..before
        };
        setrlimit(Resource::As, tight).unwrap();
        let mut refused = pool.submit(|n: u64| n, 1);
        let error = refused.blocking_wait(Some(PROMPTLY)).unwrap_err();
        setrlimit(Resource::As, before).unwrap();
        assert!(error.is_broken() && !error.maybe_executed(), "{error:#}");
        assert!(format!("{error:#}").contains("start a thread"), "{error:#}");
        let mut retried = pool.submit(|n: u64| n, 2);
        assert_eq!(retried.blocking_wait(Some(PROMPTLY)).unwrap(), 2);
        return;
    }
    let status = Program::start(NAME, "tight").end();
    assert!(status.success(), "{status}");
}

#[test]
fn a_call_can_be_given_options() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let power = || pool.task_call(call!(u64::pow(2, 10)));
        assert_eq!(power().submit().await.unwrap(), 1_024);
        assert_eq!(
            power().name("power").priority(1).run().await.unwrap(),
            1_024
        );
        let limit = Duration::from_millis(20);
        let error = power().timeout(limit).submit().await.unwrap_err();
        assert!(error.is_unsupported() && !error.maybe_executed());
        assert!(
            power()
                .deadline(limit)
                .run()
                .await
                .unwrap_err()
                .is_unsupported()
        );
        let late = power().deadline(Duration::ZERO).run();
        assert!(late.await.unwrap_err().is_timeout());
        let (let_go, running) = held(&pool);
        let late = power().queue_timeout(limit).submit();
        assert!(late.await.unwrap_err().is_timeout());
        drop(let_go);
        running.await.unwrap();
        pool.shutdown().await;
        assert!(power().run().await.unwrap_err().is_shut_down());
    });
}

#[test]
fn results_of_a_map_are_told_apart_by_their_numbers() {
    on_each_runtime(|| async {
        let pool = pool(2);
        for ordered in [true, false] {
            let task = pool.task(|n: u64| 10 / n);
            let map = if ordered {
                task.map(0..50)
            } else {
                task.map_unordered(0..50)
            };
            let mut results: Vec<_> = map.enumerate().collect().await;
            assert!(!ordered || results.is_sorted_by_key(|(item, _)| *item));
            results.sort_by_key(|(item, _)| *item);
            for (expected, (item, result)) in results.into_iter().enumerate() {
                assert_eq!(item, expected);
                assert_eq!(result.ok(), 10_u64.checked_div(item as u64));
            }
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_dropped_map_asks_its_running_items_to_end_if_that_was_wanted() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    static BEGUN: AtomicBool = AtomicBool::new(false);
    fn until_asked(_: u64) {
        BEGUN.store(true, Ordering::SeqCst);
        let task = procpool::task::current().unwrap();
        let asked = eventually(PROMPTLY, || task.is_cancelled());
        ASKED.store(asked, Ordering::SeqCst);
    }
    on_each_runtime(|| async {
        ASKED.store(false, Ordering::SeqCst);
        BEGUN.store(false, Ordering::SeqCst);
        let pool = pool(1);
        let map = pool.map(until_asked, 0..3).abort_on_drop();
        assert!(soon(PROMPTLY, || BEGUN.load(Ordering::SeqCst)).await);
        drop(map);
        pool.shutdown().await;
        assert!(ASKED.load(Ordering::SeqCst));
        assert_eq!(pool.stats().cancelled, 2);
    });
}
