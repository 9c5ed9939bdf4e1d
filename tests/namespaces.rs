//! Programs in a process namespace of their own: the first process of a container, and one where
//! the numbers of dead processes are used again at once.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/filter.rs"]
mod filter;
#[path = "support/program.rs"]
mod program;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deeds::{Misdeed, Scratch, commit, hang, pid_in, send, state_of, to_pid, touch};
use procpool::StartMethod;
use program::{Program, role};
use rustix::process::{WaitOptions, waitpid};
use support::{PROMPTLY, children, eventually, pool, runtime, scene, soon};
use surroundings::{cannot_run, in_namespaces};

const PROCESSES: [&str; 2] = ["--pid", "--mount-proc"];

/// Plays each start method's role as the first process of a namespace.
fn as_the_first_process(test: &str) {
    let _scene = scene();
    for method in StartMethod::available() {
        let mut command = match in_namespaces(&PROCESSES) {
            Ok(command) => command,
            Err(why) => return cannot_run(test, why),
        };
        let mut program = Program::start_by(&mut command, test, &method.to_string());
        assert!(program.end().success(), "{method}");
    }
}

/// Row 8.
#[test]
fn the_first_process_keeps_the_zombies_of_strangers_and_none_of_the_pools() {
    let Some(role) = role() else {
        return as_the_first_process(
            "the_first_process_keeps_the_zombies_of_strangers_and_none_of_the_pools",
        );
    };
    assert_eq!(std::process::id(), 1);
    let method: StartMethod = role.parse().unwrap();
    runtime(2).block_on(async {
        // Both have ended, and nobody has asked: a child, and an orphan that came to us.
        let scratch = Scratch::new();
        let mut child = shell("exit 7").spawn().unwrap();
        let gate = scratch.at("gate");
        let wait = format!("(until test -e {gate}; do sleep 0.01; done; exit 5) >/dev/null 2>&1");
        let orphan = shell(&format!("{wait} & echo $!")).output().unwrap().stdout;
        let orphan: u32 = String::from_utf8(orphan).unwrap().trim().parse().unwrap();
        touch(gate);
        let strangers = [child.id(), orphan];
        let ended = || strangers.map(state_of) == [Some('Z'); 2];
        assert!(soon(PROMPTLY, ended).await, "{:?}", strangers.map(state_of));

        let pool = pool(2, method);
        let mut heirlooms = Vec::new();
        for round in 0..20 {
            let error = pool.submit(commit, Misdeed::Exit(round)).await.unwrap_err();
            let exit = error.worker_exit().unwrap().exit();
            assert_eq!(exit.code(), Some(round), "{error}");
            let path = scratch.at(&round.to_string());
            let running = pool.submit(deeds::start_a_sleeper_and_hang, path.clone());
            assert!(soon(PROMPTLY, || pid_in(&path).is_some()).await);
            assert!(running.abort());
            assert!(running.await.unwrap_err().is_aborted());
            let sleeper = pid_in(&path).unwrap();
            let gone = || matches!(state_of(sleeper), None | Some('Z'));
            assert!(soon(PROMPTLY, gone).await);
            heirlooms.push(sleeper);
        }
        // The orphans of a fork server come to the first process, and are the pool's all the same.
        if let Some(server) = fork_server() {
            // Those of the tasks come, too, if it has not asked how they ended.
            let asked = || heirlooms.iter().all(|one| state_of(*one).is_none());
            assert!(soon(PROMPTLY, asked).await);
            // Whom it has forked and not told of yet nobody knows.
            pool.ready().await.unwrap();
            let before = pool.stats().workers;
            assert!(send(server, libc::SIGKILL));
            let gone = || before.iter().all(|one| state_of(one.pid).is_none());
            assert!(soon(PROMPTLY, gone).await);
        }
        pool.shutdown().await;
        // What tasks have started was killed. Executed workers leave it to the first process to ask
        // how that ended, as every parent does; a fork server asks by itself.
        if method == StartMethod::Spawn {
            for sleeper in heirlooms {
                let ended = waitpid(Some(to_pid(sleeper)), WaitOptions::empty());
                assert!(ended.unwrap().is_some());
            }
        }
        assert!(soon(PROMPTLY, || children().len() <= 2).await);
        let mut left = children();
        left.sort_unstable();
        assert_eq!(left, strangers, "strangers and nobody else");

        assert_eq!(child.wait().unwrap().code(), Some(7));
        let status = waitpid(Some(to_pid(orphan)), WaitOptions::empty());
        let (_, status) = status.unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(5));
    });
}

