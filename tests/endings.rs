//! The ends of a pool from every side: several at once, given up half-way, against callers that
//! submit at the same moment, with callers that wait for room, and what is left usable after it.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use deeds::send;
use futures::FutureExt;
use futures::future::join_all;
use gate::{Gate, mark, pass};
use procpool::{
    ProcessPool, Restart, ShutdownOptions, StartMethod, Stats, TaskError, TaskHandle, call,
};
use support::{
    PROMPTLY, builder, children, descendants, everywhere, is_alive, pool, runtime, scene, soon,
};

fn same(n: u32) -> u32 {
    n
}

fn nap(n: u32) -> u32 {
    std::thread::sleep(Duration::from_millis(1));
    n
}

/// Every call that was ever accepted has one end.
fn assert_balanced(stats: &Stats) {
    let ends = stats.completed + stats.failed + stats.cancelled + stats.timed_out + stats.lost;
    assert_eq!((ends, stats.unfinished), (stats.submitted, 0), "{stats}");
    assert!(stats.workers.is_empty(), "{stats}");
}

async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    let once = |context: &mut std::task::Context<'_>| {
        Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())
    };
    std::future::poll_fn(once).await
}

/// CF-018, CF-104: in each way that there is to submit, from wherever.
#[test]
fn after_shutdown_every_way_to_submit_is_refused_and_starts_nothing() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let (task, unpolled) = (pool.task(same), pool.run(same, 1));
        let (call, later) = (
            pool.task_call(call!(same(1))),
            pool.task_call(call!(same(2))),
        );
        pool.shutdown().await;
        let errors = [
            pool.submit(same, 1).await.unwrap_err(),
            pool.submit_call(call!(same(1))).await.unwrap_err(),
            pool.try_submit(same, 1).unwrap_err().into_parts().0,
            pool.run(same, 1).await.unwrap_err(),
            task.submit(1).await.unwrap_err(),
            task.try_submit(1).unwrap_err().into_parts().0,
            task.clone().run(1).await.unwrap_err(),
            call.submit().await.unwrap_err(),
            later.run().await.unwrap_err(),
            unpolled.await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_shut_down() && !error.is_broken(), "{error}");
            assert!(!error.maybe_executed() && !error.is_cancelled());
        }
        let (elsewhere, late) = (pool.clone(), task.clone());
        let thread = std::thread::spawn(move || {
            let first = elsewhere.submit(same, 1).blocking_wait(None);
            (first, late.submit(1).blocking_wait(None))
        });
        let (first, second) = thread.join().unwrap();
        assert!(first.unwrap_err().is_shut_down() && second.unwrap_err().is_shut_down());
        let refused = pool.submit(same, 1);
        assert_eq!(
            (refused.id(), refused.cancel(), refused.abort()),
            (0, false, false)
        );
        assert!(refused.is_done() && !refused.is_running() && refused.worker_pid().is_none());
        assert!(refused.result().unwrap().is_err());
        assert_eq!(pool.stats().workers_started, 0);
        assert_balanced(&pool.stats());
    });
}

/// CF-024: what outlives its pool.
#[test]
fn a_task_that_outlives_its_pool_is_refused_as_shut_down() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (task, run) = (pool.task(same), pool.run(same, 2));
        let accepted = task.submit(1);
        drop(pool);
        assert_eq!(accepted.await.unwrap(), 1);
        assert!(task.submit(1).await.unwrap_err().is_shut_down());
        assert!(run.await.unwrap_err().is_shut_down());
        assert!(soon(PROMPTLY, || children().is_empty()).await);
    });
}

