//! Async tasks and processes hand work to each other through queues.
//!
//! ```text
//! cargo run --release --example pipeline
//!
//!   tasks that wait ──▶ texts ──▶ processes that compute ──▶ counts ──▶ a task that gathers
//!
//! text 3 has 20000 words, says process 4712
//! ..
//! 8 texts were fetched by 4 tasks and counted by 2 processes: 180000 words
//! ```
//!
//! Waiting is what tasks are good at, and computing what processes are. A queue is bounded, so whoever is
//! faster waits for the others; who has put the last into it says that it is finished, and that goes through from
//! the first to the last.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use procpool::{Process, Queue, RemoteError};

const TEXTS: usize = 8;
const TASKS: usize = 4;
const PROCESSES: usize = 2;

type Text = (usize, String);
/// Which text, how many words it has, and who has counted them.
type Count = (usize, usize, u32);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (texts, counts) = (Queue::bounded(2)?, Queue::bounded(2)?);

    let fetching = fetch_all(texts.clone());
    let counting = count_all(texts, counts.clone());
    let gathering = gather(counts);
    let ((), (), (words, counters)) = tokio::try_join!(fetching, counting, gathering)?;
    println!(
        "{TEXTS} texts were fetched by {TASKS} tasks and counted by {counters} processes: {words} words"
    );
    Ok(())
}

/// First stage: tasks, each of which fetches the next text that nobody has yet.
async fn fetch_all(texts: Queue<Text>) -> Result<(), Box<dyn Error>> {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = [(); TASKS].map(|()| tokio::spawn(fetch(texts.clone(), next.clone())));
    try_join_all(tasks)
        .await?
        .into_iter()
        .collect::<Result<(), _>>()?;
    Ok(texts.finish()?)
}

async fn fetch(texts: Queue<Text>, next: Arc<AtomicUsize>) -> Result<(), RemoteError> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= TEXTS {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // as if it came from far away
        let text = "all work and no play ".repeat(1_000 * (number + 1));
        texts.put((number, text)).await?;
    }
}

/// Second stage: processes.
async fn count_all(texts: Queue<Text>, counts: Queue<Count>) -> Result<(), Box<dyn Error>> {
    let argument = || (texts.clone(), counts.clone());
    let processes = [(); PROCESSES].map(|()| Process::spawn(count, argument()));
    for process in try_join_all(processes).await? {
        process.join().await??;
    }
    Ok(counts.finish()?)
}

fn count((texts, counts): (Queue<Text>, Queue<Count>)) -> Result<(), RemoteError> {
    loop {
        match texts.blocking_get(None) {
            Ok((number, text)) => {
                let words = text.split_whitespace().count();
                counts.blocking_put((number, words, std::process::id()), None)?;
            }
            Err(error) if error.is_finished() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Last stage: a task. Returns how many words there were, and how many have counted.
async fn gather(counts: Queue<Count>) -> Result<(usize, usize), Box<dyn Error>> {
    let (mut all, mut counters) = (0, BTreeSet::new());
    loop {
        match counts.get().await {
            Ok((number, words, pid)) => {
                println!("text {number} has {words} words, says process {pid}");
                all += words;
                counters.insert(pid);
            }
            Err(error) if error.is_finished() => return Ok((all, counters.len())),
            Err(error) => return Err(error.into()),
        }
    }
}
