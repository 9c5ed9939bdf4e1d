//! Programs that may not make some system calls: in a container whose filter is older than the
//! kernel, or on an old kernel. Either everything works, or the pool says what it lacks.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use deeds::{Misdeed, commit, hang, own_pid};
use procpool::{ProcessPool, StartMethod, Stdio};
use program::{Program, role, say};
use support::{PROMPTLY, children, runtime, scene, soon};

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
        refuse(parts[1].parse().unwrap(), parts[2].parse().unwrap()).unwrap();
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
    assert_eq!(children(), []);
    WORKS.to_owned()
}

/// Row 41: what only the fork server needs.
#[test]
fn a_fork_server_that_may_not_begin_breaks_the_pool_at_once() {
    const NAME: &str = "a_fork_server_that_may_not_begin_breaks_the_pool_at_once";
    if role().is_some() {
        refuse(libc::SYS_signalfd4, libc::ENOSYS).unwrap();
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

/// From now on the kernel answers a system call of this thread, and of what it starts, with an
/// error number.
#[expect(unsafe_code, reason = "filters are installed through libc")]
fn refuse(call: libc::c_long, errno: i32) -> std::io::Result<()> {
    let load = |offset: usize| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset as u32,
    };
    let answer = |k: u32| libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let skip_unless = |number: libc::c_long| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: number as u32,
    };
    let mut filter = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        skip_unless(call),
        answer(libc::SECCOMP_RET_ERRNO | errno as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the first call takes numbers alone; the second reads the program and its four
    // instructions, which live until it has returned.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
