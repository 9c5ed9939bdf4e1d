//! What a call that waits takes of the program's memory, and a worker of the system's.

use std::fs;

use procpool::Event;

use super::Setting;
use crate::apart;
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, pool};
use crate::work::Job;

/// The names of the measurements, in programs of their own.
pub(crate) const CALLS: &str = "bytes_per_waiting_call";
pub(crate) const WORKERS: &str = "worker_private_kib";

const SCENE: Scene = Scene {
    flavor: Flavor::Current,
    seat: Seat::BlockOn,
    place: Place::Free,
};

pub(super) fn bytes_of_calls(_: &Setting) -> Vec<Subject> {
    vec![Subject::new("procpool", || apart::measured(CALLS))]
}

pub(super) fn private_kib_of_workers(_: &Setting) -> Vec<Subject> {
    vec![Subject::new("procpool", || apart::measured(WORKERS))]
}

/// What the program has more for each of so many calls that wait, and for its handle; without the argument.
pub(crate) fn bytes_per_waiting_call() -> f64 {
    const WAITING: u64 = 100_000;
    let runtime = SCENE.runtime("procpool");
    let pool = pool::start(&runtime, SCENE.place, SCENE.place.workers());
    runtime.block_on(async {
        let gate = Event::new().expect("room for an event");
        let held = super::scale::hold(&pool, &gate);
        // Whatever is only made once is there.
        let first = (0..64).map(|n| pool.submit(next, n)).collect::<Vec<_>>();
        let mut calls = Vec::with_capacity(WAITING as usize);
        let before = kib("/proc/self/status", "RssAnon:");
        calls.extend((0..WAITING).map(|n| pool.submit(next, n)));
        let grown = kib("/proc/self/status", "RssAnon:") - before;
        gate.set();
        drop((held, first));
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.expect("the call is plain"), n + 1_u64);
        }
        (grown * 1024) as f64 / WAITING as f64 - size_of::<u64>() as f64
    })
}

fn next(n: u64) -> u64 {
    n + 1
}

/// What a worker has that it shares with nobody, once it has worked.
pub(crate) fn worker_private_kib() -> f64 {
    let runtime = SCENE.runtime("procpool");
    let pool = pool::start(&runtime, SCENE.place, SCENE.place.workers());
    let calls: Vec<_> = (0..1_000)
        .map(|n| pool.submit(Job::run, Job::nothing(n)))
        .collect();
    for call in calls {
        runtime.block_on(call).expect("the job is plain");
    }
    let workers = pool.stats().workers;
    let private = |pid: u32| kib(&format!("/proc/{pid}/smaps_rollup"), "Private_");
    let sum: u64 = workers.iter().map(|worker| private(worker.pid)).sum();
    sum as f64 / workers.len() as f64
}

/// The sum of the lines that begin so.
fn kib(file: &str, beginning: &str) -> u64 {
    let text = fs::read_to_string(file).expect("it is there");
    let lines = text.lines().filter(|line| line.starts_with(beginning));
    let numbers = lines.filter_map(|line| line.split_whitespace().nth(1));
    numbers
        .map(|number| number.parse::<u64>().expect("a number"))
        .sum()
}
