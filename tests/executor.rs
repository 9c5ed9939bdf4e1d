//! The executor seen by who submits single calls: arguments and results, workers on demand,
//! functions of every kind, names, environment, nesting.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gate::{Gate, acquire, pass};
use procpool::{ProcessPool, StartMethod, call};
use serde::{Deserialize, Serialize};
use support::{
    PROMPTLY, builder, children, descendants, everywhere, is_alive, pool, runtime, scene, soon,
};

fn pid<T>(_: T) -> u32 {
    std::process::id()
}

fn multiply(a: u64, b: u64) -> u64 {
    a * b
}

fn pids(pool: &ProcessPool) -> BTreeSet<u32> {
    pool.stats()
        .workers
        .iter()
        .map(|worker| worker.pid)
        .collect()
}

/// CF-001, CF-085.
#[test]
fn one_call_after_the_other_gives_its_value() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (value, worker) = pool
            .submit(|n: u64| (n.pow(8), std::process::id()), 2)
            .await
            .unwrap();
        assert_eq!(value, 256);
        assert_ne!(worker, std::process::id());
        for n in 0..10_u64 {
            assert_eq!(pool.run(|n| n * n, n).await.unwrap(), n * n);
        }
        pool.shutdown().await;
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    small: u8,
    wide: (u8, u128, i16, f64, char),
    boxed: Box<Everyone>,
    bytes: Vec<u8>,
    slice: Box<[u32]>,
    nested: Option<Option<Result<String, ()>>>,
    table: BTreeMap<String, Vec<i64>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Everyone {
    Unit,
    Tuple(i8, String),
    Struct { me: Option<Box<Everyone>> },
}

/// CF-002, CF-086.
#[test]
fn arguments_of_every_shape_arrive_and_come_back_intact() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit_call(call!(multiply(2, 8))).await.unwrap(), 16);
        assert_eq!(
            pool.submit(|(a, b)| multiply(a, b), (2, 8)).await.unwrap(),
            16
        );
        let inner = Some(Box::new(Everyone::Tuple(-1, "\u{1F980}\0x".to_owned())));
        let all = Everything {
            small: 255,
            wide: (1, u128::MAX, i16::MIN, -0.5, '\u{10FFFF}'),
            boxed: Box::new(Everyone::Struct { me: inner }),
            bytes: (0..=255).collect(),
            slice: Box::new([0, 1, u32::MAX]),
            nested: Some(Some(Err(()))),
            table: [(String::new(), vec![i64::MIN, i64::MAX])].into(),
        };
        let same = |all: Everything| {
            // The worker sees what was sent, not only bytes that it returns.
            assert_eq!(all.wide.1, u128::MAX);
            assert!(matches!(*all.boxed, Everyone::Struct { me: Some(_) }));
            all
        };
        assert_eq!(pool.submit(same, all.clone()).await.unwrap(), all);
        let unit = pool.submit(|everyone: Everyone| everyone, Everyone::Unit);
        assert_eq!(unit.await.unwrap(), Everyone::Unit);
        pool.submit(|()| (), ()).await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-011, CF-100.
#[test]
fn no_workers_is_refused_and_starts_nothing() {
    let _scene = scene();
    let before = children();
    let error = ProcessPool::builder().workers(0).build().unwrap_err();
    assert!(error.is_invalid_argument());
    assert!(error.to_string().contains("greater than 0"), "{error}");
    assert_eq!(children(), before);
}

/// CF-012.
#[test]
fn there_are_as_many_workers_as_usable_cores_by_default() {
    let _scene = scene();
    let usable = std::thread::available_parallelism().unwrap().get();
    assert_eq!(ProcessPool::new().unwrap().workers(), usable);
    // The affinity is that of the thread, and its alone.
    let one = std::thread::spawn(|| {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu));
        let mut one = rustix::thread::CpuSet::new();
        one.set(first.unwrap());
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        ProcessPool::new().unwrap().workers()
    });
    assert_eq!(one.join().unwrap(), 1);
}

/// CF-013.
#[test]
fn workers_are_started_on_demand_and_used_again() {
    everywhere(|method| async move {
        let pool = pool(4, method);
        assert_eq!(pool.stats().workers_started, 0);
        let mut seen = BTreeSet::new();
        for n in 0..3 {
            seen.insert(pool.submit(pid, n).await.unwrap());
        }
        assert_eq!(pids(&pool), seen);
        assert_eq!((seen.len(), pool.stats().workers_started), (1, 1));
        pool.shutdown().await;
    });
}

