//! Done-callbacks in places where they could do harm: that register others, cancel, submit, wait,
//! end the pool or its runtime, or drop the last of it.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gate::{Gate, pass};
use procpool::{Restart, StartMethod, TaskError, TaskHandle};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, eventually, everywhere, pool, runtime, scene, soon};

fn pass_42(gate: String) -> u32 {
    pass(gate);
    42
}

fn same(n: u32) -> u32 {
    n
}

/// As [`everywhere`], for what has little to do with how workers are started: each kind of runtime
/// with one start method.
fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn(StartMethod) -> F) {
    for (threads, method) in [1, 2].into_iter().zip(StartMethod::available()) {
        let _scene = scene();
        runtime(threads).block_on(async {
            let test = tokio::time::timeout(support::HANG, test(*method));
            assert!(test.await.is_ok(), "hangs on {threads} threads");
        });
    }
}

/// Lets panics that are meant make no noise, until it is dropped.
struct Silence;

impl Silence {
    fn new() -> Self {
        std::panic::set_hook(Box::new(|_| ()));
        Self
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::panic::take_hook();
        }
    }
}

/// Waits for a message without blocking the runtime.
async fn hear<T: Send + 'static>(from: &Receiver<T>) -> T {
    let mut heard = None;
    soon(PROMPTLY, || {
        heard = from.try_recv().ok();
        heard.is_some()
    })
    .await;
    heard.expect("the callback says nothing")
}

/// What a handle looks like from within its own callback.
#[test]
fn within_its_callback_a_task_is_over_and_its_result_is_with_the_callback() {
    on_both_runtimes(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handle = Arc::new(pool.submit(pass_42, gate.path()));
        let (told, hears) = mpsc::channel();
        let inner = handle.clone();
        let id = Arc::new(Mutex::new(None));
        let known = id.clone();
        *id.lock().unwrap() = Some(handle.add_done_callback(move |result| {
            let id = known.lock().unwrap().unwrap();
            let truth = [
                inner.is_done(),
                inner.is_running(),
                inner.is_cancelled(),
                inner.cancel(),
                inner.abort(),
                inner.result().is_some(),
                inner.remove_done_callback(id),
            ];
            let text = format!("{inner:?}");
            told.send((result.as_ref().ok().copied(), truth, text))
                .unwrap();
        }));
        gate.open();
        let (value, truth, text) = hear(&hears).await;
        assert_eq!(value, Some(42));
        assert_eq!(truth, [true, false, false, false, false, false, false]);
        assert!(text.contains("finished"), "{text}");
        assert!(soon(PROMPTLY, || Arc::strong_count(&handle) == 1).await);
        assert_eq!(Arc::into_inner(handle).unwrap().await.unwrap(), 42);
        pool.shutdown().await;
    });
}

fn register_more(handle: &Arc<TaskHandle<u32>>, seen: &Arc<Mutex<Vec<u32>>>, depth: u32) {
    let (inner, list) = (handle.clone(), seen.clone());
    handle.add_done_callback(move |result| {
        assert_eq!(*result.as_ref().unwrap(), 42);
        if depth < 5 {
            register_more(&inner, &list, depth + 1);
        }
        list.lock().unwrap().push(depth);
    });
}

/// CF-060: from another angle.
#[test]
fn callbacks_that_are_registered_in_callbacks_run_before_the_waiter_is_woken() {
    on_both_runtimes(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handle = Arc::new(pool.submit(pass_42, gate.path()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        register_more(&handle, &seen, 0);
        let list = seen.clone();
        handle.add_done_callback(move |_| list.lock().unwrap().push(100));
        gate.open();
        assert!(soon(PROMPTLY, || handle.result().is_some()).await);
        assert_eq!(*seen.lock().unwrap(), [0, 100, 1, 2, 3, 4, 5]);
        // Once more, when there is nobody left to wait for: at once, the inmost first.
        seen.lock().unwrap().clear();
        register_more(&handle, &seen, 3);
        assert_eq!(*seen.lock().unwrap(), [5, 4, 3]);
        pool.shutdown().await;
    });
}

/// CF-060.
#[test]
fn a_thousand_callbacks_of_one_task_run_once_and_in_order() {
    on_both_runtimes(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handle = pool.submit(pass_42, gate.path());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ids: Vec<_> = (0..1_000)
            .map(|number| {
                let seen = seen.clone();
                handle.add_done_callback(move |_| seen.lock().unwrap().push(number))
            })
            .collect();
        for id in ids.iter().step_by(2) {
            assert!(handle.remove_done_callback(*id));
        }
        gate.open();
        handle.await.unwrap();
        let odd: Vec<_> = (0..1_000).filter(|number| number % 2 == 1).collect();
        assert_eq!(*seen.lock().unwrap(), odd);
        pool.shutdown().await;
    });
}

