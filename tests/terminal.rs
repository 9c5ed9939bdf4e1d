//! A terminal and what is typed there: the keys' signals, and the hang-up, are the program's alone.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;
#[path = "support/terminal.rs"]
mod terminal;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use deeds::{Scratch, group_of, hang, own_pid, touch, wait_for};
use procpool::{ProcessPool, StartMethod};
use program::{Program, role, say};
use support::{PROMPTLY, children, eventually, is_alive, pool, runtime, scene, soon};
use terminal::{begin_session, own_terminal, terminal, write_from_behind};
use tokio::signal::unix::{SignalKind, signal};

/// What is typed, and the signal that it makes; the hang-up is not typed.
const KEYS: [(&str, i32); 4] = [
    ("\x03", libc::SIGINT),
    ("\x1c", libc::SIGQUIT),
    ("\x1a", libc::SIGTSTP),
    ("", libc::SIGHUP),
];

/// Starts a program as the leader of a session of that terminal.
fn start_at(screen: &OwnedFd, test: &str, role: &str) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    begin_session(&mut command, screen);
    Program::start_by(&mut command, test, role)
}

/// Row 38.
#[test]
fn what_is_typed_at_the_terminal_is_for_the_program_and_its_workers_work_on() {
    const NAME: &str = "what_is_typed_at_the_terminal_is_for_the_program_and_its_workers_work_on";
    if let Some(role) = role() {
        let (method, number) = role.split_once(' ').unwrap();
        let kind = SignalKind::from_raw(number.parse().unwrap());
        return runtime(2).block_on(async {
            let scratch = Scratch::new();
            let pool = pool(2, method.parse().unwrap());
            pool.ready().await.unwrap();
            let before = (pids(&pool), children());
            let own = group_of(std::process::id());
            assert!(before.0.iter().all(|pid| group_of(*pid) != own));
            let running = pool.submit(wait_for, scratch.at("gate"));
            assert!(soon(PROMPTLY, || running.is_running()).await);
            // The handler is in place when this returns.
            let mut typed = signal(kind).unwrap();
            say("ready");
            typed.recv().await.unwrap();
            for _ in 0..20 {
                pool.submit(own_pid, ()).await.unwrap();
            }
            touch(scratch.at("gate"));
            running.await.unwrap();
            assert_eq!((pids(&pool), children()), before);
            pool.shutdown().await;
            say("done");
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for (typed, number) in KEYS {
            let (mut keys, screen) = terminal();
            let mut program = start_at(&screen, NAME, &format!("{method} {number}"));
            assert_eq!(program.hear(), "ready");
            if typed.is_empty() {
                drop((keys, screen));
            } else {
                keys.write_all(typed.as_bytes()).unwrap();
            }
            assert_eq!(program.hear(), "done", "{method} {number}");
            assert!(program.end().success(), "{method} {number}");
        }
    }
}

fn pids(pool: &ProcessPool) -> Vec<u32> {
    pool.stats().workers.iter().map(|one| one.pid).collect()
}

/// Row 38: a program that does nothing about it ends, and what it has started with it.
#[test]
fn of_a_program_that_an_interrupt_ends_nothing_is_left_within_a_second() {
    const NAME: &str = "of_a_program_that_an_interrupt_ends_nothing_is_left_within_a_second";
    if let Some(method) = role() {
        return runtime(2).block_on(async {
            let pool = pool(2, method.parse().unwrap());
            let running = [pool.submit(hang, ()), pool.submit(deeds::spin, ())];
            let all = || running.iter().all(|one| one.is_running());
            assert!(soon(PROMPTLY, all).await);
            let mut seen = pids(&pool);
            seen.extend(children());
            let seen: Vec<_> = seen.iter().map(u32::to_string).collect();
            say(seen.join(" "));
            std::future::pending().await
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for (typed, number) in [("\x03", libc::SIGINT), ("", libc::SIGHUP)] {
            let (mut keys, screen) = terminal();
            let mut program = start_at(&screen, NAME, &method.to_string());
            let seen = program.hear_pids();
            assert!(seen.len() >= 2, "{seen:?}");
            if typed.is_empty() {
                drop((keys, screen));
            } else {
                keys.write_all(typed.as_bytes()).unwrap();
            }
            assert_eq!(program.exit().signal(), Some(number));
            let gone = eventually(Duration::from_secs(1), || {
                !seen.iter().any(|pid| is_alive(*pid))
            });
            assert!(gone, "{method} {number}: {seen:?}");
        }
    }
}

/// Row 38, CF-294: the kernel stops whoever uses his terminal from the background, so a worker has none.
#[test]
fn a_task_may_write_to_a_terminal_and_is_not_stopped_for_what_it_does_there() {
    const NAME: &str = "a_task_may_write_to_a_terminal_and_is_not_stopped_for_what_it_does_there";
    if let Some(method) = role() {
        let method = method.parse().unwrap();
        let terminal = own_terminal();
        return runtime(2).block_on(async {
            let pool = pool(1, method);
            let task = pool.task(write_from_behind).timeout(PROMPTLY);
            assert!(task.submit(terminal).await.unwrap());
            pool.shutdown().await;
            say("done");
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let (_keys, screen) = terminal();
        let mut program = start_at(&screen, NAME, &method.to_string());
        assert_eq!(program.hear(), "done", "{method}");
        assert!(program.end().success(), "{method}");
    }
}
