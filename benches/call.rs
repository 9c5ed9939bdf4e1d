//! What does a call in another process cost, and beside what else could be used?
//!
//! Three questions, on both kinds of tokio runtime, each with its baselines in the same run:
//!
//! - `round_trip`: one call at a time, the next when the last is answered;
//! - `in_flight`: 1,024 calls submitted, then all awaited;
//! - `first_result`: from nothing to the first answer.
//!
//! The baselines: `pipe`, two processes that pass a message to and fro and do nothing else, which is
//! what the system charges; `spawn_blocking`, a thread; and `by_hand`, what people write themselves:
//! a child over tokio's pipes, length-delimited frames, a map of who waits for which answer.
//!
//! A round trip is mostly two wake-ups. Whether both processes share a core decides more than all
//! code does, and the system decides that anew from run to run: compare within one run.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use futures::{SinkExt, StreamExt};
use procpool::{ProcessPool, StartMethod};
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// How many calls are in flight at once.
const FLIGHT: u64 = 1_024;
/// How many workers, and threads of the runtime that has several.
const WORKERS: usize = 2;
/// Makes this program a child of the benchmark: its value says which.
const ROLE: &str = "PROCPOOL_BENCH_ROLE";

fn main() {
    match env::var(ROLE).as_deref() {
        Ok("pipe") => return echo().unwrap_or_default(),
        Ok("by_hand") => return answer().unwrap_or_default(),
        _ => {}
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    round_trip(&mut criterion);
    in_flight(&mut criterion);
    first_result(&mut criterion);
    criterion.final_summary();
}

/// What every call does: as little as can be.
fn next(n: u64) -> u64 {
    n + 1
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_trip");
    let mut pipe = Pipe::start();
    group.bench_function("pipe", |bencher| bencher.iter(|| pipe.pass(black_box(7))));
    for (flavor, runtime) in runtimes() {
        for (name, way) in ways(&runtime) {
            group.bench_function(BenchmarkId::new(name, flavor), |bencher| {
                bencher.iter_custom(|iterations| {
                    let way = way.clone();
                    on(&runtime, async move {
                        let begun = Instant::now();
                        for n in 0..iterations {
                            black_box(way.call(n).await);
                        }
                        begun.elapsed()
                    })
                });
            });
        }
    }
}

fn in_flight(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("in_flight");
    group.throughput(Throughput::Elements(FLIGHT));
    for (flavor, runtime) in runtimes() {
        for (name, way) in ways(&runtime) {
            group.bench_function(BenchmarkId::new(name, flavor), |bencher| {
                bencher.iter_custom(|iterations| {
                    let way = way.clone();
                    on(&runtime, async move {
                        let begun = Instant::now();
                        for _ in 0..iterations {
                            let calls: Vec<_> = (0..FLIGHT).map(|n| way.call(n)).collect();
                            for call in calls {
                                black_box(call.await);
                            }
                        }
                        begun.elapsed()
                    })
                });
            });
        }
    }
}

fn first_result(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first_result");
    for (flavor, runtime) in runtimes() {
        for method in StartMethod::available() {
            group.bench_function(BenchmarkId::new(method.to_string(), flavor), |bencher| {
                bencher.iter_custom(|iterations| {
                    on(&runtime, async move {
                        let mut total = Duration::ZERO;
                        for n in 0..iterations {
                            let begun = Instant::now();
                            let pool = pool(1, *method);
                            black_box(pool.submit(next, n).await.expect("the call is plain"));
                            total += begun.elapsed();
                            pool.shutdown().await;
                        }
                        total
                    })
                });
            });
        }
        group.bench_function(BenchmarkId::new("by_hand", flavor), |bencher| {
            bencher.iter_custom(|iterations| {
                on(&runtime, async move {
                    let mut total = Duration::ZERO;
                    for n in 0..iterations {
                        let begun = Instant::now();
                        let (client, mut child) = Client::start();
                        black_box(client.call(n).await);
                        total += begun.elapsed();
                        child.kill().await.expect("it is our child");
                    }
                    total
                })
            });
        });
    }
    group.bench_function("thread", |bencher| {
        bencher.iter(|| std::thread::spawn(|| next(black_box(7))).join());
    });
}

fn runtimes() -> [(&'static str, Runtime); 2] {
    let one = Builder::new_current_thread().enable_all().build();
    let many = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    [
        ("current_thread", one.expect("a runtime")),
        ("multi_thread", many.expect("a runtime")),
    ]
}

/// Runs the work where a program would: in the runtime, as one of its tasks where it has threads.
fn on<F>(runtime: &Runtime, work: F) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    runtime
        .block_on(runtime.spawn(work))
        .expect("no panic in a benchmark")
}

fn pool(workers: usize, method: StartMethod) -> ProcessPool {
    ProcessPool::builder()
        .workers(workers)
        .start_method(method)
        .build()
        .expect("a pool")
}

/// The ways to have a function called elsewhere, ready for their first call.
fn ways(runtime: &Runtime) -> [(&'static str, Way); 3] {
    let _inside = runtime.enter();
    let pool = pool(WORKERS, StartMethod::default());
    runtime.block_on(pool.ready()).expect("workers");
    let (clients, children) = (0..WORKERS).map(|_| Client::start()).unzip();
    let by_hand = ByHand {
        clients,
        _children: children,
        turn: AtomicU64::new(0),
    };
    [
        ("procpool", Way::Pool(pool)),
        ("spawn_blocking", Way::Thread),
        ("by_hand", Way::ByHand(Arc::new(by_hand))),
    ]
}

#[derive(Clone)]
enum Way {
    Pool(ProcessPool),
    Thread,
    ByHand(Arc<ByHand>),
}

impl Way {
    /// Submits a call at once; the future is its answer.
    fn call(&self, n: u64) -> impl Future<Output = u64> + Send + use<> {
        use futures::future::Either::{Left, Right};
        match self {
            Self::Pool(pool) => {
                let handle = pool.submit(next, n);
                Left(async { handle.await.expect("the call is plain") })
            }
            Self::Thread => {
                let handle = tokio::task::spawn_blocking(move || next(n));
                Right(Left(async { handle.await.expect("the call is plain") }))
            }
            Self::ByHand(workers) => {
                let turn = workers.turn.fetch_add(1, Ordering::Relaxed) as usize;
                Right(Right(workers.clients[turn % workers.clients.len()].call(n)))
            }
        }
    }
}

/// As many hand-made workers as the pool has, taken in turn.
struct ByHand {
    clients: Vec<Client>,
    _children: Vec<Child>,
    turn: AtomicU64,
}

/// One hand-made worker.
struct Client {
    requests: mpsc::UnboundedSender<(u64, oneshot::Sender<u64>)>,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<u64>>>>;

impl Client {
    fn start() -> (Self, Child) {
        let program = env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .env(ROLE, "by_hand")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program, again");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let waiting = Waiting::default();
        let (requests, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_requests(
            FramedWrite::new(stdin, LengthDelimitedCodec::new()),
            queue,
            waiting.clone(),
        ));
        tokio::spawn(read_responses(
            FramedRead::new(stdout, LengthDelimitedCodec::new()),
            waiting,
        ));
        (Self { requests }, child)
    }

    fn call(&self, n: u64) -> impl Future<Output = u64> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        // A client that is gone shows in the answer that does not come.
        let _ = self.requests.send((n, answer));
        async { answered.await.expect("the worker lives") }
    }
}

async fn write_requests(
    mut pipe: FramedWrite<tokio::process::ChildStdin, LengthDelimitedCodec>,
    mut queue: mpsc::UnboundedReceiver<(u64, oneshot::Sender<u64>)>,
    waiting: Waiting,
) -> io::Result<()> {
    let (mut batch, mut id) = (Vec::new(), 0u64);
    while queue.recv_many(&mut batch, FLIGHT as usize).await > 0 {
        for (n, answer) in batch.drain(..) {
            id += 1;
            waiting.lock().expect("no panic here").insert(id, answer);
            let frame = postcard::to_stdvec(&(id, n)).map_err(io::Error::other)?;
            pipe.feed(Bytes::from(frame)).await?;
        }
        SinkExt::<Bytes>::flush(&mut pipe).await?;
    }
    Ok(())
}

async fn read_responses(
    mut pipe: FramedRead<tokio::process::ChildStdout, LengthDelimitedCodec>,
    waiting: Waiting,
) -> io::Result<()> {
    while let Some(frame) = pipe.next().await {
        let (id, n): (u64, u64) = postcard::from_bytes(&frame?).map_err(io::Error::other)?;
        let answer = waiting.lock().expect("no panic here").remove(&id);
        if let Some(answer) = answer {
            let _ = answer.send(n);
        }
    }
    Ok(())
}

/// The hand-made worker itself: a plain loop that answers once per drained input.
fn answer() -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut output = BufWriter::with_capacity(64 * 1024, stdout()?);
    let mut frame = Vec::new();
    while !input.fill_buf()?.is_empty() {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        frame.resize(u32::from_be_bytes(length) as usize, 0);
        input.read_exact(&mut frame)?;
        let (id, n): (u64, u64) = postcard::from_bytes(&frame).map_err(io::Error::other)?;
        let reply = postcard::to_stdvec(&(id, next(n))).map_err(io::Error::other)?;
        output.write_all(&(reply.len() as u32).to_be_bytes())?;
        output.write_all(&reply)?;
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    Ok(())
}

/// Two processes and two pipes, and nothing else.
struct Pipe {
    child: std::process::Child,
    there: std::process::ChildStdin,
    back: std::process::ChildStdout,
}

impl Pipe {
    fn start() -> Self {
        let program = env::current_exe().expect("this program");
        let mut child = std::process::Command::new(program)
            .env(ROLE, "pipe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program, again");
        Self {
            there: child.stdin.take().expect("it is piped"),
            back: child.stdout.take().expect("it is piped"),
            child,
        }
    }

    fn pass(&mut self, n: u64) -> u64 {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&n.to_ne_bytes());
        self.there.write_all(&message).expect("the child lives");
        self.back.read_exact(&mut message).expect("the child lives");
        u64::from(message[0])
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end: sends back what comes.
fn echo() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), stdout()?);
    let mut message = [0; 16];
    loop {
        input.read_exact(&mut message)?;
        output.write_all(&message)?;
    }
}

/// Standard output without the library's looking for ends of lines, which would cut writes in two.
fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}
