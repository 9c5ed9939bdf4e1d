//! What happens at the same moment: ends and limits, aborts and results, kills and calls. Every
//! call has exactly one outcome, none runs twice, and a kill costs what was running and no more.
//!
//! Each race is run some hundred times, and as a test that is left out some ten thousand times.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deeds::{Scratch, own_pid, send};
use futures::StreamExt;
use futures::future::join_all;
use procpool::{ProcessPool, StartMethod, TaskError, TaskHandle};
use support::{PROMPTLY, pool, runtime, scene, soon};

/// Numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// As a task: computes for so many microseconds, and returns its number.
fn work((number, micros): (u64, u64)) -> u64 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
    number
}

/// As a task: leaves a trace of its run, then works.
fn leave_a_trace((path, number, micros): (String, u64, u64)) -> u64 {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    // One write of a few bytes to the end of a file is whole or not there.
    file.write_all(&number.to_ne_bytes()).unwrap();
    work((number, micros))
}

/// How often each of the calls has left its trace.
fn traces(path: &str, calls: u64) -> Vec<u32> {
    let mut counts = vec![0; calls as usize];
    for number in std::fs::read(path).unwrap().chunks(8) {
        counts[u64::from_ne_bytes(number.try_into().unwrap()) as usize] += 1;
    }
    counts
}

async fn work_async(number: u64) -> u64 {
    tokio::task::yield_now().await;
    number
}

fn race_limits(method: StartMethod, calls: u64) {
    const LIMIT: Duration = Duration::from_micros(1_500);
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(2, method);
        pool.submit(own_pid, ()).await.unwrap();
        let outcomes = Arc::new(AtomicU64::new(0));
        let task = pool.task(work).timeout(LIMIT);
        let (mut returned, mut ended) = (0, 0);
        for batch in 0..calls.div_ceil(100) {
            let handles: Vec<_> = (batch * 100..calls.min(batch * 100 + 100))
                .map(|number| {
                    let handle = task.submit((number, LIMIT.as_micros() as u64));
                    let outcomes = outcomes.clone();
                    handle.add_done_callback(move |_| {
                        outcomes.fetch_add(1, Ordering::Relaxed);
                    });
                    (number, handle)
                })
                .collect();
            for (number, handle) in handles {
                match handle.await {
                    Ok(value) => {
                        assert_eq!(value, number);
                        returned += 1;
                    }
                    Err(error) => {
                        assert!(error.is_timeout() && error.maybe_executed(), "{error}");
                        ended += 1;
                    }
                }
            }
        }
        eprintln!("{method}: {returned} returned, {ended} were ended");
        assert!(soon(PROMPTLY, || outcomes.load(Ordering::Relaxed) == calls).await);
        let stats = pool.stats();
        assert_eq!((stats.timed_out, stats.lost), (ended, 0));
        for number in 0..100 {
            assert_eq!(pool.submit(work, (number, 0)).await.unwrap(), number);
        }
        pool.shutdown().await;
    });
}

/// Row 36.
#[test]
fn a_call_that_runs_as_long_as_it_may_has_one_outcome() {
    race_limits(StartMethod::ForkServer, 2_000);
    race_limits(StartMethod::Spawn, 500);
}

/// Row 36.
#[test]
#[ignore = "takes minutes"]
fn a_call_that_runs_as_long_as_it_may_has_one_outcome_a_hundred_thousand_times() {
    race_limits(StartMethod::ForkServer, 80_000);
    race_limits(StartMethod::Spawn, 20_000);
}

fn race_aborts(method: StartMethod, calls: u64) {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(2, method);
        let mut dice = Dice(7);
        let mut aborted = 0;
        for number in 0..calls {
            let handle = pool.submit(work, (number, 200));
            // Sent ahead of the one that is aborted, or behind it.
            let neighbour = pool.submit(work, (number, dice.roll(300)));
            work((0, dice.roll(500)));
            if dice.roll(2) == 0 {
                tokio::task::yield_now().await;
            }
            let has_aborted = handle.abort();
            match handle.await {
                Ok(value) => assert!(!has_aborted && value == number),
                Err(error) => assert!(has_aborted && error.is_aborted(), "{error}"),
            }
            aborted += u64::from(has_aborted);
            assert_eq!(neighbour.await.unwrap(), number);
        }
        eprintln!("{method}: {aborted} of {calls} were aborted");
        assert_eq!(pool.stats().cancelled, aborted);
        pool.shutdown().await;
    });
}

/// Row 36.
#[test]
fn an_abort_at_the_end_of_a_call_is_told_exactly_and_costs_no_other() {
    race_aborts(StartMethod::ForkServer, 1_000);
    race_aborts(StartMethod::Spawn, 300);
}

/// Row 36.
#[test]
#[ignore = "takes minutes"]
fn an_abort_at_the_end_of_a_call_is_told_exactly_thirty_thousand_times() {
    race_aborts(StartMethod::ForkServer, 25_000);
    race_aborts(StartMethod::Spawn, 5_000);
}

