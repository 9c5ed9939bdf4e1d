//! The end of a pool: closed, joined, shut down, terminated or dropped, with its runtime or before
//! it; and the end that a lost worker makes of a pool that must not replace one.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use gate::{Gate, acquire, mark, pass};
use procpool::{ProcessPool, Restart, ShutdownOptions, StartMethod};
use rustix::process::{Pid, Signal, kill_process};
use support::{PROMPTLY, builder, children, everywhere, is_alive, pool, runtime, scene, soon};

fn pid<T>(_: T) -> u32 {
    std::process::id()
}

fn nap(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(10));
    n
}

/// CF-018, CF-104.
#[test]
fn a_pool_that_is_shut_down_refuses_and_may_be_shut_down_again() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        pool.submit(pid, ()).await.unwrap();
        pool.shutdown().await;
        let refused = pool.submit(pid, ());
        assert!(refused.is_done() && pool.is_closed());
        let error = refused.await.unwrap_err();
        assert!(error.is_shut_down() && !error.is_broken() && !error.maybe_executed());
        assert!(pool.run(pid, ()).await.unwrap_err().is_shut_down());
        assert!(pool.try_submit(pid, 7).unwrap_err().is_shut_down());
        assert!(pool.ready().await.is_err());
        pool.shutdown().await;
        pool.shutdown_now().await;
        pool.terminate().await;
        pool.join().await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
    });
}

/// CF-019, CF-023, CF-106.
#[test]
fn shutdown_finishes_what_was_accepted() {
    everywhere(|method| async move {
        let pool = pool(5, method);
        let handles: Vec<_> = (0..50).map(|n| pool.submit(nap, n)).collect();
        pool.shutdown().await;
        assert!(handles.iter().all(|handle| handle.is_done()));
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n);
        }
        assert!(pool.stats().workers.is_empty());
        assert!(children().is_empty(), "{:?}", children());
    });
}

/// CF-020.
#[test]
fn shutdown_straight_after_a_burst_returns() {
    everywhere(|method| async move {
        for _ in 0..50 {
            let pool = pool(2, method);
            for n in 0..3 {
                drop(pool.submit(pid, n));
            }
            pool.shutdown().await;
            assert_eq!(pool.stats().completed, 3);
            assert!(children().is_empty(), "{:?}", children());
        }
    });
}

/// CF-021, CF-051.
#[test]
fn shutdown_now_drops_what_has_not_started() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(2, method);
        let handles: Vec<_> = (0..50).map(|_| pool.submit(pass, gate.path())).collect();
        let running = || handles.iter().filter(|handle| handle.is_running()).count();
        assert!(soon(PROMPTLY, || running() == 2).await);
        let ends = pool.shutdown_with(ShutdownOptions::new().cancel_pending(true).wait(false));
        ends.await;
        let cancelled = handles.iter().filter(|handle| handle.is_done()).count();
        assert_eq!(cancelled, 48);
        gate.open();
        pool.join().await.unwrap();
        let mut finished = 0;
        for handle in handles {
            match handle.await {
                Ok(()) => finished += 1,
                Err(error) => assert!(error.is_cancelled() && !error.maybe_executed(), "{error}"),
            }
        }
        assert_eq!(finished, 2);
    });
}

/// CF-022.
#[test]
fn shutdown_without_waiting_does_not_wait() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(1, method);
        let held = pool.submit(pass, gate.path());
        pool.shutdown_with(ShutdownOptions::new().wait(false)).await;
        assert!(pool.is_closed() && !held.is_done());
        gate.open();
        held.await.unwrap();
        pool.join().await.unwrap();
    });
}

/// A shutdown that has a limit.
#[test]
fn shutdown_with_a_limit_ends_what_goes_on() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(1, method);
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let waiting = pool.submit(pid, ());
        let (limit, begun) = (Duration::from_millis(50), Instant::now());
        pool.shutdown_with(ShutdownOptions::new().timeout(limit))
            .await;
        assert!(begun.elapsed() >= limit);
        let error = held.await.unwrap_err();
        assert!(error.is_shut_down() && error.maybe_executed(), "{error}");
        let error = waiting.await.unwrap_err();
        assert!(error.is_shut_down() && !error.maybe_executed(), "{error}");
    });
}

/// CF-025.
#[test]
fn tasks_that_block_are_waited_for() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(3, method);
        let held: Vec<_> = (0..3).map(|_| pool.submit(acquire, gate.path())).collect();
        assert!(soon(PROMPTLY, || held.iter().all(|handle| handle.is_running())).await);
        assert_eq!(pool.stats().workers.len(), 3);
        let early = tokio::time::timeout(Duration::from_millis(50), pool.shutdown());
        assert!(early.await.is_err(), "did not wait");
        gate.release(3);
        pool.join().await.unwrap();
        for handle in held {
            handle.await.unwrap();
        }
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.lost), (3, 0));
    });
}