fn fork_server() -> Option<u32> {
    children().into_iter().find(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("procpool-server"))
    })
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// Row 16.
#[test]
fn a_stranger_with_the_number_of_a_dead_worker_is_never_hit() {
    match role() {
        Some(role) => use_numbers_again(&role),
        None => {
            as_the_first_process("a_stranger_with_the_number_of_a_dead_worker_is_never_hit");
        }
    }
}

/// Row 16: where a group can be killed by its number alone.
#[test]
fn a_stranger_with_the_number_of_a_dead_worker_is_not_hit_on_an_old_kernel_either() {
    const NAME: &str =
        "a_stranger_with_the_number_of_a_dead_worker_is_not_hit_on_an_old_kernel_either";
    match role() {
        Some(role) => {
            filter::refuse(&filter::OLD_KERNEL);
            assert!(filter::is_old_kernel());
            use_numbers_again(&role);
        }
        None => as_the_first_process(NAME),
    }
}

/// Lets workers die whose pool cannot notice, since its only thread is kept busy here; gives their
/// numbers to strangers; and then has the pool end those calls.
fn use_numbers_again(role: &str) {
    let method: StartMethod = role.parse().unwrap();
    let mut strangers = Vec::new();
    runtime(1).block_on(async {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        for round in 0..10 {
            // What is started from here on has other numbers.
            number_on_from(1_000 * (round + 1));
            let limit = Duration::from_millis(200);
            let (running, is_limited) = match round % 2 {
                0 => (pool.submit(hang, ()), false),
                _ => (pool.task(hang).timeout(limit).submit(()), true),
            };
            assert!(soon(PROMPTLY, || running.is_running()).await);
            let pid = running.worker_pid().unwrap();
            assert!(send(pid, libc::SIGKILL));
            strangers.push(stranger_with(pid));
            if is_limited {
                assert!(eventually(PROMPTLY, || running.is_done()));
                assert!(running.await.unwrap_err().is_timeout());
            } else {
                assert!(running.abort());
                assert!(running.await.unwrap_err().is_aborted());
            }
            pool.ready().await.unwrap();
        }
        // The fork server's number is no better, nor are those of workers at the end of the pool.
        number_on_from(20_000);
        let running = pool.submit(hang, ());
        assert!(soon(PROMPTLY, || running.is_running()).await);
        let workers = pool.stats().workers;
        for pid in fork_server()
            .into_iter()
            .chain(workers.iter().map(|one| one.pid))
        {
            assert!(send(pid, libc::SIGKILL));
            strangers.push(stranger_with(pid));
        }
        pool.terminate().await;
    });
    for mut stranger in strangers {
        assert_eq!(stranger.try_wait().unwrap(), None, "{}", stranger.id());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

/// The next process or thread gets the number behind this, or the next free one.
fn number_on_from(last: u32) {
    std::fs::write("/proc/sys/kernel/ns_last_pid", last.to_string()).unwrap();
}

/// Waits until a process is gone, zombie and all, and starts another that gets its number, and
/// leads a group of that number.
fn stranger_with(pid: u32) -> Child {
    let entry = format!("/proc/{pid}");
    let gone = eventually(PROMPTLY, || !Path::new(&entry).exists());
    assert!(gone, "{pid} is not reaped");
    for _ in 0..1_000 {
        number_on_from(pid - 1);
        let mut sleeper = Command::new("sleep");
        let mut sleeper = sleeper.arg("600").process_group(0).spawn().unwrap();
        if sleeper.id() == pid {
            return sleeper;
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
    panic!("nobody gets the number {pid}");
}
