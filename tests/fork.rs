//! Processes that are forked from the program itself. That needs a program of one thread, which the
//! usual harness is not: here the cases are run one after the other, on the main thread.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/kin.rs"]
mod kin;
#[path = "support/terminal.rs"]
mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio as Pipe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use deeds::{
    Misdeed, Scratch, commit, hang, own_pid, pid_in, send, start_a_sleeper_and_hang, state_of,
    touch, wait_for,
};
use kin::{key, lineage};
use procpool::connection::{Sender, blocking_wait};
use procpool::{
    Connection, Fd, Process, ProcessBuilder, ProcessPool, StartMethod, Stdio, active_children,
    one_way, pipe, processes, wait,
};
use support::{PROMPTLY, children, descendants, eventually, is_alive, runtime, scene, soon};
use terminal::{begin_session, own_terminal, terminal, write_from_behind};

const CASES: &[(&str, fn())] = &[
    (
        "a_copy_has_its_parents_memory_and_a_life_of_its_own",
        memory,
    ),
    ("a_copy_knows_itself_and_its_parent", lineage),
    ("a_copy_has_its_parents_key_until_it_is_given_another", key),
    ("values_and_descriptors_go_there_and_back", values),
    ("a_copy_ends_as_other_processes_do", ends),
    ("waiting_on_a_thread_needs_no_other", waiting),
    ("a_runtime_may_be_started_after_it", runtime_after),
    ("a_scope_waits_for_copies_too", scopes),
    ("a_copy_is_reaped_when_its_handle_is_dropped", dropped),
    ("five_generations_have_as_many_descriptors", generations),
    ("a_copy_does_not_have_its_siblings_descriptors", siblings),
    (
        "a_copy_may_have_threads_a_runtime_and_a_pool",
        everything_within,
    ),
    ("a_program_with_threads_is_not_forked", threads),
    ("a_program_within_a_runtime_is_not_forked", within_a_runtime),
    ("a_hundred_copies_are_made_and_terminated", many),
    ("copies_die_with_their_program", die_with_program),
    ("what_was_printed_before_is_printed_once", printed_once),
    ("a_copy_may_write_to_a_terminal", at_a_terminal),
    (
        "nothing_that_is_for_the_programs_end_is_done_at_the_copies",
        no_exit_handlers,
    ),
];

/// By this variable a case has this binary play a role.
const ROLE: &str = "PROCPOOL_TEST_ROLE";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return CASES.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let mut filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'));
    let filter = filters.next().map_or("", String::as_str);
    let chosen = CASES.iter().filter(|(name, _)| name.contains(filter));
    let (mut passed, mut failed) = (0, 0);
    println!("\nrunning {} tests", chosen.clone().count());
    for (name, case) in chosen {
        let verdict = match catch_unwind(AssertUnwindSafe(case)) {
            Ok(()) => {
                passed += 1;
                "ok"
            }
            Err(_) => {
                failed += 1;
                "FAILED"
            }
        };
        println!("test {name} ... {verdict}");
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed");
    std::process::exit(i32::from(failed > 0));
}

fn fork() -> ProcessBuilder {
    Process::builder().start_method(StartMethod::Fork)
}

static MARK: AtomicU32 = AtomicU32::new(0);

/// CF-267: what no other method gives.
fn memory() {
    let _scene = scene();
    MARK.store(7, Ordering::Relaxed);
    let process = fork()
        .spawn(|n| MARK.swap(n, Ordering::Relaxed), 8)
        .blocking_wait()
        .unwrap();
    assert_eq!(process.blocking_join(None).unwrap(), 7);
    assert_eq!(MARK.load(Ordering::Relaxed), 7);
}

/// CF-125, CF-150, CF-153.
fn values() {
    let _scene = scene();
    for length in [0, 3_000_000] {
        let bytes = Bytes::from(vec![7; length]);
        let process = fork()
            .spawn(|bytes: Bytes| bytes, bytes.clone())
            .blocking_wait()
            .unwrap();
        assert!(process.blocking_join(None).unwrap() == bytes);
    }
    let (mut here, there) = UnixStream::pair().unwrap();
    let print = |mut to: Fd<UnixStream>| {
        write!(*to, "{}", std::env::var("A").unwrap()).unwrap();
        to
    };
    let builder = fork().env("A", "hello").stdout(Stdio::null());
    let process = builder.spawn(print, Fd(there)).blocking_wait().unwrap();
    drop(process.blocking_join(None).unwrap());
    let mut printed = String::new();
    here.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "hello");
    assert!(std::env::var("A").is_err());
    let error = fork()
        .stdout(Stdio::capture())
        .spawn(hang, ())
        .blocking_wait()
        .unwrap_err();
    assert!(error.is_invalid_argument(), "{error}");
}

