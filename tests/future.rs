//! The handle of a task: what it tells in each state, how it is waited for, how the task behind
//! it is cancelled or aborted, and who is called back.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gate::{Gate, mark, pass};
use procpool::{ProcessPool, StartMethod, TaskError, TaskHandle};
use support::{PROMPTLY, everywhere, is_alive, pool, runtime, scene, soon};

fn pass_42(gate: String) -> u32 {
    pass(gate);
    42
}

fn fail(_: String) -> u32 {
    panic!("some error")
}

/// A handle in each state: pending, running, cancelled, failed, successful.
async fn in_each_state(pool: &ProcessPool, gate: &Gate) -> [TaskHandle<u32>; 5] {
    let failed = pool.submit(fail, String::new());
    let successful = pool.submit(|_: String| 42, String::new());
    assert!(soon(PROMPTLY, || failed.is_done() && successful.is_done()).await);
    let running = pool.submit(pass_42, gate.path());
    assert!(soon(PROMPTLY, || running.is_running()).await);
    let pending = pool.submit(pass_42, gate.path());
    let cancelled = pool.submit(pass_42, gate.path());
    assert!(cancelled.cancel());
    [pending, running, cancelled, failed, successful]
}

/// CF-067.
#[test]
fn a_handle_tells_its_state() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        for _ in 0..2 {
            let told = handles.each_ref().map(|handle| {
                let (done, running) = (handle.is_done(), handle.is_running());
                (
                    done,
                    running,
                    handle.is_cancelled(),
                    handle.worker_pid().is_some(),
                )
            });
            let [pending, running, cancelled, failed, successful] = told;
            assert_eq!(pending, (false, false, false, false));
            assert_eq!(running, (false, true, false, true));
            assert_eq!(cancelled, (true, false, true, false));
            assert_eq!(failed, (true, false, false, false));
            assert_eq!(successful, (true, false, false, false));
        }
        gate.open();
        pool.shutdown().await;
    });
}

/// CF-066.
#[test]
fn cancel_takes_back_what_has_not_started_and_nothing_else() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        let answers = handles.each_ref().map(TaskHandle::cancel);
        assert_eq!(answers, [true, false, true, false, false]);
        let again = handles.each_ref().map(TaskHandle::cancel);
        assert_eq!(again, [true, false, true, false, false]);
        gate.open();
        let [pending, running, cancelled, failed, successful] = handles;
        for handle in [pending, cancelled] {
            let error = handle.await.unwrap_err();
            assert!(error.is_cancelled() && !error.is_aborted() && !error.maybe_executed());
        }
        assert_eq!(
            (running.await.unwrap(), successful.await.unwrap()),
            (42, 42)
        );
        assert!(failed.await.unwrap_err().is_panic());
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

/// CF-049.
#[test]
fn abort_ends_what_runs_too() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        let worker = handles[1].worker_pid().unwrap();
        let (told, hears) = mpsc::channel();
        handles[1].add_done_callback(move |result| {
            told.send(result.as_ref().is_err_and(TaskError::is_cancelled))
                .unwrap();
        });
        let answers = handles.each_ref().map(TaskHandle::abort);
        assert_eq!(answers, [true, true, true, false, false]);
        assert!(hears.recv_timeout(PROMPTLY).unwrap());
        let again = handles.each_ref().map(TaskHandle::abort);
        assert_eq!(again, [true, true, true, false, false]);
        let [pending, running, cancelled, failed, successful] = handles;
        let error = running.await.unwrap_err();
        assert!(error.is_aborted() && error.is_cancelled() && error.maybe_executed());
        let error = pending.await.unwrap_err();
        assert!(error.is_aborted() && !error.maybe_executed());
        assert!(!cancelled.await.unwrap_err().is_aborted());
        assert!(failed.await.is_err());
        assert_eq!(successful.await.unwrap(), 42);
        assert!(soon(PROMPTLY, || !is_alive(worker)).await);
        assert_eq!(pool.submit(|n: u32| n, 1).await.unwrap(), 1);
        pool.shutdown().await;
    });
}

/// CF-065.
#[test]
fn the_text_of_a_handle_names_its_state_and_not_its_value() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        let states = [
            "pending",
            "running",
            "cancelled",
            "error of type TaskError",
            "value of type u32",
        ];
        for _ in 0..2 {
            for (handle, state) in handles.iter().zip(states) {
                let text = format!("{handle:?}");
                assert!(text.contains(state), "{text}");
                assert!(
                    !text.contains("42") && !text.contains("some error"),
                    "{text}"
                );
                assert!(text.contains(&handle.id().to_string()), "{text}");
                // The second round is after the results were looked at.
                let _ = handle.result();
            }
        }
        gate.open();
        pool.shutdown().await;
    });
}

