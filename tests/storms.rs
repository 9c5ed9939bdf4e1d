//! Much at once: forks beneath threads that hold locks, kills upon kills of one worker, pipes that
//! are full both ways, and tasks that kill their workers again and again.
//!
//! What is run some hundred times here is run many thousand times by tests that are left out.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use deeds::{Scratch, hang, own_pid, to_pid, touch, wait_for};
use procpool::{ProcessPool, StartMethod, TaskHandle};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use support::{HANG, PROMPTLY, pool, runtime, scene, soon};
use tokio::time::timeout;

/// What the program's threads have nearly always locked, and tasks lock, too.
static LOCK: Mutex<Option<HashMap<u64, Vec<u8>>>> = Mutex::new(None);

/// Takes the lock, and libc's own: those of the allocator, of the environment, of output.
fn use_locks(number: u64) -> usize {
    let mut map = LOCK.lock().unwrap();
    let map = map.get_or_insert_default();
    let length = 1 << (number % 20);
    map.insert(number % 7, vec![1; length]);
    let variables = std::env::vars_os().count();
    map.values().map(Vec::len).sum::<usize>() + variables
}

/// As a task: takes the locks, then ends its process, so that another is forked.
fn use_locks_and_leave(number: u64) {
    std::hint::black_box(use_locks(number));
    std::thread::spawn(move || use_locks(number))
        .join()
        .unwrap();
    std::process::exit(7);
}

fn fork_beneath_locks(method: StartMethod, forks: u64) {
    let _scene = scene();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                let mut number = thread;
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(use_locks(number));
                    number += 3;
                }
            });
        }
        let forked = scope.spawn(|| {
            runtime(2).block_on(async {
                let pool = pool(2, method);
                for number in (0..forks).step_by(2) {
                    let pair =
                        [number, number + 1].map(|number| pool.submit(use_locks_and_leave, number));
                    for handle in pair {
                        let ended = timeout(HANG, handle).await.expect("a worker that hangs");
                        let error = ended.unwrap_err();
                        let exit = error.worker_exit().unwrap().exit();
                        assert_eq!(exit.code(), Some(7), "{error}");
                    }
                }
                assert!(pool.stats().workers_started >= forks);
                pool.shutdown().await;
            });
        });
        let forked = forked.join();
        stop.store(true, Ordering::Relaxed);
        forked.unwrap();
    });
}

/// Row 1.
#[test]
fn no_worker_inherits_a_lock_that_a_thread_of_the_program_holds() {
    fork_beneath_locks(StartMethod::ForkServer, 300);
    fork_beneath_locks(StartMethod::Spawn, 50);
}

/// Row 1.
#[test]
#[ignore = "takes a minute"]
fn of_ten_thousand_workers_none_inherits_a_lock_of_the_program() {
    fork_beneath_locks(StartMethod::ForkServer, 10_000);
}

/// After this a call is ended by its limit, if nobody else has ended it.
const LIMIT: Duration = Duration::from_millis(25);

/// Ends a call by as many as want to at the same moment, about when its limit does: one who
/// aborts it, one who kills its worker as often as there is one, and three who end the pool.
async fn end_together(round: u32, pool: &ProcessPool, victim: &TaskHandle<()>) {
    let [aborts, kills, terminates] = wishes(round);
    // What is held here is the worker, if that still runs the call.
    let pid = victim.worker_pid().map(to_pid);
    let worker = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let worker = worker.filter(|_| kills && victim.is_running());
    let runtime = tokio::runtime::Handle::current();
    let wait = LIMIT * (round % 5) / 4;
    let together = Barrier::new(6);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            together.wait();
            for _ in 0..if aborts { 3 } else { 0 } {
                victim.abort();
            }
        });
        scope.spawn(|| {
            together.wait();
            let kill = || pidfd_send_signal(worker.as_ref()?, Signal::KILL).ok();
            while kill().is_some() {}
        });
        for _ in 0..3 {
            scope.spawn(|| {
                together.wait();
                if terminates {
                    runtime.block_on(pool.terminate());
                }
            });
        }
        // Not for anything: the moment is what differs.
        std::thread::sleep(wait);
        together.wait();
    });
}

/// Whether there is an abort, a kill from outside, and the end of the pool.
fn wishes(round: u32) -> [bool; 3] {
    [1, 2, 4].map(|wish| (round / 5) & wish != 0)
}