/// CF-063: whatever moment it comes at.
#[test]
fn callbacks_that_are_registered_while_the_result_comes_run_once_each() {
    on_both_runtimes(|method| async move {
        let pool = pool(1, method);
        for round in 0..50 {
            let handle = Arc::new(pool.submit(same, round));
            let called = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (handle, called) = (handle.clone(), called.clone());
                    std::thread::spawn(move || {
                        for _ in 0..40 {
                            let called = called.clone();
                            handle.add_done_callback(move |result| {
                                assert_eq!(*result.as_ref().unwrap(), round);
                                called.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    })
                })
                .collect();
            assert!(soon(PROMPTLY, || handle.is_done()).await);
            for thread in threads {
                thread.join().unwrap();
            }
            let all = soon(PROMPTLY, || called.load(Ordering::Relaxed) == 120).await;
            assert!(all, "{called:?} in round {round}");
        }
        pool.shutdown().await;
    });
}

/// CF-046, CF-061, CF-062: a callback sees what a waiter sees.
#[test]
fn a_callback_is_told_of_every_end_that_a_task_can_have() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let (told, hears) = mpsc::channel();
        let tell = |handle: &TaskHandle<u32>| {
            let told = told.clone();
            handle.add_done_callback(move |result| {
                let error = result.as_ref().unwrap_err().to_string();
                told.send(error).unwrap();
            });
        };
        let limit = Duration::from_millis(30);
        let limited = pool.task(pass_42).timeout(limit).submit(gate.path());
        tell(&limited);
        assert!(limited.await.unwrap_err().is_timeout());
        assert!(hear(&hears).await.contains("30ms"));

        let held = pool.submit(pass_42, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let queued = pool.task(same).queue_timeout(limit).submit(1);
        tell(&queued);
        assert!(queued.await.unwrap_err().is_timeout());
        assert!(hear(&hears).await.contains("waited"));
        tell(&held);
        assert!(held.abort());
        assert!(hear(&hears).await.contains("aborted"));

        let lost = pool.submit(|n: u32| -> u32 { std::process::exit(n as i32) }, 9);
        tell(&lost);
        assert!(lost.await.unwrap_err().is_worker_lost());
        assert!(hear(&hears).await.contains("exit code 9"));

        let running = pool.submit(pass_42, gate.path());
        let waiting = pool.submit(same, 1);
        tell(&running);
        tell(&waiting);
        pool.terminate().await;
        assert!(hear(&hears).await.contains("shut down"));
        assert!(hear(&hears).await.contains("shut down"));
        let refused = pool.submit(same, 1);
        tell(&refused);
        assert_eq!(hears.try_recv().unwrap(), "pool is shut down");

        let broken = builder(1, method).restart(Restart::Never).build().unwrap();
        let lost = broken.submit(|n: u32| -> u32 { std::process::exit(n as i32) }, 8);
        tell(&lost);
        assert!(hear(&hears).await.contains("pool is broken"));
        broken.shutdown().await;
    });
}

/// CF-066, CF-049: decided within a callback.
#[test]
fn a_callback_cancels_and_aborts_others() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let first = pool.submit(pass_42, gate.path());
        let never = Gate::new();
        let running = pool.submit(pass_42, never.path());
        assert!(soon(PROMPTLY, || running.is_running()).await);
        // Takes the first one's place, so that the next one waits on.
        let next = pool.submit(pass_42, never.path());
        let waiting = pool.submit(pass_42, never.path());
        let others = Arc::new([running, waiting, next]);
        let (inner, (told, hears)) = (others.clone(), mpsc::channel());
        first.add_done_callback(move |_| {
            let [running, waiting, next] = &*inner;
            let answers = (running.cancel(), waiting.cancel(), running.abort());
            let tell = told.clone();
            waiting.add_done_callback(move |_| tell.send(None).unwrap());
            assert!(next.abort());
            told.send(Some(answers)).unwrap();
        });
        gate.open();
        assert_eq!(first.await.unwrap(), 42);
        let heard = [hear(&hears).await, hear(&hears).await];
        // Registered on what is done already, a callback runs at once.
        assert_eq!(heard, [None, Some((false, true, true))]);
        assert!(soon(PROMPTLY, || Arc::strong_count(&others) == 1).await);
        for handle in Arc::into_inner(others).unwrap() {
            assert!(handle.await.unwrap_err().is_cancelled());
        }
        pool.shutdown().await;
    });
}

