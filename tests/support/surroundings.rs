//! What a test needs of the system and may not get: namespaces. A test that cannot run says so.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Says that a test did not run here. The harness throws away what a test that passes has printed,
/// but for what is written past it.
pub fn cannot_run(test: &str, why: impl Display) {
    let mut errors = std::io::stderr().lock();
    let _ = writeln!(errors, "NOT RUN here: {test}: {why}");
}

/// A command that becomes this test binary in new namespaces, where it may do what it likes; an
/// error says why there are none to be had.
pub fn in_namespaces(options: &[&str]) -> Result<Command, String> {
    let unshare = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--fork", "--kill-child"]);
        command.args(options).arg(program);
        command
    };
    let tried = unshare("true").stdin(Stdio::null()).output();
    let tried = tried.map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
    }
    let program = std::env::current_exe().unwrap();
    let mut command = unshare(program.to_str().unwrap());
    command.process_group(0);
    Ok(command)
}