/// Kills random workers, about every `pause` microseconds, until `kills` have been killed.
fn kill_at_random(pool: &ProcessPool, kills: u64, pause: u64, stop: &AtomicBool) -> u64 {
    let mut dice = Dice(0x9e37_79b9);
    let mut killed = 0;
    while killed < kills && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(dice.roll(2 * pause)));
        let workers = pool.stats().workers;
        if workers.is_empty() {
            continue;
        }
        let victim = &workers[dice.roll(workers.len() as u64) as usize];
        killed += u64::from(send(victim.pid, libc::SIGKILL));
    }
    killed
}

fn race_kills(method: StartMethod, kills: u64, micros: u64) {
    let _scene = scene();
    let scratch = Scratch::new();
    let path = scratch.at("traces");
    std::fs::write(&path, []).unwrap();
    runtime(2).block_on(async {
        let pool = pool(3, method);
        pool.ready().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let killer = std::thread::spawn({
            let (pool, stop) = (pool.clone(), stop.clone());
            move || kill_at_random(&pool, kills, 3_000, &stop)
        });
        let mut dice = Dice(3);
        let (mut calls, mut lost) = (0, Vec::new());
        let mut kept = Vec::new();
        while !killer.is_finished() {
            let handles: Vec<(u64, TaskHandle<u64>)> = (calls..calls + 200)
                .map(|number| {
                    let argument = (path.clone(), number, dice.roll(micros + 1));
                    (number, pool.submit(leave_a_trace, argument))
                })
                .collect();
            calls += 200;
            for (number, handle) in handles {
                match handle.await {
                    Ok(value) => {
                        assert_eq!(value, number);
                        kept.push(number);
                    }
                    Err(error) => {
                        assert_killed(&error);
                        lost.push(number);
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let killed = killer.join().unwrap();
        eprintln!(
            "{method}: {killed} kills cost {} of {calls} calls",
            lost.len()
        );
        // Each death costs the one call that was running, or none.
        assert!(killed >= kills && lost.len() as u64 <= killed);
        assert_eq!(pool.stats().lost, lost.len() as u64);
        let counts = traces(&path, calls);
        for number in kept {
            assert_eq!(counts[number as usize], 1, "call {number}");
        }
        for number in lost {
            assert!(counts[number as usize] <= 1, "call {number} has run twice");
        }
        pool.shutdown().await;
    });
}

/// Rows 5, 10 and 29: among calls so short that many are sent ahead, and among longer ones.
#[test]
fn a_random_kill_costs_the_running_call_or_none_and_no_call_runs_twice() {
    race_kills(StartMethod::ForkServer, 150, 20);
    race_kills(StartMethod::ForkServer, 100, 1_000);
    race_kills(StartMethod::Spawn, 50, 20);
    race_kills(StartMethod::Spawn, 50, 1_000);
}

/// Rows 5, 10 and 29.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_random_kills_cost_running_calls_alone() {
    race_kills(StartMethod::ForkServer, 5_000, 20);
    race_kills(StartMethod::ForkServer, 3_000, 1_000);
    race_kills(StartMethod::Spawn, 1_000, 20);
    race_kills(StartMethod::Spawn, 1_000, 1_000);
}

/// The same as a future, which is there at many moments.
async fn leave_a_trace_async((path, number, micros): (String, u64, u64)) -> u64 {
    tokio::task::yield_now().await;
    let number = leave_a_trace((path, number, micros));
    tokio::time::sleep(Duration::from_micros(micros)).await;
    number
}

/// How a worker that was killed is told.
fn assert_killed(error: &TaskError) {
    let exit = error.worker_exit().expect("only deaths are errors here");
    assert_eq!(exit.exit().signal(), Some(libc::SIGKILL), "{error}");
}

/// Each death costs what was running in that worker: of async calls some, of a map one item.
fn race_kills_of_many(method: StartMethod, kills: u64, micros: u64, maps: bool) {
    const AT_ONCE: u64 = 8;
    let _scene = scene();
    let scratch = Scratch::new();
    let path = scratch.at("traces");
    std::fs::write(&path, []).unwrap();
    runtime(2).block_on(async {
        let builder = ProcessPool::builder().workers(3).start_method(method);
        let builder = builder.max_async_per_worker(AT_ONCE as usize);
        let pool = builder.build().unwrap();
        pool.ready().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let killer = std::thread::spawn({
            let (pool, stop) = (pool.clone(), stop.clone());
            move || kill_at_random(&pool, kills, 3_000, &stop)
        });
        let mut dice = Dice(13);
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        let mut calls = 0;
        while !killer.is_finished() {
            let arguments = (calls..calls + 200)
                .map(|number| (path.clone(), number, dice.roll(micros + 1)))
                .collect::<Vec<_>>();
            let results: Vec<_> = match maps {
                true => pool.map(leave_a_trace, arguments).collect().await,
                false => {
                    let submit = |argument| pool.submit_async(leave_a_trace_async, argument);
                    join_all(arguments.into_iter().map(submit)).await
                }
            };
            assert_eq!(results.len(), 200);
            for (number, result) in (calls..).zip(results) {
                match result {
                    Ok(value) => {
                        assert_eq!(value, number);
                        kept.push(number);
                    }
                    Err(error) => {
                        assert_killed(&error);
                        lost.push(number);
                    }
                }
            }
            calls += 200;
        }
        stop.store(true, Ordering::Relaxed);
        let killed = killer.join().unwrap();
        let what = if maps { "items" } else { "async calls" };
        eprintln!(
            "{method}: {killed} kills cost {} of {calls} {what}",
            lost.len()
        );
        let each = if maps { 1 } else { AT_ONCE };
        assert!(killed >= kills && lost.len() as u64 <= killed * each);
        assert_eq!(pool.stats().lost, lost.len() as u64);
        let counts = traces(&path, calls);
        for number in kept {
            assert_eq!(counts[number as usize], 1, "{what}: {number}");
        }
        for number in lost {
            assert!(counts[number as usize] <= 1, "{number} of {what} ran twice");
        }
        pool.shutdown().await;
    });
}

/// Rows 5, 10 and 29.
#[test]
fn a_random_kill_costs_the_items_and_async_calls_that_run_and_none_runs_twice() {
    for maps in [false, true] {
        race_kills_of_many(StartMethod::ForkServer, 100, 20, maps);
        race_kills_of_many(StartMethod::Spawn, 40, 300, maps);
    }
}

/// Rows 5, 10 and 29.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_random_kills_cost_the_items_and_async_calls_that_run() {
    for maps in [false, true] {
        race_kills_of_many(StartMethod::ForkServer, 4_000, 20, maps);
        race_kills_of_many(StartMethod::ForkServer, 4_000, 500, maps);
        race_kills_of_many(StartMethod::Spawn, 2_000, 20, maps);
    }
}

fn kill_the_idle(method: StartMethod, kills: u64) {
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = pool(2, method);
        let mut dice = Dice(5);
        for number in 0..kills {
            match number % 3 {
                0 => pool.submit_async(work_async, number).await.unwrap(),
                _ => pool.submit(work, (number, 0)).await.unwrap(),
            };
            for worker in pool.stats().workers {
                send(worker.pid, libc::SIGKILL);
            }
            work((0, dice.roll(300)));
            let results = match number % 4 {
                1 => join_all((0..5).map(|n| pool.submit_async(work_async, n))).await,
                2 => pool.map(work, (0..5).map(|n| (n, 0))).collect().await,
                _ => join_all((0..5).map(|n| pool.submit(work, (n, 0)))).await,
            };
            for (n, result) in (0..).zip(results) {
                assert_eq!(result.unwrap(), n);
            }
        }
        assert_eq!(pool.stats().lost, 0);
        pool.shutdown().await;
    });
}

