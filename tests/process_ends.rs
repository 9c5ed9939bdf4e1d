//! How processes end: by themselves, by a signal, with their scope, with their program; and that
//! nothing is left of them.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

#[path = "support/program.rs"]
mod program;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use deeds::{
    Misdeed, Scratch, commit, hang, own_pid, pid_in, send, start_a_sleeper,
    start_a_sleeper_and_hang, state_of, touch, wait_for,
};
use procpool::{
    Connection, Fd, Process, ProcessBuilder, StartMethod, Stdio, active_children, pipe, processes,
};
use program::{Program, hear, role, say};
use support::{
    HANG, PROMPTLY, children, descendants, eventually, everywhere, is_alive, runtime, scene, soon,
};

fn by(method: StartMethod) -> ProcessBuilder {
    Process::builder().start_method(method)
}

/// Says that it is there, and sleeps.
fn arrive(mut to: Connection<(), ()>) {
    to.blocking_send(&(), None).unwrap();
    hang(());
}

/// CF-129, CF-130, CF-152.
#[test]
fn a_signal_through_the_handle_ends_the_process_and_is_its_exit() {
    type Deed = fn(&Process<()>);
    let deeds: [(Deed, i32); 3] = [
        (|process| process.terminate().unwrap(), libc::SIGTERM),
        (|process| process.interrupt().unwrap(), libc::SIGINT),
        (|process| process.kill(), libc::SIGKILL),
    ];
    everywhere(|method| async move {
        for (deed, signal) in deeds {
            let (mut here, there) = pipe().unwrap();
            let process = by(method).spawn(arrive, there).await.unwrap();
            here.recv().await.unwrap();
            deed(&process);
            for _ in 0..2 {
                let error = process.join_timeout(PROMPTLY).await.unwrap_err();
                assert!(
                    error.is_lost() && !error.is_panic() && !error.is_timeout(),
                    "{error}"
                );
                assert_eq!(error.exit().unwrap().signal(), Some(signal));
            }
            assert!(!process.is_alive() && active_children().is_empty());
            // Once more harms nobody.
            deed(&process);
            assert_eq!(process.exit().unwrap().signal(), Some(signal));
        }
    });
}

/// CF-138: wherever they are on their way to their function.
#[test]
fn a_hundred_processes_are_terminated_as_soon_as_they_are_there() {
    everywhere(|method| async move {
        let count = if method == StartMethod::Spawn {
            20
        } else {
            100
        };
        let starts: Vec<_> = (0..count).map(|_| by(method).spawn(hang, ())).collect();
        for start in starts {
            let process = start.await.unwrap();
            process.terminate().unwrap();
            let exit = process.wait().await;
            assert_eq!(exit.signal(), Some(libc::SIGTERM), "{exit}");
        }
    });
}

/// CF-141.
#[test]
fn exit_codes_are_those_of_the_function() {
    everywhere(|method| async move {
        let process = by(method).spawn(|n: u8| n, 1).await.unwrap();
        process.join().await.unwrap();
        assert_eq!(process.exit().unwrap().code(), Some(0));
        for code in [0, 8] {
            let process = by(method).spawn(commit, Misdeed::Exit(code)).await.unwrap();
            let error = process.join().await.unwrap_err();
            assert!(error.is_lost(), "{error}");
            assert_eq!(process.exit().unwrap().code(), Some(code));
        }
        for misdeed in [Misdeed::Abort, Misdeed::Overflow] {
            let process = by(method)
                .stderr(Stdio::null())
                .spawn(commit, misdeed)
                .await
                .unwrap();
            let exit = process.join().await.unwrap_err().exit().unwrap();
            assert_eq!(exit.signal(), Some(libc::SIGABRT), "{misdeed:?}");
        }
    });
}

struct AbortsWhenDropped;

impl serde::Serialize for AbortsWhenDropped {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for AbortsWhenDropped {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <()>::deserialize(from)?;
        Ok(Self)
    }
}

