//! How async tasks end: by themselves, by their callers and limits, with their worker and with their
//! pool; and what that costs those beside them.

#[path = "support/asleep.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod asleep;
#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::future::pending;
use std::time::Duration;

use asleep::{add_one, hog, marked, nap, never, pass, stay, until};
use deeds::{Misdeed, commit, send};
use gate::{Gate, mark};
use procpool::{Retry, ShutdownOptions};
use support::{builder, everywhere, pool};

/// Marks that it is there, and that it is dropped.
async fn stay_until_dropped((gate, name): (String, String)) {
    struct Last(String, String);
    impl Drop for Last {
        fn drop(&mut self) {
            mark(&self.0, &format!("{} dropped", self.1));
        }
    }
    let _last = Last(gate.clone(), name.clone());
    mark(&gate, &name);
    pending().await
}

#[test]
fn a_panic_costs_the_task_alone() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let beside = pool.submit_async(nap, 30);
        let panics = |n: u64| async move {
            tokio::task::yield_now().await;
            assert_eq!(n, 0, "boom");
        };
        let error = pool.submit_async(panics, 7).await.unwrap_err();
        let panic = error.panic().unwrap();
        assert!(panic.message().contains("boom"), "{panic}");
        assert!(
            panic
                .location()
                .is_some_and(|at| at.contains("async_endings.rs")),
            "{panic}"
        );
        let at_once = |_: ()| -> std::future::Ready<()> { panic!("before there is a future") };
        let error = pool.submit_async(at_once, ()).await.unwrap_err();
        assert!(
            error.to_string().contains("before there is a future"),
            "{error}"
        );
        beside.await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[test]
fn an_abort_drops_the_task_where_it_is_and_spares_its_neighbours() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let gate = Gate::new();
        let one = pool.submit_async(stay_until_dropped, (gate.path(), "one".to_owned()));
        let beside = pool.submit_async(nap, 50);
        until(|| gate.marks().contains(&"one".to_owned())).await;
        assert!(one.is_running());
        assert!(!one.cancel(), "it has been begun");
        assert!(one.abort());
        let error = one.await.unwrap_err();
        assert!(error.is_aborted() && error.maybe_executed(), "{error}");
        until(|| gate.marks().contains(&"one dropped".to_owned())).await;
        beside.await.unwrap();
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

#[test]
fn time_limits_count_from_the_start_and_end_the_task_alone() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let limited = pool.task_async(never).timeout(Duration::from_millis(40));
        let (one, two, beside) = (
            limited.submit(()),
            limited.submit(()),
            pool.submit_async(nap, 5),
        );
        for task in [one, two] {
            let error = task.await.unwrap_err();
            assert!(error.is_timeout() && error.maybe_executed(), "{error}");
        }
        beside.await.unwrap();
        let late = pool
            .task_async(nap)
            .deadline(Duration::from_millis(30))
            .submit(3_600_000);
        assert!(late.await.unwrap_err().is_timeout());
        assert_eq!(pool.stats().workers_started, 1);

        // What waits for its start is never begun.
        let gate = Gate::new();
        let full: Vec<_> = (0..2)
            .map(|_| pool.submit_async(stay, gate.path()))
            .collect();
        marked(&gate, 2).await;
        let waits = pool
            .task_async(nap)
            .queue_timeout(Duration::from_millis(20))
            .submit(0);
        let error = waits.await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        full.iter().for_each(|task| assert!(task.abort()));
        assert_eq!(pool.submit_async(add_one, 1).await.unwrap(), 2);
        pool.shutdown().await;
    });
}

#[test]
fn who_does_not_yield_is_killed_and_named_to_those_that_it_takes_with_it() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let gate = Gate::new();
        let beside = pool.submit_async(stay, gate.path());
        marked(&gate, 1).await;
        let hog = pool.task_async(hog).name("greedy").submit(gate.path());
        let id = hog.id();
        until(|| gate.marks().contains(&"hog".to_owned())).await;
        let pid = hog.worker_pid().unwrap();
        // Not begun, so not harmed.
        let later = pool.submit_async(nap, 0);
        assert!(hog.abort());
        assert!(hog.await.unwrap_err().is_aborted());
        let error = beside.await.unwrap_err();
        let exit = error.worker_exit().unwrap();
        assert_eq!(exit.pid(), pid);
        assert_eq!(
            exit.culprit(),
            Some(&*format!("task {id} (greedy)")),
            "{exit}"
        );
        assert!(exit.ran_for().is_some() && exit.violation().is_none());
        assert!(error.to_string().contains("greedy"), "{error:#}");
        assert_ne!(later.await.unwrap(), pid);
        pool.shutdown().await;
    });
}

