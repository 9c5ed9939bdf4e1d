//! What does a lock between processes cost, and a signal, beside what else could be used?
//!
//! - `uncontended`: a lock is acquired and released, and nobody else wants it;
//! - `contended`: the same, while another process does nothing else either;
//! - `event`: a signal to another process and one back.
//!
//! The baselines: `pthread`, a robust mutex of the C library in shared memory, which is what a lock costs
//! that knows when its holder dies, but can be waited for by threads only; and `python`, what
//! `multiprocessing` has of that name, which measures itself, where there is a Python.
#![allow(unsafe_code, reason = "the C library's mutex cannot be had without it")]

#[path = "support/python.rs"]
mod python;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use procpool::{Event, Fd, Lock, Process, RLock, Semaphore};
use python::Python;
use tokio::runtime::Builder;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    uncontended(&mut criterion.benchmark_group("uncontended"));
    contended(&mut criterion.benchmark_group("contended"));
    event(&mut criterion.benchmark_group("event"));
    criterion.final_summary();
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn measure(group: &mut Group<'_>, name: &str, mut pass: impl FnMut(u64) -> Duration) {
    group.bench_function(name, |bencher| bencher.iter_custom(&mut pass));
}

fn uncontended(group: &mut Group<'_>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lock = Lock::new().expect("a lock");
    measure(group, "blocking", |count| {
        repeat(count, || drop(lock.blocking_lock(None)))
    });
    measure(group, "async", |count| {
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                drop(lock.lock().await);
            }
            begun.elapsed()
        })
    });
    let lock = RLock::new().expect("a lock");
    measure(group, "rlock", |count| {
        repeat(count, || drop(lock.try_lock()))
    });
    let permits = Semaphore::new(1).expect("a semaphore");
    measure(group, "semaphore", |count| {
        repeat(count, || drop(permits.try_acquire()))
    });
    let mutex = Mutex::new();
    measure(group, "pthread", |count| repeat(count, || mutex.pair()));
    let mut python = Python::start(PYTHON, &["uncontended".to_owned()]);
    measure_python(group, &mut python);
}

fn contended(group: &mut Group<'_>) {
    fn hog(lock: Lock) {
        loop {
            drop(lock.blocking_lock(None));
        }
    }
    fn hog_mutex(memory: Fd<OwnedFd>) {
        let mutex = Mutex::at(memory.into_inner());
        loop {
            mutex.pair();
        }
    }

    let lock = Lock::new().expect("a lock");
    let other = Process::spawn(hog, lock.clone())
        .blocking_wait()
        .expect("a process");
    measure(group, "blocking", |count| {
        repeat(count, || drop(lock.blocking_lock(None)))
    });
    other.kill();
    let mutex = Mutex::new();
    let memory = Fd(mutex.memory.try_clone().expect("a descriptor"));
    let other = Process::spawn(hog_mutex, memory)
        .blocking_wait()
        .expect("a process");
    measure(group, "pthread", |count| repeat(count, || mutex.pair()));
    other.kill();
    let mut python = Python::start(PYTHON, &["contended".to_owned()]);
    measure_python(group, &mut python);
}

fn event(group: &mut Group<'_>) {
    fn answer((there, here): (Event, Event)) {
        while there.blocking_wait(None).is_ok() {
            there.clear();
            here.set();
        }
    }

    let [there, here] = [(); 2].map(|()| Event::new().expect("an event"));
    let other = Process::spawn(answer, (there.clone(), here.clone())).blocking_wait();
    let other = other.expect("a process");
    measure(group, "blocking", |count| {
        repeat(count, || {
            there.set();
            here.blocking_wait(None)
                .expect("the other process is there");
            here.clear();
        })
    });
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    measure(group, "async", |count| {
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                there.set();
                here.wait().await.expect("the other process is there");
                here.clear();
            }
            begun.elapsed()
        })
    });
    other.kill();
    let mut python = Python::start(PYTHON, &["event".to_owned()]);
    measure_python(group, &mut python);
}

fn repeat(count: u64, mut once: impl FnMut()) -> Duration {
    let begun = Instant::now();
    for _ in 0..count {
        once();
    }
    begun.elapsed()
}

/// A robust mutex of the C library in memory that several processes see.
struct Mutex {
    memory: OwnedFd,
    at: *mut libc::pthread_mutex_t,
}

impl Mutex {
    fn new() -> Self {
        let memory = rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC);
        let memory = memory.expect("a file in memory");
        rustix::fs::ftruncate(&memory, 4096).expect("a page");
        let mutex = Self::at(memory);
        // SAFETY: the attributes are made before they are read, and the mutex before it is used; both
        // are ours.
        unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut attributes);
            libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(mutex.at, &raw const attributes), 0);
        }
        mutex
    }

    fn at(memory: OwnedFd) -> Self {
        // SAFETY: a fresh mapping of a page replaces nothing; it stays until the program ends.
        let at = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                access,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        Self {
            memory,
            at: at.cast(),
        }
    }

    fn pair(&self) {
        // SAFETY: the mutex was made, and stays where it is.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.at), 0);
            assert_eq!(libc::pthread_mutex_unlock(self.at), 0);
        }
    }
}

/// Two Pythons, of which one measures.
const PYTHON: &str = r#"
import sys, time
from multiprocessing import get_context

context = get_context("fork")
lock, there, here = context.Lock(), context.Event(), context.Event()

def hog():
    while True:
        with lock:
            pass

def answer():
    while there.wait():
        there.clear()
        here.set()

def pair():
    with lock:
        pass

def round_trip():
    there.set()
    here.wait()
    here.clear()

what = sys.argv[1]
target = {"contended": hog, "event": answer}.get(what)
if target:
    context.Process(target=target, daemon=True).start()
once = round_trip if what == "event" else pair
for line in sys.stdin:
    begun = time.perf_counter_ns()
    for _ in range(int(line)):
        once()
    print(time.perf_counter_ns() - begun, flush=True)
"#;

fn measure_python(group: &mut Group<'_>, python: &mut Option<Python>) {
    if let Some(python) = python {
        measure(group, "python", |count| python.pass(count));
    }
}