impl Drop for AbortsWhenDropped {
    fn drop(&mut self) {
        // In the process, and not where it was joined.
        if procpool::parent_process().is_some() {
            std::process::abort();
        }
    }
}

/// What was returned is returned, whatever the process dies of afterwards.
#[test]
fn a_value_that_was_there_survives_its_process() {
    everywhere(|method| async move {
        let process = by(method).spawn(|()| AbortsWhenDropped, ()).await.unwrap();
        drop(process.join().await.unwrap());
        assert_eq!(process.exit().unwrap().signal(), Some(libc::SIGABRT));
    });
}

#[expect(unsafe_code, reason = "nothing else closes a standard stream")]
fn close_outputs() {
    // SAFETY: the standard streams belong to nobody.
    unsafe {
        libc::close(1);
        libc::close(2);
    }
}

/// CF-143.
#[test]
fn closed_outputs_are_no_reason_to_fail() {
    fn close_and_print(_: ()) -> u32 {
        close_outputs();
        own_pid(())
    }
    everywhere(|method| async move {
        let process = by(method).spawn(close_and_print, ()).await.unwrap();
        assert_eq!(process.join().await.unwrap(), process.pid());
        assert!(process.exit().unwrap().success());
        // To an output whose other end is closed.
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        let builder = by(method).stdout(Stdio::to(there));
        let process = builder.spawn(|()| print!("to nobody"), ()).await.unwrap();
        process.join().await.unwrap();
        assert!(process.exit().unwrap().success());
    });
}

/// CF-143, in the program itself: what it starts has outputs all the same, which go nowhere.
#[test]
fn a_program_without_outputs_starts_processes() {
    const NAME: &str = "a_program_without_outputs_starts_processes";
    if let Some(method) = role() {
        close_outputs();
        let print = |text: String| {
            println!("{text}");
            eprintln!("{text}");
            own_pid(())
        };
        let process = by(method.parse().unwrap()).spawn(print, "hello".to_owned());
        let process = process.blocking_wait().unwrap();
        let value = process.blocking_join(Some(HANG));
        let fine = value.is_ok_and(|pid| pid == process.pid()) && process.exit().unwrap().success();
        std::process::exit(if fine { 0 } else { 3 });
    }
    for method in StartMethod::available() {
        let _scene = scene();
        let mut program = Program::start(NAME, &method.to_string());
        assert_eq!(program.end().code(), Some(0), "{method}");
    }
}

/// CF-144: a thread that is left behind ends with the process, and tears no message.
#[test]
fn threads_end_with_their_process() {
    fn leave_a_thread(mut to: Connection<Vec<u8>, ()>) {
        std::thread::spawn(move || while to.blocking_send(&vec![7; 100_000], None).is_ok() {});
        std::thread::sleep(Duration::from_millis(5));
    }
    everywhere(|method| async move {
        let (mut here, there) = pipe::<(), Vec<u8>>().unwrap();
        let process = by(method).spawn(leave_a_thread, there).await.unwrap();
        let error = loop {
            match here.recv().await {
                Ok(message) => assert!(message == vec![7; 100_000]),
                Err(error) => break error,
            }
        };
        // The last was finished before the process ended.
        assert!(error.is_closed(), "{error}");
        process.join().await.unwrap();
    });
}

/// To kill it is to kill what it has started; and what it leaves goes when it ends.
#[test]
fn what_a_process_has_started_does_not_outlive_it() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let path = scratch.at("killed");
        let process = by(method)
            .spawn(start_a_sleeper_and_hang, path.clone())
            .await
            .unwrap();
        assert!(soon(PROMPTLY, || pid_in(&path).is_some()).await);
        process.kill();
        process.wait().await;
        let path_left = scratch.at("left");
        let process = by(method)
            .spawn(start_a_sleeper, path_left.clone())
            .await
            .unwrap();
        process.join().await.unwrap();
        for path in [path, path_left] {
            let sleeper = pid_in(&path).unwrap();
            assert!(soon(PROMPTLY, || !is_alive(sleeper)).await, "{path}");
        }
    });
}