/// CF-068, CF-069, CF-087.
#[test]
fn giving_up_waiting_takes_nothing_and_cancels_nothing() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let mut handles = in_each_state(&pool, &gate).await;
        for handle in &mut handles[..2] {
            let error = handle.timeout(Duration::ZERO).await.unwrap_err();
            assert!(error.is_elapsed() && error.is_timeout(), "{error}");
            let limit = Duration::from_millis(30);
            let begun = Instant::now();
            assert!(handle.timeout(limit).await.unwrap_err().is_elapsed());
            assert!(begun.elapsed() >= limit);
            assert!(tokio::time::timeout(limit, &mut *handle).await.is_err());
            assert!(!handle.is_done());
        }
        gate.open();
        let [
            mut pending,
            running,
            mut cancelled,
            mut failed,
            mut successful,
        ] = handles;
        assert!(
            cancelled
                .timeout(Duration::ZERO)
                .await
                .unwrap_err()
                .is_cancelled()
        );
        assert!(failed.timeout(Duration::ZERO).await.unwrap_err().is_panic());
        assert_eq!(successful.timeout(Duration::ZERO).await.unwrap(), 42);
        assert_eq!(pending.timeout(PROMPTLY).await.unwrap(), 42);
        assert_eq!(running.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

/// CF-072, CF-073, CF-088.
#[test]
fn a_result_can_be_looked_at_again_and_again_and_then_taken() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        for _ in 0..2 {
            let [pending, running, cancelled, failed, successful] = handles.each_ref();
            assert!(pending.result().is_none() && running.result().is_none());
            assert!(
                cancelled
                    .result()
                    .unwrap()
                    .as_ref()
                    .unwrap_err()
                    .is_cancelled()
            );
            assert!(failed.result().unwrap().as_ref().unwrap_err().is_panic());
            assert_eq!(*successful.result().unwrap().as_ref().unwrap(), 42);
        }
        gate.open();
        let [pending, running, _, failed, mut successful] = handles;
        assert_eq!((&mut successful).await.unwrap(), 42);
        assert!(successful.is_done() && successful.result().is_none());
        assert!(failed.await.unwrap_err().is_panic());
        assert_eq!((pending.await.unwrap(), running.await.unwrap()), (42, 42));
        let returned = pool
            .submit(|n: u32| Err::<u32, String>(format!("error {n}")), 5)
            .await;
        assert_eq!(returned.unwrap(), Err("error 5".to_owned()));
        pool.shutdown().await;
    });
}

/// CF-060, CF-061, CF-062, CF-110.
#[test]
fn callbacks_see_the_outcome_once_in_order_and_before_the_waiter() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass_42, gate.path());
        let seen = Arc::new(Mutex::new(Vec::new()));
        for number in 0..3 {
            let seen = seen.clone();
            held.add_done_callback(move |result| {
                seen.lock()
                    .unwrap()
                    .push((number, *result.as_ref().unwrap()));
            });
        }
        let failing = pool.submit(fail, String::new());
        let cancelled = pool.submit(pass_42, gate.path());
        let (told, hears) = mpsc::channel();
        let tell = told.clone();
        failing.add_done_callback(move |result| {
            let error = result.as_ref().unwrap_err();
            tell.send(error.panic().unwrap().message().to_owned())
                .unwrap();
        });
        cancelled.add_done_callback(move |result| {
            assert!(result.as_ref().unwrap_err().is_cancelled());
            told.send("cancelled".to_owned()).unwrap();
        });
        assert!(cancelled.cancel());
        assert!(cancelled.is_done());
        assert_eq!(hears.recv_timeout(PROMPTLY).unwrap(), "cancelled");
        // Nobody awaits this one.
        drop(failing);
        gate.open();
        held.await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(0, 42), (1, 42), (2, 42)]);
        let heard = soon(PROMPTLY, || {
            hears.try_recv().is_ok_and(|text| text == "some error")
        });
        assert!(heard.await);
        pool.shutdown().await;
        assert!(hears.recv().is_err(), "called twice");
    });
}

/// A handle whose callbacks still run is already in its last state.
#[test]
fn a_cancelled_handle_says_so_while_its_callbacks_run() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass_42, gate.path());
        let handle = pool.submit(pass_42, gate.path());
        let (go, wait) = mpsc::channel::<()>();
        let (entered, enters) = mpsc::channel();
        handle.add_done_callback(move |_| {
            entered.send(()).unwrap();
            let _ = wait.recv_timeout(PROMPTLY);
        });
        assert!(handle.cancel());
        enters.recv_timeout(PROMPTLY).unwrap();
        assert!(handle.is_done() && handle.is_cancelled());
        assert!(
            handle.cancel() && handle.abort(),
            "a cancelled task is cancelled"
        );
        go.send(()).unwrap();
        let mut handle = handle;
        assert!((&mut handle).await.unwrap_err().is_cancelled());
        assert!(handle.is_cancelled(), "also after the error was taken");
        gate.open();
        held.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-063.
