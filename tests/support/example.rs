//! The programs in `examples/`, run as their users would.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use crate::support::{HANG, PROMPTLY, descendants, eventually, is_alive};

/// A command that runs an example. Its program lies beside the folder of the tests' programs.
pub fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    let exists = path.exists();
    assert!(exists, "build it first: cargo build --example {name}");
    Command::new(path)
}

/// Runs an example to its end.
pub fn run(name: &str, arguments: &[&str]) -> Ended {
    Running::start(example(name).args(arguments)).end()
}

/// The line that begins with this, without it.
pub fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(start));
    lines.next().expect(text).trim()
}

/// An example that runs; killed with the test.
pub struct Running {
    process: Child,
    lines: Receiver<Vec<u8>>,
    said: JoinHandle<Vec<u8>>,
    /// Processes that it has been seen to have.
    seen: Vec<u32>,
}

/// What an example has left behind: its exit and its words.
pub struct Ended {
    pub status: ExitStatus,
    /// The lines of its standard output that were not heard before.
    pub lines: Vec<Vec<u8>>,
    /// What it said on its standard error.
    pub said: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self::start_printing(command, Stdio::piped())
    }

    /// The same with another place for what it prints.
    pub fn start_printing(command: &mut Command, stdout: impl Into<Stdio>) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = process.stderr.take().unwrap();
        Self {
            lines: lines_of(process.stdout.take()),
            said: all_of(stderr),
            process,
            seen: Vec::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line of its standard output.
    pub fn line(&mut self) -> Vec<u8> {
        let line = self.lines.recv_timeout(HANG);
        line.expect("it prints another line")
    }

    /// Waits until it is so far, while it runs, and looks which processes it has then.
    pub fn wait_until(&mut self, condition: impl FnMut() -> bool) {
        assert!(eventually(PROMPTLY, condition), "it does not come so far");
        assert!(self.process.try_wait().unwrap().is_none(), "it has ended");
        self.seen = descendants(self.pid());
        assert!(!self.seen.is_empty(), "it has no workers");
    }

    /// Waits for its end. No process of it may be left then.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        let ended = eventually(HANG, || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end");
        let left: Vec<_> = self.seen.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(left.is_empty(), "it has left {left:?}");
        // To their ends: nobody is left who could write there.
        let lines = std::iter::from_fn(|| self.lines.recv_timeout(PROMPTLY).ok()).collect();
        let ended = eventually(PROMPTLY, || self.said.is_finished());
        assert!(ended, "somebody holds its standard error");
        let said = std::mem::replace(&mut self.said, std::thread::spawn(Vec::new));
        let said = String::from_utf8_lossy(&said.join().unwrap()).into_owned();
        Ended {
            status: status.unwrap(),
            lines,
            said,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.lines.join(&b'\n')).unwrap()
    }
}

fn lines_of(stdout: Option<ChildStdout>) -> Receiver<Vec<u8>> {
    let (sender, lines) = channel();
    let Some(stdout) = stdout else { return lines };
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn all_of(mut stderr: ChildStderr) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        said
    })
}
