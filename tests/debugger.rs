//! A debugger at a worker: that is stopped while it is looked at, and when it has been killed it
//! cannot be reaped before the debugger lets go.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::time::{Duration, Instant};

use deeds::{Scratch, hang, own_pid, state_of, touch, wait_for};
use procpool::{ProcessPool, StartMethod};
use program::{Program, hear, role, say};
use support::{PROMPTLY, children, is_alive, pool, runtime, scene, soon};
use surroundings::cannot_run;

/// A process that has hold of another one.
struct Debugger(Program);

impl Debugger {
    /// Stops a process as a debugger does; an error says why that is not allowed.
    fn attach(test: &str, pid: u32) -> Result<Self, String> {
        let mut program = Program::start(test, &pid.to_string());
        match program.hear().as_str() {
            "attached" => Ok(Self(program)),
            why => Err(why.to_owned()),
        }
    }

    fn let_go(mut self) {
        self.0.tell("let go");
        assert!(self.0.end().success());
    }
}

/// In the debugger: holds the process until it is told to let go. What is killed meanwhile is not
/// asked for its end, so that nobody else can ask either.
#[expect(unsafe_code, reason = "debuggers are made through libc")]
fn debug(pid: &str) {
    let pid: libc::pid_t = pid.parse().unwrap();
    // SAFETY: the requests read and write no memory of this process.
    let attached = unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) == 0
    };
    if !attached {
        return say(std::io::Error::last_os_error());
    }
    let stopped = || state_of(pid.unsigned_abs()) == Some('t');
    assert!(support::eventually(PROMPTLY, stopped));
    say("attached");
    assert_eq!(hear(), "let go");
}

/// How long this process has been using a processor.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}

/// Row 40.
#[test]
fn a_worker_in_a_debugger_keeps_its_time_limit_and_can_be_replaced() {
    const NAME: &str = "a_worker_in_a_debugger_keeps_its_time_limit_and_can_be_replaced";
    if let Some(pid) = role() {
        return debug(&pid);
    }
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let pool = pool(1, *method);
            let limit = Duration::from_millis(300);
            let handle = pool.task(hang).timeout(limit).submit(());
            assert!(soon(PROMPTLY, || handle.is_running()).await);
            let pid = handle.worker_pid().unwrap();
            let debugger = match Debugger::attach(NAME, pid) {
                Ok(debugger) => debugger,
                Err(why) => {
                    pool.terminate().await;
                    return cannot_run(NAME, why);
                }
            };
            let error = handle.await.unwrap_err();
            assert!(error.is_timeout(), "{error}");
            // It is dead, and there is another, while nobody but the debugger can reap it.
            let (begun, busy) = (Instant::now(), cpu_time());
            let next = pool.submit(own_pid, ()).await.unwrap();
            assert!(next != pid && begun.elapsed() < PROMPTLY);
            assert_eq!(state_of(pid), Some('Z'));
            // Nor does anybody here wait for that by asking all the time.
            let (waited, busy) = (begun.elapsed(), cpu_time() - busy);
            assert!(busy < waited / 2, "{busy:?} of {waited:?}");
            debugger.let_go();
            pool.shutdown().await;
        });
    }
}

/// Row 40: a worker that is let go works on as if nothing had been.
#[test]
fn a_worker_that_a_debugger_lets_go_works_on() {
    const NAME: &str = "a_worker_that_a_debugger_lets_go_works_on";
    if let Some(pid) = role() {
        return debug(&pid);
    }
    for method in StartMethod::available() {
        let _scene = scene();
        runtime(2).block_on(async {
            let scratch = Scratch::new();
            let pool = pool(1, *method);
            let handle = pool.submit(wait_for, scratch.at("gate"));
            assert!(soon(PROMPTLY, || handle.is_running()).await);
            let pid = handle.worker_pid().unwrap();
            let debugger = match Debugger::attach(NAME, pid) {
                Ok(debugger) => debugger,
                Err(why) => {
                    pool.terminate().await;
                    return cannot_run(NAME, why);
                }
            };
            touch(scratch.at("gate"));
            debugger.let_go();
            assert_eq!(handle.await.unwrap(), pid);
            assert_eq!(pool.submit(own_pid, ()).await.unwrap(), pid);
            pool.shutdown().await;
        });
    }
}

/// Decision 4: no signal lets a server go on that is held like this.
#[test]
fn a_fork_server_in_a_debugger_is_replaced_when_it_is_needed() {
    const NAME: &str = "a_fork_server_in_a_debugger_is_replaced_when_it_is_needed";
    if let Some(pid) = role() {
        return debug(&pid);
    }
    let _scene = scene();
    runtime(2).block_on(async {
        let pool = ProcessPool::builder().workers(2);
        let pool = pool.handshake_timeout(Duration::from_millis(500));
        let pool = pool.build().unwrap();
        let orphan = pool.submit(own_pid, ()).await.unwrap();
        let [server] = children()[..] else {
            panic!("{:?}", children())
        };
        let debugger = match Debugger::attach(NAME, server) {
            Ok(debugger) => debugger,
            Err(why) => {
                pool.terminate().await;
                return cannot_run(NAME, why);
            }
        };
        let begun = Instant::now();
        pool.ready().await.unwrap();
        assert!(begun.elapsed() < PROMPTLY);
        assert_eq!(state_of(server), Some('Z'));
        assert!(soon(PROMPTLY, || !is_alive(orphan)).await);
        debugger.let_go();
        pool.shutdown().await;
    });
}
