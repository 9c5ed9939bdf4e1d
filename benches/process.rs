//! What does it cost to start a process, have it run a function that does nothing, and wait for its
//! end? By each start method, from a program that is small and from one that uses 256 MiB.
//!
//! The baselines are this program, executed so that it ends at once: `posix_spawn`, by the standard
//! library, which is what the system charges for an execution, and `tokio_process`. Neither brings a
//! value back.
//!
//! `fork` comes first, while the program has one thread. For `forkserver` the server is there already:
//! `first` is the first process, with the start of the server.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use procpool::{Process, ProcessBuilder, StartMethod, active_children};
use tokio::runtime::{Builder, Runtime};

/// Makes this program a child of the benchmark, which ends at once.
const ROLE: &str = "PROCPOOL_BENCH_ROLE";
/// What the program has in memory beside itself.
const SIZES: [(&str, usize); 2] = [("small", 0), ("256 MiB", 256 << 20)];

fn main() {
    if env::var_os(ROLE).is_some() {
        return;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    for (size, bytes) in SIZES {
        // Written to, so that it is there.
        let ballast = black_box(vec![1_u8; bytes]);
        blocking(&mut criterion, size);
        asynchronous(&mut criterion, size);
        black_box(ballast);
    }
    criterion.final_summary();
}

fn by(method: StartMethod) -> ProcessBuilder {
    Process::builder().start_method(method)
}

/// What every process does.
fn nothing(n: u64) -> u64 {
    n
}

/// On a thread, the only one.
fn blocking(criterion: &mut Criterion, size: &str) {
    let mut group = criterion.benchmark_group("launch");
    group.bench_function(BenchmarkId::new("fork", size), |bencher| {
        bencher.iter(|| {
            let process = by(StartMethod::Fork).spawn(nothing, 1).blocking_wait();
            let process = process.expect("the program has one thread");
            process.blocking_join(None).expect("its value")
        });
    });
    group.bench_function(BenchmarkId::new("posix_spawn", size), |bencher| {
        let program = env::current_exe().expect("this program");
        bencher.iter(|| {
            let mut command = std::process::Command::new(&program);
            command
                .env(ROLE, "exit")
                .status()
                .expect("this program, again")
        });
    });
}

/// On a runtime.
fn asynchronous(criterion: &mut Criterion, size: &str) {
    let mut group = criterion.benchmark_group("launch");
    let runtime = runtime();
    group.bench_function(BenchmarkId::new("tokio_process", size), |bencher| {
        let program = env::current_exe().expect("this program");
        bencher.iter(|| {
            runtime.block_on(async {
                let mut command = tokio::process::Command::new(&program);
                let status = command.env(ROLE, "exit").status();
                status.await.expect("this program, again")
            })
        });
    });
    for method in StartMethod::available() {
        // While this one runs, its server is there.
        let park = |()| std::thread::park();
        let kept = runtime.block_on(async { by(*method).spawn(park, ()).await });
        let kept = kept.expect("a process");
        group.bench_function(BenchmarkId::new(method.to_string(), size), |bencher| {
            bencher.iter(|| runtime.block_on(launch(*method)));
        });
        kept.kill();
        runtime.block_on(kept.wait());
    }
    // Between two of them there is much longer than either.
    group.measurement_time(Duration::from_millis(200));
    group.bench_function(BenchmarkId::new("forkserver, first", size), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let begun = Instant::now();
                runtime.block_on(launch(StartMethod::ForkServer));
                total += begun.elapsed();
                wait_for_the_end_of_the_server();
            }
            total
        });
    });
    drop(group);
    drop(runtime);
    wait_for_the_end_of_the_server();
}

async fn launch(method: StartMethod) -> u64 {
    let process = by(method).spawn(nothing, 1).await.expect("a process");
    process.join().await.expect("its value")
}

/// The crate's thread goes with it, and the program has one again.
fn wait_for_the_end_of_the_server() {
    assert!(active_children().is_empty());
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Of the calling thread alone.
fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
