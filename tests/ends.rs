//! How programs end beneath their pools: killed while workers start, while requests are being
//! written or while both sides wait awake, and killed together with the fork server. Nothing is left within a second.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;

use std::time::{Duration, Instant};

use deeds::{Scratch, own_pid, pid_in, send, start_a_sleeper_and_hang, state_of};
use procpool::{ProcessPool, StartMethod, Stdio};
use program::{Program, role, say};
use support::{PROMPTLY, descendants, eventually, is_alive, runtime, scene, soon};

/// What all processes of one program have in their environment.
const MARK: &str = "PROCPOOL_TEST_MARK";

/// Starts this test's program with a mark by which all that comes of it is found, whether or not
/// anybody has seen it start.
fn start_marked(test: &str, role: &str) -> (Program, String) {
    use std::os::unix::process::CommandExt;
    let mark = format!("{MARK}={role} {}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.process_group(0).env(name, value);
    (Program::start_by(&mut command, test, role), mark)
}

/// The living processes with that mark.
fn marked(mark: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_mark = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    };
    pids.filter(|pid| has_mark(pid) && is_alive(*pid)).collect()
}

/// Waits until nothing is left of a program, and tells how long that took.
fn time_to_vanish(mark: &str) -> Duration {
    let begun = Instant::now();
    let gone = eventually(PROMPTLY, || marked(mark).is_empty());
    assert!(gone, "{mark}: {:?} are left", marked(mark));
    begun.elapsed()
}

/// Kills programs in different moments of what they do again and again.
fn kill_at_moments(moments: u64) {
    let _scene = scene();
    for method in StartMethod::available() {
        for act in ["starting", "writing", "talking"] {
            for moment in 0..moments {
                let (mut program, mark) = start_marked(KILLED, &format!("{method} {act} {moment}"));
                assert_eq!(program.hear(), "going on");
                assert!(marked(&mark).len() >= 3, "a program and two workers");
                // No wait for anything: the moment is what differs.
                std::thread::sleep(Duration::from_micros(moment * 1_300));
                assert!(send(program.pid(), libc::SIGKILL));
                program.exit();
                let took = time_to_vanish(&mark);
                assert!(took < Duration::from_secs(1), "{mark}: {took:?}");
            }
        }
    }
}

/// In the program: does the same for ever.
fn go_on(role: &str) {
    let mut words = role.split(' ');
    let method: StartMethod = words.next().unwrap().parse().unwrap();
    let act = words.next().unwrap();
    let pool = |workers| {
        let pool = ProcessPool::builder().workers(workers);
        let pool = pool.start_method(method).stderr(Stdio::null());
        match act {
            // Workers wait for their calls awake.
            "talking" => pool.busy_poll(Duration::from_millis(1)).build().unwrap(),
            _ => pool.build().unwrap(),
        }
    };
    let count: fn(Vec<u64>) -> usize = |numbers| numbers.len();
    runtime(2).block_on(async {
        // Far more than a pipe holds.
        let numbers = vec![u64::MAX; 1 << 18];
        let wide = pool(2);
        wide.ready().await.unwrap();
        say("going on");
        loop {
            match act {
                "starting" => {
                    let pool = pool(4);
                    let handles = [(); 8].map(|()| pool.submit(own_pid, ()));
                    for handle in handles {
                        handle.await.unwrap();
                    }
                    pool.terminate().await;
                }
                "talking" => {
                    wide.submit(own_pid, ()).await.unwrap();
                }
                _ => {
                    let handles = [(); 4].map(|()| wide.submit(count, numbers.clone()));
                    for handle in handles {
                        handle.await.unwrap();
                    }
                }
            }
        }
    });
}

/// The test that is a program's, too.
const KILLED: &str = "a_program_may_be_killed_while_workers_start_and_while_requests_are_written";

/// CF-289; row 39.
#[test]
fn a_program_may_be_killed_while_workers_start_and_while_requests_are_written() {
    match role() {
        Some(role) => go_on(&role),
        None => kill_at_moments(8),
    }
}

/// CF-289; row 39.
#[test]
#[ignore = "takes a minute"]
fn a_program_may_be_killed_at_hundreds_of_moments() {
    kill_at_moments(100);
}

