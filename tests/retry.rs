//! Tasks that are run again when they fail: which failures are repeated, what the task and the
//! handle see of it, and what ends it.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::time::{Duration, Instant};

use deeds::{Misdeed, commit, hang, send};
use gate::{Gate, mark, pass};
use procpool::{Restart, Retry, TaskError, call};
use support::{PROMPTLY, builder, everywhere, pool, soon};

const LIMIT: Duration = Duration::from_millis(50);

fn attempt() -> u32 {
    procpool::task::current().unwrap().attempt()
}

/// Kills its worker until the attempt of that number.
fn dies_before(last: u32) -> u32 {
    if attempt() < last {
        commit(Misdeed::Abort);
    }
    attempt()
}

/// Marks each attempt, and does what that one is to do: `p`anic, `d`ie, `h`ang, or succeed.
fn act((gate, script): (String, String)) -> String {
    mark(&gate, &attempt().to_string());
    match script.as_bytes().get(attempt() as usize - 1) {
        Some(b'p') => panic!("attempt {}", attempt()),
        Some(b'd') => commit(Misdeed::Exit(attempt() as i32)),
        Some(b'h') => hang(()),
        _ => {}
    }
    script
}

/// CF-033: with a loss that is repeated.
#[test]
fn a_task_that_is_lost_with_its_worker_is_run_again() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = pool.task(dies_before).retry(5);
        assert_eq!(task.submit(3).await.unwrap(), 3);
        let task = pool.task_call(call!(dies_before(2))).retry(1);
        assert_eq!(task.run().await.unwrap(), 2);
        assert_eq!(
            pool.task(dies_before)
                .retry(1)
                .try_submit(1)
                .unwrap()
                .await
                .unwrap(),
            1
        );
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed, stats.lost), (3, 3, 0));
        assert_eq!((stats.retried, stats.workers_ended), (3, 3));
        pool.shutdown().await;
    });
}

#[test]
fn a_poison_task_is_given_up_and_says_how_each_attempt_ended() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let poison = pool.task(act).retry(2);
        let error = poison
            .submit((gate.path(), "dddd".to_owned()))
            .await
            .unwrap_err();
        assert!(error.is_worker_lost() && error.maybe_executed());
        assert_eq!(
            (error.attempts(), gate.marks()),
            (3, vec!["1".to_owned(), "2".to_owned(), "3".to_owned()])
        );
        let code = |error: &TaskError| error.worker_exit().unwrap().exit().code().unwrap();
        assert_eq!(code(&error), 3);
        assert_eq!(error.history().iter().map(code).collect::<Vec<_>>(), [1, 2]);
        assert!(error.history().iter().all(|error| error.attempts() == 1));
        let text = "worker died while it ran the task, after 2 failed attempts: exit code 3";
        assert_eq!(error.to_string(), text);
        assert!(
            format!("{error:#}").contains("after 2 failed attempts: worker "),
            "{error:#}"
        );
        assert_eq!(pool.submit(|n: u32| n, 7).await.unwrap(), 7);
        pool.shutdown().await;
    });
}

/// CF-033, CF-035: nothing is repeated that nobody has allowed to be.
#[test]
fn only_what_was_allowed_is_repeated() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let panics = Retry::new(3).on_panic(true);
        let hangs = Retry::new(3).on_timeout(true);
        let all = panics.on_timeout(true);
        let cases = [
            (Retry::new(0).on_panic(true).on_timeout(true), "d", 1),
            (Retry::new(3), "p", 1),
            (Retry::new(3), "h", 1),
            (Retry::new(3), "dp", 2),
            (panics, "h", 1),
            (panics, "pdpp", 4),
            (hangs, "p", 1),
            (all, "pppp", 4),
        ];
        for (retry, script, attempts) in cases {
            let gate = Gate::new();
            let mut task = pool.task(act).retry(retry);
            // A panic may take its time, to find out where it comes from.
            if script.contains('h') {
                task = task.timeout(LIMIT);
            }
            let error = task.submit((gate.path(), script.to_owned())).await;
            let error = error.unwrap_err();
            assert_eq!(error.attempts(), attempts, "{script}: {error}");
            assert_eq!(gate.marks().len(), attempts as usize, "{script}: {error}");
        }
        let (gate, script) = (Gate::new(), "hdh".to_owned());
        let task = pool.task(act).timeout(2 * LIMIT).retry(hangs);
        assert_eq!(
            task.run((gate.path(), script.clone())).await.unwrap(),
            script
        );
        pool.shutdown().await;
    });
}

/// CF-073: an `Err` of the task's own is its value, however often it may be run.
#[test]
fn what_the_task_returns_is_its_result_and_never_repeated() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let fails = |gate: String| -> Result<(), String> {
            mark(&gate, &attempt().to_string());
            Err("no".to_owned())
        };
        let retry = Retry::new(3).on_panic(true).on_timeout(true);
        let outcome = pool.task(fails).retry(retry).submit(gate.path()).await;
        assert_eq!(outcome.unwrap(), Err("no".to_owned()));
        assert_eq!(gate.marks(), ["1"]);
        pool.shutdown().await;
    });
}

