//! What does an item cost on its way between processes, and beside what else could be used?
//!
//! From so many producers to so many consumers, each a process of its own and each blocking:
//!
//! - `queue`: a [`Queue`] that has room for 1,024 items and 4 MiB;
//! - `locked_pipe`: a pipe with a length before each item, and a lock at either end, which is what
//!   Python's queues consist of, without Python;
//! - `ipc_channel`: a byte channel of the crate of that name, of one producer and one consumer, without a
//!   bound;
//! - `python`: a `multiprocessing.Queue` of as many items between Pythons, where there is one. It
//!   measures itself.
//!
//! At 1 MiB there is `queue_payload` besides, the same queue with items that are a [`Payload`], which go
//! through slabs (one copy on either side, none under the queue's lock); and `memcpy`, one copy of an item,
//! in warm memory. It is the goal that `queue_payload` has half of its rate.

#[path = "support/python.rs"]
mod python;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcOneShotServer, IpcSender};
use procpool::{Connection, Fd, Payload, Process, Queue, pipe};
use python::Python;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::locked::Locked;

/// How many items are on their way at most.
const ROOM: usize = 1024;
/// And how many bytes.
const BYTES: usize = 4 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    for (producers, consumers) in [(1, 1), (2, 2), (1, 4)] {
        for (name, size) in [("16B", 16), ("1KiB", 1 << 10), ("1MiB", 1 << 20)] {
            let mut group = criterion.benchmark_group(format!("{producers}_to_{consumers}/{name}"));
            group.throughput(Throughput::Elements(1));
            let mut measure = |name: &str, pass: &mut dyn FnMut(u64) -> Duration| {
                group.bench_function(name, |bencher| bencher.iter_custom(&mut *pass));
            };
            let queue = Queue::<Bytes>::with_bounds(ROOM, BYTES).expect("room for a queue");
            let mut crew = Crew::new(&queue, producers, consumers, size);
            measure("queue", &mut |count| crew.pass(count));
            drop(crew);

            if size == 1 << 20 {
                let queue = Queue::<Payload>::with_bounds(ROOM, BYTES).expect("room for a queue");
                let mut crew = Crew::new(&queue, producers, consumers, size);
                measure("queue_payload", &mut |count| crew.pass(count));
            }

            let mut crew = Crew::new(&Locked::new(), producers, consumers, size);
            measure("locked_pipe", &mut |count| crew.pass(count));
            drop(crew);

            if (producers, consumers) == (1, 1) {
                let mut channel = Channel::new(size);
                measure("ipc_channel", &mut |count| channel.pass(count));
            }
            if let Some(mut python) = Python::start(
                PYTHON,
                &[producers, consumers, size, ROOM].map(|number| number.to_string()),
            ) {
                measure("python", &mut |count| python.pass(count));
            }
            if size == 1 << 20 {
                let (from, mut to) = (vec![7_u8; size], vec![0_u8; size]);
                measure("memcpy", &mut |count| {
                    let begun = Instant::now();
                    for _ in 0..count {
                        to.copy_from_slice(std::hint::black_box(&from));
                        std::hint::black_box(&mut to);
                    }
                    begun.elapsed()
                });
            }
            group.finish();
        }
    }
    criterion.final_summary();
}

/// A way for items.
trait Way: Clone + Serialize + DeserializeOwned + Send + 'static {
    type Item: From<Bytes> + Send;
    fn put(&self, item: &Self::Item);
    fn get(&self) -> usize;
}

impl<T> Way for Queue<T>
where
    T: From<Bytes> + AsRef<[u8]> + Clone + Serialize + DeserializeOwned + Send + 'static,
{
    type Item = T;

    fn put(&self, item: &T) {
        let put = self.blocking_put(item.clone(), None);
        put.expect("somebody gets it");
    }

    fn get(&self) -> usize {
        let item = self.blocking_get(None).expect("somebody puts it");
        item.as_ref().len()
    }
}

impl Way for Locked {
    type Item = Bytes;

    fn put(&self, item: &Bytes) {
        let length = (item.len() as u32).to_le_bytes();
        self.exclusively(0, |mut entry, _| {
            // As Python does it: one write for both where they are short.
            let written = match item.len() {
                ..=16_384 => entry.write_all(&[&length, &item[..]].concat()),
                _ => entry
                    .write_all(&length)
                    .and_then(|()| entry.write_all(item)),
            };
            written.expect("somebody reads it");
        });
    }

    fn get(&self) -> usize {
        self.exclusively(1, |_, mut exit| {
            let mut length = [0; 4];
            exit.read_exact(&mut length).expect("somebody writes it");
            let mut item = vec![0; u32::from_le_bytes(length) as usize];
            exit.read_exact(&mut item).expect("somebody writes it");
            std::hint::black_box(item).len()
        })
    }
}

/// Processes that put and get as many items as they are told.
struct Crew {
    producers: Vec<Member>,
    consumers: Vec<Member>,
}

struct Member {
    orders: Connection<u64, ()>,
    process: Process<()>,
}