/// CF-029, CF-030, CF-103.
#[test]
fn terminate_ends_everything_at_once() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(3, method);
        let work = |gate: String| {
            pass(gate.clone());
            mark(&gate, "went on");
        };
        let handles: Vec<_> = (0..2_000).map(|_| pool.submit(work, gate.path())).collect();
        let running = || handles.iter().filter(|handle| handle.is_running()).count();
        assert!(soon(PROMPTLY, || running() == 3).await);
        let workers: Vec<_> = pool
            .stats()
            .workers
            .iter()
            .map(|worker| worker.pid)
            .collect();
        pool.terminate().await;
        assert!(workers.iter().all(|worker| !is_alive(*worker)));
        let mut started = 0;
        for handle in handles {
            let error = handle.await.unwrap_err();
            assert!(error.is_shut_down());
            started += usize::from(error.maybe_executed());
        }
        assert_eq!(started, 3);
        gate.open();
        assert!(pool.submit(pid, ()).await.unwrap_err().is_shut_down());
        assert!(gate.marks().is_empty());
    });
}

/// CF-030.
#[test]
fn a_pool_that_never_started_anything_ends_without_ado() {
    everywhere(|method| async move {
        for end in 0..4 {
            let pool = pool(2, method);
            match end {
                0 => pool.terminate().await,
                1 => pool.shutdown().await,
                2 => pool.shutdown_now().await,
                _ => {
                    pool.close();
                    pool.join().await.unwrap();
                }
            }
            assert_eq!(pool.stats().workers_started, 0);
        }
        drop(pool(2, method));
    });
}

/// CF-105, CF-104, CF-050.
#[test]
fn an_open_pool_cannot_be_joined() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let error = pool.join().await.unwrap_err();
        assert!(error.to_string().contains("open"), "{error}");
        assert!(!pool.is_closed());
        let accepted = pool.submit(nap, 5);
        pool.close();
        assert!(pool.is_closed());
        assert!(pool.submit(nap, 6).await.unwrap_err().is_shut_down());
        pool.join().await.unwrap();
        assert!(accepted.is_done() && pool.is_closed());
        assert_eq!(accepted.await.unwrap(), 5);
    });
}

/// Holds up whoever wakes it until the pool has been joined, or for a while.
struct Slow {
    joined: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        let joined = self.joined.lock().unwrap();
        let limit = Duration::from_millis(200);
        let _ = self
            .changed
            .wait_timeout_while(joined, limit, |joined| !*joined);
    }
}

/// CF-105. Answers that came together are told one after the other, and who hears one may take long.
#[test]
fn who_has_joined_a_pool_finds_all_its_calls_answered() {
    let _scene = scene();
    let home = runtime(2);
    for _ in 0..5 {
        let pool = builder(1, StartMethod::ForkServer)
            .runtime(home.handle().clone())
            .build()
            .unwrap();
        let nap = |millis| std::thread::sleep(Duration::from_millis(millis));
        // From now on such calls are sent behind each other, and answered together.
        pool.submit(nap, 0).blocking_wait(None).unwrap();
        pool.submit(pid, ()).blocking_wait(None).unwrap();
        let _first = pool.submit(nap, 20);
        let mut handles: Vec<_> = (0..16).map(|_| pool.submit(pid, ())).collect();
        let slow = Arc::new(Slow {
            joined: Mutex::new(false),
            changed: Condvar::new(),
        });
        let waker = Waker::from(slow.clone());
        let _ = handles[0].poll_unpin(&mut Context::from_waker(&waker));
        pool.close();
        home.block_on(pool.join()).unwrap();
        let answered = handles[1..].iter().filter(|handle| handle.is_done());
        assert_eq!(answered.count(), 15);
        *slow.joined.lock().unwrap() = true;
        slow.changed.notify_all();
    }
}

/// CF-024, CF-108.
#[test]
fn dropping_a_pool_lets_its_tasks_finish() {
    everywhere(|method| async move {
        let pool = pool(5, method);
        let handles: Vec<_> = (0..10).map(|n| pool.submit(nap, n)).collect();
        drop(pool.clone());
        assert!(!pool.is_closed());
        drop(pool);
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n);
        }
        assert!(soon(PROMPTLY, || children().is_empty()).await);
    });
}