#[test]
fn a_callback_that_comes_late_is_called_at_once() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let handles = in_each_state(&pool, &gate).await;
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        for handle in &handles[2..] {
            for _ in 0..2 {
                let outcomes = outcomes.clone();
                handle.add_done_callback(move |result| {
                    let told = match result {
                        Ok(value) => value.to_string(),
                        Err(error) if error.is_cancelled() => "cancelled".to_owned(),
                        Err(error) => error.panic().unwrap().message().to_owned(),
                    };
                    outcomes.lock().unwrap().push(told);
                });
            }
        }
        let expected = [
            "cancelled",
            "cancelled",
            "some error",
            "some error",
            "42",
            "42",
        ];
        assert_eq!(*outcomes.lock().unwrap(), expected);
        gate.open();
        pool.shutdown().await;
    });
}

/// CF-064: but for the log.
#[test]
fn a_callback_that_panics_stops_nothing() {
    // The panics are meant; their noise is not.
    std::panic::set_hook(Box::new(|_| ()));
    let _scene = scene();
    runtime(1).block_on(async {
        let (gate, pool) = (Gate::new(), pool(1, StartMethod::default()));
        let held = pool.submit(pass_42, gate.path());
        let (told, hears) = mpsc::channel();
        held.add_done_callback(|_| panic!("doh!"));
        let tell = told.clone();
        held.add_done_callback(move |result| tell.send(*result.as_ref().unwrap()).unwrap());
        gate.open();
        assert!(soon(PROMPTLY, || held.is_done()).await);
        assert_eq!(hears.recv_timeout(PROMPTLY).unwrap(), 42);
        assert!(soon(PROMPTLY, || held.result().is_some()).await);
        held.add_done_callback(|_| panic!("doh again!"));
        held.add_done_callback(move |_| told.send(43).unwrap());
        assert_eq!(hears.recv_timeout(PROMPTLY).unwrap(), 43);
        assert_eq!(held.await.unwrap(), 42);
        assert_eq!(pool.submit(|n: u32| n, 1).await.unwrap(), 1);
        pool.shutdown().await;
    });
    let _ = std::panic::take_hook();
}

/// CF-084.
#[test]
fn a_callback_can_be_taken_back_until_it_runs() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass_42, gate.path());
        let called = Arc::new(Mutex::new(Vec::new()));
        let ids: Vec<_> = (0..3)
            .map(|number| {
                let called = called.clone();
                held.add_done_callback(move |_| called.lock().unwrap().push(number))
            })
            .collect();
        assert!(held.remove_done_callback(ids[0]));
        assert!(!held.remove_done_callback(ids[0]));
        gate.open();
        let mut held = held;
        (&mut held).await.unwrap();
        assert_eq!(*called.lock().unwrap(), [1, 2]);
        assert!(!held.remove_done_callback(ids[1]));
        assert_eq!(*called.lock().unwrap(), [1, 2]);
        pool.shutdown().await;
    });
}

fn chain(pool: &ProcessPool, count: u32, done: mpsc::Sender<(u32, u32)>, from: u32) {
    let next = pool.clone();
    let handle = pool.submit(|n: u32| n, count);
    handle.add_done_callback(move |result| {
        let count = *result.as_ref().unwrap();
        done.send((from, count)).unwrap();
        if count > 0 {
            chain(&next, count - 1, done, from);
        }
    });
}

/// CF-074.
#[test]
fn callbacks_submit_the_next_task_of_their_chain() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let (done, comes) = mpsc::channel();
        let chains = [100, 50, 60];
        for from in chains {
            chain(&pool, from, done.clone(), from);
        }
        drop(done);
        // On a thread of its own, because the runtime has to go on.
        let all = tokio::task::spawn_blocking(move || comes.iter().collect::<Vec<_>>());
        let all = all.await.unwrap();
        for from in chains {
            let mine: Vec<_> = all
                .iter()
                .filter(|(of, _)| *of == from)
                .map(|(_, n)| *n)
                .collect();
            assert_eq!(mine, (0..=from).rev().collect::<Vec<_>>());
        }
        pool.shutdown().await;
    });
}

/// CF-075.
#[test]
fn dropping_a_handle_detaches_unless_it_was_told_to_abort() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass_42, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let marks = |(gate, text): (String, String)| mark(&gate, &text);
        drop(pool.submit(marks, (gate.path(), "detached".to_owned())));
        drop(
            pool.submit(marks, (gate.path(), "aborted".to_owned()))
                .abort_on_drop(),
        );
        let awaited = pool.submit(marks, (gate.path(), "with its waiter".to_owned()));
        let waiter = tokio::spawn(awaited.abort_on_drop());
        tokio::task::yield_now().await;
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        let (stats, worker) = (pool.stats(), held.worker_pid().unwrap());
        assert_eq!((stats.cancelled, stats.unfinished), (2, 2), "{stats}");
        drop(held.abort_on_drop());
        assert!(soon(PROMPTLY, || !is_alive(worker)).await);
        pool.shutdown().await;
        assert_eq!(gate.marks(), ["detached"]);
    });
}

