//! What a call can do to its process, and that its neighbours have nothing of it: those in other
//! workers, and those that come after it.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use deeds::{Misdeed, commit, own_pid, send};
use gate::{Gate, pass};
use procpool::{ProcessPool, StartMethod, Stdio, TaskHandle, call};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{
    PROMPTLY, builder, children, descendants, everywhere, is_alive, pool, runtime, scene, soon,
};

fn pass_42(gate: String) -> u32 {
    pass(gate);
    42
}

/// CF-015.
#[test]
fn five_calls_on_two_workers_run_in_two_processes() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let nap = |millis| {
            std::thread::sleep(Duration::from_millis(millis));
            std::process::id()
        };
        let handles: Vec<_> = (0..5).map(|_| pool.submit(nap, 30)).collect();
        let mut pids = BTreeSet::new();
        for handle in handles {
            pids.insert(handle.await.unwrap());
        }
        let workers = pool.stats().workers;
        assert_eq!(pids, workers.iter().map(|worker| worker.pid).collect());
        assert_eq!(pids.len(), 2);
        pool.shutdown().await;
    });
}

/// CF-013: in each way to submit; and no more workers than there are calls at one time.
#[test]
fn as_many_workers_are_started_as_there_are_calls() {
    everywhere(|method| async move {
        let pool = pool(4, method);
        let first = pool.run(own_pid, ()).await.unwrap();
        assert_eq!(pool.try_submit(own_pid, ()).unwrap().await.unwrap(), first);
        assert_eq!(pool.submit_call(call!(own_pid(()))).await.unwrap(), first);
        assert_eq!(pool.task(own_pid).submit(()).await.unwrap(), first);
        assert_eq!(pool.stats().workers_started, 1);
        let gate = Gate::new();
        let held = [(); 2].map(|()| pool.submit(pass, gate.path()));
        assert!(soon(PROMPTLY, || held.iter().all(TaskHandle::is_running)).await);
        assert_eq!(pool.stats().workers_started, 2);
        gate.open();
        for handle in held {
            handle.await.unwrap();
        }
        pool.shutdown().await;
    });
}

/// CF-023.
#[test]
fn results_are_right_and_no_process_is_left_after_the_scope() {
    everywhere(|method| async move {
        {
            let pool = pool(5, method);
            let handles: Vec<_> = (-5..5).map(|n| pool.submit(i32::abs, n)).collect();
            let mut values = Vec::new();
            for handle in handles {
                values.push(handle.await.unwrap());
            }
            assert_eq!(values, [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]);
            pool.shutdown().await;
            assert!(children().is_empty());
        }
    });
}

/// CF-035: in the other worker.
#[test]
fn a_failing_call_leaves_the_one_beside_it_alone() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), builder(2, method).stderr(Stdio::null()));
        let pool = pool.build().unwrap();
        let held = pool.submit(pass_42, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let worker = held.worker_pid().unwrap();
        let panics: fn(()) = |()| panic!("beside");
        for _ in 0..3 {
            assert!(pool.submit(panics, ()).await.unwrap_err().is_panic());
            let lost = pool.submit(commit, Misdeed::Abort).await;
            assert!(lost.unwrap_err().is_worker_lost());
            let limited = pool.task(pass).timeout(Duration::from_millis(5));
            let limited = limited.submit(gate.path()).await;
            assert!(limited.unwrap_err().is_timeout());
        }
        assert!(!held.is_done() && held.worker_pid() == Some(worker));
        gate.open();
        assert_eq!(held.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Refused {
    code: u32,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.code)
    }
}

impl Error for Refused {}

/// CF-073: as the value itself, and within a result.
#[test]
fn an_error_that_is_returned_is_a_value() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let give: fn(u32) -> Refused = |code| Refused { code };
        assert_eq!(pool.submit(give, 5).await.unwrap(), Refused { code: 5 });
        let fail: fn(u32) -> Result<(), Refused> = |code| Err(Refused { code });
        let error = pool.submit(fail, 6).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "refused with 6");
        assert_eq!((pool.stats().completed, pool.stats().failed), (2, 0));
        pool.shutdown().await;
    });
}

