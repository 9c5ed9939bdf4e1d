//! Programs of a test's own: this test binary, executed again in a process group of its own, where
//! the same test plays another role. They talk in lines.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use crate::support::{HANG, eventually};

/// By this variable a program knows its role.
const ROLE: &str = "PROCPOOL_TEST_ROLE";
/// What a program says to its test begins like this; the rest is the harness's.
const SAYS: &str = "says: ";

/// The role of this process, if it is a test's program.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says something to the test.
pub fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{SAYS}{text}").unwrap();
    out.flush().unwrap();
}

/// Waits until the test has said something.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// A program that a test has started; killed with the test.
pub struct Program {
    process: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
    /// Reads what the program prints; tells in the end whether it has run its test.
    reader: Option<JoinHandle<bool>>,
}

impl Program {
    /// Executes this test binary again, to play `role` in the test of that name.
    pub fn start(test: &str, role: &str) -> Self {
        Self::start_of(&std::env::current_exe().unwrap(), test, role)
    }

    /// The same with a copy of this test binary.
    pub fn start_of(binary: &Path, test: &str, role: &str) -> Self {
        Self::start_by(Command::new(binary).process_group(0), test, role)
    }

    /// The same with a command that is this test binary, or becomes it: what follows the command's
    /// own arguments are the binary's.
    pub fn start_by(command: &mut Command, test: &str, role: &str) -> Self {
        let mut process = command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = channel();
        let reader = std::thread::spawn(move || {
            let mut has_run = false;
            for line in output.lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix(SAYS) {
                    let _ = sender.send(text.to_owned());
                }
                has_run |= line == "running 1 test";
            }
            has_run
        });
        Self {
            input: process.stdin.take(),
            process,
            said,
            reader: Some(reader),
        }
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for what the program says next.
    pub fn hear(&mut self) -> String {
        match self.said.recv_timeout(HANG) {
            Ok(text) => text,
            Err(error) => panic!(
                "the program says nothing: {error}, {:?}",
                self.process.try_wait()
            ),
        }
    }

    /// The same, read as process ids.
    pub fn hear_pids(&mut self) -> Vec<u32> {
        let text = self.hear();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    /// Says something to the program.
    pub fn tell(&mut self, text: &str) {
        writeln!(self.input.as_mut().unwrap(), "{text}").unwrap();
    }

    /// Waits for the end of the program itself.
    pub fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(HANG, || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.expect("the program does not end")
    }

    /// Waits for the end of the program and of all that may print in its name: what it has started
    /// has its standard output, too.
    pub fn end(&mut self) -> ExitStatus {
        let status = self.exit();
        let has_run = self
            .reader
            .take()
            .is_none_or(|reader| reader.join().unwrap());
        assert!(has_run, "the program was to run a test that there is not");
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
