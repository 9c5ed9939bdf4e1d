//! What does a message between two processes cost, and beside what else could be used?
//!
//! - `round_trip`: a message of 64 bytes to another process and back, one at a time;
//! - `one_way`: messages of 1 MiB to another process, which says in the end that it has them all.
//!
//! The baselines: `socket`, a Unix socket with a length before each message and nothing else, which is
//! what the system charges; `ipc_channel`, two byte channels of the crate of that name; and `python`, the
//! same over a `multiprocessing.Pipe` between two Pythons, where there is one. It measures itself.
//!
//! A round trip is mostly two wake-ups; see the bench `call` for what that means.

#[path = "support/python.rs"]
mod python;

use std::env;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
use procpool::{Client, Connection, Listener};
use python::Python;
use tokio::runtime::Builder;

/// A message that is answered by itself.
const SHORT: usize = 64;
/// One that is not answered.
const LONG: usize = 1 << 20;
/// Makes this program the other end: its value says of what, and where.
const ROLE: &str = "PROCPOOL_BENCH_ROLE";

fn main() {
    if let Ok(role) = env::var(ROLE) {
        return match role.split_once(' ').expect("a role and a path") {
            ("socket", path) => answer(UnixStream::connect(path).expect("a listener")),
            ("ipc_channel", name) => answer(Channels::connect(name)),
            (_, path) => answer(Client::blocking_connect(path).expect("a listener")),
        };
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    for (name, size) in [("round_trip", SHORT), ("one_way", LONG)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(size as u64));
        compare(&mut group, size);
        group.finish();
    }
    criterion.final_summary();
}

fn compare(group: &mut BenchmarkGroup<'_, WallTime>, size: usize) {
    let mut measure = |name: &str, pass: &mut dyn FnMut(u64) -> Duration| {
        group.bench_function(name, |bencher| bencher.iter_custom(&mut *pass));
    };
    let path = env::temp_dir().join(format!("procpool-bench-{}", std::process::id()));

    let listener = UnixListener::bind(&path).expect("a free path");
    let _child = Killed(other("socket", &path));
    let (mut socket, _) = listener.accept().expect("the other end");
    std::fs::remove_file(&path).expect("it was made");
    measure("socket", &mut |count| pass(&mut socket, size, count));

    let mut listener = Listener::<(), ()>::bind(&path).expect("a free path");
    let _child = Killed(other("connection", &path));
    let mut connection = listener.blocking_accept(None).expect("the other end");
    measure("blocking", &mut |count| pass(&mut connection, size, count));
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    measure("async", &mut |count| {
        runtime.block_on(pass_async(&mut connection, size, count))
    });

    let (server, name) = IpcOneShotServer::new().expect("a free name");
    let _child = Killed(other("ipc_channel", Path::new(&name)));
    let (_, mut channels): (_, Channels) = server.accept().expect("the other end");
    measure("ipc_channel", &mut |count| pass(&mut channels, size, count));

    if let Some(mut python) = Python::start(PYTHON, &[size.to_string()]) {
        measure("python", &mut |count| python.pass(count));
    }
}

/// One end of any kind, on a thread that may block.
trait End {
    fn send(&mut self, message: &[u8]);
    /// `None` at the end.
    fn recv(&mut self) -> Option<Vec<u8>>;
}

impl End for UnixStream {
    fn send(&mut self, message: &[u8]) {
        let length = (message.len() as u32).to_be_bytes();
        let sent = match message.len() {
            SHORT.. => self
                .write_all(&length)
                .and_then(|()| self.write_all(message)),
            _ => self.write_all(&[&length, message].concat()),
        };
        sent.expect("the other end is there");
    }

    fn recv(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.read_exact(&mut length).ok()?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.read_exact(&mut message).ok()?;
        Some(message)
    }
}

impl End for Connection<(), ()> {
    fn send(&mut self, message: &[u8]) {
        let sent = self.blocking_send_bytes(message, None);
        sent.expect("the other end is there");
    }

    fn recv(&mut self) -> Option<Vec<u8>> {
        self.blocking_recv_bytes(None).ok()
    }
}

/// A byte channel each way.
#[derive(serde::Serialize, serde::Deserialize)]
struct Channels(IpcBytesSender, IpcBytesReceiver);

impl Channels {
    fn connect(name: &str) -> Self {
        let server = IpcSender::connect(name.into()).expect("a server");
        let (here, back) = (ipc::bytes_channel(), ipc::bytes_channel());
        let ((to_here, here), (back, from_here)) = (here.unwrap(), back.unwrap());
        let sent = server.send(Self(to_here, from_here));
        sent.expect("the other end is there");
        Self(back, here)
    }
}

impl End for Channels {
    fn send(&mut self, message: &[u8]) {
        self.0.send(message).expect("the other end is there");
    }

    fn recv(&mut self) -> Option<Vec<u8>> {
        self.1.recv().ok()
    }
}

/// The other end: every message that is not long comes back.
fn answer(mut end: impl End) {
    while let Some(message) = end.recv() {
        if message.len() < LONG {
            end.send(&message);
        }
    }
}

/// So many messages, to and fro or all one way.
fn pass(end: &mut impl End, size: usize, count: u64) -> Duration {
    let message = vec![7; size];
    let begun = Instant::now();
    for _ in 0..count {
        end.send(&message);
        if size < LONG {
            end.recv().expect("the other end is there");
        }
    }
    if size == LONG {
        end.send(b"?");
        end.recv().expect("the other end is there");
    }
    begun.elapsed()
}

async fn pass_async(end: &mut Connection<(), ()>, size: usize, count: u64) -> Duration {
    let message = vec![7; size];
    let begun = Instant::now();
    for _ in 0..count {
        end.send_bytes(&message)
            .await
            .expect("the other end is there");
        if size < LONG {
            end.recv_bytes().await.expect("the other end is there");
        }
    }
    if size == LONG {
        end.send_bytes(b"?").await.expect("the other end is there");
        end.recv_bytes().await.expect("the other end is there");
    }
    begun.elapsed()
}

/// Starts the other end.
fn other(what: &str, path: &Path) -> Child {
    let program = env::current_exe().expect("this program");
    let role = format!("{what} {}", path.display());
    let child = Command::new(program)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .spawn();
    child.expect("this program can be started again")
}

/// A child that is not needed any longer than this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two Pythons, of which one measures.
const PYTHON: &str = r#"
import sys, time
from multiprocessing import get_context

LONG, size = 1 << 20, int(sys.argv[1])

def answer(end):
    try:
        while True:
            message = end.recv_bytes()
            if len(message) < LONG:
                end.send_bytes(message)
    except EOFError:
        pass

context = get_context("fork")
here, there = context.Pipe()
process = context.Process(target=answer, args=(there,), daemon=True)
process.start()
there.close()
message = b"7" * size
for line in sys.stdin:
    begun = time.perf_counter_ns()
    for _ in range(int(line)):
        here.send_bytes(message)
        if size < LONG:
            here.recv_bytes()
    if size == LONG:
        here.send_bytes(b"?")
        here.recv_bytes()
    print(time.perf_counter_ns() - begun, flush=True)
"#;
