//! Pools and handles away from home: on threads without a runtime, on runtimes that are not the
//! pool's, on one that is blocked, busy, bare or gone, and in the drop of a thread's own values.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use gate::{Gate, pass};
use procpool::{ProcessPool, StartMethod, Task, TaskError, TaskHandle, ThreadPool};
use support::{HANG, PROMPTLY, children, eventually, is_alive, pool, runtime, scene, soon};
use tokio::runtime::{Builder, Runtime};

/// A pool whose home is this runtime.
fn pool_of(home: &Runtime, workers: usize, method: StartMethod) -> ProcessPool {
    let _inside = home.enter();
    pool(workers, method)
}

fn pass_42(gate: String) -> u32 {
    pass(gate);
    42
}

fn same(n: u32) -> u32 {
    n
}

/// Runs a test on each kind of home, with each start method.
fn at_each_home(test: impl Fn(Runtime, StartMethod)) {
    for threads in [1, 2] {
        for method in StartMethod::available() {
            let _scene = scene();
            test(runtime(threads), *method);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The plainest executor that there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let begun = std::time::Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(begun.elapsed() < HANG, "hangs");
        std::thread::park_timeout(HANG);
    }
}

/// CF-083: everything that can be awaited can be awaited by an executor that knows no tokio.
#[test]
fn any_executor_will_do_while_the_home_runtime_is_not_driven() {
    at_each_home(|home, method| {
        let pool = pool_of(&home, 2, method);
        block_on(pool.ready()).unwrap();
        assert_eq!(block_on(pool.submit(same, 7)).unwrap(), 7);
        assert_eq!(block_on(pool.run(same, 8)).unwrap(), 8);
        let (gate, first) = (Gate::new(), pool.submit(same, 9));
        let held = pool.submit(pass_42, gate.path());
        assert!(eventually(PROMPTLY, || held.is_running()));
        gate.open();
        assert_eq!(block_on(held).unwrap(), 42);
        assert_eq!(block_on(first).unwrap(), 9);
        pool.close();
        block_on(pool.join()).unwrap();
        block_on(pool.shutdown());
        block_on(pool.terminate());
        assert!(block_on(pool.submit(same, 1)).unwrap_err().is_shut_down());
        drop(home);
    });
}

/// A limit on waiting is kept by the crate's own clock.
#[test]
fn a_limit_on_waiting_needs_no_runtime() {
    const LIMIT: Duration = Duration::from_millis(20);
    fn wait<R: Send + 'static>(mut handle: TaskHandle<R>, gate: &Gate) -> R {
        let begun = Instant::now();
        let early = block_on(handle.timeout(LIMIT)).map(drop).unwrap_err();
        assert!(early.is_elapsed() && begun.elapsed() >= LIMIT);
        gate.open();
        block_on(handle.timeout(Duration::MAX)).unwrap()
    }
    for method in StartMethod::available() {
        let _scene = scene();
        let (pool, gate) = (pool(1, *method), Gate::new());
        assert_eq!(wait(pool.submit(pass_42, gate.path()), &gate), 42);
        let (later, gate) = (|gate| async move { pass_42(gate) }, Gate::new());
        assert_eq!(wait(pool.submit_async(later, gate.path()), &gate), 42);
        block_on(pool.shutdown());
        let refused = block_on(pool.submit(same, 1).timeout(LIMIT)).unwrap_err();
        assert!(refused.is_shut_down());
    }
    let _scene = scene();
    let pool = ThreadPool::builder().workers(1).max_pending(0).build();
    let (pool, gate) = (pool.unwrap(), Gate::new());
    let held = pool.submit(pass_42, gate.path());
    let late = pool.task_async(|n: u32| async move { n });
    let late = late.deadline(LIMIT).run(1);
    // Nor does the waiting for room.
    assert!(block_on(late).unwrap_err().is_timeout());
    assert_eq!(wait(held, &gate), 42);
    block_on(pool.shutdown());
}

/// CF-083.
#[test]
fn another_runtime_awaits_everything_while_the_home_runtime_is_not_driven() {
    at_each_home(|home, method| {
        for threads in [1, 2] {
            let (pool, elsewhere) = (pool_of(&home, 1, method), runtime(threads));
            elsewhere.block_on(async {
                pool.ready().await.unwrap();
                assert_eq!(pool.run(same, 8).await.unwrap(), 8);
                let mut handle = pool.submit(same, 9);
                assert_eq!(handle.timeout(PROMPTLY).await.unwrap(), 9);
                let moved = tokio::spawn(pool.submit(same, 10));
                assert_eq!(moved.await.unwrap().unwrap(), 10);
                pool.shutdown().await;
            });
        }
    });
}

