//! Items of a map that are run again when they fail: each has attempts of its own.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::time::{Duration, Instant};

use deeds::{Misdeed, commit, hang};
use futures::stream::StreamExt;
use gate::{Gate, mark};
use procpool::{ProcessPool, Restart, Retry, ShutdownOptions, TaskError};
use support::{PROMPTLY, builder, everywhere, pool, soon};

const LIMIT: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3600);

/// Marks each attempt of an item, and does what that one is to do: `p`anic, `d`ie, `h`ang, or
/// succeed.
fn act((gate, item, script): (String, usize, String)) -> usize {
    let attempt = procpool::task::current().unwrap().attempt();
    mark(&gate, &format!("{item}-{attempt}"));
    match script.as_bytes().get(attempt as usize - 1) {
        Some(b'p') => panic!("attempt {attempt}"),
        Some(b'd') => commit(Misdeed::Exit(attempt as i32)),
        Some(b'h') => hang(()),
        _ => {}
    }
    item
}

fn items(gate: &Gate, scripts: &[&str]) -> Vec<(String, usize, String)> {
    let item = |(item, script): (usize, &&str)| (gate.path(), item, script.to_string());
    scripts.iter().enumerate().map(item).collect()
}

/// What each item should have left, if each made so many attempts.
fn marks(attempts: &[u32]) -> Vec<String> {
    let all = attempts.iter().enumerate();
    let mut all: Vec<_> = all
        .flat_map(|(item, attempts)| (1..=*attempts).map(move |n| format!("{item}-{n}")))
        .collect();
    all.sort();
    all
}

const ALL: fn(u32) -> Retry = |times| Retry::new(times).on_panic(true).on_timeout(true);

/// CF-033, CF-094, CF-096.
#[test]
fn each_item_has_its_own_attempts_and_the_order_stays() {
    everywhere(|method| async move {
        for chunk_size in [1, 3, 100] {
            let (gate, pool) = (Gate::new(), pool(2, method));
            let scripts = ["", "d", "pd", "", "dddd", "", "p", ""];
            let task = pool.task(act).retry(ALL(2)).chunk_size(chunk_size);
            let results: Vec<_> = task.map(items(&gate, &scripts)).collect().await;
            for (item, result) in results.iter().enumerate() {
                match result {
                    Ok(value) => assert_eq!(*value, item),
                    Err(error) => {
                        assert!(item == 4 && error.is_worker_lost(), "{item}: {error:#}");
                        let code = |error: &TaskError| error.worker_exit()?.exit().code();
                        let history: Vec<_> = error.history().iter().map(code).collect();
                        assert_eq!((history, code(error)), (vec![Some(1), Some(2)], Some(3)));
                        assert_eq!(error.attempts(), 3);
                    }
                }
            }
            assert_eq!(results.len(), scripts.len());
            assert_eq!(gate.marks(), marks(&[1, 2, 3, 1, 3, 1, 2, 1]));
            let stats = pool.stats();
            assert_eq!((stats.submitted, stats.completed), (8, 7), "{stats}");
            assert_eq!(
                (stats.lost, stats.failed, stats.retried),
                (1, 0, 6),
                "{stats}"
            );
            pool.shutdown().await;
        }
    });
}

/// CF-035.
#[test]
fn only_what_was_allowed_is_repeated() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let map = pool.task(act).retry(5).chunk_size(4);
        let results: Vec<_> = map.map(items(&gate, &["p", "d", ""])).collect().await;
        assert!(results[0].as_ref().unwrap_err().is_panic());
        assert!(results[1].is_ok() && results[2].is_ok());
        assert_eq!(gate.marks(), marks(&[1, 2, 1]));
        let gate = Gate::new();
        let hangs = pool.task(act).retry(5).timeout(4 * LIMIT);
        let results: Vec<_> = hangs.map(items(&gate, &["h"])).collect().await;
        assert!(results[0].as_ref().unwrap_err().is_timeout());
        assert_eq!(gate.marks(), marks(&[1]));
        let unordered = pool.task(act).chunk_size(4);
        let gate = Gate::new();
        let results: Vec<_> = unordered
            .map_unordered(items(&gate, &["d", ""]))
            .collect()
            .await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(gate.marks(), marks(&[1, 1]), "nobody has allowed anything");
        pool.shutdown().await;
    });
}

