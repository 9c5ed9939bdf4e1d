//! Whole programs with a pool in them, and what befalls them: killed, starved, interrupted,
//! replaced on disk, with thieves and with nothing but failures.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;

use std::ffi::CString;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use deeds::{Misdeed, Scratch, commit, own_pid, pid_in, send, state_of, to_pid, touch, wait_for};
use procpool::{ProcessPool, ShutdownOptions, StartMethod, Stdio};
use program::{Program, hear, role, say};
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, prlimit, setrlimit};
use support::{
    PROMPTLY, builder, children, descendants, eventually, is_alive, pool, runtime, scene, soon,
};
use tokio::signal::unix::{SignalKind, signal};

fn pids(pool: &ProcessPool) -> Vec<u32> {
    pool.stats().workers.iter().map(|one| one.pid).collect()
}

fn texts(pids: &[u32]) -> String {
    let texts: Vec<_> = pids.iter().map(u32::to_string).collect();
    texts.join(" ")
}

/// CF-053, CF-289; rows 13, 14 and 39.
#[test]
fn of_a_program_that_is_killed_nothing_is_left_within_a_second() {
    if let Some(role) = role() {
        return be_killed(&role);
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for state in ["idle", "busy", "stopped", "sleeper", "starting", "returns"] {
            let name = "of_a_program_that_is_killed_nothing_is_left_within_a_second";
            let mut program = Program::start(name, &format!("{method} {state}"));
            let mut seen = program.hear_pids();
            assert!(seen.len() >= 2, "{method} {state}: {seen:?}");
            if state == "returns" {
                program.tell("return");
                assert!(program.exit().success());
            } else {
                seen.extend(descendants(program.pid()));
                assert!(send(program.pid(), libc::SIGKILL));
                program.exit();
            }
            let begun = Instant::now();
            let gone = eventually(PROMPTLY, || !seen.iter().any(|pid| is_alive(*pid)));
            let took = begun.elapsed();
            assert!(
                gone && took < Duration::from_secs(1),
                "{method} {state}: {took:?}"
            );
        }
    }
}

fn be_killed(role: &str) {
    let (method, state) = role.split_once(' ').unwrap();
    let method = method.parse().unwrap();
    let runtime = runtime(2);
    runtime.block_on(async {
        let scratch = Scratch::new();
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let mut seen = pids(&pool);
        let (a, b) = match state {
            "busy" | "stopped" | "returns" => {
                (pool.submit(deeds::spin, ()), pool.submit(deeds::hang, ()))
            }
            "sleeper" => {
                let start = deeds::start_a_sleeper_and_hang;
                (
                    pool.submit(start, scratch.at("a")),
                    pool.submit(start, scratch.at("b")),
                )
            }
            _ => (pool.submit(|()| (), ()), pool.submit(|()| (), ())),
        };
        match state {
            "busy" | "stopped" | "returns" => {
                assert!(soon(PROMPTLY, || a.is_running() && b.is_running()).await);
            }
            "sleeper" => {
                let sleepers = || Some((pid_in(&scratch.at("a"))?, pid_in(&scratch.at("b"))?));
                assert!(soon(PROMPTLY, || sleepers().is_some()).await);
                let (a, b) = sleepers().unwrap();
                seen.extend([a, b]);
            }
            _ => {}
        }
        if state == "stopped" {
            for pid in &seen {
                send(*pid, libc::SIGSTOP);
                assert!(soon(PROMPTLY, || state_of(*pid) == Some('T')).await);
            }
        }
        seen.extend(children());
        // Nobody but the test removes what it has made.
        drop(scratch);
        say(texts(&seen));
        if state == "starting" {
            loop {
                let quiet = ProcessPool::builder().workers(4).start_method(method);
                let quiet = quiet.build().unwrap();
                quiet.ready().await.unwrap();
                quiet.terminate().await;
            }
        }
        hear();
    });
}