/// CF-129, CF-130, CF-141, CF-151, CF-152.
fn ends() {
    let _scene = scene();
    type Deed = fn(&Process<()>);
    let deeds: [(Deed, i32); 3] = [
        (|process| process.terminate().unwrap(), libc::SIGTERM),
        (|process| process.interrupt().unwrap(), libc::SIGINT),
        (|process| process.kill(), libc::SIGKILL),
    ];
    for (deed, signal) in deeds {
        let process = fork().spawn(hang, ()).blocking_wait().unwrap();
        deed(&process);
        for _ in 0..2 {
            let error = process.blocking_join(Some(PROMPTLY)).unwrap_err();
            assert_eq!(error.exit().unwrap().signal(), Some(signal), "{error}");
            deed(&process);
        }
    }
    let process = fork()
        .spawn(commit, Misdeed::Exit(8))
        .blocking_wait()
        .unwrap();
    assert_eq!(process.blocking_wait(None).unwrap().code(), Some(8));
    let fail: fn(()) = |()| panic!("something went wrong");
    let process = fork()
        .stderr(Stdio::null())
        .spawn(fail, ())
        .blocking_wait()
        .unwrap();
    let error = process.blocking_join(None).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "something went wrong");
    assert_eq!(error.exit().unwrap().code(), Some(101));
    process.close().unwrap();
}

/// CF-131, CF-133, CF-135, CF-137: and so another can be forked meanwhile and afterwards.
fn waiting() {
    let _scene = scene();
    let scratch = Scratch::new();
    let start = || {
        fork()
            .spawn(wait_for, scratch.at("open"))
            .blocking_wait()
            .unwrap()
    };
    let (first, second) = (start(), start());
    for limit in [0, 10] {
        let limit = Some(Duration::from_millis(limit));
        assert!(first.blocking_join(limit).unwrap_err().is_timeout());
        assert!(blocking_wait([&first, &second], limit).unwrap().is_empty());
    }
    assert!(first.is_alive() && first.exit().is_none());
    assert_eq!(active_children().len(), 2);
    touch(scratch.at("open"));
    assert!(eventually(PROMPTLY, || blocking_wait(
        [&first, &second],
        None
    )
    .unwrap()
        == [0, 1]));
    // Known when it is seen, and the same each time.
    assert!(first.exit().unwrap().success() && second.exit().unwrap().success());
    assert!(active_children().is_empty() && children().is_empty());
    assert_eq!(first.blocking_join(None).unwrap(), first.pid());
    assert_eq!(
        first.blocking_join(Some(Duration::ZERO)).unwrap(),
        first.pid()
    );
    let third = start();
    assert_eq!(third.blocking_join(None).unwrap(), third.pid());
}

/// Forked before, waited for within: that is what it is for.
fn runtime_after() {
    for threads in [1, 2] {
        let _scene = scene();
        let scratch = Scratch::new();
        let (mut here, there) = pipe().unwrap();
        let answer = |mut connection: Connection<u32, u32>| {
            let n = connection.blocking_recv(None).unwrap();
            connection.blocking_send(&(n + 1), None).unwrap();
        };
        let talker = fork().spawn(answer, there).blocking_wait().unwrap();
        let waiter = fork()
            .spawn(wait_for, scratch.at("open"))
            .blocking_wait()
            .unwrap();
        runtime(threads).block_on(async {
            here.send(&1).await.unwrap();
            assert_eq!(here.recv().await.unwrap(), 2);
            assert!(
                waiter
                    .join_timeout(Duration::ZERO)
                    .await
                    .unwrap_err()
                    .is_timeout()
            );
            talker.join().await.unwrap();
            touch(scratch.at("open"));
            assert_eq!(wait([&waiter], Some(PROMPTLY)).await.unwrap(), [0]);
            let joins = (0..10).map(|_| waiter.join());
            let joined = futures::future::try_join_all(joins).await.unwrap();
            assert_eq!(joined, [waiter.pid(); 10]);
            assert!(waiter.exit().unwrap().success());
        });
        assert_eq!(waiter.blocking_join(None).unwrap(), waiter.pid());
    }
}

/// Twice, for it leaves the program with one thread.
fn scopes() {
    let _scene = scene();
    for _ in 0..2 {
        let (process, daemon) = processes::blocking_scope(|scope| {
            let builder = || scope.builder().start_method(StartMethod::Fork);
            let nap = |()| std::thread::sleep(Duration::from_millis(10));
            let process = builder().spawn(nap, ()).blocking_wait().unwrap();
            let daemon = builder()
                .daemon(true)
                .spawn(hang, ())
                .blocking_wait()
                .unwrap();
            (process, daemon)
        });
        assert!(process.exit().unwrap().success());
        assert_eq!(daemon.exit().unwrap().signal(), Some(libc::SIGTERM));
    }
}