#[test]
fn what_pauses_keeps_nobody_waiting() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let pause = 6 * LIMIT;
        let begun = Instant::now();
        let task = pool.task(act).retry(ALL(1).backoff(pause, pause));
        let mut map = task.map_unordered(items(&gate, &["p", "", ""])).enumerate();
        for _ in 0..2 {
            let (item, result) = map.next().await.unwrap();
            assert!(item > 0 && result.is_ok());
        }
        assert_eq!(pool.submit(|n: u32| n, 7).await.unwrap(), 7);
        pool.close();
        assert!(
            matches!(map.next().await, Some((0, Ok(0)))),
            "it was accepted"
        );
        assert!(begun.elapsed() >= pause);
        assert!(map.next().await.is_none());
        pool.join().await.unwrap();
        assert_eq!(gate.marks(), marks(&[2, 1, 1]));
    });
}

/// CF-066: what waits for its next attempt is ended like what waits.
#[test]
fn the_end_of_everything_does_not_wait_for_a_pause() {
    everywhere(|method| async move {
        let pausing = async |pool: &ProcessPool| {
            assert!(soon(PROMPTLY, || pool.stats().retried == 1).await);
        };
        let retry = ALL(3).backoff(HOUR, HOUR);
        let gate = Gate::new();
        let ends = |pool: &ProcessPool| {
            let task = pool.task(act).retry(retry);
            task.map(items(&gate, &["d"]))
        };

        let pool_1 = pool(2, method);
        let mut map = ends(&pool_1);
        pausing(&pool_1).await;
        pool_1.terminate().await;
        let error = map.next().await.unwrap().unwrap_err();
        assert!(
            error.is_shut_down() && error.history()[0].is_worker_lost(),
            "{error:#}"
        );
        assert!(error.maybe_executed() && error.attempts() == 1);

        let pool_2 = pool(2, method);
        let mut map = ends(&pool_2);
        pausing(&pool_2).await;
        pool_2.close();
        let drop_all = ShutdownOptions::new().cancel_pending(true);
        pool_2.shutdown_with(drop_all).await;
        let error = map.next().await.unwrap().unwrap_err();
        assert!(error.is_cancelled() && error.attempts() == 1, "{error:#}");

        let pool_3 = pool(2, method);
        pool_3.ready().await.unwrap();
        let late = pool_3.task(act).retry(retry).deadline(20 * LIMIT);
        let error = late.map(items(&gate, &["d"])).next().await.unwrap();
        let error = error.unwrap_err();
        assert!(
            error.is_timeout() && error.history()[0].is_worker_lost(),
            "{error:#}"
        );

        // Nobody reads it any more.
        let map = ends(&pool_3);
        assert!(soon(PROMPTLY, || pool_3.stats().retried == 2).await);
        drop(map);
        pool_3.shutdown().await;
        assert_eq!(gate.marks(), ["0-1"], "no second attempt was made");
    });
}

/// CF-021: what is dropped is not begun again.
#[test]
fn a_pool_that_breaks_at_its_first_loss_repeats_nothing() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(2, method).restart(Restart::Never).build().unwrap();
        let map = pool.task(act).retry(ALL(9)).map(items(&gate, &["d"]));
        let results: Vec<_> = map.collect().await;
        let error = results.into_iter().next().unwrap().unwrap_err();
        assert!(error.is_broken() && error.history().is_empty(), "{error:#}");
        assert_eq!(gate.marks(), ["0-1"]);
        pool.shutdown().await;
    });
}

/// CF-049: a run that may come to its end by itself is waited for before the next begins.
#[test]
fn two_runs_of_an_item_are_never_under_way_at_once() {
    fn slow((gate, item): (String, usize)) -> usize {
        let task = procpool::task::current().unwrap();
        mark(&gate, &format!("{item}-{}-begins", task.attempt()));
        if item == 1 && task.attempt() == 1 {
            while !task.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(LIMIT);
            let second = std::path::Path::new(&gate).join("mark-1-2-begins");
            mark(&gate, &format!("1-1-ends-{}", second.exists()));
        }
        item
    }
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(2, method).abort_grace(PROMPTLY).build().unwrap();
        pool.ready().await.unwrap();
        let retry = Retry::new(1).on_timeout(true);
        let task = pool
            .task(slow)
            .timeout(5 * LIMIT)
            .retry(retry)
            .chunk_size(3);
        let results: Vec<_> = task
            .map((0..3).map(|item| (gate.path(), item)))
            .collect()
            .await;
        for (item, result) in results.into_iter().enumerate() {
            assert_eq!(result.unwrap(), item);
        }
        let marks = [
            "0-1-begins",
            "1-1-begins",
            "1-1-ends-false",
            "1-2-begins",
            "2-1-begins",
        ];
        assert_eq!(gate.marks(), marks);
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}
