//! The tasks that any probe can run in a worker.

use std::fs;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use procpool::{ProcessPool, StartMethod};

use crate::facts::{Facts, descriptor, facts};
use crate::{Act, answer};

pub(crate) const ACTS: &[(&str, Act)] = &[
    ("report", report),
    ("print", print),
    ("panic", panic),
    ("overflow", overflow),
    ("overflow-in-fork", overflow_in_fork),
    ("fault", fault),
    ("segv-sent", segv_sent),
    ("nested", nested),
    ("program-again", program_again),
    ("boot-value", boot_value),
];

/// What a worker finds when it starts, and what it does not.
fn report(program: Facts) -> String {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("none").trim().to_owned()
    };
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).unwrap_or(0);
    let thread = fs::read_link("/proc/thread-self").expect("a thread");
    let title = fs::read_to_string("/proc/self/cmdline").expect("a title");
    let title = title.trim_end_matches('\0');
    let strangers = strangers();
    let own = facts();
    let checks = [
        ("variable gone", std::env::var_os("PROCPOOL_BOOT").is_none()),
        ("gone for children", child_sees("PROCPOOL_BOOT") == "none"),
        ("environment of children", child_sees("PROBE") == "kept"),
        (
            "on the main thread",
            thread.ends_with(std::process::id().to_string()),
        ),
        ("named", field("Name:").starts_with("procpool")),
        (
            "titled",
            *title == format!("procpool: worker {}", field("Name:")),
        ),
        ("nothing blocked", field("SigBlk:") == "0000000000000000"),
        (
            "only SIGPIPE ignored",
            ignored & !LIBC_OWN == 1 << (libc::SIGPIPE - 1),
        ),
        ("null at 0", descriptor(0) == "/dev/null"),
    ];
    let failed = checks.iter().filter(|(_, holds)| !holds);
    let mut found: Vec<_> = failed.map(|(what, _)| format!("not {what}")).collect();
    found.extend(strangers.iter().map(|to| format!("{to} open")));
    found.extend(differences(&program, &own));
    if found.is_empty() {
        "as expected".to_owned()
    } else {
        found.join(", ")
    }
}

/// Signals 32 and 33: glibc's `posix_spawn` leaves them ignored, and nobody else can reach them.
const LIBC_OWN: u64 = 0b11 << 31;

/// The descriptors that a worker needs are pipes, one socket, its page, and descriptors of processes.
fn strangers() -> Vec<String> {
    let open = (3..1024).map(|number| fs::read_link(format!("/proc/self/fd/{number}")));
    let open = open.flatten().map(|to| to.display().to_string());
    let known = [
        "pipe:",
        "/memfd:procpool",
        "anon_inode:[pidfd]",
        "anon_inode:[eventfd]",
        "pidfd:",
    ];
    let (sockets, others): (Vec<_>, Vec<_>) = open.partition(|to| to.starts_with("socket:"));
    let others = others.into_iter();
    let others = others.filter(|to| !known.iter().any(|known| to.starts_with(known)));
    others.chain(sockets.into_iter().skip(1)).collect()
}

fn differences(program: &Facts, own: &Facts) -> Vec<String> {
    let missing = |all: &Facts, of: &Facts, whose: &str| {
        let missing = all.iter().filter(|fact| !of.contains(fact));
        let missing = missing.map(|(name, value)| format!("{name} {value:?} only in the {whose}"));
        missing.collect::<Vec<_>>()
    };
    let mut all = missing(program, own, "program");
    all.extend(missing(own, program, "worker"));
    all
}

fn child_sees(variable: &str) -> String {
    let script = format!("echo ${{{variable}-none}}");
    let output = Command::new("sh").args(["-c", &script]).output();
    String::from_utf8_lossy(&output.expect("a shell").stdout)
        .trim()
        .to_owned()
}

fn print(_: Facts) -> String {
    println!("worker: a line");
    eprintln!("worker: a complaint");
    "printed".to_owned()
}

fn panic(_: Facts) -> String {
    panic!("as a task does")
}

fn overflow(_: Facts) -> String {
    fn deeper(n: u64) -> u64 {
        let room = black_box([n; 64]);
        if n == u64::MAX {
            0
        } else {
            deeper(n + 1) + room[1]
        }
    }
    deeper(0).to_string()
}

/// A process that a task forks inherits the handler.
fn overflow_in_fork(program: Facts) -> String {
    // SAFETY: the child allocates nothing, and only overflows its stack.
    let child = unsafe { libc::fork() };
    if child == 0 {
        overflow(program);
    }
    let mut status = 0;
    // SAFETY: the status may be written to.
    unsafe { libc::waitpid(child, &mut status, 0) };
    format!("signal {}", libc::WTERMSIG(status))
}

fn fault(_: Facts) -> String {
    let nowhere = black_box(8_usize as *mut u32);
    // SAFETY: none; the process is meant to die here.
    unsafe { nowhere.write_volatile(1) };
    "survived".to_owned()
}

/// A SIGSEGV that is no fault: it must end the process, though nothing happens again.
fn segv_sent(_: Facts) -> String {
    // SAFETY: the call has no conditions.
    unsafe { libc::raise(libc::SIGSEGV) };
    "survived".to_owned()
}

/// A worker may have workers itself, where no runtime is.
fn nested(_: Facts) -> String {
    let answers = StartMethod::available().iter().map(|method| {
        let builder = ProcessPool::builder().workers(1).start_method(*method);
        let pool = builder.build().expect("a pool in a worker");
        let mut handle = pool.submit(report, facts());
        answer(handle.blocking_wait(None))
    });
    answers.collect::<Vec<_>>().join(", ")
}

/// What a task starts is no worker: not this program either, not even with a socket as its input.
fn program_again(_: Facts) -> String {
    let (_ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let program = std::env::current_exe().expect("a path of this program");
    let mut command = Command::new(program);
    command.arg("report").stdin(OwnedFd::from(theirs));
    let output = command.output().expect("an executable program");
    let text = |bytes| String::from_utf8_lossy(bytes).replace('\n', "; ");
    text(&output.stdout) + &text(&output.stderr)
}

/// What the program's workers are started with. The kernel remembers the environment as it was.
fn boot_value(_: Facts) -> String {
    let environment = fs::read("/proc/self/environ").expect("an environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let mut variables = environment.split('\0');
    let value = variables.find_map(|variable| variable.strip_prefix("PROCPOOL_BOOT="));
    value.unwrap_or("none").to_owned()
}
