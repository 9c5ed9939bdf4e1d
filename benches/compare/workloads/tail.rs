//! How long the slowest of a thousand calls take when the cores are half busy with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Setting, micros};
use crate::place::{Place, cores};
use crate::rounds::Subject;
use crate::statistics::quantile;
use crate::subjects::{Flavor, Pass, Scene, Seat, Way};
use crate::work::Job;

/// What each call takes.
const LENGTH: Duration = Duration::from_micros(100);

/// Calls come by the clock, whether those before are answered or not.
#[derive(Clone, Copy)]
struct Arrivals;

impl Pass for Arrivals {
    /// So many calls; how long one in a thousand of them takes at least.
    async fn pass<W: Way>(self, way: Arc<W>, count: u64) -> Duration {
        let job = Job::lasting(7, LENGTH);
        let answer = job.run();
        let rate = 0.5 * cores() as f64 / LENGTH.as_secs_f64();
        let mut calls = Vec::with_capacity(count as usize);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let begun = Instant::now();
        while calls.len() < count as usize {
            tick.tick().await;
            let due = (begun.elapsed().as_secs_f64() * rate) as usize;
            while calls.len() < due.min(count as usize) {
                let way = way.clone();
                calls.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    assert_eq!(way.call(job).await, answer);
                    begun.elapsed().as_secs_f64()
                }));
            }
        }
        let mut lengths = Vec::with_capacity(calls.len());
        for call in calls {
            lengths.push(call.await.expect("it gets the answer"));
        }
        lengths.sort_by(f64::total_cmp);
        Duration::from_secs_f64(quantile(&lengths, 0.999))
    }
}

pub(super) fn tail_half_load(setting: &Setting) -> Vec<Subject> {
    let scene = Scene {
        flavor: Flavor::Multi,
        seat: Seat::Spawned,
        place: Place::Free,
    };
    let rate = cores() as u64 * 5_000;
    let calls = setting.by_care(rate / 100, rate, 5 * rate);
    let ways = scene
        .ways(&["procpool", "spawn_blocking"], Arrivals)
        .into_iter();
    let subject = |(name, mut pass): (_, Box<dyn FnMut(u64) -> Duration>)| {
        // Warms up, too.
        pass(calls / 100);
        Subject::new(name, move || micros(pass(calls).as_secs_f64()))
    };
    ways.map(subject).collect()
}
