//! Programs that were started, or have arranged themselves, in an odd way: without streams, without
//! an environment, without a directory, with too much of this or that. Their pools are like others.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use deeds::{Misdeed, Scratch, commit, own_pid};
use procpool::{ProcessPool, StartMethod};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use support::{HANG, PROMPTLY, children, eventually, runtime, scene, soon};

/// By this variable a program knows that it is one, how odd it is to be, and where it reports.
const ODDITY: &str = "PROCPOOL_TEST_ODDITY";
const TEST: &str = "a_pool_works_in_whatever_surroundings_its_program_has";

/// Ways to be started.
const STARTS: [&str; 4] = ["plain", "no environment", "no name", "long arguments"];
/// Ways to arrange oneself.
const ARRANGEMENTS: [&str; 9] = [
    "closed input",
    "closed output",
    "closed everything",
    "no directory",
    "many descriptors",
    "small stack",
    "no signals",
    "not dumpable",
    "own session",
];

#[expect(unsafe_code, reason = "what a program may do to itself")]
fn arrange(oddity: &str) {
    match oddity {
        // SAFETY: nobody owns the standard streams.
        "closed input" => unsafe { assert_eq!(libc::close(0), 0) },
        "closed output" => {
            for stream in 1..3 {
                // SAFETY: nobody owns the standard streams.
                unsafe { libc::close(stream) };
            }
        }
        "closed everything" => {
            for stream in 0..3 {
                // SAFETY: nobody owns the standard streams.
                unsafe { libc::close(stream) };
            }
        }
        "no directory" => {
            let scratch = Scratch::new();
            std::env::set_current_dir(scratch.at("")).unwrap();
            drop(scratch);
            assert!(std::env::current_dir().is_err());
        }
        "many descriptors" => {
            for _ in 0..300 {
                std::mem::forget(rustix::io::dup(std::io::stdin()).unwrap());
            }
        }
        "small stack" => {
            let small = Rlimit {
                current: Some(256 * 1024),
                maximum: Some(256 * 1024),
            };
            setrlimit(Resource::Stack, small).unwrap();
        }
        "no signals" => {
            for signal in 1..32 {
                // SAFETY: no handler is installed.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        }
        "not dumpable" => set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap(),
        "own session" => drop(rustix::process::setsid()),
        _ => {}
    }
}

/// Uses a pool of each kind, and says so at the end.
fn play(oddity: &str, report: &str) {
    arrange(oddity);
    for method in StartMethod::available() {
        runtime(2).block_on(async {
            let pool = ProcessPool::builder().workers(2).start_method(*method);
            let pool = pool.build().unwrap();
            for code in 0..3 {
                let noisy: fn(i32) -> i32 = |n| {
                    println!("printed");
                    eprintln!("complained");
                    n
                };
                let outcome = pool.submit(noisy, code).timeout(PROMPTLY).await;
                assert_eq!(outcome.unwrap(), code, "{method}");
                pool.submit(own_pid, ()).timeout(PROMPTLY).await.unwrap();
                let mut lost = pool.submit(commit, Misdeed::Exit(code));
                let error = lost.timeout(PROMPTLY).await.unwrap_err();
                assert_eq!(error.worker_exit().unwrap().exit().code(), Some(code));
            }
            pool.ready().await.unwrap();
            pool.shutdown().await;
            assert!(soon(PROMPTLY, || children().is_empty()).await);
        });
    }
    std::fs::write(report, "done").unwrap();
}

/// CF-267, CF-270, CF-294: from other angles.
#[test]
fn a_pool_works_in_whatever_surroundings_its_program_has() {
    if let Ok(role) = std::env::var(ODDITY) {
        let (oddity, report) = role.split_once(": ").unwrap();
        return play(oddity, report);
    }
    let _scene = scene();
    for oddity in STARTS.into_iter().chain(ARRANGEMENTS) {
        let scratch = Scratch::new();
        let mut program = Command::new(std::env::current_exe().unwrap());
        match oddity {
            "no environment" => {
                program.env_clear();
            }
            "no name" => {
                program.arg0("");
            }
            "long arguments" => {
                for _ in 0..20 {
                    program.args(["--skip", &"y".repeat(50_000)]);
                }
            }
            _ => {}
        }
        let streams = [(); 2].map(|()| std::fs::File::create(scratch.at("printed")).unwrap());
        let [out, err] = streams.map(Stdio::from);
        program.args([TEST, "--exact", "--nocapture"]);
        program.env(ODDITY, format!("{oddity}: {}", scratch.at("report")));
        let mut program = program
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        let mut ended = false;
        eventually(HANG, || {
            ended = program.try_wait().unwrap().is_some();
            ended
        });
        if !ended {
            program.kill().unwrap();
            program.wait().unwrap();
        }
        let report = std::fs::read_to_string(scratch.at("report"));
        let printed = std::fs::read_to_string(scratch.at("printed")).unwrap_or_default();
        // The harness itself may fail to print, which is not the pool's affair.
        assert!(
            ended && report.is_ok_and(|text| text == "done"),
            "{oddity}: {printed}"
        );
    }
}
