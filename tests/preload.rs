//! What a fork server does before it forks: once, for all of its workers, and what becomes of it when
//! it fails.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use deeds::{Misdeed, Scratch, commit, hang, own_pid, send, touch, wait_for};
use procpool::{
    HookOutcome, Process, ProcessPool, ProcessPoolBuilder, RemoteError, Restart, StartMethod, Stdio,
};
use program::{Program, role, say};
use support::{HANG, PROMPTLY, children, descendants, eventually, is_alive, runtime, scene, soon};

/// What is preloaded: in which process, and with which words.
static LOADED: OnceLock<(u32, Mutex<Vec<String>>)> = OnceLock::new();
static TIMES: AtomicU64 = AtomicU64::new(0);

fn load(word: String) {
    TIMES.fetch_add(1, Ordering::Relaxed);
    let (_, words) = LOADED.get_or_init(|| (std::process::id(), Mutex::default()));
    words.lock().unwrap().push(word);
}

fn look(_: ()) -> Option<(u32, Vec<String>, u64)> {
    let (pid, words) = LOADED.get()?;
    Some((
        *pid,
        words.lock().unwrap().clone(),
        TIMES.load(Ordering::Relaxed),
    ))
}

fn here<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for threads in [1, 2] {
        let scene = scene();
        let runtime = runtime(threads);
        runtime.block_on(async { tokio::time::timeout(HANG, test()).await.unwrap() });
        drop(runtime);
        drop(scene);
    }
}

fn workers(count: usize) -> ProcessPoolBuilder {
    ProcessPool::builder().workers(count)
}

/// CF-272.
#[test]
fn what_is_preloaded_is_made_once_and_all_workers_have_it() {
    here(|| async {
        let words = ["one", "two"].map(str::to_owned);
        let [one, two] = words.clone();
        let pool = workers(3)
            .preload(load, one)
            .preload(load, two)
            .build()
            .unwrap();
        assert!(children().is_empty());
        pool.ready().await.unwrap();
        let server = children();
        let mut seen = BTreeSet::new();
        for key in 0..50_u32 {
            let task = pool.task(|()| (std::process::id(), look(()))).key(key);
            let (pid, found) = task.submit(()).await.unwrap();
            assert_eq!(found, Some((server[0], words.to_vec(), 2)));
            seen.insert(pid);
        }
        assert_eq!((seen.len(), server.len()), (3, 1));
        // Workers that come later have it, too.
        let lost = pool.submit(commit, Misdeed::Abort).await.unwrap_err();
        assert!(lost.is_worker_lost());
        assert!(pool.submit(look, ()).await.unwrap().is_some());
        assert!(LOADED.get().is_none());
        pool.shutdown().await;
    });
}