#[test]
fn a_crash_costs_those_that_were_running_and_no_others() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(3).build().unwrap();
        let gate = Gate::new();
        let crash = |gate: String| async move {
            pass(gate).await;
            commit(Misdeed::Abort);
        };
        let beside = pool.submit_async(stay, gate.path());
        let crash = pool.submit_async(crash, gate.path());
        let done = pool.submit_async(add_one, 1);
        assert_eq!(done.await.unwrap(), 2);
        marked(&gate, 1).await;
        let third = pool.submit_async(stay, gate.path());
        marked(&gate, 2).await;
        let waits = pool.submit_async(add_one, 2);
        gate.open();
        for task in [beside, crash, third] {
            let error = task.await.unwrap_err();
            assert_eq!(
                error.worker_exit().unwrap().exit().signal(),
                Some(libc::SIGABRT)
            );
        }
        assert_eq!(waits.await.unwrap(), 3);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_may_be_repeated_survives_its_worker() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let dies = |last: u32| async move {
            tokio::task::yield_now().await;
            let attempt = procpool::task::current().unwrap().attempt();
            if attempt < last {
                commit(Misdeed::Abort);
            }
            attempt
        };
        assert_eq!(pool.task_async(dies).retry(3).submit(3).await.unwrap(), 3);
        let error = pool.task_async(dies).retry(1).submit(9).await.unwrap_err();
        assert!(error.is_worker_lost());
        assert_eq!((error.attempts(), error.history().len()), (2, 1));
        let panics = |last: u32| async move {
            let attempt = procpool::task::current().unwrap().attempt();
            assert!(attempt >= last, "too early");
            attempt
        };
        let retry = Retry::new(2).on_panic(true);
        assert_eq!(
            pool.task_async(panics)
                .retry(retry)
                .submit(3)
                .await
                .unwrap(),
            3
        );
        pool.shutdown().await;
    });
}

#[test]
fn a_shutdown_waits_for_async_tasks_and_takes_in_those_that_wait() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let tasks: Vec<_> = (0..20).map(|_| pool.submit_async(nap, 3)).collect();
        pool.shutdown().await;
        assert!(tasks.iter().all(|task| task.is_done()));
        for task in tasks {
            task.await.unwrap();
        }
        let refused = pool.submit_async(nap, 0).await.unwrap_err();
        assert!(refused.is_shut_down() && !refused.maybe_executed());
    });
}

#[test]
fn a_shutdown_that_cancels_drops_what_waits_and_lets_the_rest_finish() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let gate = Gate::new();
        let finish = |gate: String| async move {
            mark(&gate, &procpool::task::current().unwrap().id().to_string());
            pass(gate).await;
        };
        let run: Vec<_> = (0..2)
            .map(|_| pool.submit_async(finish, gate.path()))
            .collect();
        marked(&gate, 2).await;
        let wait: Vec<_> = (0..10).map(|_| pool.submit_async(nap, 0)).collect();
        let ending = pool.shutdown_with(ShutdownOptions::new().cancel_pending(true).wait(false));
        ending.await;
        for task in wait {
            let error = task.await.unwrap_err();
            assert!(error.is_cancelled() && !error.maybe_executed(), "{error}");
        }
        gate.open();
        for task in run {
            task.await.unwrap();
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_termination_ends_all_at_once() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_async_per_worker(2).build().unwrap();
        let gate = Gate::new();
        let tasks: Vec<_> = (0..5)
            .map(|_| pool.submit_async(stay, gate.path()))
            .collect();
        marked(&gate, 2).await;
        pool.terminate().await;
        let mut begun = 0;
        for task in tasks {
            let error = task.await.unwrap_err();
            assert!(error.is_shut_down(), "{error}");
            begun += usize::from(error.maybe_executed());
        }
        assert_eq!(begun, 2);
    });
}

#[test]
fn workers_killed_from_outside_cost_no_task_twice() {
    everywhere(|method| async move {
        let pool = builder(1, method).workers(2).build().unwrap();
        let gate = Gate::new();
        let once = |(gate, n): (String, u64)| async move {
            // Fails where there is such a file already.
            mark(&gate, &format!("run {n}"));
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
            n
        };
        let tasks: Vec<_> = (0..400)
            .map(|n| pool.submit_async(once, (gate.path(), n)))
            .collect();
        let (mut lost, mut kills) = (0, 0);
        for (n, task) in tasks.into_iter().enumerate() {
            if n % 50 == 20 {
                if let Some(worker) = pool.stats().workers.first() {
                    kills += u32::from(send(worker.pid, libc::SIGKILL));
                }
            }
            match task.await {
                Ok(result) => assert_eq!(result, n as u64),
                Err(error) => {
                    assert!(error.is_worker_lost(), "{error}");
                    lost += 1;
                }
            }
        }
        assert!(
            kills > 0 && lost <= kills * 64,
            "{lost} lost by {kills} kills"
        );
        pool.shutdown().await;
    });
}