/// CF-014.
#[test]
fn a_saturated_pool_has_as_many_workers_as_it_may() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(4, method);
        let handles: Vec<_> = (0..60).map(|_| pool.submit(acquire, gate.path())).collect();
        let running = || handles.iter().filter(|handle| handle.is_running()).count();
        assert!(soon(PROMPTLY, || running() == 4).await);
        let workers = pids(&pool);
        assert_eq!(workers.len(), 4);
        gate.release(60);
        for handle in handles {
            handle.await.unwrap();
            assert_eq!(pids(&pool), workers);
        }
        assert_eq!(pool.stats().workers_started, 4);
        pool.shutdown().await;
    });
}

/// CF-015, CF-100.
#[test]
fn each_worker_is_a_process_of_its_own_and_ready_starts_them_all() {
    everywhere(|method| async move {
        let pool = pool(3, method);
        pool.ready().await.unwrap();
        let workers = pids(&pool);
        assert_eq!(workers.len(), 3);
        let below = descendants(std::process::id());
        for worker in &workers {
            assert!(is_alive(*worker) && below.contains(worker), "{worker}");
        }
        let gate = Gate::new();
        let held: Vec<_> = (0..3)
            .map(|_| {
                pool.submit(
                    |gate| {
                        pass(gate);
                        pid(())
                    },
                    gate.path(),
                )
            })
            .collect();
        assert!(soon(PROMPTLY, || held.iter().all(|handle| handle.is_running())).await);
        gate.open();
        let mut seen = BTreeSet::new();
        for handle in held {
            let here = handle.worker_pid();
            let there = handle.await.unwrap();
            assert!(here.is_none_or(|here| here == there));
            seen.insert(there);
        }
        assert_eq!(seen, workers);
        pool.ready().await.unwrap();
        assert_eq!(pool.stats().workers_started, 3);
        pool.shutdown().await;
    });
}

/// CF-035, CF-114.
#[test]
fn a_failing_task_does_not_hurt_the_next() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let before = pool.submit(pid, ()).await.unwrap();
        let panicked = pool.submit(|n: u64| assert_eq!(n, 0, "doh!"), 1);
        let returned = pool.submit(|n: i32| Err::<(), String>(format!("no {n}")), 5);
        let sum = pool.submit(|(a, b)| (a + b, std::process::id()), (1, 1));
        let error = panicked.await.unwrap_err();
        assert!(error.is_panic() && error.maybe_executed() && !error.is_worker_lost());
        // An error that the task returned is its value.
        assert_eq!(returned.await.unwrap(), Err("no 5".to_owned()));
        assert_eq!(sum.await.unwrap(), (2, before));
        pool.shutdown().await;
    });
}