fn dropped() {
    let _scene = scene();
    let scratch = Scratch::new();
    let process = fork()
        .spawn(wait_for, scratch.at("open"))
        .blocking_wait()
        .unwrap();
    let pid = process.pid();
    drop(process);
    assert_eq!(active_children()[0].pid(), pid);
    touch(scratch.at("open"));
    assert!(eventually(PROMPTLY, || state_of(pid).is_none()));
    assert!(active_children().is_empty());
    // What is over when it is dropped needs nobody.
    let process = fork().spawn(own_pid, ()).blocking_wait();
    assert!(eventually(PROMPTLY, || process.is_err()
        || children().is_empty()
        || state_of(children()[0]) == Some('Z')));
    drop(process);
    assert!(eventually(PROMPTLY, || children().is_empty()));
}

fn count_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// CF-134, CF-276.
fn generations() {
    let _scene = scene();
    fn descend(left: u32) -> Vec<usize> {
        let mut counts = vec![count_descriptors()];
        if left > 0 {
            let process = Process::spawn(descend, left - 1).blocking_wait().unwrap();
            counts.extend(process.blocking_join(None).unwrap());
        }
        counts
    }
    let process = fork().spawn(descend, 4).blocking_wait().unwrap();
    let counts = process.blocking_join(None).unwrap();
    assert_eq!(counts, [counts[0]; 5]);
}

/// CF-140, for what is the crate's.
fn siblings() {
    let _scene = scene();
    let mut kept = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..5 {
        let scratch = Scratch::new();
        let tell = |path: String| {
            std::fs::write(format!("{path}.new"), count_descriptors().to_string()).unwrap();
            std::fs::rename(format!("{path}.new"), path).unwrap();
            hang(());
        };
        let process = fork()
            .spawn(tell, scratch.at("count"))
            .blocking_wait()
            .unwrap();
        assert!(eventually(PROMPTLY, || pid_in(&scratch.at("count")).is_some()));
        counts.push(pid_in(&scratch.at("count")).unwrap());
        kept.push(process);
    }
    assert_eq!(counts, [counts[0]; 5]);
    for process in kept {
        process.kill();
        process.blocking_wait(None).unwrap();
    }
}

/// CF-146, CF-275.
fn everything_within() {
    let _scene = scene();
    fn work(mut to: Sender<u32>) {
        std::thread::spawn(|| ()).join().unwrap();
        runtime(2).block_on(async {
            to.send(&1).await.unwrap();
            let pool = ProcessPool::builder().workers(1).build().unwrap();
            to.send(&pool.submit(|n: u32| n + 1, 1).await.unwrap())
                .await
                .unwrap();
            pool.shutdown().await;
            let process = Process::builder().start_method(StartMethod::ForkServer);
            let process = process.spawn(|n: u32| n + 1, 2).await.unwrap();
            to.send(&process.join().await.unwrap()).await.unwrap();
        });
    }
    let (sender, mut receiver) = one_way().unwrap();
    let process = fork().spawn(work, sender).blocking_wait().unwrap();
    for n in 1..4 {
        assert_eq!(receiver.blocking_recv(Some(PROMPTLY)).unwrap(), n);
    }
    process.blocking_join(None).unwrap();
    // An async function has a runtime of its own.
    async fn nap(millis: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    }
    let process = fork().spawn_async(nap, 5).blocking_wait().unwrap();
    assert_eq!(process.blocking_join(None).unwrap(), 5);
}

/// Row 1, CF-274.
fn threads() {
    let _scene = scene();
    std::thread::scope(|scope| {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        let error = fork().spawn(hang, ()).blocking_wait().unwrap_err();
        assert!(error.is_fork_refused(), "{error}");
        assert!(error.to_string().contains("2 threads"), "{error}");
        drop(go);
    });
    // The crate's own thread is one, and goes with the last who needs it.
    let other = Process::builder().start_method(StartMethod::Spawn);
    let other = other.spawn(own_pid, ()).blocking_wait().unwrap();
    let error = fork().spawn(hang, ()).blocking_wait().unwrap_err();
    assert!(error.is_fork_refused(), "{error}");
    other.blocking_join(None).unwrap();
    let mut process = None;
    let forked = eventually(PROMPTLY, || {
        process = fork().spawn(own_pid, ()).blocking_wait().ok();
        process.is_some()
    });
    assert!(forked && process.unwrap().blocking_join(None).is_ok());
}

fn within_a_runtime() {
    let _scene = scene();
    runtime(1).block_on(async {
        let error = fork().spawn(hang, ()).await.unwrap_err();
        assert!(error.is_fork_refused(), "{error}");
        assert!(error.to_string().contains("runtime"), "{error}");
    });
    assert!(children().is_empty());
}