/// CF-074: and waits for it.
#[test]
fn a_callback_may_wait_for_what_it_submits() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (told, hears) = mpsc::channel();
        let again = pool.clone();
        let first = pool.submit(same, 1);
        first.add_done_callback(move |result| {
            let sum: u32 = (0..10)
                .map(|n| again.submit(same, n).blocking_wait(None).unwrap())
                .sum();
            told.send(sum + result.as_ref().unwrap()).unwrap();
        });
        // The runtime goes on meanwhile, and so does whoever has no callback.
        assert_eq!(pool.submit(same, 2).await.unwrap(), 2);
        assert_eq!(hear(&hears).await, 46);
        assert_eq!(first.await.unwrap(), 1);
        pool.shutdown().await;
    });
}

/// Callbacks run one after the other, so that one cannot see another's end.
#[test]
fn a_callback_that_waits_for_anothers_task_holds_up_callbacks_alone() {
    on_both_runtimes(|method| async move {
        let pool = pool(1, method);
        let (gate, (told, hears)) = (Gate::new(), mpsc::channel());
        let first = pool.submit(pass_42, gate.path());
        let second = pool.submit(same, 2);
        let tell = told.clone();
        second.add_done_callback(move |_| tell.send(2).unwrap());
        let second = Arc::new(Mutex::new(second));
        let inner = second.clone();
        first.add_done_callback(move |_| {
            let limit = Duration::from_millis(100);
            let outcome = inner.lock().unwrap().blocking_wait(Some(limit));
            assert!(outcome.unwrap_err().is_elapsed());
            told.send(1).unwrap();
        });
        gate.open();
        assert_eq!(pool.submit(same, 3).await.unwrap(), 3);
        assert_eq!(first.await.unwrap(), 42);
        assert_eq!((hear(&hears).await, hear(&hears).await), (1, 2));
        let second = Arc::into_inner(second).unwrap().into_inner().unwrap();
        assert_eq!(second.await.unwrap(), 2);
        pool.shutdown().await;
    });
}

/// CF-024: the last clone goes in a callback.
#[test]
fn a_callback_drops_the_last_of_its_pool() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let handles: Vec<_> = (0..20).map(|n| pool.submit(same, n)).collect();
        let late = pool.task(same);
        let dropped = Arc::new(AtomicBool::new(false));
        let tell = dropped.clone();
        let first = pool.submit(same, 7);
        first.add_done_callback(move |_| {
            drop(pool);
            tell.store(true, Ordering::Relaxed);
        });
        assert_eq!(first.await.unwrap(), 7);
        assert!(dropped.load(Ordering::Relaxed));
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n);
        }
        let error = late.submit(1).await.unwrap_err();
        assert!(error.is_shut_down() && !error.is_broken(), "{error}");
    });
}

/// CF-019: waited for in a callback.
#[test]
fn a_callback_shuts_its_pool_down_and_waits_for_that() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let handles: Vec<_> = (0..20).map(|n| pool.submit(same, n)).collect();
        let (ends, (told, hears)) = (pool.clone(), mpsc::channel());
        handles[0].add_done_callback(move |_| {
            runtime(1).block_on(ends.shutdown());
            let stats = ends.stats();
            told.send((stats.completed, stats.workers.len())).unwrap();
        });
        assert_eq!(hear(&hears).await, (20, 0));
        for (n, handle) in (0..).zip(handles) {
            assert_eq!(handle.await.unwrap(), n);
        }
        pool.join().await.unwrap();
    });
}

/// CF-030: forced, in a callback; and the callbacks of what that ends are called.
#[test]
fn a_callback_terminates_its_pool() {
    everywhere(|method| async move {
        let (gate, never, pool) = (Gate::new(), Gate::new(), pool(2, method));
        let first = pool.submit(pass_42, gate.path());
        let others: Vec<_> = (0..5).map(|_| pool.submit(pass_42, never.path())).collect();
        let (told, hears) = mpsc::channel();
        for other in &others {
            let told = told.clone();
            other.add_done_callback(move |result| {
                let error = result.as_ref().unwrap_err();
                told.send(error.is_shut_down()).unwrap();
            });
        }
        let ends = pool.clone();
        first.add_done_callback(move |_| drop(ends.terminate()));
        gate.open();
        assert_eq!(first.await.unwrap(), 42);
        for other in others {
            assert!(hear(&hears).await);
            assert!(other.await.unwrap_err().is_shut_down());
        }
        pool.join().await.unwrap();
    });
}