/// CF-114.
#[test]
fn panicking_jobs_among_good_ones_fail_alone() {
    everywhere(|method| async move {
        let pool = pool(4, method);
        let job = |n: u32| assert_ne!(n % 4, 0, "completely broken");
        let handles: Vec<_> = (0..16).map(|n| pool.submit(job, n)).collect();
        for (n, handle) in handles.into_iter().enumerate() {
            let outcome = handle.await;
            assert_eq!(outcome.is_err(), n % 4 == 0, "{n}");
            if let Err(error) = outcome {
                let panic = error.panic().unwrap();
                assert!(panic.message().contains("completely broken"), "{panic}");
            }
        }
        assert_eq!((pool.stats().completed, pool.stats().failed), (12, 4));
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

static LIVE: AtomicU64 = AtomicU64::new(0);

#[derive(Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
struct Counted(u32);

impl From<u32> for Counted {
    fn from(n: u32) -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(n)
    }
}

impl From<Counted> for u32 {
    fn from(counted: Counted) -> u32 {
        counted.0
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::from(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// CF-036, CF-037.
#[test]
fn arguments_and_results_are_dropped_as_soon_as_they_were_used() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let gate = Gate::new();
        let held = pool.submit(pass, gate.path());
        let detached = pool.submit(|_: Counted| (), Counted::from(1));
        assert_eq!(LIVE.load(Ordering::Relaxed), 0, "kept while it is queued");
        drop(detached);
        let back = pool.submit(|counted: Counted| counted, Counted::from(7));
        let unheard = pool.submit(|counted: Counted| counted, Counted::from(8));
        gate.open();
        held.await.unwrap();
        let counted = back.await.unwrap();
        assert!(soon(PROMPTLY, || unheard.is_done()).await);
        assert_eq!(counted.0, 7);
        // Nobody has asked for the other one, so it was not even decoded.
        assert_eq!(LIVE.load(Ordering::Relaxed), 1);
        drop(unheard);
        drop(counted);
        assert_eq!(LIVE.load(Ordering::Relaxed), 0);
        pool.shutdown().await;
    });
}

/// CF-038.
#[test]
fn many_tasks_and_threads_share_one_pool() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let nap = |n: u64| {
            std::thread::sleep(Duration::from_micros(n));
            n
        };
        let tasks: Vec<_> = (0..10_u64)
            .map(|task| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let naps: Vec<_> = (0..20).map(|n| pool.submit(nap, task * 20 + n)).collect();
                    let cancel = |handle: &procpool::TaskHandle<u64>| handle.cancel();
                    let cancelled: Vec<_> = naps.iter().step_by(2).map(cancel).collect();
                    for (n, handle) in naps.into_iter().enumerate() {
                        let cancelled = n % 2 == 0 && cancelled[n / 2];
                        match handle.await {
                            Ok(value) => {
                                assert_eq!((value, cancelled), (task * 20 + n as u64, false))
                            }
                            Err(error) => assert!(error.is_cancelled() && cancelled, "{error}"),
                        }
                    }
                })
            })
            .collect();
        let threads: Vec<_> = (0..3_u64)
            .map(|thread| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    for n in 0..20 {
                        let product = pool.submit_call(call!(multiply(thread, n)));
                        assert_eq!({ product }.blocking_wait(None).unwrap(), thread * n);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let joined = tokio::task::spawn_blocking(|| {
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        joined.await.unwrap();
        let stats = pool.stats();
        assert_eq!(stats.submitted, 10 * 20 + 3 * 20);
        assert_eq!(
            stats.completed + stats.cancelled,
            stats.submitted,
            "{stats}"
        );
        pool.shutdown().await;
    });
}

/// CF-039.
#[test]
fn the_runtime_goes_on_while_tasks_run_and_pools_are_made_anywhere() {
    for threads in [1, 2] {
        let _scene = scene();
        let here = runtime(threads);
        let handle = here.handle().clone();
        let elsewhere = std::thread::spawn(move || {
            let _inside = handle.enter();
            pool(2, StartMethod::default())
        });
        let pool = elsewhere.join().unwrap();
        here.block_on(async {
            let gate = Gate::new();
            let held = pool.submit(pass, gate.path());
            let ticker = async {
                let mut ticks = tokio::time::interval(Duration::from_millis(10));
                for _ in 0..10 {
                    ticks.tick().await;
                }
                // Were the runtime blocked by the task, it would never be let go.
                gate.open();
            };
            let (outcome, ()) = tokio::join!(held, ticker);
            outcome.unwrap();
            pool.shutdown().await;
        });
    }
}

/// CF-041.
#[test]
fn workers_have_the_environment_that_they_were_given() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .env("EXECUTOR_FOO", "42")
            .env("HOME", "/elsewhere")
            .build()
            .unwrap();
        let add = |n: i32| {
            n + std::env::var("EXECUTOR_FOO")
                .unwrap()
                .parse::<i32>()
                .unwrap()
        };
        assert_eq!(pool.submit(add, 23).await.unwrap(), 65);
        let read = |name: String| std::env::var(name).ok();
        let overridden = pool.submit(read, "HOME".to_owned()).await.unwrap();
        assert_eq!(overridden.as_deref(), Some("/elsewhere"));
        let inherited = pool.submit(read, "PATH".to_owned()).await.unwrap();
        assert_eq!(inherited, std::env::var("PATH").ok());
        assert!(std::env::var("EXECUTOR_FOO").is_err());
        let boot = pool.submit(read, "PROCPOOL_BOOT".to_owned()).await.unwrap();
        assert_eq!(
            boot, None,
            "what a task starts must not take itself for a worker"
        );
        pool.shutdown().await;
    });
}

fn nest(left: u32) -> Result<u32, String> {
    if left == 0 {
        return Ok(1);
    }
    let pool = ProcessPool::builder().workers(1).build().map_err(|error| {
        assert!(error.is_too_deep());
        error.to_string()
    })?;
    pool.submit(nest, left - 1).blocking_wait(None).unwrap()
}

/// CF-043.
#[test]
fn pools_nest_four_deep_and_the_fifth_is_a_typed_error() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        assert_eq!(pool.submit(nest, 3).await.unwrap(), Ok(1));
        let error = pool.submit(nest, 4).await.unwrap().unwrap_err();
        assert!(error.contains("nested 4 deep"), "{error}");
        pool.shutdown().await;
    });
}