/// CF-053.
#[test]
fn what_was_accepted_is_done_before_shutdown_returns_and_the_program_ends() {
    const NAME: &str = "what_was_accepted_is_done_before_shutdown_returns_and_the_program_ends";
    if let Some(directory) = role() {
        return runtime(2).block_on(async {
            let pool = ProcessPool::builder().workers(2).build().unwrap();
            for n in 0..8 {
                let path = format!("{directory}/{n}");
                drop(pool.submit(|path: String| touch(path), path));
            }
            pool.shutdown().await;
        });
    }
    let _scene = scene();
    let scratch = Scratch::new();
    let mut program = Program::start(NAME, &scratch.at(""));
    assert!(program.end().success());
    assert_eq!(scratch.count(), 8);
}

/// Runs this test binary again, to play a role in the test of that name; what it printed beside what
/// the harness does, what it complained about, and whether it succeeded.
fn printed(test: &str, role: &str) -> (String, String, bool) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("PROCPOOL_TEST_ROLE", role)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    // The harness prints something before the test and something after it.
    let own = out.split_once(&format!("{test} ... "));
    let own = own.and_then(|(_, own)| own.rsplit_once("ok\n\ntest result:"));
    let own = own.map_or(&*out, |(own, _)| own.trim()).to_owned();
    (own, err, output.status.success())
}

/// CF-022, CF-053: the ways out of a program whose task has not printed yet.
#[test]
fn what_a_task_prints_is_all_that_its_program_prints_however_that_ends() {
    const NAME: &str = "what_a_task_prints_is_all_that_its_program_prints_however_that_ends";
    static POOL: OnceLock<ProcessPool> = OnceLock::new();
    if let Some(role) = role() {
        let (method, end) = role.split_once(' ').unwrap();
        let pool = builder(1, method.parse().unwrap());
        let late: fn(u64) = |millis| {
            std::thread::sleep(Duration::from_millis(millis));
            println!("apple");
        };
        if end == "static" {
            // Outside of any runtime, and never dropped.
            let pool = POOL.get_or_init(|| pool.build().unwrap());
            return pool.submit(late, 20).blocking_wait(None).unwrap();
        }
        return runtime(2).block_on(async {
            let pool = pool.build().unwrap();
            pool.ready().await.unwrap();
            match end {
                "shutdown" => {
                    drop(pool.submit(late, 50));
                    pool.shutdown().await;
                }
                "cancel" => {
                    let (first, waiting) = (pool.submit(late, 50), pool.submit(late, 50));
                    assert!(soon(PROMPTLY, || first.is_running()).await);
                    let options = ShutdownOptions::new().cancel_pending(true).wait(false);
                    pool.shutdown_with(options).await;
                    assert!(waiting.await.unwrap_err().is_cancelled());
                    first.await.unwrap();
                }
                // Lost with its worker.
                _ => drop(pool.submit(late, 60_000)),
            }
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for end in ["shutdown", "cancel", "static", "return"] {
            let (out, err, success) = printed(NAME, &format!("{method} {end}"));
            let expected = if end == "return" { "" } else { "apple" };
            assert_eq!(
                (&*out, &*err, success),
                (expected, "", true),
                "{method} {end}"
            );
        }
    }
}

/// A semaphore that other processes could find by its name.
struct Semaphore(*mut libc::sem_t);

#[expect(unsafe_code, reason = "libc alone has semaphores with names")]
impl Semaphore {
    fn new() -> Self {
        let name = format!("/procpool-test-{}", std::process::id());
        let name = CString::new(name).unwrap();
        // SAFETY: the name is a text that ends with a zero.
        let semaphore = unsafe { libc::sem_open(name.as_ptr(), libc::O_CREAT, 0o600, 1) };
        assert_ne!(semaphore, libc::SEM_FAILED);
        // Without its name it ends with its process.
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sem_unlink(name.as_ptr()) }, 0);
        Self(semaphore)
    }

    fn pass(&self) {
        // SAFETY: it was opened above, and is open for as long as this lives.
        unsafe {
            assert_eq!(libc::sem_wait(self.0), 0);
            assert_eq!(libc::sem_post(self.0), 0);
        }
    }
}

