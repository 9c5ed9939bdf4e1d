//! The classic comparison: one sum in sequence, in threads, and in processes.
//!
//! ```text
//! cargo run --release --example speedup -- --n 1000000000
//!
//! sum of i + i² + i³ for i below 1000000000, in 8 ranges on 2 cores
//!
//! in sequence    3.141 s  ████████████████████████████████████████  1.0 times as fast
//! in threads     2.382 s  ██████████████████████████████▍           1.3 times as fast
//! in processes   2.688 s  ██████████████████████████████████▎       1.2 times as fast
//! (the processes were started in 24.5ms)
//! the sum is 6172277188827550208, modulo 2^64
//! ```
//!
//! (These two cores had much else to do. With idle ones, the last two come near to as many times as
//! there are cores.) For work of this size a process costs no more than a thread. What it can do
//! beyond that is in the other examples.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use lexopt::{Arg, Parser, ValueExt};
use procpool::ProcessPool;

/// How wide the longest bar is.
const WIDTH: usize = 40;
/// How many ranges there are for each core: more than one, so that a core that others use as well
/// does not keep all of them waiting.
const RANGES_PER_CORE: u64 = 4;

/// The work, of sequence, threads and processes alike.
fn sum(range: Range<u64>) -> u64 {
    range
        // Unless it is kept from seeing through the numbers, the compiler knows a formula.
        .map(black_box)
        .map(|i| {
            i.wrapping_add(i.wrapping_pow(2))
                .wrapping_add(i.wrapping_pow(3))
        })
        .fold(0, u64::wrapping_add)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n = option_n()?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let ranges = split(n, RANGES_PER_CORE * cores as u64);
    let count = ranges.len();
    println!("sum of i + i² + i³ for i below {n}, in {count} ranges on {cores} cores\n");

    let (alone, in_sequence) = timed(|| ranges.iter().cloned().map(sum).fold(0, u64::wrapping_add));
    let (threads, in_threads) = timed(|| sum_in_threads(&ranges, cores));

    let begun = Instant::now();
    let pool = ProcessPool::new()?;
    pool.ready().await?; // else they would be started by the first calls
    let started = begun.elapsed();
    let begun = Instant::now();
    let processes = pool
        .map_unordered(sum, ranges)
        .try_fold(0, async |all: u64, one| Ok(all.wrapping_add(one)))
        .await?;
    let in_processes = begun.elapsed();
    pool.shutdown().await;

    assert_eq!(
        (threads, processes),
        (alone, alone),
        "all have the same sum"
    );
    let rows = [
        ("in sequence", in_sequence),
        ("in threads", in_threads),
        ("in processes", in_processes),
    ];
    let longest = rows.iter().map(|(_, time)| *time).max().unwrap_or_default();
    for (name, time) in rows {
        let (seconds, bar) = (time.as_secs_f64(), bar(share(time, longest)));
        let speedup = share(in_sequence, time);
        println!("{name:<12} {seconds:>7.3} s  {bar:<WIDTH$}  {speedup:.1} times as fast");
    }
    println!("(the processes were started in {started:.1?})");
    println!("the sum is {alone}, modulo 2^64");
    Ok(())
}

fn sum_in_threads(ranges: &[Range<u64>], cores: usize) -> u64 {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || ranges.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let work = || {
        std::iter::from_fn(take)
            .cloned()
            .map(sum)
            .fold(0, u64::wrapping_add)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let sums = threads
            .into_iter()
            .map(|thread| thread.join().expect("a sum does not panic"));
        sums.fold(0, u64::wrapping_add)
    })
}

/// Cuts the numbers below `n` into ranges of about one length.
fn split(n: u64, parts: u64) -> Vec<Range<u64>> {
    let length = n.div_ceil(parts).max(1);
    let starts = (0..parts).map(|part| part.saturating_mul(length));
    starts
        .take_while(|start| *start < n)
        .map(|start| start..n.min(start.saturating_add(length)))
        .collect()
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

fn share(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64().max(1e-9)
}

/// A bar of that share of the whole width, to an eighth of a letter.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (WIDTH * 8) as f64).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

/// How far to sum, from `--n`.
fn option_n() -> Result<u64, lexopt::Error> {
    let mut n = 200_000_000;
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("n") => n = arguments.value()?.parse()?,
            Arg::Long("help") => {
                println!("usage: speedup [--n N]");
                std::process::exit(0);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(n)
}
