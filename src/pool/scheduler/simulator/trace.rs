//! What happened, line by line. Kept only when a seed is played again to be read.

use std::io::Write;

use crate::sys::clock::Moment;

/// The lines of one run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps what it is told.
    pub(super) fn kept() -> Self {
        Self {
            lines: Some(Vec::new()),
        }
    }

    pub(super) fn note(&mut self, now: Moment, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let micros = now.0 as f64 / 1_000.0 - 1e9;
            lines.push(format!("{micros:>14.3} us  {}", line()));
        }
    }

    /// Prints the last `count` lines.
    pub(super) fn print(&self, count: usize) {
        let lines = self.lines.as_deref().unwrap_or_default();
        let mut out = std::io::stderr().lock();
        for line in &lines[lines.len().saturating_sub(count)..] {
            // Where nobody reads there is nobody to be told.
            let _ = writeln!(out, "{line}");
        }
    }
}