// SAFETY: a semaphore is made to be used by everybody at once.
#[expect(unsafe_code, reason = "the pointer is to what is shared anyway")]
unsafe impl Send for Semaphore {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the pointer is to what is shared anyway")]
unsafe impl Sync for Semaphore {}

/// As a task: uses this process's global semaphore; then, in a pool of its own, fails.
fn pass_then_fail(level: u32) -> bool {
    static GLOBAL: LazyLock<Semaphore> = LazyLock::new(Semaphore::new);
    GLOBAL.pass();
    if level == 0 {
        panic!("the inmost fails");
    }
    let inner = ProcessPool::builder().workers(1).build().unwrap();
    let mut failing = inner.submit(pass_then_fail, level - 1);
    match failing.blocking_wait(None) {
        Ok(failed) => failed,
        Err(error) => error.is_panic(),
    }
}

/// CF-297.
#[test]
fn global_named_resources_and_nested_failures_leave_no_trace_and_no_complaint() {
    const NAME: &str = "global_named_resources_and_nested_failures_leave_no_trace_and_no_complaint";
    if let Some(method) = role() {
        assert!(pass_then_fail(1));
        return runtime(2).block_on(async {
            let pool = pool(2, method.parse().unwrap());
            assert!(pool.submit(pass_then_fail, 0).await.unwrap_err().is_panic());
            assert!(pool.submit(pass_then_fail, 2).await.unwrap());
            assert!(pool.submit(pass_then_fail, 1).await.unwrap());
            pool.shutdown().await;
        });
    }
    let _scene = scene();
    let shared = || {
        let entries = std::fs::read_dir("/dev/shm").unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().contains("procpool"))
            .count()
    };
    let before = shared();
    for method in StartMethod::available() {
        let (out, err, success) = printed(NAME, &method.to_string());
        assert_eq!((&*out, &*err, success), ("", "", true), "{method}");
        assert!(shared() <= before, "{method}");
    }
}

