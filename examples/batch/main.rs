//! Prints the SHA-256 of every file below a folder, and makes compressed copies if asked to.
//!
//! ```text
//! cargo run --release --example batch -- ~/Pictures > sums
//! cargo run --release --example batch -- --compress ~/copies --processes 4 --timeout 60 ~/Pictures
//! ```
//!
//! What goes wrong with a file costs that file: it cannot be read, it is gone by the time it is
//! looked at, it takes longer than it may, it kills the process that looks at it. All of that is
//! listed in the end, and the others are done.
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

use futures::StreamExt;
use procpool::{ProcessPool, Resource, Stdio};
use tokio::signal::unix::{SignalKind, signal};

use self::files::File;
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
    let (files, unseen) = files::below(&options.folder)?;
    let mut summary = Summary::new(files.len(), unseen);

    let mut pool = ProcessPool::builder()
        .worker_name("batch")
        // What a dying worker says belongs to the file's error, and not across the bar.
        .stderr(Stdio::capture())
        .rlimit(Resource::Core, 0, 0);
    if let Some(processes) = options.processes {
        pool = pool.workers(processes);
    }
    if let Some(limit) = options.timeout {
        pool = pool.task_timeout(limit);
    }
    let pool = pool.build()?;

    let orders = files.iter().map(|file| Order::new(file, options));
    let mut results = pool.map_unordered(work_on, orders).enumerate();
    let mut progress = Progress::begin(&files);
    let mut unfinished = vec![true; files.len()];
    loop {
        let next = tokio::select! {
            biased;
            _ = interrupt.recv() => {
                summary.interrupted = true;
                break;
            }
            next = results.next() => next,
        };
        let Some((number, result)) = next else { break };
        let file = &files[number];
        // The file's own error is a value; what befell its worker is a `TaskError`.
        let outcome = match result {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(error) => Err(format!("{error:#}")),
        };
        if let Ok(done) = &outcome {
            progress.aside(|| print(file, done))?;
            unfinished[number] = false;
        }
        progress.advance(file, outcome.is_ok());
        summary.count(file, outcome);
    }
    progress.end();

    // After an interrupt there is work that nobody waits for. Else there is none, and the workers
    // are asked to leave.
    if summary.interrupted {
        pool.terminate().await;
    } else {
        pool.shutdown().await;
    }
    // No process is left that could write, so what is half written stays no longer.
    for (file, _) in files.iter().zip(unfinished).filter(|(_, left)| *left) {
        work::tidy_up(&Order::new(file, options));
    }
    summary.finish(pool.stats());
    Ok(summary)
}

/// A line as `sha256sum` writes it; the name may be any bytes.
fn print(file: &File, done: &Yield) -> io::Result<()> {
    let mut line = Vec::new();
    for byte in done.sum {
        write!(line, "{byte:02x}")?;
    }
    line.extend_from_slice(b"  ");
    line.extend_from_slice(file.path.as_os_str().as_bytes());
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}