/// However its handle is used: no zombie, and nobody else's status is taken.
#[test]
fn a_process_is_reaped_whatever_becomes_of_its_handle() {
    everywhere(|method| async move {
        let mut other = std::process::Command::new("sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        let scratch = Scratch::new();
        let wait = || by(method).spawn(wait_for, scratch.at("open"));
        let mut pids = Vec::new();
        let dropped = wait().await.unwrap();
        pids.push(dropped.pid());
        drop(dropped);
        let forgotten = wait().await.unwrap();
        pids.push(forgotten.pid());
        let killed = wait().await.unwrap();
        pids.push(killed.pid());
        killed.kill();
        drop(killed);
        let given_up = wait().await.unwrap();
        pids.push(given_up.pid());
        drop(tokio::time::timeout(Duration::ZERO, given_up.join()).await);
        drop(given_up);
        touch(scratch.at("open"));
        // Gone, and no zombies of whoever's.
        let gone = |pid: &u32| state_of(*pid).is_none();
        assert!(soon(PROMPTLY, || pids.iter().all(gone)).await);
        assert!(forgotten.exit().unwrap().success());
        assert_eq!(other.wait().unwrap().code(), Some(3));
    });
}

/// A stopped process ends by SIGKILL, and by SIGTERM when it goes on.
#[test]
fn a_stopped_process_can_be_ended() {
    everywhere(|method| async move {
        let stopped = || async {
            let process = by(method).spawn(hang, ()).await.unwrap();
            send(process.pid(), libc::SIGSTOP);
            assert!(soon(PROMPTLY, || state_of(process.pid()) == Some('T')).await);
            process
        };
        let process = stopped().await;
        process.kill();
        assert_eq!(process.wait().await.signal(), Some(libc::SIGKILL));
        let process = stopped().await;
        process.terminate().unwrap();
        assert!(process.is_alive());
        send(process.pid(), libc::SIGCONT);
        assert_eq!(process.wait().await.signal(), Some(libc::SIGTERM));
    });
}

/// The server is a part of the machinery: its loss costs no process.
#[test]
fn a_process_survives_the_server_that_forked_it() {
    for threads in [1, 2] {
        let _scene = scene();
        runtime(threads).block_on(async {
            let (mut here, there) = pipe().unwrap();
            let echo = |mut connection: Connection<u32, u32>| {
                let n = connection.blocking_recv(None).unwrap();
                connection.blocking_send(&n, None).unwrap();
                n
            };
            let process = Process::spawn(echo, there).await.unwrap();
            let [server] = children()[..] else {
                panic!("one fork server")
            };
            send(server, libc::SIGKILL);
            assert!(soon(PROMPTLY, || !is_alive(server)).await);
            // Another one starts what comes after it.
            let other = Process::spawn(own_pid, ()).await.unwrap();
            assert_eq!(other.join().await.unwrap(), other.pid());
            here.send(&7).await.unwrap();
            assert_eq!(here.recv().await.unwrap(), 7);
            assert_eq!(process.join().await.unwrap(), 7);
        });
    }
}

/// There is one for all, while there are any.
#[test]
fn processes_share_one_fork_server_that_ends_after_them() {
    let _scene = scene();
    runtime(2).block_on(async {
        let scratch = Scratch::new();
        let starts = (0..8).map(|_| Process::spawn(wait_for, scratch.at("open")));
        let started = futures::future::try_join_all(starts).await.unwrap();
        let servers = children();
        assert_eq!(servers.len(), 1);
        touch(scratch.at("open"));
        for process in started {
            process.join().await.unwrap();
        }
        assert!(soon(PROMPTLY, || children().is_empty()).await);
        assert!(!is_alive(servers[0]));
    });
}

/// A scope waits for those that it has started, whether anybody else does or not.
#[test]
fn a_scope_waits_for_its_processes() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let path = scratch.at("open");
        let outside = by(method)
            .spawn(wait_for, scratch.at("later"))
            .await
            .unwrap();
        let scope = processes::scope(|scope| async move {
            let builder = || scope.builder().start_method(method);
            drop(builder().spawn(wait_for, path.clone()).await.unwrap());
            let kept = builder().spawn(wait_for, path).await.unwrap();
            (kept, scope)
        });
        let mut scope = Box::pin(scope);
        let short = Duration::from_millis(30);
        assert!(tokio::time::timeout(short, &mut scope).await.is_err());
        assert_eq!(active_children().len(), 3);
        touch(scratch.at("open"));
        let (kept, scope) = scope.await;
        assert!(kept.exit().unwrap().success());
        // It is over, and the others are none of its business.
        assert!(outside.is_alive() && active_children().len() == 1);
        let error = scope
            .builder()
            .start_method(method)
            .spawn(hang, ())
            .await
            .unwrap_err();
        assert!(error.is_scope_over(), "{error}");
        touch(scratch.at("later"));
        outside.join().await.unwrap();
        assert!(soon(PROMPTLY, || active_children().is_empty()).await);
    });
}