fn kill_together(method: StartMethod, rounds: u32) {
    let _scene = scene();
    runtime(2).block_on(async {
        let mut fates: HashMap<&str, u32> = HashMap::new();
        for round in 0..rounds {
            let scratch = Scratch::new();
            let pool = pool(2, method);
            let neighbour = pool.submit(wait_for, scratch.at("gate"));
            assert!(soon(PROMPTLY, || neighbour.is_running()).await);
            let victim = pool.task(hang).timeout(LIMIT).submit(());
            let outcomes = Arc::new(AtomicU32::new(0));
            let told = outcomes.clone();
            victim.add_done_callback(move |_| {
                told.fetch_add(1, Ordering::Relaxed);
            });
            assert!(soon(PROMPTLY, || victim.is_running() || victim.is_done()).await);
            end_together(round, &pool, &victim).await;
            let error = timeout(HANG, victim).await.unwrap().unwrap_err();
            assert!(error.maybe_executed(), "{error}");
            let fate = match () {
                () if error.is_timeout() => "timed out",
                () if error.is_aborted() => "aborted",
                () if error.is_worker_lost() => "lost",
                () if error.is_shut_down() => "shut down",
                () => panic!("{error}"),
            };
            *fates.entry(fate).or_default() += 1;
            touch(scratch.at("gate"));
            let [.., terminates] = wishes(round);
            match timeout(HANG, neighbour).await.unwrap() {
                Ok(_) => assert!(!terminates),
                Err(error) => assert!(terminates && error.is_shut_down(), "{error}"),
            }
            if !terminates {
                pool.submit(own_pid, ()).await.unwrap();
                pool.shutdown().await;
            }
            assert!(soon(PROMPTLY, || outcomes.load(Ordering::Relaxed) == 1).await);
        }
        eprintln!("{method}: {fates:?}");
    });
}

/// Row 17.
#[test]
fn kills_upon_kills_of_one_worker_are_one_end_with_one_outcome() {
    kill_together(StartMethod::ForkServer, 40);
    kill_together(StartMethod::Spawn, 40);
}

/// Row 17.
#[test]
#[ignore = "takes a minute"]
fn thousands_of_kills_upon_kills_are_each_one_end_with_one_outcome() {
    kill_together(StartMethod::ForkServer, 1_000);
    kill_together(StartMethod::Spawn, 500);
}

/// Row 9.
#[test]
fn pipes_that_are_full_in_both_directions_hold_nothing_up() {
    // Far more than the pipes hold, many times over, all of it under way at once.
    const MIB: usize = 1 << 20;
    let echo: fn((usize, String)) -> (usize, String) = |both| both;
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(2, *method);
            let text = "0123456789abcdef".repeat(MIB / 16);
            let handles: Vec<_> = (0..64)
                .map(|number| pool.submit(echo, (number, text.clone())))
                .collect();
            for (number, handle) in handles.into_iter().enumerate() {
                let (of, echoed) = timeout(HANG, handle).await.expect("no hang").unwrap();
                assert!(of == number && echoed == text, "{number}");
            }
            pool.shutdown().await;
        });
    }
}

/// As a task: returns its argument; every hundredth kills its worker.
fn poison(number: u64) -> u64 {
    if number % 100 == 50 {
        std::process::abort();
    }
    number
}

fn poison_one_in_a_hundred(method: StartMethod, calls: u64) {
    let _scene = scene();
    runtime(2).block_on(async {
        let builder = ProcessPool::builder().workers(2).start_method(method);
        let pool = builder.stderr(procpool::Stdio::null()).build().unwrap();
        let mut lost = 0;
        for begin in (0..calls).step_by(1_000) {
            let handles: Vec<_> = (begin..calls.min(begin + 1_000))
                .map(|number| (number, pool.submit(poison, number)))
                .collect();
            for (number, handle) in handles {
                match timeout(HANG, handle).await.expect("a call that hangs") {
                    Ok(value) => assert_eq!(value, number),
                    Err(error) => {
                        assert_eq!(number % 100, 50, "{error}");
                        assert!(error.is_worker_lost() && error.maybe_executed());
                        lost += 1;
                    }
                }
            }
        }
        assert_eq!(lost, calls / 100);
        let stats = pool.stats();
        assert_eq!((stats.lost, stats.workers_ended), (lost, lost));
        pool.shutdown().await;
    });
}

/// Row 29.
#[test]
fn one_poisonous_task_in_a_hundred_costs_one_call_in_a_hundred() {
    poison_one_in_a_hundred(StartMethod::ForkServer, 4_000);
    poison_one_in_a_hundred(StartMethod::Spawn, 2_000);
}

/// Row 29.
#[test]
#[ignore = "takes a minute"]
fn a_thousand_poisonous_tasks_among_a_hundred_thousand_cost_a_thousand_calls() {
    poison_one_in_a_hundred(StartMethod::ForkServer, 100_000);
}