impl Crew {
    fn new<W: Way>(way: &W, producers: usize, consumers: usize, size: usize) -> Self {
        fn produce<W: Way>((way, size, mut orders): (W, usize, Connection<(), u64>)) {
            let item = W::Item::from(Bytes::from(vec![7; size]));
            while let Ok(count) = orders.blocking_recv(None) {
                (0..count).for_each(|_| way.put(&item));
                orders.blocking_send(&(), None).expect("somebody waits");
            }
        }
        fn consume<W: Way>((way, size, mut orders): (W, usize, Connection<(), u64>)) {
            while let Ok(count) = orders.blocking_recv(None) {
                (0..count).for_each(|_| assert_eq!(way.get(), size));
                orders.blocking_send(&(), None).expect("somebody waits");
            }
        }
        let member = |work: fn((W, usize, Connection<(), u64>))| {
            let (orders, there) = pipe().expect("room for a pipe");
            let process = Process::spawn(work, (way.clone(), size, there));
            let process = process.blocking_wait().expect("room for a process");
            Member { orders, process }
        };
        Self {
            producers: (0..producers).map(|_| member(produce)).collect(),
            consumers: (0..consumers).map(|_| member(consume)).collect(),
        }
    }

    fn pass(&mut self, count: u64) -> Duration {
        let begun = Instant::now();
        for side in [&mut self.consumers, &mut self.producers] {
            let members = side.len() as u64;
            for (place, member) in (0..).zip(side.iter_mut()) {
                let share = (count + place) / members;
                let ordered = member.orders.blocking_send(&share, None);
                ordered.expect("it is there");
            }
        }
        for member in self.producers.iter_mut().chain(&mut self.consumers) {
            member.orders.blocking_recv(None).expect("it is there");
        }
        begun.elapsed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// The crate `ipc-channel`, with the consumer in this process.
struct Channel {
    producer: Member,
    items: IpcBytesReceiver,
}

impl Channel {
    fn new(size: usize) -> Self {
        fn produce((name, size, mut orders): (String, usize, Connection<(), u64>)) {
            let (entry, exit) = ipc::bytes_channel().expect("room for a channel");
            let server = IpcSender::connect(name).expect("a server");
            server.send(exit).expect("it is there");
            let item = vec![7; size];
            while let Ok(count) = orders.blocking_recv(None) {
                (0..count).for_each(|_| entry.send(&item).expect("somebody receives it"));
                orders.blocking_send(&(), None).expect("somebody waits");
            }
        }
        let (server, name) = IpcOneShotServer::new().expect("a free name");
        let (orders, there) = pipe().expect("room for a pipe");
        let process = Process::spawn(produce, (name, size, there));
        let process = process.blocking_wait().expect("room for a process");
        let (_, items) = server.accept().expect("it is there");
        Self {
            producer: Member { orders, process },
            items,
        }
    }

    fn pass(&mut self, count: u64) -> Duration {
        let begun = Instant::now();
        let orders = &mut self.producer.orders;
        orders.blocking_send(&count, None).expect("it is there");
        for _ in 0..count {
            std::hint::black_box(self.items.recv().expect("it is sent"));
        }
        orders.blocking_recv(None).expect("it is there");
        begun.elapsed()
    }
}

/// A pipe and two semaphores in memory that all have mapped.
mod locked {
    #![expect(
        unsafe_code,
        reason = "the locks that are compared with are the system's"
    )]

    use std::fs::File;

    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    pub(super) struct Locked {
        entry: std::sync::Arc<Fd<File>>,
        exit: std::sync::Arc<Fd<File>>,
        locks: procpool::SharedMemory,
    }

    impl Locked {
        pub(super) fn new() -> Self {
            let made = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
            let (exit, entry) = made.expect("room for a pipe");
            let file = |end: OwnedFd| std::sync::Arc::new(Fd(File::from(end)));
            let this = Self {
                entry: file(entry),
                exit: file(exit),
                locks: procpool::SharedMemory::new(4096).expect("room for memory"),
            };
            for place in 0..2 {
                // SAFETY: the memory is there, aligned and large enough, and nobody has the lock yet.
                let made = unsafe { libc::sem_init(this.lock(place), 1, 1) };
                assert_eq!(made, 0);
            }
            this
        }

        fn lock(&self, place: usize) -> *mut libc::sem_t {
            self.locks.as_ptr().wrapping_add(64 * place).cast()
        }

        pub(super) fn exclusively<R>(
            &self,
            place: usize,
            act: impl FnOnce(&File, &File) -> R,
        ) -> R {
            // SAFETY: `new` has made the lock, in memory that is mapped as long as this is borrowed.
            while unsafe { libc::sem_wait(self.lock(place)) } != 0 {}
            let done = act(&self.entry, &self.exit);
            // SAFETY: as above.
            unsafe { libc::sem_post(self.lock(place)) };
            done
        }
    }
}

/// Pythons, of which one measures.
const PYTHON: &str = r#"
import sys, time
from multiprocessing import get_context

producers, consumers, size, room = map(int, sys.argv[1:])
context = get_context("fork")
queue = context.Queue(room)

def produce(orders):
    item = b"7" * size
    while True:
        for _ in range(orders.recv()):
            queue.put(item)
        orders.send(None)

def consume(orders):
    while True:
        for _ in range(orders.recv()):
            queue.get()
        orders.send(None)

def start(work):
    here, there = context.Pipe()
    context.Process(target=work, args=(there,), daemon=True).start()
    return here

producers = [start(produce) for _ in range(producers)]
consumers = [start(consume) for _ in range(consumers)]
for line in sys.stdin:
    count = int(line)
    begun = time.perf_counter_ns()
    for side in consumers, producers:
        for place, member in enumerate(side):
            member.send((count + place) // len(side))
    for member in producers + consumers:
        member.recv()
    print(time.perf_counter_ns() - begun, flush=True)
"#;
