//! Programs that may not make some system calls: in a container whose filter is older than the
//! kernel, or on an old kernel. Either everything works, or the pool says what it lacks.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/filter.rs"]
mod filter;
#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use deeds::{
    Misdeed, Scratch, commit, hang, own_pid, pid_in, send, start_a_sleeper,
    start_a_sleeper_and_hang,
};
use filter::{OLD_KERNEL, Refusal, is_old_kernel, refuse};
use procpool::{ProcessPool, StartMethod, Stdio};
use program::{Program, role, say};
use support::{PROMPTLY, children, is_alive, runtime, scene, soon};

/// What becomes of a pool.
const WORKS: &str = "everything works";

/// Calls, and what becomes of a pool where they are answered with ENOSYS and with EPERM.
const CASES: [(&str, libc::c_long, [&str; 2]); 7] = [
    // libc takes the older call instead where there is none, and gives up where it is forbidden.
    (
        "clone3",
        libc::SYS_clone3,
        [WORKS, "own thread could not be started"],
    ),
    ("close_range", libc::SYS_close_range, [WORKS, WORKS]),
    ("pidfd_open", libc::SYS_pidfd_open, ["pidfd_open"; 2]),
    (
        "pidfd_send_signal",
        libc::SYS_pidfd_send_signal,
        ["pidfd_send_signal"; 2],
    ),
    ("waitid", libc::SYS_waitid, ["waitid"; 2]),
    ("memfd_create", libc::SYS_memfd_create, ["memfd_create"; 2]),
    ("prctl", libc::SYS_prctl, ["prctl"; 2]),
];

/// Row 41.
#[test]
fn a_program_that_may_not_make_a_system_call_has_a_pool_or_is_told_what_it_lacks() {
    const NAME: &str =
        "a_program_that_may_not_make_a_system_call_has_a_pool_or_is_told_what_it_lacks";
    if let Some(role) = role() {
        let parts: Vec<_> = role.split(' ').collect();
        let (call, errno) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
        refuse(&[Refusal::of(call, errno)]);
        return say(runtime(1).block_on(have_a_pool(parts[0].parse().unwrap())));
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for (name, call, fates) in CASES {
            for (errno, fate) in [libc::ENOSYS, libc::EPERM].into_iter().zip(fates) {
                let mut program = Program::start(NAME, &format!("{method} {call} {errno}"));
                let said = program.hear();
                assert!(said.contains(fate), "{method} {name} {errno}: {said}");
                assert!(program.end().success(), "{method} {name} {errno}");
            }
        }
    }
}

/// Has all done that takes the system's help, and says how far that went.
async fn have_a_pool(method: StartMethod) -> String {
    let pool = ProcessPool::builder().workers(2).start_method(method);
    let pool = match pool.build() {
        Ok(pool) => pool,
        Err(error) => {
            let text = error.to_string();
            assert_eq!(error.is_unsupported(), !text.contains("thread"), "{text}");
            return text;
        }
    };
    pool.ready().await.unwrap();
    for _ in 0..10 {
        pool.submit(own_pid, ()).await.unwrap();
    }
    let error = pool.submit(commit, Misdeed::Exit(3)).await.unwrap_err();
    assert_eq!(error.worker_exit().unwrap().exit().code(), Some(3));
    let limit = Duration::from_millis(100);
    let error = pool.task(hang).timeout(limit).submit(()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let aborted = pool.submit(hang, ());
    assert!(soon(PROMPTLY, || aborted.is_running()).await);
    assert!(aborted.abort());
    pool.shutdown().await;
    assert_eq!(children(), [0_u32; 0]);
    WORKS.to_owned()
}

/// Row 41: what only the fork server needs.
#[test]
fn a_fork_server_that_may_not_begin_breaks_the_pool_at_once() {
    const NAME: &str = "a_fork_server_that_may_not_begin_breaks_the_pool_at_once";
    if role().is_some() {
        refuse(&[Refusal::of(libc::SYS_signalfd4, libc::ENOSYS)]);
        return runtime(1).block_on(async {
            let pool = ProcessPool::builder().workers(2).stderr(Stdio::null());
            let pool = pool.build().unwrap();
            let error = pool.submit(own_pid, ()).await.unwrap_err();
            assert!(error.is_broken() && !error.maybe_executed(), "{error}");
            let reason = pool.ready().await.unwrap_err();
            assert!(reason.exit().is_some(), "{reason}");
            pool.shutdown().await;
            assert!(have_a_pool(StartMethod::Spawn).await == WORKS);
        });
    }
    let _scene = scene();
    assert!(Program::start(NAME, "without signalfd").end().success());
}

/// Rows 15 and 41: the oldest kernel that has what is needed cannot kill a group by its leader's
/// descriptor, and does not keep the exits of processes that somebody else has reaped.
#[test]
fn on_an_old_kernel_everything_works_and_goes_with_its_worker() {
    const NAME: &str = "on_an_old_kernel_everything_works_and_goes_with_its_worker";
    if let Some(method) = role() {
        refuse(&OLD_KERNEL);
        assert!(is_old_kernel());
        return runtime(2).block_on(async {
            let method = method.parse().unwrap();
            assert_eq!(have_a_pool(method).await, WORKS);
            let scratch = Scratch::new();
            let pool = ProcessPool::builder().workers(2).start_method(method);
            let pool = pool.build().unwrap();
            for how in ["exits", "timed out", "aborted", "killed", "terminated"] {
                let path = scratch.at(how);
                let exit: fn(String) = |path| {
                    start_a_sleeper(path);
                    std::process::exit(1);
                };
                let task = match how {
                    "exits" => pool.task(exit),
                    "timed out" => {
                        let limit = Duration::from_millis(300);
                        pool.task(start_a_sleeper_and_hang).timeout(limit)
                    }
                    _ => pool.task(start_a_sleeper_and_hang),
                };
                let handle = task.submit(path.clone());
                assert!(soon(PROMPTLY, || pid_in(&path).is_some()).await, "{how}");
                match how {
                    "aborted" => assert!(handle.abort()),
                    "killed" => assert!(send(handle.worker_pid().unwrap(), libc::SIGKILL)),
                    "terminated" => pool.terminate().await,
                    _ => {}
                }
                assert!(handle.await.is_err());
                let sleeper = pid_in(&path).unwrap();
                let gone = soon(Duration::from_secs(1), || !is_alive(sleeper)).await;
                assert!(gone, "{how} leaves {sleeper}");
            }
            assert_eq!(children(), [0_u32; 0]);
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let mut program = Program::start(NAME, &method.to_string());
        assert!(program.end().success(), "{method}");
    }
}