/// CF-086.
#[test]
fn handles_compose_with_what_futures_has_for_many() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let [held, running, ..] = in_each_state(&pool, &gate).await;
        let failed = pool.submit(fail, String::new());
        assert!(held.cancel());
        let mut all: FuturesUnordered<_> = [held, running, failed].into_iter().collect();
        assert!(all.next().await.unwrap().unwrap_err().is_cancelled());
        let none = tokio::time::timeout(Duration::from_millis(20), all.next()).await;
        assert!(none.is_err(), "the other two are not done");
        gate.open();
        let mut outcomes = Vec::new();
        while let Some(outcome) = all.next().await {
            outcomes.push(outcome.ok());
        }
        assert_eq!(outcomes, [Some(42), None]);
        let gate = Gate::new();
        let (mut slow, mut quick) = (
            pool.submit(pass_42, gate.path()),
            pool.submit(|n: u32| n, 7),
        );
        let first = tokio::select! {
            value = &mut slow => value,
            value = async { gate.open(); (&mut quick).await } => value,
        };
        assert!([42, 7].contains(&first.unwrap()));
        pool.shutdown().await;
    });
}

/// CF-083.
#[test]
fn a_handle_can_be_waited_for_on_any_thread_and_runtime() {
    for threads in [1, 2] {
        let _scene = scene();
        let (here, elsewhere) = (runtime(threads), runtime(threads));
        let gate = Gate::new();
        let pool = {
            let _inside = here.enter();
            pool(1, StartMethod::default())
        };
        let handles: Vec<_> = (0..3).map(|_| pool.submit(pass_42, gate.path())).collect();
        let mut handles = handles.into_iter();
        let [first, mut second, third] = std::array::from_fn(|_| handles.next().unwrap());
        let opens = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            gate.open();
            gate
        });
        // Nobody drives the runtime of one thread meanwhile.
        assert_eq!(elsewhere.block_on(first).unwrap(), 42);
        assert_eq!(second.blocking_wait(None).unwrap(), 42);
        let mut third = third;
        let waits = std::thread::spawn(move || third.blocking_wait(None));
        assert_eq!(waits.join().unwrap().unwrap(), 42);
        opens.join().unwrap();
        elsewhere.block_on(pool.shutdown());
    }
}

/// A wait that blocks its thread.
#[test]
fn a_blocking_wait_ends_in_time_whoever_drives_the_pool() {
    for threads in [0, 1, 2] {
        let _scene = scene();
        let gate = Gate::new();
        let home = (threads > 0).then(|| runtime(threads));
        let pool = {
            let _inside = home.as_ref().map(|home| home.enter());
            pool(1, StartMethod::default())
        };
        let mut held = pool.submit(pass_42, gate.path());
        let limit = Duration::from_millis(60);
        let begun = Instant::now();
        let error = held.blocking_wait(Some(limit)).unwrap_err();
        assert!(error.is_elapsed() && begun.elapsed() >= limit);
        assert!(
            held.blocking_wait(Some(Duration::ZERO))
                .unwrap_err()
                .is_elapsed()
        );
        gate.open();
        assert_eq!(held.blocking_wait(Some(PROMPTLY)).unwrap(), 42);
        for n in 0..20 {
            assert_eq!(pool.submit(|n: u32| n, n).blocking_wait(None).unwrap(), n);
        }
        drop(home);
        if threads > 0 {
            let mut late = pool.submit(|n: u32| n, 1);
            assert!(
                late.blocking_wait(Some(PROMPTLY))
                    .unwrap_err()
                    .is_shut_down()
            );
        }
    }
}

/// A runtime that ends under a wait.
#[test]
fn a_blocking_wait_ends_when_the_runtime_does() {
    for threads in [1, 2] {
        let _scene = scene();
        let gate = Gate::new();
        let home = runtime(threads);
        let pool = {
            let _inside = home.enter();
            pool(1, StartMethod::default())
        };
        let mut held = pool.submit(pass_42, gate.path());
        let waiting = Arc::new(AtomicUsize::new(0));
        let waits = std::thread::spawn({
            let waiting = waiting.clone();
            move || {
                waiting.store(1, Ordering::Relaxed);
                held.blocking_wait(Some(PROMPTLY))
            }
        });
        assert!(support::eventually(PROMPTLY, || waiting
            .load(Ordering::Relaxed)
            == 1));
        drop(home);
        assert!(waits.join().unwrap().unwrap_err().is_shut_down());
        drop(pool);
    }
}
