//! Copies a folder, file by file in a pool of processes that say through a queue how far they are.
//!
//! ```text
//! cargo run --release --example copy_folder -- FROM TO
//!
//! 340 files, 48.2 MB
//!  73% ..
//! ```
//!
//! What is there already is overwritten. A file that cannot be copied is named in the end, and costs no other;
//! a process that dies costs the file that it was copying.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::StreamExt;
use procpool::{ProcessPool, Queue, RemoteError};

/// How much is copied between two reports.
const PIECE: usize = 256 << 10;

/// Files that are handed over before they are begun: with each goes a handle of the queue.
const AHEAD: usize = 16;

/// From where to where, and through which queue to report.
type Job = (PathBuf, PathBuf, Queue<u64>);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = &folders[..] else {
        return Err("from which folder to which?".into());
    };
    let mut files = Vec::new();
    let total = list(from, to, &mut files)?;
    println!("{} files, {:.1} MB", files.len(), total as f64 / 1e6);

    let pool = ProcessPool::new()?;
    let copied = Queue::new()?;
    let jobs = files.into_iter().map({
        let copied = copied.clone();
        move |(from, to)| (from, to, copied.clone())
    });
    let copies = async {
        let mut failed = 0;
        let mut copies = pool.task(copy).look_ahead(AHEAD).map_unordered(jobs);
        while let Some(copy) = copies.next().await {
            // What went wrong in the task, or with it.
            let told = copy.map_err(|error| error.to_string());
            if let Err(error) = told.and_then(|copy| copy.map_err(|error| error.to_string())) {
                eprintln!("\n{error}");
                failed += 1;
            }
        }
        copied.finish().map(|()| failed)
    };
    let (failed, shown) = tokio::join!(copies, show(&copied, total));
    shown?;
    pool.shutdown().await;
    Ok(if failed? == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Shows which part of the bytes is copied, until there are no more reports to come.
async fn show(copied: &Queue<u64>, total: u64) -> io::Result<()> {
    let mut done = 0;
    while let Ok(more) = copied.get().await {
        done += more;
        print!("\r{:3}%", 100 * done / total.max(1));
        io::stdout().flush()?;
    }
    println!();
    Ok(())
}

/// In a worker.
fn copy((from, to, copied): Job) -> Result<(), RemoteError> {
    let named = |error| RemoteError::msg(format!("{}: {error}", from.display()));
    let (mut source, mut target) = (
        File::open(&from).map_err(named)?,
        File::create(&to).map_err(named)?,
    );
    let mut piece = vec![0; PIECE];
    loop {
        let length = source.read(&mut piece).map_err(named)?;
        if length == 0 {
            return Ok(());
        }
        target.write_all(&piece[..length]).map_err(named)?;
        copied.blocking_put(length as u64, None)?;
    }
}

/// Makes the folders, and lists the files that are to be in them. Returns how many bytes they have.
fn list(from: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<u64> {
    fs::create_dir_all(to)?;
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += list(&from, &to, files)?;
        } else if kind.is_file() {
            bytes += entry.metadata()?.len();
            files.push((from, to));
        }
    }
    Ok(bytes)
}