/// CF-030: in any order and number.
#[test]
fn all_ends_at_once_end_all() {
    everywhere(|method| async move {
        for terminated in [false, true] {
            let (gate, pool) = (Gate::new(), pool(2, method));
            let handles: Vec<_> = (0..10).map(|_| pool.submit(pass, gate.path())).collect();
            assert!(soon(PROMPTLY, || pool.stats().running() == 2).await);
            let mut ends = Vec::new();
            for n in 0..12 {
                let pool = pool.clone();
                ends.push(tokio::spawn(async move {
                    match n % 4 {
                        0 => pool.shutdown().await,
                        1 => pool.shutdown_now().await,
                        2 => {
                            pool.close();
                            pool.join().await.unwrap();
                        }
                        _ => {
                            let options = ShutdownOptions::new().timeout(Duration::MAX);
                            pool.shutdown_with(options).await;
                        }
                    }
                }));
            }
            assert!(soon(PROMPTLY, || pool.stats().cancelled == 8).await);
            assert!(ends.iter().all(|end| !end.is_finished()));
            if terminated {
                pool.terminate().await;
            } else {
                gate.open();
            }
            for end in ends {
                end.await.unwrap();
            }
            let outcomes = join_all(handles).await;
            let returned = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(returned, if terminated { 0 } else { 2 });
            assert_balanced(&pool.stats());
            assert!(children().is_empty());
        }
    });
}

/// CF-022: with what waits cancelled.
#[test]
fn an_end_that_nobody_waits_for_comes_all_the_same() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let waiting = pool.submit(same, 1);
        let options = ShutdownOptions::new().cancel_pending(true).wait(false);
        assert!(pool.shutdown_with(options).now_or_never().is_some());
        assert!(waiting.await.unwrap_err().is_cancelled());
        gate.open();
        held.await.unwrap();
        assert!(soon(PROMPTLY, || children().is_empty()).await);
        pool.join().await.unwrap();
        assert_balanced(&pool.stats());
    });
}

#[expect(unsafe_code, reason = "libc alone has code that runs at the exit")]
fn hang_at_exit(n: u32) -> u32 {
    extern "C" fn hang() {
        deeds::hang(());
    }
    // SAFETY: it hangs, and touches nothing.
    assert_eq!(unsafe { libc::atexit(hang) }, 0);
    n
}

/// CF-019, CF-106: a worker that has done everything and does not leave.
#[test]
fn a_worker_that_hangs_at_its_exit_does_not_hold_up_the_end() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit(hang_at_exit, 7).await.unwrap(), 7);
        let (begun, worker) = (Instant::now(), pool.stats().workers[0].pid);
        pool.shutdown().await;
        assert!(begun.elapsed() < Duration::from_secs(5) && !is_alive(worker));
        assert_eq!(pool.stats().lost, 0);
    });
}

/// A future of an end is only the wait for it.
#[test]
fn an_end_that_is_given_up_half_way_goes_on() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let mut shutdown = Box::pin(pool.shutdown());
        assert!(is_pending(&mut shutdown).await);
        drop(shutdown);
        assert!(pool.is_closed() && !held.is_done());
        // Not even polled, and still the end.
        drop(pool.terminate());
        assert!(held.await.unwrap_err().is_shut_down());
        pool.join().await.unwrap();
        assert!(children().is_empty());
        assert_balanced(&pool.stats());
    });
}

/// The limit of a shutdown that nobody waits for.
#[test]
fn the_limit_of_a_shutdown_holds_without_a_waiter() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let limit = Duration::from_millis(30);
        let begun = Instant::now();
        let options = ShutdownOptions::new().timeout(limit).wait(false);
        pool.shutdown_with(options).await;
        drop(pool);
        assert!(held.await.unwrap_err().is_shut_down());
        assert!(begun.elapsed() >= limit);
    });
}

/// CF-051: who waits for room is told as well.
#[test]
fn a_caller_that_waits_for_room_is_told_of_the_end() {
    everywhere(|method| async move {
        for end in ["close", "cancel", "terminate", "drop", "break"] {
            let gate = Gate::new();
            let restart = match end {
                "break" => Restart::Never,
                _ => Restart::default(),
            };
            let pool = builder(1, method)
                .max_pending(0)
                .restart(restart)
                .build()
                .unwrap();
            let held = pool.submit(pass, gate.path());
            assert!(soon(PROMPTLY, || held.is_running()).await);
            let mut runs = [pool.run(same, 1), pool.run(same, 2)].map(Box::pin);
            for run in &mut runs {
                assert!(is_pending(run).await);
            }
            match end {
                "close" => pool.close(),
                "cancel" => {
                    let options = ShutdownOptions::new().cancel_pending(true).wait(false);
                    pool.shutdown_with(options).await;
                }
                "terminate" => drop(pool.terminate()),
                "drop" => {}
                _ => assert!(send(held.worker_pid().unwrap(), libc::SIGKILL)),
            }
            let pool = (end != "drop").then_some(pool);
            for run in runs {
                let error = run.await.unwrap_err();
                assert!(!error.maybe_executed() || end == "break", "{end}: {error}");
                assert_eq!(error.is_shut_down(), end != "break", "{end}: {error}");
                assert_eq!(error.is_broken(), end == "break", "{end}: {error}");
            }
            gate.open();
            let outcome = held.await;
            assert_eq!(
                outcome.is_ok(),
                !["terminate", "break"].contains(&end),
                "{end}"
            );
            drop(pool);
        }
    });
}

