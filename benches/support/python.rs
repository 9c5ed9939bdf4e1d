//! A Python that measures itself: each line that it is told is how often to do what its script is for, and it
//! answers with how many nanoseconds that took.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

pub(crate) struct Python {
    child: Child,
    /// At its end the script ends, and takes its daemons with it.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Runs the script with these arguments; `None` where there is no Python.
    pub(crate) fn start(script: &str, arguments: &[String]) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", script]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let input = Some(child.stdin.take()?);
        let output = BufReader::new(child.stdout.take()?);
        Some(Self {
            child,
            input,
            output,
        })
    }

    pub(crate) fn pass(&mut self, count: u64) -> Duration {
        let input = self.input.as_mut().expect("until this is dropped");
        writeln!(input, "{count}").expect("the Python is there");
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        read.expect("the Python is there");
        Duration::from_nanos(line.trim().parse().expect("a number"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