/// CF-138.
fn many() {
    let _scene = scene();
    let nap = |()| std::thread::sleep(Duration::from_millis(10));
    let start = |_| fork().spawn(nap, ()).blocking_wait().unwrap();
    let started: Vec<_> = (0..100).map(start).collect();
    started
        .iter()
        .for_each(|process| process.blocking_join(None).unwrap());
    let start = |_| fork().spawn(hang, ()).blocking_wait().unwrap();
    let started: Vec<_> = (0..100).map(start).collect();
    for process in &started {
        process.terminate().unwrap();
    }
    for process in started {
        assert_eq!(
            process.blocking_wait(None).unwrap().signal(),
            Some(libc::SIGTERM)
        );
    }
}

/// Starts this binary in a role.
fn program(role: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .env(ROLE, role)
        .stdin(Pipe::piped())
        .stdout(Pipe::piped());
    program
}

fn play(role: &str) {
    match role.split_once(' ').unwrap_or((role, "")) {
        ("parent", _) => have_copies(),
        ("prints", _) => {
            print!("once");
            let process = fork().spawn(|()| println!(" copy"), ());
            let process = process.blocking_wait().unwrap();
            process.blocking_join(None).unwrap();
            println!("parent");
        }
        ("terminal", _) => {
            let process = fork().spawn(write_from_behind, own_terminal());
            let process = process.blocking_wait().unwrap();
            assert!(process.blocking_join(Some(PROMPTLY)).unwrap());
        }
        ("exits", path) => {
            // It is run at the end of this process.
            let daemon = |path: String| {
                let runtime = runtime(1);
                runtime.block_on(async {
                    use tokio::signal::unix::{SignalKind, signal};
                    let mut asked = signal(SignalKind::terminate()).unwrap();
                    touch(format!("{path}.ready"));
                    asked.recv().await;
                });
                touch(path);
            };
            let daemon = fork().daemon(true).spawn(daemon, path.to_owned());
            let _daemon = daemon.blocking_wait().unwrap();
            let ready = format!("{path}.ready");
            assert!(eventually(PROMPTLY, || std::path::Path::new(&ready).exists()));
            let process = fork().spawn(commit, Misdeed::Exit(0));
            process.blocking_wait().unwrap().blocking_wait(None);
            assert!(!std::path::Path::new(path).exists());
        }
        _ => unreachable!("{role}"),
    }
}

fn have_copies() {
    let scratch = Scratch::new();
    let start = |path: &str| {
        let start = fork().spawn(start_a_sleeper_and_hang, scratch.at(path));
        start.blocking_wait().unwrap()
    };
    let _busy = start("busy");
    let stopped = start("stopped");
    let is_ready = |path: &&str| pid_in(&scratch.at(path)).is_some();
    assert!(eventually(PROMPTLY, || ["busy", "stopped"]
        .iter()
        .all(is_ready)));
    send(stopped.pid(), libc::SIGSTOP);
    assert!(eventually(PROMPTLY, || state_of(stopped.pid()) == Some('T')));
    let seen = descendants(std::process::id());
    let seen: Vec<_> = seen.iter().map(u32::to_string).collect();
    drop(scratch);
    println!("{}", seen.join(" "));
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Rows 13 and 14: also one that is stopped, and what they have started.
fn die_with_program() {
    for kill in [true, false] {
        let _scene = scene();
        let mut program = program("parent").spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let pids = line.split_whitespace().map(|pid| pid.parse().unwrap());
        let pids: Vec<u32> = pids.collect();
        assert_eq!(pids.len(), 4);
        if kill {
            program.kill().unwrap();
        }
        drop(program.stdin.take());
        program.wait().unwrap();
        assert!(
            eventually(PROMPTLY, || !pids.iter().any(|pid| is_alive(*pid))),
            "{pids:?}"
        );
    }
}

fn printed_once() {
    let _scene = scene();
    let printed = program("prints").output().unwrap();
    assert_eq!(printed.stdout, b"once copy\nparent\n");
}

fn at_a_terminal() {
    let _scene = scene();
    let (_keys, screen) = terminal();
    let mut program = program("terminal");
    begin_session(&mut program, &screen);
    assert!(program.status().unwrap().success());
}

/// CF-127: daemons are asked to end when their parent does, and not when a copy of that does.
fn no_exit_handlers() {
    let _scene = scene();
    let scratch = Scratch::new();
    let ended = program(&format!("exits {}", scratch.at("asked")))
        .output()
        .unwrap();
    assert!(ended.status.success());
    assert!(std::path::Path::new(&scratch.at("asked")).exists());
    // Waited for, though it is not the program's child.
    let gone = runtime(1).block_on(soon(PROMPTLY, || scratch.count() == 2));
    assert!(gone);
}
