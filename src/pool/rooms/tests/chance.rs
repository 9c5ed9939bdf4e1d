//! Rooms by chance: a seed decides who calls, how calls behave, who dies, when time passes and how
//! the pool ends; whatever that is, each call ends once, and none is left.

use std::time::Duration;

use super::actor::Manner;
use super::stage::Stage;
use crate::pool::rooms::CallSpec;
use crate::pool::scheduler::Retry;

const SEEDS: u64 = 3_000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Rooms ended before the calls had come that crossed their end, and so did the next, for ever: those
/// that were still to be passed by had taken their places.
#[test]
fn a_room_is_not_empty_for_calls_that_are_only_passed_by() {
    play(4686);
}

#[test]
fn whatever_happens_each_async_call_ends_once() {
    let only = std::env::var("PROCPOOL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("PROCPOOL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..count.map_or(SEEDS, |count: u64| count / 4),
    };
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(
            played.is_ok(),
            "again with PROCPOOL_SEED={seed} cargo test whatever_happens"
        );
    }
}

fn play(seed: u64) {
    let mut dice = Dice(seed);
    let (workers, most) = (1 + dice.roll(3) as usize, 1 + dice.roll(4) as usize);
    let mut stage = Stage::new(workers, most);
    let hogs = dice.roll(2) == 0;
    let deaths = dice.roll(2) == 0;
    let repeats = dice.roll(3) == 0;
    let mut calls = Vec::new();
    let mut retries = std::collections::BTreeMap::new();
    for _ in 0..20 + dice.roll(150) {
        match dice.roll(16) {
            0..=3 => {
                let manner = match dice.roll(10) {
                    0 if hogs => Manner::Hogs,
                    1 => Manner::Panics,
                    2..=4 => Manner::Stays,
                    _ => Manner::Returns,
                };
                let mut length = |odds: u64| {
                    (dice.roll(odds) == 0).then(|| Duration::from_micros(dice.roll(20_000)))
                };
                let (timeout, queue_timeout, deadline) = (length(4), length(6), length(8));
                let times = if repeats { dice.roll(3) as u32 } else { 0 };
                let spec = CallSpec {
                    timeout,
                    queue_timeout,
                    deadline: deadline.map(|limit| stage.now + limit),
                    retry: Retry::new(times).on_panic(true).on_timeout(true),
                    priority: dice.roll(2) as i32,
                    ..CallSpec::default()
                };
                let number = stage.submit(spec, manner);
                retries.insert(number, times);
                calls.push(number);
            }
            4 => {
                stage.submit_blocking();
            }
            5 if !calls.is_empty() => stage.abort(calls[dice.roll(calls.len() as u64) as usize]),
            6 if !calls.is_empty() => stage.cancel(calls[dice.roll(calls.len() as u64) as usize]),
            7 if !calls.is_empty() => stage.finish(calls[dice.roll(calls.len() as u64) as usize]),
            8 if deaths && dice.roll(4) == 0 => stage.kill(dice.roll(8) as usize),
            9 => {
                let length = Duration::from_micros(dice.roll(8_000));
                stage.tick(stage.now + length);
            }
            10 if dice.roll(60) == 0 => stage.close(),
            10 if dice.roll(60) == 0 => stage.cancel_pending(),
            10 if dice.roll(60) == 0 => stage.terminate(),
            _ => {
                for _ in 0..dice.roll(12) {
                    stage.step(dice.roll(1 << 20) as usize);
                }
            }
        }
        stage.check(|number| retries.get(&number).copied().unwrap_or(0), false);
    }
    // From here on nothing goes wrong any more but what is under way.
    match dice.roll(4) {
        0 => stage.terminate(),
        1 => stage.cancel_pending(),
        _ => stage.close(),
    }
    for round in 0.. {
        for number in &calls {
            stage.finish(*number);
            if round > 20 && stage.hogs(*number) {
                stage.abort(*number);
            }
        }
        stage.play();
        if stage.is_finished() {
            break;
        }
        assert!(round < 200, "it does not end");
        let wake = stage
            .wake_at()
            .unwrap_or(stage.now + Duration::from_millis(1));
        stage.tick(wake);
    }
    stage.check(|number| retries.get(&number).copied().unwrap_or(0), true);
}