/// Shares its token with the test here, and has one of its own there.
struct Held {
    _token: Arc<()>,
    fails: bool,
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fails {
            return Err(serde::ser::Error::custom("not this one"));
        }
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Self {
            _token: Arc::new(()),
            fails: false,
        })
    }
}

fn take(_: Held) {}

/// CF-036: whether the call is taken or not.
#[test]
fn an_argument_is_dropped_once_it_was_encoded_or_refused() {
    everywhere(|method| async move {
        let (gate, token) = (Gate::new(), Arc::new(()));
        let pool = builder(1, method).max_pending(1).build().unwrap();
        let made = |fails| Held {
            _token: token.clone(),
            fails,
        };
        let held = || made(false);
        let left = || Arc::strong_count(&token) - 1;
        let running = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || running.is_running()).await);
        let waiting = pool.submit(take, held());
        assert_eq!(left(), 0);
        assert!(pool.submit(take, held()).await.unwrap_err().is_queue_full());
        assert!(pool.submit(take, made(true)).await.unwrap_err().is_encode());
        drop(pool.run(take, held()));
        assert_eq!(left(), 0);
        let refused = pool.try_submit(take, held()).unwrap_err();
        assert_eq!(left(), 1);
        drop(refused);
        let lent = held();
        drop(pool.submit_call(call!(take(&lent))));
        assert_eq!(left(), 1);
        drop(lent);
        gate.open();
        waiting.await.unwrap();
        pool.shutdown().await;
        assert!(pool.submit(take, held()).await.unwrap_err().is_shut_down());
        assert_eq!(left(), 0);
    });
}

/// CF-286: it falls to its neighbour, just before the end.
#[test]
fn a_worker_that_is_killed_by_another_just_before_shutdown_does_not_hold_it_up() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let victim = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || victim.is_running()).await);
        let kill: fn(u32) -> bool = |pid| send(pid, libc::SIGKILL);
        let killer = pool.submit(kill, victim.worker_pid().unwrap());
        pool.shutdown().await;
        assert!(killer.await.unwrap());
        let error = victim.await.unwrap_err();
        let exit = error.worker_exit().unwrap().exit();
        assert!(error.is_worker_lost() && exit.signal() == Some(libc::SIGKILL));
    });
}

/// Dropped in a worker, it ends the process.
#[derive(Serialize, Deserialize)]
struct Bomb {
    home: u32,
    segfault: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.home != std::process::id() {
            commit(if self.segfault {
                Misdeed::WriteNowhere
            } else {
                Misdeed::ExitAtOnce(0)
            });
        }
    }
}

fn look(bomb: &Bomb) -> u32 {
    bomb.home
}

/// CF-288: an argument is dropped before the call is over, and a result after it.
#[test]
fn what_crashes_when_it_is_dropped_costs_its_own_call_at_most() {
    everywhere(|method| async move {
        let (home, pool) = (std::process::id(), pool(1, method));
        for segfault in [true, false] {
            let bomb = || Bomb { home, segfault };
            let moved: fn(Bomb) -> u32 = |bomb| look(&bomb);
            let kept: fn(Bomb) -> Bomb = |bomb| bomb;
            let lent = bomb();
            let outcomes = [
                pool.submit(moved, bomb()).await,
                pool.submit_call(call!(look(&lent))).await,
            ];
            for outcome in outcomes {
                let error = outcome.unwrap_err();
                let exit = error.worker_exit().unwrap().exit();
                assert_eq!(exit.signal().is_some(), segfault, "{error}");
                assert_eq!(exit.code(), (!segfault).then_some(0), "{error}");
            }
            for _ in 0..5 {
                assert_eq!(pool.submit(kept, bomb()).await.unwrap().home, home);
                assert_ne!(pool.submit(own_pid, ()).await.unwrap(), home);
            }
        }
        pool.shutdown().await;
    });
}

