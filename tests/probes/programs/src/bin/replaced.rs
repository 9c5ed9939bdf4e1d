//! A program whose file is replaced by the one that its argument names, or deleted, while it runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use procpool::{ProcessPool, StartMethod};

/// A worker: its process, its parent, its program's file.
type Who = (u32, u32, u64);

fn who(_: ()) -> Who {
    let image = fs::metadata("/proc/self/exe").expect("a program");
    let parent = std::os::unix::process::parent_id();
    (std::process::id(), parent, image.ino())
}

#[tokio::main]
async fn main() {
    let own = who(()).2;
    let is_own = |who: Who| if who.2 == own { "the same" } else { "another" };
    let pool = pool(StartMethod::ForkServer);
    let first = pool.submit(who, ()).await.expect("a worker");
    take_away_own_file();

    let lost: Result<(), _> = pool.submit(|()| std::process::abort(), ()).await;
    assert!(lost.is_err_and(|error| error.is_worker_lost()));
    let second = pool.submit(who, ()).await.expect("a new worker");
    assert!(second.0 != first.0 && second.1 == first.1);
    println!("of the same fork server: {}", is_own(second));

    let server = i32::try_from(first.1).expect("a number of a process");
    // SAFETY: the call has no conditions; the process is the parent of our worker.
    assert_eq!(unsafe { libc::kill(server, libc::SIGKILL) }, 0);
    println!(
        "of a new fork server: {}",
        is_own(third(&pool, first.1).await)
    );

    let spawned = self::pool(StartMethod::Spawn);
    let fourth = spawned.submit(who, ()).await.expect("an executed worker");
    println!("of no fork server: {}", is_own(fourth));
    pool.shutdown().await;
    spawned.shutdown().await;
}

/// Waits for a worker with another parent.
async fn third(pool: &ProcessPool, server: u32) -> Who {
    let begun = Instant::now();
    loop {
        // One that is idle when its server dies may take a call before that is known, and is not
        // the server's child any more.
        if let Ok(third) = pool.submit(who, ()).await {
            let parent = fs::read_to_string(format!("/proc/{}/comm", third.1));
            if third.1 != server && parent.is_ok_and(|name| name.starts_with("procpool-server")) {
                return third;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no new server");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn pool(method: StartMethod) -> ProcessPool {
    let builder = ProcessPool::builder().workers(1).start_method(method);
    builder.build().expect("a pool")
}

fn take_away_own_file() {
    let own = std::env::current_exe().expect("a path");
    match std::env::args().nth(1) {
        Some(other) => fs::rename(other, &own).expect("another program's file"),
        None => fs::remove_file(&own).expect("our own file"),
    }
    assert_ne!(std::env::current_exe().ok(), Some(own), "taken away");
}
