//! What breaks other pools, and what becomes of it here: in each test one call goes wrong, its
//! caller is told what happened, and the calls after it find a pool that works.
//!
//! | what happens | elsewhere | shown |
//! | --- | --- | --- |
//! | an argument does not encode, or decode | hangs, dead pools | here |
//! | a result does not encode, or decode | hangs, dead pools | here |
//! | an error type does not decode | hangs, dead pools | here |
//! | a task exits | hangs, the exception of an exit | here |
//! | a task, or an idle worker, is killed | dead pools, hangs of who held a lock | here |
//! | an initializer fails | endless starts, the reason only in a log | here |
//! | a task prints, or writes to the descriptor | what it printed is lost, the worker dies | here |
//! | cancel of what is next to run | it is in the pipe and cannot be taken back | here |
//! | abort of what runs | the slot is back after a second, or never | here |
//! | an idle pool | tens of milliseconds of a core for each second | here |
//! | an interrupt goes to the whole group | dead pools, wrong results | `terminal.rs` |
//! | the program is killed | idle and busy workers stay | `ends.rs`, `programs.rs` |
//! | the program ends with work outstanding | it waits for all of it | `endings.rs`, `executors.rs` |
//! | a time limit | only the waiting ends, or a clock that can be set is read | `calls.rs`, `clocks.rs` |
//! | a source without end | is read to its end | `map.rs` |

#[path = "support/deeds.rs"]
mod deeds;
mod support;

use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use deeds::{Misdeed, commit, hang, send};
use procpool::{ProcessPool, Stdio, TaskError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{PROMPTLY, builder, everywhere, pool, soon};

/// The next six calls find a pool that works.
async fn goes_on(pool: ProcessPool) {
    for n in 0..6 {
        assert_eq!(pool.submit(|n: u64| n + 1, n).await.unwrap(), n + 1);
    }
    pool.shutdown().await;
}

/// Says which way it does not travel.
#[derive(Debug)]
struct Stuck {
    encodes: bool,
}

impl Serialize for Stuck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.encodes {
            return serializer.serialize_bool(true);
        }
        Err(serde::ser::Error::custom("it holds a lock"))
    }
}

impl<'de> Deserialize<'de> for Stuck {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("its file is not here"))
    }
}

fn whole(error: &TaskError) -> String {
    format!("{error:#}")
}

#[test]
fn an_argument_that_does_not_encode() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let argument = Stuck { encodes: false };
        let error = pool.submit(drop::<Stuck>, argument).await.unwrap_err();
        assert!(error.is_encode() && !error.maybe_executed());
        assert!(whole(&error).contains("it holds a lock"), "{error:#}");
        goes_on(pool).await;
    });
}

#[test]
fn an_argument_that_does_not_decode_in_the_worker() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let argument = Stuck { encodes: true };
        let error = pool.submit(drop::<Stuck>, argument).await.unwrap_err();
        assert!(error.is_decode() && !error.maybe_executed());
        assert!(whole(&error).contains("its file is not here"), "{error:#}");
        assert_eq!(pool.stats().workers_ended, 0);
        goes_on(pool).await;
    });
}

#[test]
fn a_result_that_does_not_encode() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let result = pool.submit(|encodes| Stuck { encodes }, false).await;
        let error = result.unwrap_err();
        assert!(error.is_encode() && error.maybe_executed());
        assert!(whole(&error).contains("it holds a lock"), "{error:#}");
        assert_eq!(pool.stats().workers_ended, 0);
        goes_on(pool).await;
    });
}

#[test]
fn a_result_that_does_not_decode_here() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let result = pool.submit(|encodes| Stuck { encodes }, true).await;
        let error = result.unwrap_err();
        assert!(error.is_decode() && error.maybe_executed());
        assert!(whole(&error).contains("its file is not here"), "{error:#}");
        goes_on(pool).await;
    });
}

/// CF-109: what the task returns as its error is typed, and arrives or is an error of decoding.
#[test]
fn an_error_type_that_does_not_decode() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let typed = pool.submit(|n: i32| Err::<(), i32>(n), 123).await;
        assert_eq!(typed.unwrap(), Err(123));
        let fails = |encodes| Err::<u64, Stuck>(Stuck { encodes });
        let error = pool.submit(fails, true).await.unwrap_err();
        assert!(error.is_decode(), "{error:#}");
        let panicked = pool.submit(|n: i32| assert_eq!(n, 0, "payload"), 123).await;
        let error = panicked.unwrap_err();
        let location = error.panic().unwrap().location().unwrap();
        assert!(location.contains(file!()), "{location}");
        goes_on(pool).await;
    });
}

