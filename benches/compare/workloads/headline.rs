//! Two jobs that take a second or more: one after the other here, or in two workers.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Setting;
use crate::place::Place;
use crate::rounds::Subject;
use crate::subjects::{Flavor, Scene, Seat, pool};
use crate::work::Job;

pub(super) fn headline_speedup(setting: &Setting) -> Vec<Subject> {
    let [short, long] = [20, 1_100].map(Duration::from_millis);
    let length = setting.by_care(short, long, long);
    let jobs = [1, 2].map(|number| Job::lasting(number, length));
    // Whoever is first works out what the other has to find as well.
    let answers = Rc::new(OnceCell::new());
    let figure = move |begun: Instant, found: [u64; 2]| {
        let took = begun.elapsed();
        assert_eq!(answers.get_or_init(|| found), &found);
        2.0 / took.as_secs_f64()
    };
    let sequentially = figure.clone();
    let sequential = Subject::new("sequential", move || {
        sequentially(Instant::now(), jobs.map(Job::run))
    });
    let scene = Scene {
        flavor: Flavor::Current,
        seat: Seat::BlockOn,
        place: Place::Free,
    };
    let runtime = scene.runtime("procpool");
    let stage = (pool::start(&runtime, scene.place, 2), runtime);
    let procpool = Subject::new("procpool", move || {
        let (pool, runtime) = &stage;
        let begun = Instant::now();
        let [first, second] = jobs.map(|job| pool.submit(Job::run, job));
        let (first, second) = runtime.block_on(async { tokio::join!(first, second) });
        figure(
            begun,
            [first, second].map(|answer| answer.expect("the job is plain")),
        )
    });
    vec![sequential, procpool]
}