/// Row 6: statuses are stolen, or thrown away by the kernel, and no death is missed.
#[test]
fn a_thief_of_exit_statuses_costs_no_more_than_the_statuses() {
    const NAME: &str = "a_thief_of_exit_statuses_costs_no_more_than_the_statuses";
    if let Some(role) = role() {
        let (method, how) = role.split_once(' ').unwrap();
        match how {
            "thief" => drop(std::thread::spawn(|| {
                loop {
                    if rustix::process::wait(WaitOptions::empty()).is_err() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })),
            _ => ignore_child_signals(),
        }
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let pool = pool(2, method);
            for code in 0..20 {
                let error = pool.submit(commit, Misdeed::Exit(code)).await.unwrap_err();
                let exit = error.worker_exit().unwrap().exit();
                let told = exit.code() == Some(code);
                // The fork server is the workers' parent, and nobody steals from that.
                let may_be_unknown = method == StartMethod::Spawn;
                assert!(
                    told || may_be_unknown && exit.is_unknown(),
                    "{code}: {error}"
                );
                pool.submit(own_pid, ()).await.unwrap();
            }
            pool.shutdown().await;
            assert_eq!(children(), [0_u32; 0]);
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        for how in ["thief", "ignored"] {
            let mut program = Program::start(NAME, &format!("{method} {how}"));
            assert!(program.end().success(), "{method} {how}");
        }
    }
}

#[expect(unsafe_code, reason = "dispositions of signals are set through libc")]
fn ignore_child_signals() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

#[expect(unsafe_code, reason = "dispositions of signals are set through libc")]
fn die_of_broken_pipes() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Row 4.
#[test]
fn a_program_that_dies_of_broken_pipes_survives_the_death_of_a_worker() {
    const NAME: &str = "a_program_that_dies_of_broken_pipes_survives_the_death_of_a_worker";
    if role().is_some() {
        die_of_broken_pipes();
        return runtime(2).block_on(async {
            for method in StartMethod::available() {
                let pool = pool(1, *method);
                let pid = pool.submit(own_pid, ()).await.unwrap();
                send(pid, libc::SIGSTOP);
                // Far more than the pipe holds, so that it is being written.
                let length: fn(Vec<u64>) -> usize = |numbers| numbers.len();
                let handle = pool.submit(length, vec![u64::MAX; 1 << 20]);
                tokio::task::yield_now().await;
                send(pid, libc::SIGKILL);
                // It had not been started there, and runs elsewhere.
                assert_eq!(handle.await.unwrap(), 1 << 20);
                pool.shutdown().await;
            }
        });
    }
    let _scene = scene();
    assert!(Program::start(NAME, "write").end().success());
}

/// CF-299; row 27.
#[test]
fn without_descriptors_the_pool_serves_with_what_lives_and_recovers() {
    const NAME: &str = "without_descriptors_the_pool_serves_with_what_lives_and_recovers";
    if let Some(method) = role() {
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let pool = pool(2, method);
            pool.ready().await.unwrap();
            let scratch = Scratch::new();
            let running = pool.submit(wait_for, scratch.at("gate"));
            assert!(soon(PROMPTLY, || running.is_running()).await);
            let before = getrlimit(Resource::Nofile);
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            let tight = Rlimit {
                current: Some(open.min(10)),
                ..before
            };
            setrlimit(Resource::Nofile, tight).unwrap();
            let error = pool.submit(commit, Misdeed::Exit(3)).await.unwrap_err();
            assert_eq!(error.worker_exit().unwrap().exit().code(), Some(3));
            // Who waits for all workers is told why that takes long.
            let error = pool.ready().await.unwrap_err();
            assert!(error.is_resource(), "{error}");
            let other = ProcessPool::builder()
                .workers(1)
                .start_method(method)
                .build();
            if let Ok(other) = other {
                assert!(other.ready().await.unwrap_err().is_resource());
                other.terminate().await;
            }
            touch_without_descriptors(&scratch.at("gate"));
            running.await.unwrap();
            for _ in 0..100 {
                pool.submit(own_pid, ()).await.unwrap();
            }
            assert_eq!(pids(&pool).len(), 1);
            setrlimit(Resource::Nofile, before).unwrap();
            // What failed before this is asked is not told any more.
            pool.ready().await.unwrap();
            assert_eq!(pids(&pool).len(), 2);
            pool.shutdown().await;
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let mut program = Program::start(NAME, &method.to_string());
        assert!(program.end().success(), "{method}");
    }
}

/// Makes a file of a directory's kind, which takes no descriptor.
fn touch_without_descriptors(path: &str) {
    std::fs::create_dir(path).unwrap();
}

/// CF-299; row 27: the limit changes from outside, and comes and goes.
#[test]
fn a_program_that_is_short_of_descriptors_for_a_while_loses_no_call() {
    const NAME: &str = "a_program_that_is_short_of_descriptors_for_a_while_loses_no_call";
    if let Some(method) = role() {
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let pool = pool(2, method);
            pool.submit(own_pid, ()).await.unwrap();
            say("ready");
            hear();
            let handles: Vec<_> = (0..50)
                .map(|n| {
                    pool.submit(
                        |n: u32| {
                            if n % 10 == 9 {
                                std::process::exit(1)
                            } else {
                                n
                            }
                        },
                        n,
                    )
                })
                .collect();
            say("submitted");
            for (n, handle) in (0..).zip(handles) {
                assert_eq!(handle.await.is_err(), n % 10 == 9);
            }
            pool.shutdown().await;
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let mut program = Program::start(NAME, &method.to_string());
        program.hear();
        let pid = Some(to_pid(program.pid()));
        let tight = Rlimit {
            current: Some(8),
            maximum: Some(4096),
        };
        prlimit(pid, Resource::Nofile, tight).unwrap();
        program.tell("go");
        program.hear();
        std::thread::sleep(Duration::from_millis(300));
        let wide = Rlimit {
            current: Some(1024),
            maximum: Some(4096),
        };
        prlimit(pid, Resource::Nofile, wide).unwrap();
        assert!(program.end().success(), "{method}");
    }
}

/// CF-291; row 38.
#[test]
fn an_interrupt_of_the_whole_group_is_the_programs_alone() {
    const NAME: &str = "an_interrupt_of_the_whole_group_is_the_programs_alone";
    if let Some(method) = role() {
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let scratch = Scratch::new();
            let pool = pool(2, method);
            pool.ready().await.unwrap();
            let before = (pids(&pool), children());
            let running = pool.submit(wait_for, scratch.at("gate"));
            assert!(soon(PROMPTLY, || running.is_running()).await);
            // The handler is in place when this returns.
            let mut interrupt = signal(SignalKind::interrupt()).unwrap();
            say("ready");
            interrupt.recv().await.unwrap();
            touch(scratch.at("gate"));
            running.await.unwrap();
            pool.submit(own_pid, ()).await.unwrap();
            assert_eq!((pids(&pool), children()), before);
            pool.shutdown().await;
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let mut program = Program::start(NAME, &method.to_string());
        program.hear();
        let group = to_pid(program.pid());
        let interrupt = rustix::process::Signal::INT;
        rustix::process::kill_process_group(group, interrupt).unwrap();
        assert!(program.end().success(), "{method}");
    }
}

/// Row 26; decision 2.
#[test]
fn a_program_whose_file_is_replaced_and_deleted_goes_on_starting_workers() {
    const NAME: &str = "a_program_whose_file_is_replaced_and_deleted_goes_on_starting_workers";
    if let Some(method) = role() {
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let first = pool(1, method);
            for moment in ["running", "replaced", "deleted"] {
                say(moment);
                hear();
                let fresh = pool(1, method);
                for pool in [&first, &fresh] {
                    let error = pool.submit(commit, Misdeed::Exit(7)).await.unwrap_err();
                    assert_eq!(
                        error.worker_exit().unwrap().exit().code(),
                        Some(7),
                        "{moment}"
                    );
                    pool.submit(own_pid, ()).await.unwrap();
                }
                fresh.shutdown().await;
            }
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let scratch = Scratch::new();
        let copy = scratch.at("program");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut program = Program::start_of(copy.as_ref(), NAME, &method.to_string());
        assert_eq!(program.hear(), "running");
        program.tell("go on");
        assert_eq!(program.hear(), "replaced");
        std::fs::copy("/bin/true", scratch.at("other")).unwrap();
        std::fs::rename(scratch.at("other"), &copy).unwrap();
        program.tell("go on");
        assert_eq!(program.hear(), "deleted");
        std::fs::remove_file(&copy).unwrap();
        program.tell("go on");
        assert!(program.end().success(), "{method}");
    }
}

/// CF-295.
#[test]
fn what_the_program_has_printed_half_is_not_printed_by_its_workers() {
    const NAME: &str = "what_the_program_has_printed_half_is_not_printed_by_its_workers";
    if let Some(method) = role() {
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            print!("begun-");
            let pool = builder(1, method).stderr(Stdio::null()).build().unwrap();
            let shout: fn(()) = |()| {
                print!("in-worker-");
                std::process::exit(0);
            };
            pool.submit(shout, ()).await.unwrap_err();
            pool.shutdown().await;
            println!("ended");
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        let (printed, ..) = printed(NAME, &method.to_string());
        for word in ["begun-", "in-worker-", "ended"] {
            assert_eq!(printed.matches(word).count(), 1, "{method}: {printed}");
        }
    }
}