/// CF-054.
#[test]
fn a_pool_without_its_runtime_is_shut_down() {
    for threads in [1, 2] {
        let _scene = scene();
        let home = runtime(threads);
        let (pool, mut cancelled) = home.block_on(async {
            let pool = pool(1, StartMethod::default());
            let gate = Gate::new();
            let held = pool.submit(pass, gate.path());
            assert!(soon(PROMPTLY, || held.is_running()).await);
            let cancelled = pool.submit(pid, ());
            assert!(cancelled.cancel());
            (pool, cancelled)
        });
        drop(home);
        let other = pool.clone();
        let elsewhere = std::thread::spawn(move || other.submit(pid, ()).blocking_wait(None));
        assert!(elsewhere.join().unwrap().unwrap_err().is_shut_down());
        assert!(cancelled.blocking_wait(None).unwrap_err().is_cancelled());
        runtime(1).block_on(pool.shutdown());
    }
}

/// Drops what it holds in order, first to last.
struct InOrder(Vec<Box<dyn Any>>);

impl Drop for InOrder {
    fn drop(&mut self) {
        self.0.drain(..).for_each(drop);
    }
}

/// Each order of pool, runtime and handles, on both kinds of runtime, in peace and while
/// unwinding.
#[test]
fn pool_runtime_and_handles_are_dropped_in_any_order() {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (order, threads, unwinding) in ORDERS
        .iter()
        .flat_map(|order| [1, 2].map(|threads| (order, threads)))
        .flat_map(|(order, threads)| [false, true].map(|unwinding| (order, threads, unwinding)))
    {
        let _scene = scene();
        let gate = Gate::new();
        let home = runtime(threads);
        let (pool, handles) = home.block_on(async {
            let pool = pool(1, StartMethod::default());
            let finished = pool.submit(|_: String| (), String::new());
            assert!(soon(PROMPTLY, || finished.is_done()).await);
            let running = pool.submit(pass, gate.path());
            assert!(soon(PROMPTLY, || running.is_running()).await);
            let waiting = pool.submit(pass, gate.path());
            (pool, [finished, running, waiting])
        });
        let (told, hears) = mpsc::channel();
        for (number, handle) in handles.iter().enumerate() {
            let told = told.clone();
            handle.add_done_callback(move |result| {
                let shut_down = result.as_ref().is_err_and(|error| error.is_shut_down());
                told.send((number, result.is_ok(), shut_down)).unwrap();
            });
        }
        drop(told);
        let mut all: [Option<Box<dyn Any>>; 3] = [
            Some(Box::new(pool)),
            Some(Box::new(home)),
            Some(Box::new(handles)),
        ];
        let held = InOrder(
            order
                .iter()
                .map(|which| all[*which].take().unwrap())
                .collect(),
        );
        if unwinding {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let _held = held;
                resume_unwind(Box::new("meant"))
            }));
            let _: Box<dyn Any + Send> = unwound.map(|(): ()| ()).unwrap_err();
        } else {
            drop(held);
        }
        // Each is resolved, and once.
        let mut told: Vec<_> = std::iter::from_fn(|| hears.recv_timeout(PROMPTLY).ok()).collect();
        told.sort();
        let expected = [(0, true, false), (1, false, true), (2, false, true)];
        assert_eq!(told, expected, "{order:?} {threads} {unwinding}");
    }
}

/// Row 34: where a thread must not block, a pool that is busy is dropped as anywhere else.
#[test]
fn a_busy_pool_may_be_dropped_wherever_futures_are() {
    const AT_ONCE: Duration = Duration::from_secs(1);
    /// Drops it, and tells how long that took.
    fn let_go(pool: ProcessPool) -> Duration {
        let begun = Instant::now();
        drop(pool);
        begun.elapsed()
    }
    everywhere(|method| async move {
        for place in [
            "future",
            "task",
            "select",
            "aborted",
            "unwinding",
            "blocking",
        ] {
            let gate = Gate::new();
            let pool = pool(1, method);
            let running = pool.submit(pass, gate.path());
            assert!(soon(PROMPTLY, || running.is_running()).await);
            let begun = Instant::now();
            match place {
                "task" => {
                    let took = tokio::spawn(async move { let_go(pool) }).await;
                    assert!(took.unwrap() < AT_ONCE);
                }
                // The branch that loses is dropped with the pool in it.
                "select" => tokio::select! {
                    biased;
                    () = std::future::ready(()) => {}
                    () = async { pool.clone().shutdown().await; drop(pool) } => {}
                },
                "aborted" => {
                    let task = tokio::spawn(async move { pool.shutdown().await });
                    tokio::task::yield_now().await;
                    task.abort();
                    // It may not have begun.
                    let _ = task.await;
                }
                "unwinding" => {
                    let unwound = tokio::spawn(async move {
                        let _pool = pool;
                        resume_unwind(Box::new("meant"))
                    });
                    let unwound: Result<(), _> = unwound.await;
                    assert!(unwound.unwrap_err().is_panic());
                }
                "blocking" => {
                    let took = tokio::task::spawn_blocking(move || let_go(pool)).await;
                    assert!(took.unwrap() < AT_ONCE);
                }
                _ => assert!(let_go(pool) < AT_ONCE),
            }
            assert!(begun.elapsed() < PROMPTLY, "{place}");
            assert!(!running.is_done(), "{place}");
            // What was accepted is done all the same.
            gate.open();
            running.await.unwrap();
            assert!(soon(PROMPTLY, || children().is_empty()).await, "{place}");
        }
    });
}