/// What native code may do to its process.
#[expect(unsafe_code, reason = "nothing safe goes as wrong as native code can")]
mod native {
    pub(super) fn closes_everything(n: u32) -> u32 {
        // SAFETY: none is promised; the process has to cope.
        unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
        n
    }

    pub(super) fn forks_and_both_return(n: u32) -> u32 {
        // SAFETY: none is promised; the process has to cope.
        unsafe { libc::fork() };
        n
    }

    pub(super) fn replaces_its_descriptors(n: u32) -> u32 {
        for descriptor in 3..32 {
            // SAFETY: none is promised; the process has to cope.
            unsafe { libc::dup2(1, descriptor) };
        }
        n
    }

    pub(super) fn leaves_its_session(n: u32) -> u32 {
        // SAFETY: takes nothing.
        unsafe { libc::setsid() };
        n
    }

    pub(super) fn blocks_all_signals(n: u32) -> u32 {
        // SAFETY: the set is a local that libc fills.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&mut set);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        n
    }

    pub(super) fn allows_itself_no_descriptor(n: u32) -> u32 {
        let none = libc::rlimit {
            rlim_cur: 3,
            rlim_max: 3,
        };
        // SAFETY: the limit is a local.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) };
        n
    }

    pub(super) fn writes_garbage_everywhere(n: u32) -> u32 {
        for descriptor in 3..32 {
            // SAFETY: the bytes are a local; where they go is the point.
            unsafe { libc::write(descriptor, [7_u8; 100].as_ptr().cast(), 100) };
        }
        n
    }

    pub(super) fn kills_its_group(n: u32) -> u32 {
        // SAFETY: takes numbers.
        unsafe { libc::kill(0, libc::SIGKILL) };
        n
    }
}

/// CF-282, CF-283, CF-284: from other angles.
#[test]
fn whatever_a_call_does_to_its_process_it_has_an_end_and_the_next_one_runs() {
    // Those that break what ties the worker to its program may cost the worker.
    const BREAK: [fn(u32) -> u32; 2] =
        [native::closes_everything, native::replaces_its_descriptors];
    const STAY: [fn(u32) -> u32; 6] = [
        native::forks_and_both_return,
        native::leaves_its_session,
        native::blocks_all_signals,
        native::allows_itself_no_descriptor,
        |n| {
            std::env::set_current_dir("/").unwrap();
            n
        },
        |n| {
            for _ in 0..20 {
                std::thread::spawn(|| deeds::hang(()));
            }
            n
        },
    ];
    const LEAVE: [fn(u32) -> u32; 4] = [
        native::writes_garbage_everywhere,
        native::kills_its_group,
        |n| {
            let _ = std::thread::spawn(|| std::process::exit(4)).join();
            n
        },
        |n| {
            let _ = Command::new("sleep").arg("600").exec();
            n
        },
    ];
    everywhere(|method| async move {
        let quiet = || {
            let pool = builder(1, method)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            pool.build().unwrap()
        };
        for task in BREAK {
            let pool = quiet();
            match pool.submit(task, 7).await {
                Ok(value) => assert_eq!(value, 7),
                Err(error) => assert!(error.is_worker_lost(), "{error}"),
            }
            assert_eq!(pool.submit(|n: u32| n, 8).await.unwrap(), 8);
            pool.shutdown().await;
        }
        let pool = quiet();
        for (n, task) in STAY.into_iter().enumerate() {
            assert_eq!(pool.submit(task, 7).await.unwrap(), 7, "{n}");
            assert_eq!(pool.submit(|n: u32| n, 8).await.unwrap(), 8, "{n}");
        }
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
        let pool = quiet();
        for (n, task) in LEAVE.into_iter().enumerate() {
            let worker = pool.submit(own_pid, ()).await.unwrap();
            let error = pool.submit(task, 7).await.unwrap_err();
            assert!(error.is_worker_lost(), "{n}: {error}");
            assert_ne!(pool.submit(own_pid, ()).await.unwrap(), worker, "{n}");
            assert!(soon(PROMPTLY, || !is_alive(worker)).await, "{n}");
        }
        pool.shutdown().await;
    });
}