fn hold_nested((left, gate): (u32, String)) {
    if left == 0 {
        gate::mark(&gate, "inmost");
        return pass(gate);
    }
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let _ = pool
        .submit(hold_nested, (left - 1, gate))
        .blocking_wait(None);
}

/// CF-044, CF-113: workers are daemons, and may have children, which are killed with them.
#[test]
fn terminating_a_pool_ends_the_pools_within_its_tasks() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(1, method);
        let held = pool.submit(hold_nested, (3, gate.path()));
        assert!(soon(PROMPTLY, || !gate.marks().is_empty()).await);
        let tree = descendants(std::process::id());
        assert!(tree.len() >= 4, "{tree:?}");
        pool.terminate().await;
        assert!(held.await.unwrap_err().is_shut_down());
        let alive = || tree.iter().filter(|pid| is_alive(**pid)).count();
        assert!(soon(PROMPTLY, || alive() == 0).await, "{} alive", alive());
    });
}

static COUNT: AtomicU64 = AtomicU64::new(0);

/// CF-055.
#[test]
fn what_a_task_changes_in_its_process_stays_there() {
    everywhere(|method| async move {
        let pool = pool(3, method);
        let count = |()| {
            (
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed) + 1,
            )
        };
        let handles: Vec<_> = (0..150).map(|_| pool.submit(count, ())).collect();
        let mut last = BTreeMap::new();
        for handle in handles {
            let (pid, count) = handle.await.unwrap();
            let highest = last.entry(pid).or_insert(0);
            *highest = count.max(*highest);
        }
        assert_eq!(last.values().sum::<u64>(), 150);
        assert!(last.len() <= 3);
        assert_eq!(COUNT.load(Ordering::Relaxed), 0);
        pool.shutdown().await;
    });
}

fn twice<T: std::ops::Add<Output = T> + Copy>(value: T) -> T {
    value + value
}

trait Shape {
    fn area(&self) -> u64;
    fn area_of(shape: Self) -> u64
    where
        Self: Sized,
    {
        shape.area()
    }
}

#[derive(Serialize, Deserialize)]
struct Square(u64);

impl Shape for Square {
    fn area(&self) -> u64 {
        self.0 * self.0
    }
}

/// CF-058.
#[test]
fn functions_of_every_kind_are_called_as_they_are_here() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let table: [fn(i64) -> i64; 3] = [i64::abs, |n| n - 1, twice::<i64>];
        for function in table {
            assert_eq!(pool.submit(function, -6).await.unwrap(), function(-6));
        }
        assert_eq!(pool.submit(twice::<f64>, 1.5).await.unwrap(), 3.0);
        assert_eq!(pool.submit(Shape::area_of, Square(3)).await.unwrap(), 9);
        assert_eq!(pool.submit(Some, 5).await.unwrap(), Some(5));
        assert_eq!(
            pool.submit_call(call!(<u32 as Default>::default()))
                .await
                .unwrap(),
            0
        );
        let words = vec!["a".to_owned(), "b".to_owned()];
        let join = |words: Vec<String>, with: String| words.join(&with);
        let joined = pool.submit_call(call!((join)(words, "-".to_owned())));
        assert_eq!(joined.await.unwrap(), "a-b");
        let lent = vec![1, 2, 3];
        fn total(values: &[u64]) -> u64 {
            values.iter().sum()
        }
        assert_eq!(pool.submit_call(call!(total(&lent))).await.unwrap(), 6);
        pool.shutdown().await;
    });
}

/// CF-059.
#[test]
fn workers_are_named_for_ps() {
    everywhere(|method| async move {
        let named = builder(2, method).worker_name("resize").build().unwrap();
        let (one, other) = (pool(1, method), pool(1, method));
        let mut all = BTreeSet::new();
        for pool in [&named, &one, &other] {
            pool.ready().await.unwrap();
            for worker in pool.stats().workers {
                let comm = fs::read_to_string(format!("/proc/{}/comm", worker.pid)).unwrap();
                assert_eq!(comm.trim_end(), worker.name);
                all.insert(worker.name);
            }
        }
        assert_eq!(all.len(), 4, "{all:?}");
        let of = |prefix: &str| all.iter().filter(|name| name.starts_with(prefix)).count();
        assert_eq!((of("resize-"), of("procpool")), (2, 2), "{all:?}");
        for pool in [named, one, other] {
            pool.shutdown().await;
        }
    });
}
