//! A program that is killed: whatever its workers were doing, nothing is left
//! within a second. The program is this test binary, executed again.

use std::io::{BufRead, BufReader};
use std::process::{Child as Process, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::script::Step;
use super::support::{
    Seen, again, children_of, is_stopped, launch, launcher, order, role, stop_here_if_not_booted,
    wait_until,
};
use crate::process::StartMethod;

const NAME: &str = "process::tests::orphans::nothing_survives_a_program_that_is_killed";

/// CF-289; rows 13, 14 and 39.
#[test]
fn nothing_survives_a_program_that_is_killed() {
    stop_here_if_not_booted();
    if let Some(role) = role() {
        return be_killed(&role);
    }
    for &method in StartMethod::available() {
        for state in ["idle", "busy", "stopped", "grandchild", "starting"] {
            for server_too in [false, true] {
                if server_too && method == StartMethod::Spawn {
                    continue;
                }
                kill_a_program(method, state, server_too);
            }
        }
    }
}

/// The program's own part: starts what it is told to, says what there is, and
/// waits for its end.
fn be_killed(role: &str) {
    let (method, state) = role.split_once(' ').expect("two words");
    let steps: &[Step] = match state {
        "idle" | "starting" => &[Step::Report, Step::Hang],
        "busy" => &[Step::Report, Step::Spin],
        "stopped" => &[Step::Report, Step::Stop, Step::Hang],
        _ => &[Step::Grandchild, Step::Report, Step::Hang],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let launcher = launcher(method.parse().expect("a method"));
        let mut pids = Vec::new();
        for _ in 0..3 {
            let (child, report) = launch(&launcher, steps).await.expect("a worker");
            if state == "stopped" {
                wait_until("the worker to stop", || is_stopped(child.pid()));
            }
            pids.push(report.pid);
            pids.extend(report.started);
        }
        pids.extend(children_of(std::process::id()));
        pids.sort_unstable();
        pids.dedup();
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        println!("\npids {}", pids.join(" "));
        if state == "starting" {
            loop {
                let _ = launcher.launch(order(&[Step::Hang])).await;
            }
        }
        loop {
            std::thread::park();
        }
    });
}

fn kill_a_program(method: StartMethod, state: &str, server_too: bool) {
    let mut program = again(NAME, &format!("{method} {state}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary");
    let mut seen = pids_of(&mut program);
    let program_seen = Seen::new(program.id());
    if state == "starting" {
        // Whatever there is at the moment of the kill comes into view here, with
        // what the server has forked.
        program_seen.signal(Signal::STOP);
        wait_until("the program to stop", || is_stopped(program.id()));
        let servers = children_of(program.id());
        let workers = servers.iter().flat_map(|&server| children_of(server));
        let all: Vec<_> = servers.iter().copied().chain(workers).collect();
        seen.extend(all.into_iter().filter_map(Seen::try_new));
    }
    let servers = children_of(program.id());
    if server_too {
        // There is one child of the program, and it is the server.
        let [server] = servers[..] else {
            panic!("{servers:?}")
        };
        Seen::new(server).signal(Signal::KILL);
    }
    program_seen.signal(Signal::KILL);
    program.wait().expect("our child");
    for process in &seen {
        assert!(
            process.has_ended_within(Duration::from_secs(1)),
            "{method} {state} {server_too}: {} is left of {:?}",
            process.0,
            seen.iter().map(|process| process.0).collect::<Vec<_>>()
        );
    }
}

fn pids_of(program: &mut Process) -> Vec<Seen> {
    let output = program.stdout.take().expect("piped");
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        if let Some(pids) = line.strip_prefix("pids ") {
            let pids = pids.split(' ').map(|pid| pid.parse().expect("a pid"));
            return pids.map(Seen::new).collect();
        }
    }
    panic!("the program said nothing: {:?}", program.wait())
}
