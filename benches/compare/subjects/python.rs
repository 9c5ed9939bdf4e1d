//! CPython's pools, where there is a Python. They measure themselves, and check what they get.

use super::Timed;
use crate::place::Place;
use crate::python_process::Python;

/// `ProcessPoolExecutor` and `multiprocessing.Pool`: so many calls at once, and then their results.
pub(crate) fn timed(place: Place, flight: u64) -> Vec<Timed> {
    let calls = |name| start(name, "calls", place, flight);
    ["python_ppe", "python_pool"]
        .into_iter()
        .filter_map(calls)
        .collect()
}

/// `Pool.map` over so many items, in chunks that it chooses.
pub(crate) fn map(place: Place, items: u64) -> Option<Timed> {
    start("python_pool", "map", place, items)
}

/// `ProcessPoolExecutor` with so many bytes, there and back.
pub(crate) fn payload(place: Place, size: u64) -> Option<Timed> {
    start("python_ppe", "payload", place, size)
}

fn start(name: &'static str, what: &str, place: Place, size: u64) -> Option<Timed> {
    place.take();
    let core = place
        .theirs()
        .map_or(String::new(), |core| core.to_string());
    let (workers, size) = (place.workers().to_string(), size.to_string());
    let arguments = [name, what, &workers, &size, &core].map(str::to_owned);
    let Some(mut python) = Python::start(SCRIPT, &arguments) else {
        eprintln!("  {name} is left out: there is no python3");
        return None;
    };
    Some((name, Box::new(move |count| python.pass(count))))
}

const SCRIPT: &str = r#"
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

name, what, workers, size, core = sys.argv[1:]
workers, size = int(workers), int(size)

def pin():
    if core:
        os.sched_setaffinity(0, [int(core)])

def call(n):
    return n + 1

# A byte of each cache line.
def look(data):
    return sum(data[::64])

def echo(data):
    return look(data), data

context = get_context("fork")
if name == "python_pool":
    pool = context.Pool(workers, pin)
    submit = lambda n: pool.apply_async(call, (n,))
    result = lambda handle: handle.get()
else:
    pool = ProcessPoolExecutor(workers, context, pin)
    submit = lambda n: pool.submit(call, n)
    result = lambda handle: handle.result()

def calls():
    handles = [submit(n) for n in range(size)]
    for n, handle in enumerate(handles):
        assert result(handle) == n + 1

def map_items():
    assert pool.map(call, range(size))[-1] == size

data = bytes(size) if what == "payload" else b""

def payload():
    seen, back = pool.submit(echo, data).result()
    assert seen == look(back) and len(back) == size

once = {"calls": calls, "map": map_items, "payload": payload}[what]
for line in sys.stdin:
    begun = time.perf_counter_ns()
    for _ in range(int(line)):
        once()
    print(time.perf_counter_ns() - begun, flush=True)
"#;
