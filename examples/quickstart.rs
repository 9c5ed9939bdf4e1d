//! The first thing to try: a pool, a call, a call with several arguments, a crash that costs one
//! call, a time limit that ends the work.

use std::time::Duration;

use procpool::{ProcessPool, call};

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn add(a: i32, b: i32) -> i32 {
    a + b
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ProcessPool::new()?; // one worker per core; no other set-up anywhere

    let n = pool.submit(fib, 30).await?; // any fn, or closure that captures nothing
    println!("fib(30) = {n}");

    let s = pool.submit_call(call!(add(1, 2))).await?; // several arguments
    println!("1 + 2 = {s}");

    let crash = pool.submit(|()| std::process::abort(), ());
    let sum = pool.submit(|(a, b)| add(a, b), (20, 22));
    let lost: Result<(), _> = crash.await;
    println!("a task that aborts: {}", lost.expect_err("it aborts"));
    println!("its neighbour: {}", sum.await?);

    let endless = pool
        .task(|()| {
            loop {
                std::hint::spin_loop()
            }
        })
        .timeout(Duration::from_millis(200));
    let ended: Result<(), _> = endless.submit(()).await;
    println!(
        "a task without an end: {}",
        ended.expect_err("it has a limit")
    );

    println!("{}", pool.stats());
    pool.shutdown().await;
    Ok(())
}
