//! Initializers and finalizers: what workers run around their calls.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;
mod support;

use std::cell::Cell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use deeds::{Scratch, pid_in};
use procpool::{
    BuildError, HookOutcome, ProcessPool, ProcessPoolBuilder, RemoteError, StartMethod, Stdio,
    TaskError,
};
use program::{Program, hear, role};
use support::{
    HANG, PROMPTLY, builder, descendants, eventually, everywhere, is_alive, runtime, scene, soon,
};

static WORD: OnceLock<String> = OnceLock::new();

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Leaves a mark with this process's number.
fn mark(scratch: &str) {
    deeds::touch(format!("{scratch}{}", std::process::id()));
}

/// Where to leave it.
fn within(scratch: &Scratch) -> String {
    scratch.at("")
}

/// Runs a test that takes its time once for each start method, and not on each kind of runtime.
fn with_each_method<F: Future<Output = ()>>(test: impl Fn(StartMethod) -> F) {
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let test = tokio::time::timeout(HANG, test(*method));
            assert!(test.await.is_ok(), "hangs with {method}");
        });
    }
}

/// CF-016, CF-111.
#[test]
fn the_initializer_has_run_once_in_every_worker_before_its_first_call() {
    fn initialize((word, scratch): (String, String)) {
        mark(&scratch);
        NUMBER.set(NUMBER.get() + 1);
        WORD.set(word).expect("it runs once");
    }
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let argument = ("initialized".to_owned(), within(&scratch));
        let pool = builder(1, method)
            .workers(2)
            .initializer(initialize, argument)
            .build()
            .unwrap();
        pool.ready().await.unwrap();
        assert_eq!(scratch.count(), 2, "a mark of each worker");
        let look = |_: ()| (WORD.get().cloned(), NUMBER.get(), std::process::id());
        for _ in 0..20 {
            let (word, number, pid) = pool.submit(look, ()).await.unwrap();
            assert_eq!((word.as_deref(), number), (Some("initialized"), 1));
            let marked = scratch.at(&pid.to_string());
            assert!(Path::new(&marked).exists());
        }
        assert_eq!(
            (WORD.get(), NUMBER.get()),
            (None, 0),
            "the program's own are untouched"
        );
        pool.shutdown().await;
        assert_eq!(scratch.count(), 2);
    });
}

#[test]
fn a_worker_that_replaces_another_is_initialized_too() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .initializer(|n| NUMBER.set(n), 7)
            .build()
            .unwrap();
        pool.submit(deeds::commit, deeds::Misdeed::Abort)
            .await
            .unwrap_err();
        assert_eq!(pool.submit(|_: ()| NUMBER.get(), ()).await.unwrap(), 7);
        pool.shutdown().await;
    });
}

/// How many arguments of initializers this process keeps for workers to come.
fn kept_for_workers() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let is_one = |path: &PathBuf| path.to_string_lossy().contains("procpool-hook");
    targets.filter(is_one).count()
}

#[test]
fn an_argument_may_be_larger_than_any_message() {
    everywhere(|method| async move {
        let keep = |word: String| WORD.set(word).unwrap();
        let word = "x".repeat(5_000_000);
        let pool = builder(1, method)
            .workers(2)
            .max_frame(1_000)
            .initializer(keep, word);
        let pool = pool.build().unwrap();
        pool.ready().await.unwrap();
        let length = |_: ()| WORD.get().map(String::len);
        assert_eq!(pool.submit(length, ()).await.unwrap(), Some(5_000_000));
        assert_eq!(kept_for_workers(), 1);
        pool.shutdown().await;
        let gone = soon(PROMPTLY, || kept_for_workers() == 0).await;
        assert!(gone, "a pool that is shut down keeps no argument");
    });
}

/// A pool with this initializer must be broken, not by endless starts, and everybody must be told
/// the reason.
async fn breaks<R: HookOutcome>(method: StartMethod, initializer: fn(String) -> R, text: &str) {
    let scratch = Scratch::new();
    let pool = builder(1, method).initializer(initializer, within(&scratch));
    let pool = pool.build().unwrap();
    let waiting = pool.submit(|n: u8| n, 1);
    let error = pool.ready().await.unwrap_err();
    assert!(error.to_string().contains(text), "{error}");
    for outcome in [waiting.await, pool.submit(|n: u8| n, 1).await] {
        let error: TaskError = outcome.unwrap_err();
        assert!(error.is_broken() && !error.maybe_executed(), "{error}");
        let source = error.source().unwrap().to_string();
        assert!(source.contains(text), "{source}");
    }
    let refused = pool.try_submit(|n: u8| n, 1).unwrap_err();
    assert!(refused.is_broken(), "{refused}");
    assert_eq!(scratch.count(), 5, "starts are not tried for ever");
    pool.shutdown().await;
}

