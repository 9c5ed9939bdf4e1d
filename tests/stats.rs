//! A pool's snapshot, as one sees it from outside: its workers' memory and places, its throughput,
//! and its text.

mod support;

use std::time::Duration;

use procpool::{ProcessPool, WorkerState};
use support::{PROMPTLY, everywhere, pool, soon};

/// Allocates so many MiB, writes to them, and stays with them.
fn hold(mebibytes: usize) {
    let block = vec![1u8; mebibytes << 20];
    std::hint::black_box(&block);
    std::thread::park();
    drop(block);
}

#[test]
fn a_workers_memory_is_that_of_its_process() {
    everywhere(async |method| {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let memory = |stats: &procpool::Stats| {
            let of = |worker: &procpool::WorkerStats| worker.memory.expect("it lives");
            stats.workers.iter().map(of).collect::<Vec<_>>()
        };
        let small = memory(&pool.stats());
        assert!(
            small.iter().all(|bytes| (1..32 << 20).contains(bytes)),
            "{small:?}"
        );
        let held = pool.submit(hold, 64);
        let grown = || memory(&pool.stats()).iter().any(|bytes| *bytes > 64 << 20);
        assert!(soon(PROMPTLY, grown).await, "{}", pool.stats());
        assert!(memory(&pool.stats()).iter().any(|bytes| *bytes < 32 << 20));
        assert!(held.abort());
        pool.shutdown().await;
    });
}

#[test]
fn a_place_counts_the_workers_that_it_has_had() {
    everywhere(async |method| {
        let pool = pool(1, method);
        for deaths in 0..3 {
            pool.submit(|n: u64| n, 1).await.unwrap();
            let stats = pool.stats();
            let [worker] = &stats.workers[..] else {
                panic!("{stats}");
            };
            assert_eq!((worker.restarts, worker.state), (deaths, WorkerState::Idle));
            let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
            crash.await.unwrap_err();
        }
        pool.shutdown().await;
    });
}

#[test]
fn throughput_is_the_answers_by_the_time() {
    everywhere(async |method| {
        let pool = pool(1, method);
        assert_eq!(pool.stats().throughput, 0.0);
        let begun = std::time::Instant::now();
        for n in 0..20u64 {
            pool.submit(|n: u64| n, n).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let stats = pool.stats();
        // The pool is older than `begun`.
        let most = 20.0 / begun.elapsed().as_secs_f64();
        for rate in [stats.throughput, stats.mean_throughput] {
            assert!(rate > 0.0 && rate <= most * 1.1, "{rate} {most}");
        }
        pool.shutdown().await;
    });
}

#[test]
fn the_text_has_a_line_for_each_worker() {
    everywhere(async |method| {
        let builder = ProcessPool::builder().workers(2).worker_name("resize");
        let pool = builder.start_method(method).build().unwrap();
        pool.ready().await.unwrap();
        let park = pool.task(|_: ()| std::thread::park()).name("thumbnail");
        let parked = park.submit(());
        assert!(soon(PROMPTLY, || parked.is_running()).await);
        let text = pool.stats().to_string();
        let lines: Vec<_> = text.lines().collect();
        let [summary, counts, headings, first, second] = &lines[..] else {
            panic!("{text}");
        };
        assert!(
            summary.starts_with("2 of 2 workers, 1 running, 0 waiting;"),
            "{text}"
        );
        assert!(
            counts.starts_with("submitted 1, completed 0, failed 0,"),
            "{text}"
        );
        let words: Vec<_> = headings.split_whitespace().collect();
        let expected = [
            "worker", "pid", "state", "call", "for", "memory", "done", "restarts",
        ];
        assert_eq!(words, expected);
        let running = [first, second]
            .into_iter()
            .find(|line| line.contains("running"));
        let pid = parked.worker_pid().unwrap().to_string();
        let running: Vec<_> = running.unwrap().split_whitespace().collect();
        assert!(running[0].starts_with("resize-"), "{text}");
        assert_eq!(
            running[1..5],
            [&*pid, "running", "1", "thumbnail"],
            "{text}"
        );
        assert!(parked.abort());
        pool.shutdown().await;
    });
}