/// CF-045.
#[test]
fn terminating_among_many_outstanding_calls_is_prompt_and_fakes_no_result() {
    everywhere(|method| async move {
        let pool = pool(5, method);
        let quick: Vec<_> = (0..100).map(|n| pool.submit(nap, n)).collect();
        let long = |n: u32| {
            std::thread::sleep(Duration::from_secs(60));
            n
        };
        let slow: Vec<_> = (0..100).map(|n| pool.submit(long, n)).collect();
        for (n, handle) in (0..).zip(quick) {
            assert_eq!(handle.await.unwrap(), n);
        }
        let begun = Instant::now();
        pool.terminate().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        for handle in slow {
            assert!(handle.now_or_never().unwrap().unwrap_err().is_shut_down());
        }
        assert_balanced(&pool.stats());
    });
}

/// CF-103: with ten thousand that wait.
#[test]
fn a_long_line_is_cancelled_and_terminated_in_no_time() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(3, method));
        let held: Vec<_> = (0..3).map(|_| pool.submit(pass, gate.path())).collect();
        assert!(soon(PROMPTLY, || pool.stats().running() == 3).await);
        let mut line: Vec<_> = (0..10_000).map(|n| pool.submit(same, n)).collect();
        let begun = Instant::now();
        // The last first, which are the furthest in.
        for handle in line.iter().rev().step_by(2) {
            assert!(handle.cancel());
        }
        assert_eq!(
            (pool.stats().cancelled, pool.stats().unfinished),
            (5_000, 5_003)
        );
        pool.terminate().await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        for (n, handle) in line.drain(..).enumerate() {
            let error = handle.now_or_never().unwrap().unwrap_err();
            assert_eq!(
                (error.is_cancelled(), error.is_shut_down()),
                (n % 2 == 1, n % 2 == 0)
            );
        }
        for handle in held {
            assert!(handle.await.unwrap_err().maybe_executed());
        }
        assert_balanced(&pool.stats());
    });
}

/// Each thread submits until it is refused; how many it submitted, and the handles.
fn submit_until_refused(pool: &ProcessPool, go: &AtomicBool) -> Vec<TaskHandle<u32>> {
    while !go.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    let mut accepted = Vec::new();
    loop {
        match pool.try_submit(same, accepted.len() as u32) {
            Ok(handle) => accepted.push(handle),
            Err(error) => {
                assert!(error.is_shut_down(), "{error}");
                return accepted;
            }
        }
    }
}

/// CF-019, CF-021, CF-051: against callers that submit at the same moment.
#[test]
fn what_was_accepted_while_the_pool_was_closed_has_an_end() {
    everywhere(|method| async move {
        for end in 0..9_u64 {
            let pool = pool(2, method);
            let go = Arc::new(AtomicBool::new(false));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (pool, go) = (pool.clone(), go.clone());
                    std::thread::spawn(move || submit_until_refused(&pool, &go))
                })
                .collect();
            go.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_micros(end * 300)).await;
            match end % 3 {
                0 => pool.close(),
                1 => {
                    let options = ShutdownOptions::new().cancel_pending(true).wait(false);
                    pool.shutdown_with(options).await;
                }
                _ => drop(pool.terminate()),
            }
            let mut accepted = 0;
            for thread in threads {
                for (n, handle) in (0..).zip(thread.join().unwrap()) {
                    accepted += 1;
                    match (end % 3, handle.await) {
                        (_, Ok(value)) => assert_eq!(value, n),
                        (1, Err(error)) => assert!(error.is_cancelled(), "{error}"),
                        (2, Err(error)) => assert!(error.is_shut_down(), "{error}"),
                        (_, Err(error)) => panic!("{error}"),
                    }
                }
            }
            pool.join().await.unwrap();
            assert_eq!(pool.stats().submitted, accepted);
            assert_balanced(&pool.stats());
        }
    });
}