/// A server that is lost is replaced by one that has it as well.
#[test]
fn the_next_fork_server_preloads_again() {
    here(|| async {
        let pool = workers(1).preload(load, "one".to_owned()).build().unwrap();
        let (first, ..) = pool.submit(look, ()).await.unwrap().unwrap();
        send(first, libc::SIGKILL);
        let (mut next, mut times) = (first, 0);
        for _ in 0..1000 {
            (next, _, times) = pool.submit(look, ()).await.unwrap().unwrap();
            if next != first {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(next != first && times == 1);
        pool.shutdown().await;
    });
}

async fn failure<A, R>(limit: Duration, function: fn(A) -> R, argument: A) -> String
where
    A: serde::Serialize + serde::de::DeserializeOwned,
    R: HookOutcome,
{
    let builder = workers(2)
        .stderr(Stdio::null())
        .start_timeout(limit)
        .restart(Restart::Never);
    let pool = builder.preload(function, argument).build().unwrap();
    let error = pool.ready().await.unwrap_err();
    assert!(error.is_preload() && !error.is_initializer(), "{error}");
    pool.shutdown().await;
    error.to_string()
}

/// CF-272: each way to fail says what it was, and nothing hangs.
#[test]
fn a_preload_that_fails_is_told_with_its_reason() {
    here(|| async {
        let says = |text: String| Err::<(), _>(text);
        let panics: fn(()) = |()| panic!("index out of range");
        let leaves = |()| drop(std::thread::spawn(|| hang(())));
        // Each is tried five times, with pauses between.
        let (said, panicked, exited, hung, left) = tokio::join!(
            failure(HANG, says, "no such table".to_owned()),
            failure(HANG, panics, ()),
            failure(HANG, commit, Misdeed::ExitAtOnce(3)),
            failure(Duration::from_millis(300), hang, ()),
            failure(HANG, leaves, ()),
        );
        assert_eq!(said, "preload failed: no such table");
        let panic = "preload failed: it panicked: index out of range";
        assert!(
            panicked.starts_with(panic) && panicked.contains("tests/preload.rs:"),
            "{panicked}"
        );
        assert!(exited.contains("ended: exit code 3"), "{exited}");
        assert!(hung.contains("longer than 300ms"), "{hung}");
        assert!(left.contains("left threads running (1)"), "{left}");
    });
}

/// A pool heals from a preload that fails now and then, as from any start.
#[test]
fn a_preload_that_works_the_second_time_is_tried_again() {
    fn second_time(path: String) -> Result<(), String> {
        if std::path::Path::new(&path).exists() {
            return Ok(());
        }
        touch(path);
        Err("not yet".to_owned())
    }
    here(|| async {
        let scratch = Scratch::new();
        let pool = workers(1)
            .preload(second_time, scratch.at("tried"))
            .build()
            .unwrap();
        let task = pool.submit(own_pid, ());
        assert!(is_alive(task.await.unwrap()));
        pool.shutdown().await;
    });
}

/// Threads that were there and are not any more are no hindrance; nor is a lock that is made.
#[test]
fn a_preload_may_use_threads_and_programs_while_it_runs() {
    fn work(_: ()) -> Result<(), RemoteError> {
        let threads = (0..4).map(|_| std::thread::spawn(|| load("a thread".to_owned())));
        for thread in threads.collect::<Vec<_>>() {
            thread.join().map_err(|_| RemoteError::msg("it panicked"))?;
        }
        let output = std::process::Command::new("echo").arg("hello").output()?;
        load(String::from_utf8_lossy(&output.stdout).into_owned());
        Ok(())
    }
    here(|| async {
        let pool = workers(2).preload(work, ()).build().unwrap();
        pool.ready().await.unwrap();
        let (_, words, times) = pool.submit(look, ()).await.unwrap().unwrap();
        assert_eq!((words.len(), times), (5, 5));
        assert!(words.contains(&"hello\n".to_owned()));
        pool.shutdown().await;
    });
}

/// The end of a pool does not wait for what it is about to load.
#[test]
fn a_pool_can_be_ended_while_it_preloads() {
    here(|| async {
        let pool = workers(2).preload(hang, ()).build().unwrap();
        let task = pool.submit(own_pid, ());
        assert!(soon(PROMPTLY, || !children().is_empty()).await);
        let begun = Instant::now();
        pool.terminate().await;
        assert!(begun.elapsed() < PROMPTLY);
        assert!(task.await.unwrap_err().is_shut_down());
        assert!(children().is_empty());
    });
}

/// Decision 10: also a server that is still loading dies with its program.
#[test]
fn a_preload_ends_with_its_program() {
    const NAME: &str = "a_preload_ends_with_its_program";
    if role().is_some() {
        let _pool = workers(1).min_workers(1).preload(hang, ()).build().unwrap();
        let mut seen = Vec::new();
        assert!(eventually(PROMPTLY, || {
            seen = descendants(std::process::id());
            let is_loading = |pid: &u32| {
                let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
                tasks.is_ok_and(|tasks| tasks.count() == 2)
            };
            seen.iter().any(is_loading)
        }));
        say(seen[0]);
        hang(());
    }
    let _scene = scene();
    let mut program = Program::start(NAME, "loads");
    let pids = program.hear_pids();
    assert!(send(program.pid(), libc::SIGKILL));
    program.end();
    assert!(eventually(PROMPTLY, || !pids
        .iter()
        .any(|pid| is_alive(*pid))));
}

/// What cannot be shared is not preloaded.
#[test]
fn only_a_fork_server_preloads() {
    let _scene = scene();
    let builder = workers(1).preload(load, String::new());
    let error = builder
        .clone()
        .start_method(StartMethod::Spawn)
        .build()
        .unwrap_err();
    assert!(error.is_invalid_argument(), "{error}");
    for method in [StartMethod::Spawn, StartMethod::Fork] {
        let builder = Process::builder()
            .start_method(method)
            .preload(load, String::new());
        let error = builder.spawn(own_pid, ()).blocking_wait().unwrap_err();
        assert!(error.is_invalid_argument(), "{error}");
    }
    // In place there is nobody to share with, and it is run all the same.
    static IN_PLACE: AtomicU64 = AtomicU64::new(0);
    let count = |n| {
        IN_PLACE.fetch_add(n, Ordering::Relaxed);
    };
    let pool = workers(1).inline().preload(count, 5).build().unwrap();
    let seen = |()| IN_PLACE.load(Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(pool.submit(seen, ()).blocking_wait(None).unwrap(), 5);
    }
}

/// Processes with the same to preload share it, and others do not.
#[test]
fn processes_share_what_their_builder_preloads() {
    here(|| async {
        let scratch = Scratch::new();
        let builder = Process::builder().preload(load, "table".to_owned());
        let kept = builder
            .clone()
            .spawn(wait_for, scratch.at("open"))
            .await
            .unwrap();
        let mut servers = BTreeSet::new();
        for _ in 0..3 {
            let process = builder.clone().spawn(look, ()).await.unwrap();
            let (pid, words, times) = process.join().await.unwrap().unwrap();
            assert_eq!((words, times), (vec!["table".to_owned()], 1));
            servers.insert(pid);
        }
        assert_eq!(servers.len(), 1);
        let other = Process::builder().preload(load, "other".to_owned());
        let other = other
            .spawn(look, ())
            .await
            .unwrap()
            .join()
            .await
            .unwrap()
            .unwrap();
        assert!(!servers.contains(&other.0) && other.1 == ["other"]);
        let none = Process::spawn(look, ()).await.unwrap();
        assert_eq!(none.join().await.unwrap(), None);
        touch(scratch.at("open"));
        kept.join().await.unwrap();

        let fails: fn(()) = |()| panic!("no table");
        let builder = Process::builder().stderr(Stdio::null()).preload(fails, ());
        let error = builder.spawn(own_pid, ()).await.unwrap_err();
        assert!(error.start_error().unwrap().is_preload());
        assert!(format!("{error:#}").contains("no table"), "{error:#}");
    });
}