#[test]
fn the_worker_is_free_during_the_pause_before_the_next_attempt() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let pause = 3 * LIMIT;
        let panics_once = |_: ()| {
            assert!(attempt() > 1, "not yet");
        };
        let begun = Instant::now();
        let retry = Retry::new(1).backoff(pause, pause).on_panic(true);
        let pauses = pool.task(panics_once).retry(retry).submit(());
        assert!(soon(PROMPTLY, || pool.stats().retried == 1).await);
        assert!(!pauses.is_done() && !pauses.is_running());
        assert_eq!(pool.submit(|n: u32| n, 7).await.unwrap(), 7);
        pauses.await.unwrap();
        assert!(begun.elapsed() >= pause);
        assert_eq!(pool.stats().workers_started, 1);
        pool.shutdown().await;
    });
}

/// CF-066: a task that waits for its next attempt is not running.
#[test]
fn what_pauses_is_cancelled_aborted_and_ended_like_what_waits() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let hour = Duration::from_secs(3600);
        let task = pool.task(|_: ()| commit(Misdeed::Abort));
        let task = task.retry(Retry::new(9).backoff(hour, hour));
        let pausing = async |lost| soon(PROMPTLY, || pool.stats().retried == lost).await;

        let cancelled = task.submit(());
        assert!(pausing(1).await && cancelled.cancel());
        let error = cancelled.await.unwrap_err();
        assert!(error.is_cancelled() && !error.is_aborted() && error.maybe_executed());
        assert_eq!((error.attempts(), error.history().len()), (1, 1));

        let aborted = task.submit(());
        assert!(pausing(2).await && aborted.abort());
        assert!(aborted.await.unwrap_err().is_aborted());

        let late = task.clone().deadline(10 * LIMIT).submit(());
        let error = late.await.unwrap_err();
        assert!(error.is_timeout() && error.history()[0].is_worker_lost());
        let text = error.to_string();
        assert!(
            text.starts_with("task was not started again within"),
            "{text}"
        );

        let left = task.submit(());
        assert!(pausing(4).await);
        pool.terminate().await;
        assert!(left.await.unwrap_err().is_shut_down());
    });
}

/// CF-019: what is in is finished, its repetitions included.
#[test]
fn a_pool_that_shuts_down_waits_for_what_is_run_again() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let retry = Retry::new(2).backoff(LIMIT, LIMIT);
        let handle = pool.task(dies_before).retry(retry).submit(3);
        pool.shutdown().await;
        assert!(handle.is_done());
        assert_eq!(handle.await.unwrap(), 3);
    });
}

/// CF-021: what is dropped is not begun again.
#[test]
fn a_pool_that_drops_what_waits_repeats_nothing() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let task = pool.task(|gate: String| {
            mark(&gate, &attempt().to_string());
            pass(gate);
        });
        let handle = task.retry(9).submit(gate.path());
        assert!(soon(PROMPTLY, || gate.marks().len() == 1).await);
        let pid = handle.worker_pid().unwrap();
        let ending = pool.clone();
        let over = tokio::spawn(async move { ending.shutdown_now().await });
        assert!(soon(PROMPTLY, || pool.try_submit(|n: u32| n, 1).is_err()).await);
        send(pid, libc::SIGKILL);
        over.await.unwrap();
        let error = handle.await.unwrap_err();
        assert!(error.is_worker_lost(), "{error}");
        assert_eq!((error.attempts(), gate.marks()), (1, vec!["1".to_owned()]));
    });
}

#[test]
fn a_pool_that_breaks_at_its_first_loss_repeats_nothing() {
    everywhere(|method| async move {
        let pool = builder(1, method).restart(Restart::Never).build().unwrap();
        let error = pool.task(dies_before).retry(9).submit(5).await.unwrap_err();
        assert!(error.is_broken() && error.history().is_empty());
        pool.shutdown().await;
    });
}

/// CF-049: a run that may come to its end by itself is waited for before the next begins.
#[test]
fn two_runs_of_a_task_are_never_under_way_at_once() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let builder = builder(1, method).workers(2).abort_grace(PROMPTLY);
        let pool = builder.build().unwrap();
        pool.ready().await.unwrap();
        let slow = |gate: String| {
            let task = procpool::task::current().unwrap();
            mark(&gate, &format!("{}-begins", task.attempt()));
            if task.attempt() == 1 {
                while !task.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(LIMIT);
                let others = std::fs::read_dir(&gate).unwrap().count();
                mark(&gate, &format!("1-ends-among-{others}"));
            }
        };
        let retry = Retry::new(1).on_timeout(true);
        let task = pool.task(slow).timeout(5 * LIMIT).retry(retry);
        task.submit(gate.path()).await.unwrap();
        let marks = ["1-begins", "1-ends-among-1", "2-begins"];
        assert_eq!(gate.marks(), marks);
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}
