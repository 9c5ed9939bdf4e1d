//! The first thing to try: calls that run in worker processes, a crash that costs one call, and a
//! time limit that really ends the work.
//!
//! ```text
//! fib(30) = 832040
//! 1 + 2 = 3
//! the crash: worker died while it ran the task: worker procpool1-1 (pid 4711) ended by signal 6 (SIGABRT), ..
//! its neighbour: 42
//! the endless one: task ran longer than its limit of 200ms
//! 2 of 2 workers, 0 running, 0 waiting; workers started 4, ended 2
//! submitted 5, completed 3, failed 0, cancelled 0, timed out 1, lost 1, retried 0
//! ..
//! ```

use std::time::Duration;

use procpool::{ProcessPool, call};

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn add(a: i32, b: i32) -> i32 {
    a + b
}

fn crash(_: ()) {
    std::process::abort()
}

fn work_without_end(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ProcessPool::new()?; // one worker per core; no other set-up anywhere

    let n = pool.submit(fib, 30).await?; // any fn, or closure that captures nothing
    println!("fib(30) = {n}");

    let s = pool.submit_call(call!(add(1, 2))).await?; // several arguments
    println!("1 + 2 = {s}");

    // `submit` never waits: both are on their way, side by side, before the first is awaited.
    let crashing = pool.submit(crash, ());
    let neighbour = pool.submit(|(a, b)| add(a, b), (20, 22));
    if let Err(error) = crashing.await {
        assert!(error.is_worker_lost());
        println!("the crash: {error:#}"); // `#`: with what is behind it
    }
    println!("its neighbour: {}", neighbour.await?);

    let limit = Duration::from_millis(200);
    let endless = pool.task(work_without_end).timeout(limit);
    if let Err(error) = endless.submit(()).await {
        assert!(error.is_timeout());
        println!("the endless one: {error}");
    }

    println!("{}", pool.stats());
    pool.shutdown().await; // what was accepted is finished, and no process is left
    Ok(())
}