/// CF-021: a call that was cancelled has not run, however close it was to that.
#[test]
fn what_an_end_cancels_never_runs() {
    everywhere(|method| async move {
        for round in 0..10_u64 {
            let (gate, pool) = (Gate::new(), pool(2, method));
            let work = |(gate, n): (String, u32)| mark(&gate, &format!("{n:03}"));
            let handles: Vec<_> = (0..100)
                .map(|n| pool.submit(work, (gate.path(), n)))
                .collect();
            tokio::time::sleep(Duration::from_micros(round * 500)).await;
            pool.shutdown_now().await;
            let outcomes = join_all(handles).await;
            let ran = (0..100).filter(|n| outcomes[*n].is_ok());
            let ran: Vec<_> = ran.map(|n| format!("{n:03}")).collect();
            assert_eq!(gate.marks(), ran);
            assert_balanced(&pool.stats());
        }
    });
}

/// CF-020: pools that come and go.
#[test]
fn pools_that_come_and_go_leave_nothing() {
    for threads in [1, 2] {
        for method in StartMethod::available() {
            let _scene = scene();
            runtime(threads).block_on(async {
                for n in 0..200 {
                    let pool = pool(1 + n % 3, *method);
                    match n % 20 {
                        0 => assert_eq!(pool.submit(same, 7).await.unwrap(), 7),
                        1 => drop(pool.submit(same, 7)),
                        2 => drop(pool.submit(same, 7).abort_on_drop()),
                        3 => pool.ready().await.unwrap(),
                        4 => drop(pool.ready().now_or_never()),
                        _ => {}
                    }
                }
                assert!(soon(PROMPTLY, || descendants(std::process::id()).is_empty()).await);
            });
        }
    }
}

/// CF-031, CF-057: a pool that is broken.
#[test]
fn a_broken_pool_refuses_in_every_way_and_ends_at_once() {
    everywhere(|method| async move {
        let pool = builder(2, method).restart(Restart::Never).build().unwrap();
        pool.ready().await.unwrap();
        let task = pool.task(same);
        assert_eq!(task.submit(1).await.unwrap(), 1);
        // The death of an idle worker is the loss of a worker, too.
        assert!(send(pool.stats().workers[0].pid, libc::SIGTERM));
        assert!(soon(PROMPTLY, || pool.is_closed()).await);
        let errors: [TaskError; 5] = [
            pool.submit(same, 1).await.unwrap_err(),
            pool.try_submit(same, 1).unwrap_err().into_parts().0,
            pool.run(same, 1).await.unwrap_err(),
            task.submit(1).await.unwrap_err(),
            pool.submit_call(call!(same(1))).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_broken() && !error.is_shut_down(), "{error}");
            assert!(error.to_string().contains("SIGTERM"), "{error}");
        }
        assert!(pool.ready().await.is_err());
        assert!(soon(PROMPTLY, || children().is_empty()).await);
        let begun = Instant::now();
        pool.shutdown().await;
        pool.terminate().await;
        pool.join().await.unwrap();
        assert!(begun.elapsed() < PROMPTLY);
        assert_balanced(&pool.stats());
    });
}

/// CF-075: what is over cannot be ended by dropping its handle.
#[test]
fn a_handle_that_aborts_on_drop_spares_the_worker_of_a_finished_task() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let own_pid: fn(()) -> u32 = |()| std::process::id();
        let worker = pool.submit(own_pid, ()).await.unwrap();
        for _ in 0..20 {
            let handle = pool.submit(same, 1).abort_on_drop();
            assert!(soon(PROMPTLY, || handle.is_done()).await);
            drop(handle);
            assert_eq!(pool.submit(same, 2).abort_on_drop().await.unwrap(), 2);
        }
        assert_eq!(pool.submit(own_pid, ()).await.unwrap(), worker);
        assert!(is_alive(worker));
        assert_eq!(pool.stats().cancelled, 0);
        pool.shutdown().await;
    });
}
