//! What came of it all: the counts, and the reasons.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;
use procpool::Stats;

use crate::files::File;
use crate::work::Yield;

pub(crate) struct Summary {
    begun: Instant,
    took: Duration,
    files: usize,
    /// Entries that are no files.
    skipped: usize,
    done: usize,
    read: u64,
    written: Option<u64>,
    failed: Vec<(PathBuf, String)>,
    /// The work was ended before its end.
    pub(crate) interrupted: bool,
    /// The processes that it took.
    processes: u64,
}

impl Summary {
    pub(crate) fn new(files: usize, unseen: Vec<(PathBuf, String)>, skipped: usize) -> Self {
        Self {
            begun: Instant::now(),
            took: Duration::ZERO,
            files: files + unseen.len(),
            skipped,
            done: 0,
            read: 0,
            written: None,
            failed: unseen,
            interrupted: false,
            processes: 0,
        }
    }

    /// A file has come to its end.
    pub(crate) fn count(&mut self, file: &File, outcome: Result<Yield, String>) {
        match outcome {
            Ok(done) => {
                self.done += 1;
                self.read += done.read;
                if let Some(written) = done.written {
                    *self.written.get_or_insert(0) += written;
                }
            }
            Err(reason) => self.failed.push((file.path.clone(), reason)),
        }
    }

    /// All files have, or there will be no more.
    pub(crate) fn finish(&mut self, stats: Stats) {
        self.took = self.begun.elapsed();
        self.processes = stats.workers_started;
        self.failed.sort();
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match (self.interrupted, self.failed.is_empty()) {
            (true, _) => 130,
            (false, false) => 1,
            (false, true) => 0,
        }
    }
}

/// ```text
/// cannot do pictures/b.jpg: No such file or directory (os error 2)
///
///          files         bytes
/// done       298     12.31 MiB
/// failed       1
/// left         1
/// packed     298      9.87 MiB
/// skipped      2
/// in 0.41 s (30.05 MiB/s), with 3 processes; interrupted
/// ```
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, reason) in &self.failed {
            writeln!(f, "cannot do {}: {reason}", path.display())?;
        }
        if !self.failed.is_empty() {
            writeln!(f)?;
        }
        writeln!(f, "{:<8}{:>6}{:>14}", "", "files", "bytes")?;
        let mut row = |name: &str, files: usize, bytes: Option<u64>| {
            let bytes = bytes.map(|bytes| BinaryBytes(bytes).to_string());
            let line = format!("{name:<8}{files:>6}{:>14}", bytes.unwrap_or_default());
            writeln!(f, "{}", line.trim_end())
        };
        row("done", self.done, Some(self.read))?;
        row("failed", self.failed.len(), None)?;
        row("left", self.files - self.done - self.failed.len(), None)?;
        if let Some(written) = self.written {
            row("packed", self.done, Some(written))?;
        }
        if self.skipped > 0 {
            row("skipped", self.skipped, None)?;
        }
        let seconds = self.took.as_secs_f64();
        let rate = BinaryBytes((self.read as f64 / seconds.max(0.001)) as u64);
        let processes = match self.processes {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
        let end = if self.interrupted {
            "; interrupted"
        } else {
            ""
        };
        writeln!(f, "in {seconds:.2} s ({rate}/s), with {processes}{end}")
    }
}