/// CF-054: the runtime goes in a callback.
#[test]
fn a_callback_drops_the_runtime_of_its_pool() {
    for threads in [1, 2] {
        for method in StartMethod::available() {
            let _scene = scene();
            let home = runtime(threads);
            let gate = Gate::new();
            let pool = {
                let _inside = home.enter();
                pool(2, *method)
            };
            let mut first = pool.submit(pass_42, gate.path());
            let never = Gate::new();
            let mut other = pool.submit(pass_42, never.path());
            first.add_done_callback(move |_| drop(home));
            gate.open();
            assert_eq!(first.blocking_wait(Some(PROMPTLY)).unwrap(), 42);
            let error = other.blocking_wait(Some(PROMPTLY)).unwrap_err();
            assert!(error.is_shut_down(), "{error}");
        }
    }
}

/// Panics when it is dropped.
struct Prickly(mpsc::Sender<()>);

impl Drop for Prickly {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

/// CF-064: what a callback has captured, and what it panics with, may panic again.
#[test]
fn what_callbacks_drop_may_panic() {
    on_both_runtimes(|method| async move {
        let _silence = Silence::new();
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handle = pool.submit(pass_42, gate.path());
        let (told, hears) = mpsc::channel();
        let prickly = Prickly(told.clone());
        handle.add_done_callback(move |_| assert!(!std::ptr::eq(&prickly, std::ptr::null())));
        let prickly = Prickly(told.clone());
        handle.add_done_callback(move |_| std::panic::panic_any(prickly));
        let tell = told.clone();
        handle.add_done_callback(move |result| {
            assert!(result.is_ok());
            tell.send(()).unwrap();
        });
        gate.open();
        hear(&hears).await;
        hear(&hears).await;
        assert_eq!(handle.await.unwrap(), 42);
        assert_eq!(pool.submit(same, 1).await.unwrap(), 1);
        pool.shutdown().await;
    });
}

/// Looks at the handle when it is dropped.
struct Looks(Arc<TaskHandle<u32>>, mpsc::Sender<bool>);

impl Drop for Looks {
    fn drop(&mut self) {
        let _ = self.0.add_done_callback(|_| ());
        let _ = self.1.send(self.0.is_done());
    }
}

/// CF-084: what is taken back is dropped where nothing is locked.
#[test]
fn what_a_callback_holds_may_use_the_handle_while_it_is_dropped() {
    on_both_runtimes(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handle = Arc::new(pool.submit(pass_42, gate.path()));
        let (told, hears) = mpsc::channel();
        let ids = [(); 2].map(|()| {
            let looks = Looks(handle.clone(), told.clone());
            handle.add_done_callback(move |_| drop(looks))
        });
        assert!(handle.remove_done_callback(ids[0]));
        assert!(!hears.recv().unwrap());
        gate.open();
        assert!(hear(&hears).await);
        assert!(soon(PROMPTLY, || Arc::strong_count(&handle) == 1).await);
        pool.shutdown().await;
    });
}

/// A result that cannot be read here.
#[derive(Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not to be read")
    }
}

/// CF-061: what goes wrong on this side is told to callbacks, too.
#[test]
fn a_callback_sees_that_the_result_cannot_be_read() {
    on_both_runtimes(|method| async move {
        let _silence = Silence::new();
        let pool = pool(1, method);
        let give: fn(()) -> Unreadable = |()| Unreadable;
        let handle = pool.submit(give, ());
        let (told, hears) = mpsc::channel();
        handle.add_done_callback(move |result| {
            told.send(result.as_ref().is_err_and(TaskError::is_decode))
                .unwrap();
        });
        assert!(hear(&hears).await);
        assert!(handle.await.unwrap_err().is_decode());
        pool.shutdown().await;
    });
}

/// CF-060: with nobody left.
#[test]
fn a_callback_is_called_when_handle_pool_and_runtime_are_gone() {
    for threads in [1, 2] {
        let _scene = scene();
        let gate = Gate::new();
        let home = runtime(threads);
        let called = Arc::new(AtomicBool::new(false));
        home.block_on(async {
            let pool = pool(1, StartMethod::default());
            let handle = pool.submit(pass_42, gate.path());
            let tell = called.clone();
            handle.add_done_callback(move |result| {
                let ended = result.as_ref().is_err_and(TaskError::is_shut_down);
                tell.store(ended, Ordering::Relaxed);
            });
            // Dropped here, and the pool with it.
            drop(handle);
        });
        home.shutdown_background();
        assert!(eventually(PROMPTLY, || called.load(Ordering::Relaxed)));
    }
}