fn fail(scratch: String) -> Result<(), String> {
    mark(&scratch);
    std::thread::sleep(Duration::from_millis(20));
    Err("error in initializer".to_owned())
}

fn panic(scratch: String) {
    mark(&scratch);
    panic!("error in initializer");
}

fn fail_with_a_cause(scratch: String) -> Result<(), RemoteError> {
    fail(scratch).map_err(|text| RemoteError::msg(text).context("no table"))
}

fn leave(scratch: String) {
    mark(&scratch);
    std::process::exit(3);
}

/// CF-017.
#[test]
fn an_initializer_that_fails_breaks_the_pool_and_everybody_is_told_why() {
    with_each_method(|method| async move {
        let panicked = "initializer failed: it panicked: error in initializer (at tests/hooks.rs:";
        tokio::join!(
            breaks(method, fail, "initializer failed: error in initializer"),
            breaks(
                method,
                fail_with_a_cause,
                "initializer failed: no table: error in"
            ),
            breaks(method, panic, panicked),
            breaks(method, leave, "ended before it was ready: exit code 3"),
        );
    });
}

/// CF-056.
#[test]
fn an_initializer_that_hangs_is_cut_off() {
    with_each_method(|method| async move {
        let scratch = Scratch::new();
        let hang = |scratch: String| {
            mark(&scratch);
            deeds::hang(());
        };
        let pool = builder(1, method).start_timeout(Duration::from_millis(200));
        let pool = pool.initializer(hang, within(&scratch)).build().unwrap();
        let waiting = pool.submit(|n: u8| n, 1);
        let error = pool.ready().await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(waiting.await.unwrap_err().is_broken());
        pool.shutdown().await;
        let patient = |_: ()| std::thread::sleep(Duration::from_millis(20));
        let pool = builder(1, method).start_timeout(Duration::from_secs(100));
        let pool = pool.initializer(patient, ()).build().unwrap();
        assert_eq!(pool.submit(|n: u8| n, 1).await.unwrap(), 1);
        pool.shutdown().await;
    });
}

#[test]
fn a_worker_that_hangs_in_its_initializer_ends_with_the_program() {
    if let Some(method) = role() {
        let hang = deeds::start_a_sleeper_and_hang;
        let pool = builder(1, method.parse().unwrap()).initializer(hang, hear());
        let pool = pool.build().unwrap();
        let _waiting = pool.submit(|n: u8| n, 1);
        return deeds::hang(());
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let name = "a_worker_that_hangs_in_its_initializer_ends_with_the_program";
        let mut program = Program::start(name, &method.to_string());
        let scratch = Scratch::new();
        let file = scratch.at("sleeper");
        program.tell(&file);
        assert!(eventually(PROMPTLY, || pid_in(&file).is_some()));
        let seen = descendants(program.pid());
        assert!(
            seen.contains(&pid_in(&file).unwrap()) && seen.len() >= 2,
            "{seen:?}"
        );
        assert!(deeds::send(program.pid(), libc::SIGKILL));
        program.end();
        assert!(eventually(PROMPTLY, || !seen
            .iter()
            .any(|pid| is_alive(*pid))));
    }
}

#[test]
fn four_starts_in_a_row_that_fail_break_nothing() {
    fn fail_at_first(scratch: String) -> Result<(), String> {
        for nth in 0..4 {
            let path = format!("{scratch}-{nth}");
            let made = std::fs::File::options()
                .write(true)
                .create_new(true)
                .open(path);
            if made.is_ok() {
                return Err(format!("no {nth}"));
            }
        }
        Ok(())
    }
    with_each_method(|method| async move {
        let scratch = Scratch::new();
        let pool = builder(1, method)
            .initializer(fail_at_first, scratch.at("try"))
            .build()
            .unwrap();
        pool.ready().await.unwrap();
        assert_eq!(scratch.count(), 4);
        assert_eq!(pool.submit(|n: u8| n, 1).await.unwrap(), 1);
        pool.shutdown().await;
    });
}

#[test]
fn what_the_initializer_prints_and_its_attributes_are_the_workers() {
    fn look(expected: String) -> Result<(), String> {
        println!("in {}", std::env::current_dir().unwrap().display());
        let nice = rustix::process::getpriority_process(None)
            .unwrap()
            .to_string();
        if nice == expected { Ok(()) } else { Err(nice) }
    }
    everywhere(|method| async move {
        let (line, lines) = std::sync::mpsc::channel();
        let handler = move |printed: &procpool::WorkerLine<'_>| {
            let _ = line.send(printed.text.to_owned());
        };
        let pool = builder(1, method)
            .nice(13)
            .current_dir("/")
            .stdout(Stdio::lines(handler));
        let pool = pool.initializer(look, "13".to_owned()).build().unwrap();
        pool.ready().await.unwrap();
        assert_eq!(lines.recv_timeout(PROMPTLY).unwrap(), "in /");
        pool.shutdown().await;
    });
}