/// Row 10.
#[test]
fn the_death_of_idle_workers_costs_no_call() {
    kill_the_idle(StartMethod::ForkServer, 200);
    kill_the_idle(StartMethod::Spawn, 50);
}

/// Row 10.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_deaths_of_idle_workers_cost_no_call() {
    kill_the_idle(StartMethod::ForkServer, 8_000);
    kill_the_idle(StartMethod::Spawn, 2_000);
}

fn race_cancels(method: StartMethod, calls: u64) {
    let _scene = scene();
    let scratch = Scratch::new();
    let path = scratch.at("traces");
    std::fs::write(&path, []).unwrap();
    runtime(2).block_on(async {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let mut dice = Dice(11);
        let (mut kept, mut cancelled) = (Vec::new(), Vec::new());
        for batch in 0..calls.div_ceil(20) {
            let handles: Vec<(u64, TaskHandle<u64>)> = (batch * 20..batch * 20 + 20)
                .map(|number| {
                    let argument = (path.clone(), number, dice.roll(30));
                    (number, pool.submit(leave_a_trace, argument))
                })
                .collect();
            work((0, dice.roll(300)));
            if dice.roll(2) == 0 {
                tokio::task::yield_now().await;
            }
            // In the line, sent ahead to a worker, running, or done.
            for (number, handle) in handles {
                if handle.cancel() {
                    assert!(handle.await.unwrap_err().is_cancelled());
                    cancelled.push(number);
                } else {
                    assert_eq!(handle.await.unwrap(), number);
                    kept.push(number);
                }
            }
        }
        eprintln!("{method}: {} of {calls} were cancelled", cancelled.len());
        let stats = pool.stats();
        assert_eq!(
            (stats.cancelled, stats.workers_ended),
            (cancelled.len() as u64, 0)
        );
        pool.shutdown().await;
        let counts = traces(&path, calls);
        assert!(kept.iter().all(|number| counts[*number as usize] == 1));
        assert!(cancelled.iter().all(|number| counts[*number as usize] == 0));
    });
}

/// CF-066: after a yes the task has not run and never will, after a no it has one outcome.
#[test]
fn the_answer_to_a_cancel_is_exact_whenever_it_comes() {
    race_cancels(StartMethod::ForkServer, 2_000);
    race_cancels(StartMethod::Spawn, 600);
}

/// CF-066.
#[test]
#[ignore = "takes minutes"]
fn the_answer_to_a_cancel_is_exact_a_hundred_thousand_times() {
    race_cancels(StartMethod::ForkServer, 80_000);
    race_cancels(StartMethod::Spawn, 20_000);
}
