//! The worker of these tests: does what it is told, step by step.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::process::{Signal, getpgrp, getpid, getppid, kill_current_process_group, kill_process};
use serde::{Deserialize, Serialize};

use crate::sys::{fork, pidfd};

/// What stands before the steps, so that nobody takes them for the first words of a real worker.
pub(crate) const STEPS: &[u8] = b"process tests, steps:";

/// What a worker does next.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    Exit(i32),
    Abort,
    /// Waits for ever.
    Hang,
    /// Uses the processor for ever.
    Spin,
    /// Stops itself.
    Stop,
    /// Starts a program that sleeps, in this group.
    Grandchild,
    /// Starts one in a session of its own.
    Escapee,
    /// Prints to the standard output and to the standard error.
    Print(String),
    /// Writes a [`Report`] to the first descriptor of the channel.
    Report,
}

/// What a worker finds in its process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    /// Numbers and targets.
    pub(super) descriptors: Vec<(i32, String)>,
    /// The lines of `status` on blocked and ignored signals.
    pub(super) blocked: u64,
    pub(super) ignored: u64,
    pub(super) name: String,
    pub(super) started: Vec<u32>,
    pub(super) variable: Option<String>,
    pub(super) boot: Option<String>,
    pub(super) arguments: Vec<String>,
    pub(super) channel: usize,
}

pub(crate) fn serve(
    first: &[u8],
    program: std::sync::Arc<OwnedFd>,
    mut channel: Vec<OwnedFd>,
) -> ! {
    let steps: Vec<Step> = postcard::from_bytes(first).expect("the script of a test");
    let mut report = look_around(channel.len());
    // As a worker's watcher does.
    std::thread::spawn(move || {
        let mut entry = [rustix::event::PollFd::new(
            &program,
            rustix::event::PollFlags::IN,
        )];
        while !matches!(pidfd::has_ended(program.as_fd()), Ok(true)) {
            let _ = rustix::event::poll(&mut entry, None);
        }
        let _ = kill_current_process_group(Signal::KILL);
    });
    for step in steps {
        match step {
            Step::Exit(code) => fork::exit_now(code),
            Step::Abort => std::process::abort(),
            Step::Hang => loop {
                std::thread::park();
            },
            Step::Spin => loop {
                std::hint::spin_loop();
            },
            Step::Stop => kill_process(getpid(), Signal::STOP).expect("a signal to itself"),
            Step::Grandchild => report.started.push(sleeper(&mut Command::new("sleep"))),
            Step::Escapee => {
                let mut command = Command::new("setsid");
                report.started.push(sleeper(command.arg("sleep")));
            }
            Step::Print(text) => {
                print!("{text}");
                let _ = std::io::stdout().flush();
                eprint!("{text}");
            }
            Step::Report => {
                let bytes = postcard::to_stdvec(&report).expect("a report");
                let mut pipe = std::fs::File::from(channel.remove(0));
                pipe.write_all(&bytes).expect("a pipe to the test");
            }
        }
    }
    fork::exit_now(0)
}

fn sleeper(command: &mut Command) -> u32 {
    let command = command
        .arg("600")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("a program that sleeps").id()
}

fn look_around(channel: usize) -> Report {
    let number = |pid: Option<rustix::process::Pid>| {
        pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
            .unwrap_or(u64::MAX)
    };
    Report {
        pid: std::process::id(),
        parent: number(getppid()),
        group: number(Some(getpgrp())),
        descriptors: descriptors(),
        blocked: set("SigBlk:"),
        ignored: set("SigIgn:"),
        name: std::fs::read_to_string("/proc/self/comm")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        started: Vec::new(),
        variable: std::env::var("PROCPOOL_TEST_VARIABLE").ok(),
        boot: std::env::var("PROCPOOL_BOOT").ok(),
        arguments: std::env::args().collect(),
        channel,
    }
}

fn descriptors() -> Vec<(i32, String)> {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut found: Vec<_> = listing
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        // The one that reads the listing.
        .filter(|(_, target): &(i32, String)| !target.contains("/fd"))
        .collect();
    found.sort();
    found
}