/// CF-115.
#[test]
fn only_as_many_tasks_run_as_there_are_workers() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(2, method);
        let handles: Vec<_> = (0..10).map(|_| pool.submit(pass, gate.path())).collect();
        let placed = || {
            handles
                .iter()
                .filter(|handle| handle.worker_pid().is_some())
                .count()
        };
        assert!(soon(PROMPTLY, || placed() == 2).await);
        assert_eq!(pool.stats().workers.len(), 2);
        pool.terminate().await;
        for handle in handles {
            assert!(handle.await.unwrap_err().is_shut_down());
        }
    });
}

/// CF-031, CF-057.
#[test]
fn a_killed_worker_breaks_a_pool_that_must_not_restart() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(2, method).restart(Restart::Never).build().unwrap();
        let handles: Vec<_> = (0..4).map(|_| pool.submit(pass, gate.path())).collect();
        let running = || handles.iter().filter(|handle| handle.is_running()).count();
        assert!(soon(PROMPTLY, || running() == 2).await);
        let victim = pool.stats().workers[0].pid;
        kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::TERM).unwrap();
        for handle in handles {
            let error = handle.await.unwrap_err();
            assert!(error.is_broken() && !error.is_worker_lost(), "{error}");
            assert!(format!("{error:#}").contains("SIGTERM"), "{error:#}");
            let exit = error.worker_exit().unwrap();
            assert_eq!((exit.pid(), exit.exit().signal()), (victim, Some(15)));
        }
        let late = pool.submit(pid, ()).await.unwrap_err();
        assert!(late.is_broken() && late.worker_exit().is_some() && !late.maybe_executed());
        let refused = pool.try_submit(pid, ()).unwrap_err();
        assert!(refused.is_broken() && !refused.error().maybe_executed());
        let next = builder(1, method).build().unwrap();
        assert_eq!(next.submit(|n: u32| n, 42).await.unwrap(), 42);
        next.shutdown().await;
        pool.shutdown().await;
    });
}

/// CF-032, CF-033, CF-116.
#[test]
fn the_error_of_a_lost_worker_says_how_it_died() {
    everywhere(|method| async move {
        let leave = |code: i32| -> () { std::process::exit(code) };
        for code in [99, 42, 0] {
            let pool = builder(1, method).restart(Restart::Never).build().unwrap();
            let error = pool.submit(leave, code).await.unwrap_err();
            assert!(error.is_broken());
            assert!(
                format!("{error:#}").contains(&format!("exit code {code}")),
                "{error:#}"
            );
            assert_eq!(error.worker_exit().unwrap().exit().code(), Some(code));
            let unready = pool.ready().await.unwrap_err();
            assert!(!unready.is_shutting_down(), "{unready}");
            assert_eq!(unready.exit().unwrap().code(), Some(code));
            assert!(unready.to_string().contains(&format!("exit code {code}")));
            pool.shutdown().await;
        }
        let pool = pool(1, method);
        let before = pool.submit(pid, ()).await.unwrap();
        let error = pool.submit(leave, 1).await.unwrap_err();
        let exit = error.worker_exit().unwrap();
        assert!(error.is_worker_lost() && error.maybe_executed() && !error.is_broken());
        assert_eq!((exit.pid(), exit.exit().code()), (before, Some(1)));
        assert!(exit.ran_for().is_some());
        let after = pool.submit(pid, ()).await.unwrap();
        assert_ne!(before, after);
        let error = pool
            .submit(|()| -> () { std::process::abort() }, ())
            .await
            .unwrap_err();
        assert_eq!(error.worker_exit().unwrap().exit().signal(), Some(6));
        assert!(format!("{error:#}").contains("SIGABRT"), "{error:#}");
        pool.shutdown().await;
    });
}

/// CF-033.
#[test]
fn a_dead_worker_costs_its_own_task_and_no_other() {
    everywhere(|method| async move {
        let pool = pool(3, method);
        let work = |n: u64| {
            if n == 50 {
                std::process::exit(1);
            }
            n
        };
        let handles: Vec<_> = (0..100).map(|n| pool.submit(work, n)).collect();
        for (n, handle) in (0..).zip(handles) {
            match handle.await {
                Ok(value) => assert_eq!(value, n),
                Err(error) => assert!(n == 50 && error.is_worker_lost(), "{n}: {error}"),
            }
        }
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.lost), (99, 1));
        pool.shutdown().await;
    });
}