/// As a task: asks a pool that its process keeps for that.
fn ask_the_inner_pool(_: ()) -> (u32, u32) {
    static INNER: OnceLock<ProcessPool> = OnceLock::new();
    let inner = INNER.get_or_init(|| ProcessPool::builder().workers(1).build().unwrap());
    let mut asked = inner.submit(own_pid, ());
    (std::process::id(), asked.blocking_wait(None).unwrap())
}

/// CF-043, CF-044: a pool that tasks keep for those that come after them.
#[test]
fn a_pool_that_a_worker_keeps_goes_with_it() {
    everywhere(|method| async move {
        for terminated in [false, true] {
            let pool = pool(1, method);
            let pids = pool.submit(ask_the_inner_pool, ()).await.unwrap();
            assert_eq!(pool.submit(ask_the_inner_pool, ()).await.unwrap(), pids);
            let tree = descendants(std::process::id());
            assert!(tree.contains(&pids.0) && tree.contains(&pids.1));
            if terminated {
                pool.terminate().await;
            } else {
                pool.shutdown().await;
            }
            let gone = soon(PROMPTLY, || !tree.iter().any(|pid| is_alive(*pid)));
            assert!(gone.await, "{tree:?}");
        }
    });
}

/// A thread pool that lives as long as its process, as libraries have them.
fn on_global_threads(numbers: Vec<u64>) -> u64 {
    type Job = Box<dyn FnOnce() + Send>;
    static THREADS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let threads = THREADS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..3 {
            let receiver = receiver.clone();
            std::thread::spawn(move || {
                loop {
                    let job = receiver.lock().unwrap().recv();
                    job.unwrap()();
                }
            });
        }
        sender
    });
    let (told, hears) = mpsc::channel();
    for part in numbers.chunks(10) {
        let (part, told) = (part.to_vec(), told.clone());
        let sum = move || told.send(part.iter().sum::<u64>()).unwrap();
        threads.send(Box::new(sum)).unwrap();
    }
    drop(told);
    hears.iter().sum()
}

/// CF-275, CF-296: the same threads' pool here and there.
#[test]
fn global_threads_of_the_program_are_made_anew_in_each_worker() {
    let numbers: Vec<u64> = (0..1_000).collect();
    assert_eq!(on_global_threads(numbers.clone()), 499_500);
    everywhere(|method| {
        let numbers = numbers.clone();
        async move {
            let pool = pool(2, method);
            let handles: Vec<_> = (0..10)
                .map(|_| pool.submit(on_global_threads, numbers.clone()))
                .collect();
            assert_eq!(on_global_threads(numbers), 499_500);
            for handle in handles {
                assert_eq!(handle.await.unwrap(), 499_500);
            }
            pool.shutdown().await;
        }
    });
}

/// CF-039: how late the runtime's clock may tick beside workers that compute for all they can.
#[test]
fn the_runtime_ticks_on_while_workers_compute() {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(1).block_on(async {
            let pool = pool(2, *method);
            let busy = [(); 2].map(|()| pool.submit(deeds::spin, ()));
            assert!(soon(PROMPTLY, || busy.iter().all(TaskHandle::is_running)).await);
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            let (mut last, mut latest) = (Instant::now(), Duration::ZERO);
            for tick in 0..30 {
                // Beside the ticks the pool is used in every way.
                let handle = pool.submit(deeds::spin, ());
                assert!(tick % 2 == 0 || handle.cancel());
                ticks.tick().await;
                latest = latest.max(last.elapsed());
                last = Instant::now();
            }
            // The cores are shared with those workers; a runtime that waited for one would not
            // tick at all.
            assert!(latest < Duration::from_secs(2), "{latest:?}");
            pool.terminate().await;
            for handle in busy {
                assert!(handle.await.unwrap_err().is_shut_down());
            }
        });
    }
}
