//! The pool of the crate `procspawn`. It blocks whoever waits for a result.

use std::time::Instant;

use procspawn::Pool;

use super::Timed;
use crate::place::Place;
use crate::work::Job;

/// So many calls at once, and then their results.
pub(crate) fn timed(place: Place, flight: u64) -> Timed {
    // Threads of its own start the processes, and wait for them; so they are all in one place.
    let pool = place.start(|| Pool::new(place.workers()).expect("this program, again"));
    let mut calls = Vec::new();
    let timed = move |count| {
        place.take();
        let begun = Instant::now();
        for _ in 0..count {
            calls.extend((0..flight).map(|n| pool.spawn(Job::nothing(n), Job::run)));
            for (n, call) in (0..).zip(calls.drain(..)) {
                assert_eq!(call.join().expect("the job is plain"), n + 1_u64);
            }
        }
        begun.elapsed()
    };
    ("procspawn", Box::new(timed))
}
