//! What every call does, wherever it is done.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A number, and how often to change it before the next is the answer: never, where the call itself is what is
/// measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    number: u64,
    turns: u32,
}

impl Job {
    pub(crate) fn nothing(number: u64) -> Self {
        Self { number, turns: 0 }
    }

    /// One that takes about so long if nobody disturbs it.
    pub(crate) fn lasting(number: u64, length: Duration) -> Self {
        let turns = length.as_secs_f64() / turn();
        Self {
            number,
            turns: turns as u32,
        }
    }

    pub(crate) fn run(self) -> u64 {
        let mut number = self.number;
        // Each turn waits for the one before, and none can be left out.
        for _ in 0..self.turns {
            number = (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        number.wrapping_add(1)
    }
}

/// How long one turn takes, in seconds: the best of many attempts, so that no neighbour is part of it.
fn turn() -> f64 {
    const TURNS: u32 = 100_000;
    static TURN: OnceLock<f64> = OnceLock::new();
    *TURN.get_or_init(|| {
        let attempt = |number| {
            let begun = Instant::now();
            let job = Job {
                number,
                turns: TURNS,
            };
            black_box(black_box(job).run());
            begun.elapsed().as_secs_f64() / f64::from(TURNS)
        };
        (0..100).map(attempt).fold(f64::INFINITY, f64::min)
    })
}