/// Leaves a file behind when it is asked to end.
fn serve_until_asked(path: String) {
    let runtime = runtime(1);
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut asked = signal(SignalKind::terminate()).unwrap();
        touch(format!("{path}.ready"));
        asked.recv().await;
    });
    touch(path);
}

/// CF-127: asked to end when the others have, and killed if that does not help.
#[test]
fn a_scope_ends_its_daemons() {
    everywhere(|method| async move {
        let scratch = Scratch::new();
        let (path, deaf) = (scratch.at("asked"), scratch.at("deaf"));
        let begun = Instant::now();
        let (obeys, hangs) = processes::scope(|scope| async move {
            let daemon = || scope.builder().start_method(method).daemon(true);
            let obeys = daemon()
                .spawn(serve_until_asked, path.clone())
                .await
                .unwrap();
            let ready = || std::path::Path::new(&format!("{path}.ready")).exists();
            assert!(soon(PROMPTLY, ready).await);
            let ignore = |path: String| {
                let _runtime = runtime(1);
                let _entered = _runtime.enter();
                let kind = tokio::signal::unix::SignalKind::terminate();
                let _asked = tokio::signal::unix::signal(kind).unwrap();
                touch(path);
                hang(());
            };
            let hangs = daemon().spawn(ignore, deaf.clone()).await.unwrap();
            assert!(soon(PROMPTLY, || std::path::Path::new(&deaf).exists()).await);
            (obeys, hangs)
        })
        .await;
        assert!(begun.elapsed() < HANG);
        obeys.join().await.unwrap();
        assert!(std::path::Path::new(&scratch.at("asked")).exists());
        assert_eq!(hangs.exit().unwrap().signal(), Some(libc::SIGKILL));
    });
}

/// Who does not wait for a scope ends what is in it.
#[test]
fn a_scope_that_is_dropped_kills_its_processes() {
    everywhere(|method| async move {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut there = Some(there);
        let scope = processes::scope(|scope| {
            let builder = scope.builder().start_method(method);
            let start = builder.spawn(|_: Fd<UnixStream>| hang(()), Fd(there.take().unwrap()));
            async move { start.await.unwrap() }
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(50), scope)
                .await
                .is_err()
        );
        drop(there);
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
        assert!(soon(PROMPTLY, || active_children().is_empty()).await);
    });
}

/// The same on threads, with a panic.
#[test]
fn a_blocking_scope_waits_or_kills() {
    for method in StartMethod::available() {
        let _scene = scene();
        let nap = |()| std::thread::sleep(Duration::from_millis(20));
        let process = processes::blocking_scope(|scope| {
            let builder = scope.builder().start_method(*method);
            builder.spawn(nap, ()).blocking_wait().unwrap()
        });
        assert!(process.exit().unwrap().success());
        let panicked = std::panic::catch_unwind(|| {
            processes::blocking_scope(|scope| {
                let builder = scope.builder().start_method(*method);
                let process = builder.spawn(hang, ()).blocking_wait().unwrap();
                std::panic::resume_unwind(Box::new(process));
            })
        });
        let process = panicked.unwrap_err().downcast::<Process<()>>().unwrap();
        assert_eq!(
            process.blocking_wait(None).unwrap().signal(),
            Some(libc::SIGKILL)
        );
    }
}

