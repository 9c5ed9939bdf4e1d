//! Memory that runs out: the kernel kills a worker for it, or refuses it to one.

mod support;

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/program.rs"]
mod program;
#[path = "support/surroundings.rs"]
mod surroundings;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio as Standard};

use deeds::{own_pid, to_pid};
use procpool::{ProcessPool, StartMethod, Stdio};
use program::{Program, hear, role, say};
use rustix::process::{Resource, Rlimit, Signal, kill_process, setrlimit};
use support::{everywhere, runtime, scene};
use surroundings::cannot_run;

/// As a task: uses so much memory, for good.
fn use_memory(bytes: usize) -> usize {
    let page = rustix::param::page_size();
    let mut memory = vec![0_u8; bytes];
    for byte in memory.iter_mut().step_by(page) {
        *byte = 1;
    }
    std::hint::black_box(&memory);
    memory.iter().map(|byte| usize::from(*byte)).sum()
}

const MIB: usize = 1 << 20;
/// What a program and its workers may use together ...
const LIMIT: usize = 128 * MIB;
/// ... and what one task takes.
const TOO_MUCH: usize = 4 * LIMIT;

/// A group of processes with little memory, below that of this process.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let path_of = |line: &str, controller: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let found = parts.next()?.split(',').any(|one| one == controller);
            found
                .then(|| parts.next())?
                .map(|path| path.trim_start_matches('/').to_owned())
        };
        let first = own.lines().find_map(|line| path_of(line, "memory"));
        let (root, path, limit) = match first {
            Some(path) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            None => {
                let path = own.lines().find_map(|line| path_of(line, ""));
                (
                    "/sys/fs/cgroup",
                    path.ok_or("in no control group")?,
                    "memory.max",
                )
            }
        };
        let name = format!("procpool-test-{}", std::process::id());
        let group = PathBuf::from(root).join(path).join(name);
        let failed = |error| format!("{}: {error}", group.display());
        fs::create_dir(&group).map_err(failed)?;
        let group = Self(group);
        let set = group.set(limit, LIMIT);
        set.map_err(|error| format!("{}: {error}", group.0.display()))?;
        // Else it is swapped out instead; where there is no swap, there is no such file.
        let _ = group.set("memory.swap.max", 0);
        Ok(group)
    }

    fn set(&self, file: &str, value: usize) -> std::io::Result<()> {
        fs::write(self.0.join(file), value.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Whoever is in it has ended, and may still be on the way out.
        support::eventually(support::PROMPTLY, || fs::remove_dir(&self.0).is_ok());
    }
}

/// Starts this test's program where memory is short.
fn start_where_memory_is_short(
    test: &str,
    role: &str,
) -> Result<(Program, Option<Cgroup>), String> {
    match Cgroup::new() {
        Ok(group) => {
            let mut program = Program::start(test, role);
            // It has begun nothing before it is told to.
            if let Err(error) = group.set("cgroup.procs", program.pid() as usize) {
                return Err(format!("{}: {error}", group.0.display()));
            }
            program.tell("begin");
            Ok((program, Some(group)))
        }
        Err(why) => {
            let scope = |program: PathBuf| {
                let mut command = Command::new("systemd-run");
                command.args(["--user", "--scope", "--quiet", "-p", "MemorySwapMax=0"]);
                command
                    .arg("-p")
                    .arg(format!("MemoryMax={LIMIT}"))
                    .arg(program);
                command.process_group(0);
                command
            };
            let tried = scope("true".into()).stdin(Standard::null()).output();
            match tried {
                Ok(tried) if tried.status.success() => {}
                Ok(tried) => {
                    let second = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
                    return Err(format!("{why}; {second}"));
                }
                Err(error) => return Err(format!("{why}; systemd-run: {error}")),
            }
            let mut command = scope(std::env::current_exe().unwrap());
            let mut program = Program::start_by(&mut command, test, role);
            program.tell("begin");
            Ok((program, None))
        }
    }
}

/// Row 22.
#[test]
fn a_worker_that_the_kernel_kills_for_its_memory_is_suspected_of_that() {
    const NAME: &str = "a_worker_that_the_kernel_kills_for_its_memory_is_suspected_of_that";
    if let Some(method) = role() {
        assert_eq!(hear(), "begin");
        let method: StartMethod = method.parse().unwrap();
        return runtime(2).block_on(async {
            let pool = ProcessPool::builder().workers(2).start_method(method);
            let pool = pool.build().unwrap();
            pool.ready().await.unwrap();
            for _ in 0..2 {
                let error = pool.submit(use_memory, TOO_MUCH).await.unwrap_err();
                let exit = error.worker_exit().unwrap();
                assert_eq!(exit.exit().signal(), Some(libc::SIGKILL), "{error}");
                assert!(exit.oom_suspected(), "{error}");
                assert!(format!("{error:#}").contains("memory"), "{error:#}");
                pool.submit(own_pid, ()).await.unwrap();
            }
            // A kill by somebody else is not taken for one, unless the kernel has killed somebody
            // meanwhile, who may be anybody's.
            loop {
                let before = killed_by_the_kernel();
                let running = pool.submit(deeds::hang, ());
                assert!(support::soon(support::PROMPTLY, || running.is_running()).await);
                let pid = to_pid(running.worker_pid().unwrap());
                kill_process(pid, Signal::KILL).unwrap();
                let error = running.await.unwrap_err();
                let suspected = error.worker_exit().unwrap().oom_suspected();
                if killed_by_the_kernel() == before {
                    assert!(!suspected, "{error}");
                    break;
                }
            }
            pool.shutdown().await;
            say("done");
        });
    }
    let _scene = scene();
    for method in StartMethod::available() {
        match start_where_memory_is_short(NAME, &method.to_string()) {
            Ok((mut program, _group)) => {
                assert_eq!(program.hear(), "done", "{method}");
                assert!(program.end().success(), "{method}");
            }
            Err(why) => return cannot_run(NAME, why),
        }
    }
}

/// How many processes of the whole machine were killed for lack of memory.
fn killed_by_the_kernel() -> String {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap();
    let count = counters.lines().find(|line| line.starts_with("oom_kill "));
    count.expect("it tells").to_owned()
}

/// Row 22: memory that is refused is another thing.
#[test]
fn a_task_that_is_refused_memory_costs_its_worker_and_the_kernel_is_not_suspected() {
    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.stderr(Stdio::capture()).build().unwrap();
        let starve: fn(usize) -> usize = |bytes| {
            let limit = Rlimit {
                current: Some(LIMIT as u64),
                maximum: Some(LIMIT as u64),
            };
            setrlimit(Resource::As, limit).unwrap();
            use_memory(bytes)
        };
        let error = pool.submit(starve, TOO_MUCH).await.unwrap_err();
        let exit = error.worker_exit().unwrap();
        assert_eq!(exit.exit().signal(), Some(libc::SIGABRT), "{error}");
        assert!(!exit.oom_suspected(), "{error}");
        let tail = exit.stderr_tail().unwrap();
        assert!(tail.contains("memory allocation"), "{tail:?}");
        pool.submit(own_pid, ()).await.unwrap();
        pool.shutdown().await;
    });
}