#[test]
fn an_argument_that_cannot_be_encoded_is_an_error_of_build() {
    use std::os::unix::ffi::OsStrExt;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"\xff"));
    let pool = ProcessPool::builder().initializer(|path: PathBuf| drop(path), path);
    let error: BuildError = pool.build().unwrap_err();
    assert!(error.is_encode(), "{error}");
    assert!(
        error.source().unwrap().to_string().contains("PathBuf"),
        "{error:?}"
    );
    assert_eq!(
        format!("{error:#}"),
        format!("{error}: {}", error.source().unwrap())
    );
}

/// A pool whose workers leave a mark when they are finalized.
fn finalized(method: StartMethod, scratch: &Scratch) -> ProcessPoolBuilder {
    fn finalize() {
        mark(WORD.get().unwrap());
    }
    let keep = |scratch| WORD.set(scratch).unwrap();
    builder(1, method)
        .initializer(keep, within(scratch))
        .finalizer(finalize)
}

#[test]
fn the_finalizer_runs_when_a_worker_leaves_in_order() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = finalized(method, &scratch).workers(2).build().unwrap();
        pool.ready().await.unwrap();
        assert_eq!(pool.submit(|n: u8| n, 1).await.unwrap(), 1);
        assert!(scratch.count() == 0);
        pool.shutdown().await;
        assert_eq!(scratch.count(), 2);

        let scratch = Scratch::new();
        let pool = finalized(method, &scratch).build().unwrap();
        let last = pool.submit(|n: u8| n, 1);
        drop(pool);
        assert_eq!(last.await.unwrap(), 1);
        assert!(soon(PROMPTLY, || scratch.count() == 1).await);
    });
}

#[test]
fn the_finalizer_does_not_run_in_a_worker_that_is_killed_or_crashes() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let pool = finalized(method, &scratch).build().unwrap();
        pool.submit(deeds::commit, deeds::Misdeed::Abort)
            .await
            .unwrap_err();
        let endless = pool.submit(deeds::hang, ());
        assert!(soon(PROMPTLY, || endless.is_running()).await);
        endless.abort();
        pool.ready().await.unwrap();
        pool.terminate().await;
        assert!(scratch.count() == 0);
    });
}

#[test]
fn a_finalizer_that_fails_panics_or_hangs_keeps_nobody() {
    everywhere(|method| async move {
        type Finalizer = fn() -> Result<(), String>;
        let hooks: [(Finalizer, &str); 2] = [
            (|| Err("no flush".to_owned()), "finalizer failed: no flush"),
            (
                || panic!("no flush"),
                "finalizer failed: it panicked: no flush",
            ),
        ];
        for (hook, text) in hooks {
            let (line, lines) = std::sync::mpsc::channel();
            let handler = move |printed: &procpool::WorkerLine<'_>| {
                let _ = line.send(printed.text.to_owned());
            };
            let pool = builder(1, method)
                .finalizer(hook)
                .stderr(Stdio::lines(handler));
            let pool = pool.build().unwrap();
            pool.ready().await.unwrap();
            pool.shutdown().await;
            let said = lines.recv_timeout(PROMPTLY).unwrap();
            assert!(said.contains(text), "{said}");
        }
        let scratch = Scratch::new();
        let hang = || {
            mark(WORD.get().unwrap());
            deeds::hang(());
        };
        let pool = finalized(method, &scratch).finalizer(hang);
        let pool = pool
            .finalizer_timeout(Duration::from_millis(100))
            .build()
            .unwrap();
        pool.ready().await.unwrap();
        let begun = std::time::Instant::now();
        pool.shutdown().await;
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert!(begun.elapsed() < PROMPTLY);
        assert_eq!(scratch.count(), 1);
    });
}

/// Longer than a worker without a finalizer may take to leave.
#[test]
fn a_finalizer_has_its_time() {
    with_each_method(|method| async move {
        let scratch = Scratch::new();
        let slow = || {
            std::thread::sleep(Duration::from_millis(700));
            mark(WORD.get().unwrap());
        };
        let pool = finalized(method, &scratch).finalizer(slow).build().unwrap();
        pool.ready().await.unwrap();
        pool.shutdown().await;
        assert_eq!(scratch.count(), 1);
    });
}
