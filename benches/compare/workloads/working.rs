//! Calls that have something to do, of 64 callers at once: how much of the cores goes into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::Setting;
use crate::place::{Place, cores};
use crate::rounds::Subject;
use crate::subjects::{Flavor, Pass, Scene, Seat, Way};
use crate::work::Job;

const CALLERS: u64 = 64;

/// Each of the callers calls, and calls again when it has its answer.
#[derive(Clone, Copy)]
struct Callers {
    length: Duration,
}

impl Pass for Callers {
    async fn pass<W: Way>(self, way: Arc<W>, count: u64) -> Duration {
        let job = Job::lasting(7, self.length);
        let answer = job.run();
        let begun = Instant::now();
        let callers = (0..CALLERS).map(|_| {
            let way = way.clone();
            tokio::spawn(async move {
                for _ in 0..count {
                    assert_eq!(way.call(job).await, answer);
                }
            })
        });
        for caller in join_all(callers).await {
            caller.expect("it gets the answer");
        }
        begun.elapsed()
    }
}

pub(super) fn work10us(setting: &Setting) -> Vec<Subject> {
    working(setting, 10)
}

pub(super) fn work100us(setting: &Setting) -> Vec<Subject> {
    working(setting, 100)
}

fn working(setting: &Setting, micros: u64) -> Vec<Subject> {
    let scene = Scene {
        flavor: Flavor::Multi,
        seat: Seat::Spawned,
        place: Place::Free,
    };
    let names = [
        "procpool",
        "spawn_blocking",
        "spawn_blocking_cores",
        "rayon",
        "tokio_batched",
    ];
    let length = Duration::from_micros(micros);
    let timed = scene.ways(&names, Callers { length });
    setting.repeated(
        move |seconds| (CALLERS * micros) as f64 * 1e-6 / seconds / cores() as f64,
        timed,
    )
}