/// CF-289; decision 10.
#[test]
fn of_a_program_and_its_fork_server_killed_together_nothing_is_left_within_a_second() {
    const NAME: &str =
        "of_a_program_and_its_fork_server_killed_together_nothing_is_left_within_a_second";
    if let Some(role) = role() {
        return runtime(2).block_on(have_workers(role.split(' ').next().unwrap()));
    }
    let _scene = scene();
    for state in ["idle", "busy", "stopped", "sleeper"] {
        for server_first in [true, false] {
            let (mut program, mark) = start_marked(NAME, &format!("{state} {server_first}"));
            let server = program.hear_pids()[0];
            let seen = descendants(program.pid());
            assert!(seen.contains(&server) && seen.len() >= 3, "{seen:?}");
            let found = marked(&mark);
            assert!(
                seen.iter().all(|pid| found.contains(pid)),
                "{seen:?} {found:?}"
            );
            let mut both = [program.pid(), server];
            if server_first {
                both.reverse();
            }
            // Neither has the time to notice the other's end.
            for pid in both {
                assert!(send(pid, libc::SIGSTOP));
            }
            for pid in both {
                assert!(eventually(PROMPTLY, || state_of(pid) == Some('T')));
            }
            for pid in both {
                assert!(send(pid, libc::SIGKILL));
            }
            program.exit();
            let took = time_to_vanish(&mark);
            assert!(took < Duration::from_secs(1), "{mark}: {took:?}");
        }
    }
}

/// CF-289; decision 10: nobody that lives is its parent any more.
#[test]
fn a_worker_stopped_after_its_fork_server_died_ends_with_the_program() {
    const NAME: &str = "a_worker_stopped_after_its_fork_server_died_ends_with_the_program";
    if let Some(role) = role() {
        return runtime(2).block_on(async {
            match &*role {
                "is killed" => have_workers("busy").await,
                end => {
                    let ended = tokio::task::spawn_blocking(program::hear);
                    tokio::select! { () = have_workers("busy") => {}, _ = ended => {} }
                    if end == "exits" {
                        std::process::exit(0);
                    }
                }
            }
        });
    }
    let _scene = scene();
    for end in ["is killed", "exits", "returns"] {
        let (mut program, mark) = start_marked(NAME, end);
        let server = program.hear_pids()[0];
        assert!(send(server, libc::SIGKILL));
        assert!(eventually(PROMPTLY, || !is_alive(server)));
        let mut workers = marked(&mark);
        workers.retain(|pid| *pid != program.pid());
        assert_eq!(workers.len(), 2);
        for worker in workers {
            assert!(send(worker, libc::SIGSTOP));
            assert!(eventually(PROMPTLY, || state_of(worker) == Some('T')));
        }
        match end {
            "is killed" => assert!(send(program.pid(), libc::SIGKILL)),
            _ => program.tell("end"),
        }
        program.exit();
        let took = time_to_vanish(&mark);
        assert!(took < Duration::from_secs(1), "{mark}: {took:?}");
    }
}

/// In the program: has two workers in that state, and says which the fork server is.
async fn have_workers(state: &str) {
    let scratch = Scratch::new();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    pool.ready().await.unwrap();
    let workers = pool.stats().workers;
    let paths = ["a", "b"].map(|name| scratch.at(name));
    let handles = match state {
        "idle" => None,
        "sleeper" => Some(
            paths
                .clone()
                .map(|path| pool.submit(start_a_sleeper_and_hang, path)),
        ),
        _ => Some([
            pool.submit(to_hang, paths[0].clone()),
            pool.submit(to_spin, paths[1].clone()),
        ]),
    };
    if let Some(handles) = &handles {
        let all = || handles.iter().all(|handle| handle.is_running());
        assert!(soon(PROMPTLY, all).await);
    }
    if state == "sleeper" {
        let all = || paths.iter().all(|path| pid_in(path).is_some());
        assert!(soon(PROMPTLY, all).await);
    }
    if state == "stopped" {
        for worker in &workers {
            assert!(send(worker.pid, libc::SIGSTOP));
            assert!(soon(PROMPTLY, || state_of(worker.pid) == Some('T')).await);
        }
    }
    // Nobody but the test removes what it has made.
    drop(scratch);
    say(support::children()[0]);
    std::future::pending().await
}

fn to_hang(_: String) {
    deeds::hang(());
}

fn to_spin(_: String) {
    deeds::spin(());
}
