//! Prints the SHA-256 of every file below a folder, and makes compressed copies if asked to.
//!
//! ```text
//! cargo run --release --example batch -- ~/Pictures > sums
//! cargo run --release --example batch -- --compress ~/copies --processes 4 --timeout 60 ~/Pictures
//! ```
//!
//! What goes wrong with a file costs that file: it cannot be read, it is gone by the time it is
//! looked at, it takes longer than it may, it kills the process that looks at it. All of that is
//! listed in the end, and the others are done. Links and other entries that are no files are skipped,
//! and the summary says how many there were.
//!
//! The sums go to the standard output, in the order in which they are ready, as `sha256sum -c`
//! reads them. Everything else goes to the standard error: a progress bar, where that is a terminal,
//! and the summary. Ctrl-C ends the work at once, and the summary tells how far it got.
//!
//! | exit code | |
//! | --------- | --- |
//! | 0         | all files are done |
//! | 1         | some are not, the summary has the reasons; or it could not begin |
//! | 2         | the arguments make no sense |
//! | 130       | it was interrupted |

mod files;
mod options;
mod progress;
mod summary;
mod work;

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use futures::{Stream, StreamExt};
use procpool::{BuildError, ProcessPool, RemoteError, Resource, Stdio, TaskError};
use tokio::signal::unix::{SignalKind, signal};

use self::files::{File, Found};
use self::options::{Options, Request};
use self::progress::Progress;
use self::summary::Summary;
use self::work::{Order, Yield, work_on};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::from_arguments() {
        Ok(Request::Work(options)) => options,
        Ok(Request::Help) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("batch: {error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(summary) => {
            eprint!("{summary}");
            ExitCode::from(summary.exit_code())
        }
        Err(error) => {
            eprintln!("batch: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<Summary, Box<dyn std::error::Error>> {
    // From here on Ctrl-C does not end the program by itself.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Found {
        files,
        unseen,
        skipped,
    } = files::below(&options.folder)?;
    let pool = pool(options)?;
    let mut batch = Batch {
        files: &files,
        done: vec![false; files.len()],
        progress: Progress::begin(&files),
        summary: Summary::new(files.len(), unseen, skipped),
    };

    let orders = files.iter().map(|file| Order::new(file, options));
    let results = pool.map_unordered(work_on, orders).enumerate();
    let ended = tokio::select! {
        biased;
        _ = interrupt.recv() => {
            batch.summary.interrupted = true;
            Ok(())
        }
        ended = batch.take_in(results) => ended,
    };
    batch.progress.end();

    // What has not been started never will be, because the results were dropped. What runs is of
    // no use any more if it did not come to the end.
    if batch.summary.interrupted || ended.is_err() {
        pool.terminate().await;
    } else {
        pool.shutdown().await;
    }
    // No process is left that could write, so what is half written can go.
    for (file, _) in files.iter().zip(batch.done).filter(|(_, done)| !done) {
        work::tidy_up(&Order::new(file, options));
    }
    ended?;
    batch.summary.finish(pool.stats());
    Ok(batch.summary)
}

fn pool(options: &Options) -> Result<ProcessPool, BuildError> {
    let mut pool = ProcessPool::builder()
        .worker_name("batch")
        // What a dying worker says is not to be printed across the bar.
        .stderr(Stdio::capture())
        .rlimit(Resource::Core, 0, 0);
    if let Some(processes) = options.processes {
        pool = pool.workers(processes);
    }
    if let Some(limit) = options.timeout {
        pool = pool.task_timeout(limit);
    }
    pool.build()
}

/// The files, and what has come of them.
struct Batch<'a> {
    files: &'a [File],
    done: Vec<bool>,
    progress: Progress,
    summary: Summary,
}

impl Batch<'_> {
    /// Takes in results until there are no more.
    ///
    /// # Errors
    ///
    /// When they cannot be printed.
    async fn take_in(
        &mut self,
        mut results: impl Stream<Item = (usize, Outcome)> + Unpin,
    ) -> io::Result<()> {
        while let Some((number, outcome)) = results.next().await {
            let file = &self.files[number];
            // The file's own error is a value; what befell its worker is a `TaskError`.
            let outcome = match outcome {
                Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                Err(error) => Err(format!("{error:#}")),
            };
            if let Ok(done) = &outcome {
                self.progress.aside(|| print(file, done))?;
                self.done[number] = true;
            }
            self.progress.advance(file, outcome.is_ok());
            self.summary.count(file, outcome);
        }
        Ok(())
    }
}

type Outcome = Result<Result<Yield, RemoteError>, TaskError>;

/// A line as `sha256sum` writes it; the name may be any bytes, and one that would be more than a line is
/// escaped, with a mark in front.
fn print(file: &File, done: &Yield) -> io::Result<()> {
    let name = file.path.as_os_str().as_bytes();
    let mut line = Vec::new();
    if name.contains(&b'\n') || name.contains(&b'\\') {
        line.push(b'\\');
    }
    for byte in done.sum {
        write!(line, "{byte:02x}")?;
    }
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}
