//! A large table that all workers read and none has a copy of: it is loaded once, where the workers are
//! forked from, and each shows how much memory is its own.
//!
//! ```text
//! cargo run --release --example preload
//! ```

use std::sync::OnceLock;
use std::time::Instant;

use procpool::{ProcessPool, RemoteError};

type Error = Box<dyn std::error::Error>;

/// 200 MiB, as numbers of eight bytes.
const LENGTH: usize = 200 * 1024 * 1024 / 8;
const WORKERS: usize = 3;

static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

/// In the fork server, or in each worker: whoever is told to.
fn load(length: usize) -> Result<(), RemoteError> {
    let table = (0..length as u64).map(|n| n.wrapping_mul(n)).collect();
    TABLE
        .set(table)
        .map_err(|_| RemoteError::msg("it is loaded already"))
}

/// Reads all of the table, and tells how much of its memory a worker shares with nobody.
fn read(_: ()) -> Result<(u32, u64, u64), RemoteError> {
    let table = TABLE
        .get()
        .ok_or_else(|| RemoteError::msg("there is no table"))?;
    let sum = table.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n));
    Ok((std::process::id(), sum, private_memory()?))
}

/// In KiB, as the kernel counts it.
fn private_memory() -> std::io::Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    Ok(private
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let builder = || ProcessPool::builder().workers(WORKERS);
    show("preloaded", builder().preload(load, LENGTH).build()?).await?;
    show("initialized", builder().initializer(load, LENGTH).build()?).await
}

async fn show(how: &str, pool: ProcessPool) -> Result<(), Error> {
    let begun = Instant::now();
    pool.ready().await?;
    println!(
        "{how}: {WORKERS} workers were ready after {:.1?}",
        begun.elapsed()
    );
    // Keys take the calls to different workers, until each has had one.
    let mut seen = std::collections::BTreeMap::new();
    let mut key = 0_u64;
    while seen.len() < WORKERS {
        let task = pool.task(read).key(key);
        let (pid, sum, private) = task.submit(()).await??;
        seen.insert(pid, (sum, private));
        key += 1;
    }
    for (pid, (sum, private)) in seen {
        let private = private as f64 / 1024.0;
        println!("{how}: worker {pid} has {private:.1} MiB of its own, and the sum is {sum}");
    }
    pool.shutdown().await;
    Ok(())
}
