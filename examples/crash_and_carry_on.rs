//! Tasks that go wrong in every way there is, side by side in one pool, which carries on.
//!
//! ```text
//! cargo run --release --example crash_and_carry_on
//!
//! a task that ..            became
//! returns                   a value: 42
//! returns an error          its own error: no such luck
//! panics                    task panicked: so it goes (at examples/crash_and_carry_on.rs:96:24)
//! aborts                    worker died while it ran the task: signal 6 (SIGABRT)
//! writes to nowhere         worker died while it ran the task: signal 11 (SIGSEGV)
//! overflows its stack       worker died while it ran the task: signal 6 (SIGABRT)
//!                             "thread 'daring-3' has overflowed its stack"
//! exits                     worker died while it ran the task: exit code 3
//! hangs                     task ran longer than its limit of 1s
//! eats memory               worker died while it ran the task: signal 6 (SIGABRT)
//!                             "memory allocation of 67108864 bytes failed"
//!
//! and 1000 tasks that came after them are done: ..
//! ```

use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use procpool::{ProcessPool, RemoteError, Resource, Stdio, TaskError};
use serde::{Deserialize, Serialize};

/// What a task does.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Deed {
    Return,
    ReturnAnError,
    Panic,
    Abort,
    WriteToNowhere,
    OverflowTheStack,
    Exit,
    Hang,
    EatMemory,
}

const DEEDS: [Deed; 9] = [
    Deed::Return,
    Deed::ReturnAnError,
    Deed::Panic,
    Deed::Abort,
    Deed::WriteToNowhere,
    Deed::OverflowTheStack,
    Deed::Exit,
    Deed::Hang,
    Deed::EatMemory,
];

/// How long a task may run.
const LIMIT: Duration = Duration::from_secs(1);
/// How much memory a worker may map, in bytes.
const MEMORY: u64 = 512 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ProcessPool::builder()
        .workers(2)
        .worker_name("daring")
        .task_timeout(LIMIT)
        .rlimit(Resource::AddressSpace, MEMORY, MEMORY)
        .rlimit(Resource::Core, 0, 0)
        // Without optimisation, to find the names for a backtrace can take longer than the limit.
        .env("RUST_BACKTRACE", "0")
        // What a worker says before it dies comes with the error.
        .stderr(Stdio::capture())
        .build()?;

    // All of them at once: a neighbour's end is no task's business.
    let handles = DEEDS.map(|deed| (deed, pool.submit(commit, deed)));
    println!("{:<25} became", "a task that ..");
    for (deed, handle) in handles {
        let outcome = handle.await;
        println!("{:<25} {}", deed.to_string(), told(&outcome));
        if let Some(last_words) = outcome.as_ref().err().and_then(last_words) {
            println!("{:<27} {last_words:?}", "");
        }
    }

    let doubled = pool.map_unordered(|n: u32| 2 * n, 0..1_000);
    let sum = doubled.try_fold(0, async |sum, n| Ok(sum + n)).await?;
    println!("\nand 1000 tasks that came after them are done: the sum is {sum}");
    println!("{}", pool.stats());
    pool.shutdown().await;
    Ok(())
}

/// The task.
fn commit(deed: Deed) -> Result<u32, RemoteError> {
    match deed {
        Deed::Return => return Ok(42),
        Deed::ReturnAnError => return Err(RemoteError::msg("no such luck")),
        Deed::Panic => panic!("so it goes"),
        Deed::Abort => std::process::abort(),
        Deed::WriteToNowhere => write_to_nowhere(),
        Deed::OverflowTheStack => assert_ne!(descend(1), 0),
        Deed::Exit => std::process::exit(3),
        Deed::Hang => std::thread::sleep(Duration::from_secs(3600)),
        Deed::EatMemory => eat_memory(),
    }
    unreachable!("nobody comes back from that")
}

/// As native code does it that has lost its way.
#[expect(unsafe_code, reason = "safe code cannot go as wrong as this")]
fn write_to_nowhere() {
    // SAFETY: none. Nothing is ever mapped at this address, so the process is ended here.
    unsafe { std::ptr::without_provenance_mut::<u64>(8).write_volatile(1) }
}

fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 128]);
    if depth == 0 {
        return 0;
    }
    descend(depth + 1) + frame[7]
}

fn eat_memory() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![0_u8; 64 << 20]);
        std::hint::black_box(&eaten);
    }
}

/// What became of a task, in a few words.
fn told(outcome: &Result<Result<u32, RemoteError>, TaskError>) -> String {
    match outcome {
        Ok(Ok(value)) => format!("a value: {value}"),
        Ok(Err(error)) => format!("its own error: {error}"),
        // The bug's place is what one wants to know of a panic.
        Err(error) => match error.panic().and_then(|panic| panic.location()) {
            Some(place) => format!("{error} (at {place})"),
            None => error.to_string(),
        },
    }
}

/// What a worker has said before it died, if it had something to say: the first line, because a
/// backtrace may follow.
fn last_words(error: &TaskError) -> Option<String> {
    let said = error.worker_exit()?.stderr_tail()?;
    let mut lines = said.lines().map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Return => "returns",
            Self::ReturnAnError => "returns an error",
            Self::Panic => "panics",
            Self::Abort => "aborts",
            Self::WriteToNowhere => "writes to nowhere",
            Self::OverflowTheStack => "overflows its stack",
            Self::Exit => "exits",
            Self::Hang => "hangs",
            Self::EatMemory => "eats memory",
        })
    }
}
