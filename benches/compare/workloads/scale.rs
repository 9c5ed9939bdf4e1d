//! What becomes of the cost of a call when more of them wait, or when there are more workers.

use std::time::{Duration, Instant};

use procpool::{Event, ProcessPool, TaskHandle};

use super::{Setting, micros};
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, Timed, pool};
use crate::work::Job;

const SCENE: Scene = Scene {
    flavor: Flavor::Current,
    seat: Seat::BlockOn,
    place: Place::Free,
};

/// So many calls are submitted while all workers are held up, which are then let go.
pub(super) fn scale_waiting(setting: &Setting) -> Vec<Subject> {
    let many = setting.by_care(2_000, 1_000_000, 1_000_000);
    let cases = [
        ("procpool_1", 1),
        ("procpool_1k", 1_000),
        ("procpool_30k", 30_000),
        ("procpool", many),
    ];
    let cases = cases.into_iter().filter(|(_, waiting)| *waiting <= many);
    let subject = |(name, waiting)| {
        let (_, mut pass) = waiting_calls(name, waiting);
        // Often enough that the time can be told.
        let times = setting.by_care(
            1,
            (30_000 / waiting).clamp(1, 200),
            (300_000 / waiting).clamp(1, 1_000),
        );
        Subject::new(name, move || {
            micros(pass(times).as_secs_f64() / (times * waiting) as f64)
        })
    };
    cases.map(subject).collect()
}

fn waiting_calls(name: &'static str, waiting: u64) -> Timed {
    let runtime = SCENE.runtime(name);
    let pool = pool::start(&runtime, SCENE.place, SCENE.place.workers());
    let stage = (pool, runtime);
    let timed = move |count| {
        let (pool, runtime) = &stage;
        let gate = Event::new().expect("room for an event");
        runtime.block_on(async {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                let held = hold(pool, &gate);
                while pool.stats().running() < held.len() {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                let begun = Instant::now();
                let calls = submit(pool, waiting);
                gate.set();
                answers(calls).await;
                total += begun.elapsed();
                gate.clear();
            }
            total
        })
    };
    (name, Box::new(timed))
}

/// Occupies all workers until the event.
pub(super) fn hold(pool: &ProcessPool, gate: &Event) -> Vec<TaskHandle<()>> {
    fn wait(gate: Event) {
        gate.blocking_wait(None).expect("it can sleep");
    }
    (0..pool.workers())
        .map(|_| pool.submit(wait, gate.clone()))
        .collect()
}

fn submit(pool: &ProcessPool, count: u64) -> Vec<TaskHandle<u64>> {
    (0..count)
        .map(|n| pool.submit(Job::run, Job::nothing(n)))
        .collect()
}

async fn answers(calls: Vec<TaskHandle<u64>>) {
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.expect("the job is plain"), n + 1_u64);
    }
}

/// A thousand calls at once, to more and more workers that share the same cores.
pub(super) fn scale_workers(setting: &Setting) -> Vec<Subject> {
    let many = setting.by_care(4, 64, 64);
    let cases = [
        ("procpool_1", 1),
        ("procpool_4", 4),
        ("procpool_16", 16),
        ("procpool", many),
    ];
    let cases = cases.into_iter().filter(|(_, workers)| *workers <= many);
    setting.repeated(
        |seconds| micros(seconds) / FLIGHT as f64,
        cases.map(more_workers),
    )
}

const FLIGHT: u64 = 1_024;

fn more_workers((name, workers): (&'static str, usize)) -> Timed {
    let runtime = SCENE.runtime(name);
    let stage = (pool::start(&runtime, SCENE.place, workers), runtime);
    let timed = move |count| {
        let (pool, runtime) = &stage;
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                answers(submit(pool, FLIGHT)).await;
            }
            begun.elapsed()
        })
    };
    (name, Box::new(timed))
}