/// Rows 13 and 14, decision 10: busy, stopped, with programs of their own, daemons and others.
#[test]
fn processes_die_with_their_program_however_that_ends() {
    const NAME: &str = "processes_die_with_their_program_however_that_ends";
    if let Some(role) = role() {
        return have_processes(&role);
    }
    for method in StartMethod::available() {
        for end in ["killed", "aborts", "exits"] {
            let _scene = scene();
            let mut program = Program::start(NAME, &format!("{method} {end}"));
            let pids = program.hear_pids();
            let killed = Instant::now();
            match end {
                "killed" => assert!(send(program.pid(), libc::SIGKILL)),
                _ => program.tell("go on"),
            }
            program.end();
            let gone = eventually(PROMPTLY, || !pids.iter().any(|pid| is_alive(*pid)));
            assert!(gone, "{method}, {end}: {pids:?}");
            assert!(killed.elapsed() < PROMPTLY, "{method}, {end}");
        }
    }
}

fn have_processes(role: &str) {
    let (method, end) = role.split_once(' ').unwrap();
    let method = method.parse().unwrap();
    let scratch = Scratch::new();
    let spawn = |builder: ProcessBuilder, path: &str| {
        let start = builder
            .start_method(method)
            .spawn(start_a_sleeper_and_hang, scratch.at(path));
        start.blocking_wait().unwrap()
    };
    let _kept = spawn(Process::builder(), "kept");
    let stopped = spawn(Process::builder(), "stopped");
    drop(spawn(Process::builder(), "dropped"));
    drop(spawn(Process::builder().daemon(true), "daemon"));
    let paths = ["kept", "stopped", "dropped", "daemon"].map(|name| scratch.at(name));
    let ready = || paths.iter().all(|path| pid_in(path).is_some());
    assert!(eventually(PROMPTLY, ready));
    send(stopped.pid(), libc::SIGSTOP);
    assert!(eventually(PROMPTLY, || state_of(stopped.pid()) == Some('T')));
    let seen: Vec<_> = descendants(std::process::id())
        .iter()
        .map(u32::to_string)
        .collect();
    drop(scratch);
    say(seen.join(" "));
    hear();
    match end {
        "aborts" => std::process::abort(),
        _ => std::process::exit(0),
    }
}

/// CF-127: a daemon is asked before it is killed, when its program ends in order.
#[test]
fn a_program_that_ends_in_order_asks_its_daemons_to_end() {
    const NAME: &str = "a_program_that_ends_in_order_asks_its_daemons_to_end";
    if let Some(role) = role() {
        let (method, path) = role.split_once(' ').unwrap();
        let spawn = |path: &str, daemon| {
            let builder = by(method.parse().unwrap()).daemon(daemon);
            let start = builder.spawn(serve_until_asked, path.to_owned());
            drop(start.blocking_wait().unwrap());
            let ready = format!("{path}.ready");
            assert!(eventually(PROMPTLY, || std::path::Path::new(&ready).exists()));
        };
        spawn(path, true);
        spawn(&format!("{path}.other"), false);
        // By returning.
        return;
    }
    for method in StartMethod::available() {
        let _scene = scene();
        let scratch = Scratch::new();
        let path = scratch.at("asked");
        let mut program = Program::start(NAME, &format!("{method} {path}"));
        assert!(program.end().success());
        assert!(std::path::Path::new(&path).exists(), "{method}");
        // Who is no daemon is killed: a program that wants to wait says so.
        assert!(!std::path::Path::new(&format!("{path}.other")).exists());
    }
}