#[test]
fn a_task_that_exits_or_is_killed() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let misdeeds = [
            (Misdeed::Exit(7), (Some(7), None)),
            (Misdeed::ExitAtOnce(0), (Some(0), None)),
            (Misdeed::Signal(libc::SIGKILL), (None, Some(libc::SIGKILL))),
        ];
        for (misdeed, expected) in misdeeds {
            let error = pool.submit(commit, misdeed).await.unwrap_err();
            assert!(error.is_worker_lost(), "{error:#}");
            let exit = error.worker_exit().unwrap().exit();
            assert_eq!((exit.code(), exit.signal()), expected);
        }
        goes_on(pool).await;
    });
}

#[test]
fn an_idle_worker_that_is_killed() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        for worker in pool.stats().workers {
            send(worker.pid, libc::SIGKILL);
        }
        goes_on(pool).await;
    });
}

#[test]
fn an_initializer_that_fails() {
    everywhere(|method| async move {
        fn fails(_: ()) -> Result<(), String> {
            Err("no license".to_owned())
        }
        let pool = builder(2, method).initializer(fails, ()).build().unwrap();
        let error = pool.submit(|n: u64| n, 1).await.unwrap_err();
        assert!(error.is_broken() && !error.maybe_executed());
        assert!(whole(&error).contains("no license"), "{error:#}");
        let started = pool.stats().workers_started;
        assert!(started < 20, "{started} starts");
        pool.join().await.unwrap();
    });
}

#[test]
fn a_task_that_prints_or_writes_to_the_descriptor_itself() {
    everywhere(|method| async move {
        let (line, lines) = mpsc::channel();
        let keep = move |printed: &procpool::WorkerLine<'_>| {
            let _ = line.send(printed.text.to_owned());
        };
        let pool = builder(2, method)
            .stdout(Stdio::lines(keep))
            .build()
            .unwrap();
        let prints = |text: String| {
            println!("printed {text}");
            fs::write("/proc/self/fd/1", format!("written {text}\n")).unwrap();
            std::io::stdout().flush().unwrap();
        };
        pool.submit(prints, "once".to_owned()).await.unwrap();
        assert_eq!(pool.stats().workers_ended, 0);
        goes_on(pool).await;
        // What was printed is handed over on a thread that callbacks share.
        let mut seen = Vec::new();
        let all = soon(PROMPTLY, || {
            seen.extend(lines.try_iter());
            seen.len() >= 2
        });
        assert!(all.await, "{seen:?}");
        seen.sort();
        assert_eq!(seen, ["printed once", "written once"]);
    });
}

#[test]
fn what_is_next_to_run_is_taken_back_and_what_runs_is_ended() {
    everywhere(|method| async move {
        let pool = builder(2, method).workers(1).build().unwrap();
        let running = pool.submit(hang, ());
        assert!(soon(PROMPTLY, || running.is_running()).await);
        let next: Vec<_> = (0..3).map(|n| pool.submit(|n: u64| n, n)).collect();
        for handle in next {
            assert!(!handle.is_running() && handle.cancel());
        }
        assert!(!running.cancel(), "it runs");
        let begun = Instant::now();
        assert!(running.abort() && running.is_done());
        assert!(running.await.unwrap_err().is_aborted());
        goes_on(pool).await;
        assert!(begun.elapsed() < PROMPTLY);
    });
}

/// How often the threads of a process have gone to sleep, or were sent to.
fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let status = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let count = |text: String| -> u64 {
        let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
        lines
            .filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
            .sum()
    };
    status.map(count).sum()
}

#[test]
fn idle_workers_that_wake_up_all_the_time() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        pool.submit(|n: u64| n, 1).await.unwrap();
        let pids: Vec<_> = pool
            .stats()
            .workers
            .iter()
            .map(|worker| worker.pid)
            .collect();
        let all = || pids.iter().map(|pid| switches(*pid)).sum::<u64>();
        // What the last call has left to do is over when nothing was done for a while.
        let mut before = u64::MAX;
        let quiet = soon(PROMPTLY, || {
            let now = all();
            std::thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut before, now) == now
        });
        assert!(quiet.await, "they never sleep");
        goes_on(pool).await;
    });
}