/// Who blocks the very runtime that drives the pool.
#[test]
fn a_blocking_wait_ends_on_a_runtime_that_it_blocks() {
    at_each_home(|home, method| {
        let pool = pool_of(&home, 2, method);
        home.block_on(async {
            assert_eq!(pool.submit(same, 1).blocking_wait(None).unwrap(), 1);
            // All threads of it at once.
            let all = Arc::new(Barrier::new(home.metrics().num_workers()));
            let waits: Vec<_> = (0..home.metrics().num_workers())
                .map(|n| {
                    let (pool, all) = (pool.clone(), all.clone());
                    tokio::spawn(async move {
                        all.wait();
                        pool.submit(same, n as u32).blocking_wait(Some(PROMPTLY))
                    })
                })
                .collect();
            for (n, wait) in (0..).zip(waits) {
                assert_eq!(wait.await.unwrap().unwrap(), n);
            }
            let aside = pool.clone();
            let aside = tokio::task::spawn_blocking(move || {
                tokio::runtime::Handle::current().block_on(aside.submit(same, 3))
            });
            assert_eq!(aside.await.unwrap().unwrap(), 3);
            pool.shutdown().await;
        });
    });
}

/// A result that was there stays, whatever goes.
#[test]
fn a_result_outlives_pool_and_runtime() {
    at_each_home(|home, method| {
        let pool = pool_of(&home, 1, method);
        let (returned, panicked) = (pool.submit(same, 7), pool.submit(fail, 7));
        home.block_on(async {
            assert!(soon(PROMPTLY, || returned.is_done() && panicked.is_done()).await);
        });
        drop((pool, home));
        assert!(eventually(PROMPTLY, || children().is_empty()));
        assert_eq!(runtime(1).block_on(returned).unwrap(), 7);
        assert!(block_on(panicked).unwrap_err().is_panic());
    });
}

fn fail(n: u32) -> u32 {
    panic!("number {n}")
}

/// CF-083: no home but the crate's own thread.
#[test]
fn a_pool_without_a_runtime_serves_runtimes_and_threads_at_once() {
    for method in StartMethod::available() {
        let _scene = scene();
        let pool = pool(2, *method);
        let work = |pool: ProcessPool, from: u32| async move {
            for n in from..from + 50 {
                assert_eq!(pool.submit(same, n).await.unwrap(), n);
            }
        };
        std::thread::scope(|scope| {
            for threads in [1, 2] {
                let pool = pool.clone();
                scope.spawn(move || runtime(threads).block_on(work(pool, 100)));
            }
            let mine = pool.clone();
            scope.spawn(move || block_on(work(mine, 200)));
            for thread in 0..16 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for n in 0..20 {
                        let mut handle = pool.submit(same, thread + n);
                        assert_eq!(handle.blocking_wait(None).unwrap(), thread + n);
                    }
                });
            }
        });
        // Runtimes come and go; this pool does not go with any of them.
        assert_eq!(pool.submit(same, 5).blocking_wait(None).unwrap(), 5);
        assert_eq!(pool.stats().completed, 2 * 50 + 50 + 16 * 20 + 1);
        runtime(1).block_on(pool.shutdown());
    }
}

/// The home that the builder is given.
#[test]
fn a_pool_belongs_to_the_runtime_that_its_builder_was_given() {
    at_each_home(|home, method| {
        let builder = || ProcessPool::builder().workers(1).start_method(method);
        let other = runtime(1);
        let pool = other.block_on(async {
            let pool = builder().runtime(home.handle().clone()).build().unwrap();
            assert_eq!(pool.submit(same, 1).await.unwrap(), 1);
            pool
        });
        // Not this one's.
        drop(other);
        assert_eq!(home.block_on(pool.submit(same, 2)).unwrap(), 2);
        let gone = home.handle().clone();
        drop(home);
        let mut late = pool.submit(same, 3);
        assert!(late.blocking_wait(None).unwrap_err().is_shut_down());
        // Nor is there work for a pool whose home was gone before.
        let stillborn = builder().runtime(gone).build().unwrap();
        let mut handle = stillborn.submit(same, 4);
        assert!(handle.blocking_wait(None).unwrap_err().is_shut_down());
        block_on(stillborn.shutdown());
        assert_eq!(stillborn.stats().workers_started, 0);
    });
}

/// Nothing would ever be heard of a worker there.
#[test]
fn a_runtime_without_input_and_output_is_refused_and_one_without_a_clock_is_not() {
    for method in StartMethod::available() {
        for mut bare in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let _scene = scene();
            let builder = || ProcessPool::builder().workers(1).start_method(*method);
            let home = bare.worker_threads(1).build().unwrap();
            let given = builder().runtime(home.handle().clone()).build();
            let found = home.block_on(async { builder().build() });
            for refused in [given, found] {
                let error = refused.unwrap_err();
                assert!(error.is_invalid_argument(), "{error}");
                assert!(error.to_string().contains("enable_io"), "{error}");
            }
            let home = bare.enable_io().build().unwrap();
            let pool = pool_of(&home, 1, *method);
            home.block_on(async {
                assert_eq!(pool.submit(same, 1).await.unwrap(), 1);
                let limited = pool.task(pass).timeout(Duration::from_millis(20));
                let limited = limited.submit(Gate::new().path());
                assert!(limited.await.unwrap_err().is_timeout());
                pool.shutdown().await;
            });
        }
    }
}

/// CF-054: the other ways to end a runtime.
#[test]
fn a_runtime_that_is_shut_down_in_the_background_ends_its_pool() {
    for round in 0..2 {
        at_each_home(|home, method| {
            let (gate, pool) = (Gate::new(), pool_of(&home, 1, method));
            let mut running = pool.submit(pass_42, gate.path());
            home.block_on(async { assert!(soon(PROMPTLY, || running.is_running()).await) });
            let worker = running.worker_pid().unwrap();
            let waits = std::thread::spawn(move || running.blocking_wait(Some(PROMPTLY)));
            match round {
                0 => home.shutdown_background(),
                _ => home.shutdown_timeout(Duration::from_millis(1)),
            }
            assert!(waits.join().unwrap().unwrap_err().is_shut_down());
            assert!(eventually(PROMPTLY, || !is_alive(worker)));
            block_on(pool.shutdown());
        });
    }
}

/// CF-054: awaited elsewhere while it happens.
#[test]
fn a_handle_that_is_awaited_elsewhere_resolves_when_the_home_ends() {
    at_each_home(|home, method| {
        let (gate, pool) = (Gate::new(), pool_of(&home, 1, method));
        let running = pool.submit(pass_42, gate.path());
        let waiting = pool.submit(same, 1);
        let (pools, room) = (pool.clone(), pool.clone());
        let elsewhere = std::thread::spawn(move || {
            runtime(2).block_on(async {
                let ends = tokio::spawn(async move {
                    pools.close();
                    pools.join().await
                });
                let outcomes = tokio::join!(running, waiting, ends);
                (outcomes.0, outcomes.1, outcomes.2.unwrap().is_ok())
            })
        });
        assert!(eventually(PROMPTLY, || pool.is_closed()));
        drop(home);
        let (running, waiting, joined) = elsewhere.join().unwrap();
        assert!(running.unwrap_err().is_shut_down());
        assert!(waiting.unwrap_err().is_shut_down() && joined);
        drop(room);
    });
}

thread_local! {
    static MINE: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

/// A pool that goes with a thread, among the last things that the thread does.
#[test]
fn pools_and_handles_may_be_dropped_with_a_threads_own_values() {
    at_each_home(|home, method| {
        let gate = Gate::new();
        let path = gate.path();
        let thread = std::thread::spawn(move || {
            // The first use decides when it is dropped: before what the crate uses, or after.
            MINE.with_borrow_mut(|mine| assert!(mine.is_empty()));
            let homed = pool_of(&home, 1, method);
            let free = pool(1, method);
            let held = [
                homed.submit(pass_42, path.clone()),
                free.submit(pass_42, path),
            ];
            assert!(eventually(PROMPTLY, || held
                .iter()
                .all(TaskHandle::is_running)));
            for handle in held {
                MINE.with_borrow_mut(|mine| mine.push(Box::new(handle.abort_on_drop())));
            }
            MINE.with_borrow_mut(|mine| mine.push(Box::new((homed, free))));
            home
        });
        let home = thread.join().unwrap();
        assert!(eventually(PROMPTLY, || children().is_empty()));
        drop(home);
    });
}

/// What can be sent where.
#[test]
fn pools_tasks_and_handles_move_between_threads() {
    fn send_and_share<T: Send + Sync + 'static>(_: &T) {}
    fn send<T: Send + 'static>(_: &T) {}
    let _scene = scene();
    let pool = pool(1, StartMethod::default());
    send_and_share(&pool);
    send_and_share(&pool.stats());
    let task: Task<u32, u32> = pool.task(same);
    send_and_share(&task);
    // A result that is not shared between threads, and an argument that never leaves this one.
    let give: fn(()) -> Cell<u32> = |()| Cell::new(7);
    let handle = pool.submit(give, ());
    send(&handle);
    let take: fn(PhantomData<Rc<()>>) -> u32 = |_| 8;
    let running = pool.run(take, PhantomData);
    send(&running);
    drop((running, pool.shutdown(), pool.ready(), pool.terminate()));
    let error: Result<Cell<u32>, TaskError> = block_on(handle);
    assert!(error.is_ok() || error.unwrap_err().is_shut_down());
}
