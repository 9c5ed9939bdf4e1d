//! A world for the core: everything around it is played, from a seed.
//!
//! Callers submit calls and async calls, cancel, map and shut down; workers start, run, answer, hang, lie and die; control
//! pages decide every race; threads dawdle; time is virtual. The books of the maps and what the
//! driver keeps of a chunk are the real ones. All of it follows from the seed, so whatever goes
//! wrong once goes wrong again:
//!
//! ```text
//! PROCPOOL_SEED=n        cargo test --lib simulator -- --nocapture    plays one seed and prints it
//! PROCPOOL_SEEDS=1000000 cargo test --lib simulator                   plays that many
//! ```
//!
//! Each seed is played twice. In the *safety* run the faults go on to the end and nothing wrong
//! may happen; in the *liveness* run they stop, and all that is pending must come to its end.
//!
//! - [`fate`]: chance and time. [`plan`], [`terms`]: what kind of world. [`world`]: events in,
//!   [`actions`] out.
//! - [`callers`], [`maps`], [`faults`], [`life`]: what they do. [`curtain`]: how it ends.
//! - [`process`], [`steps`], [`lodging`], [`page`]: one worker. [`reading`], [`chunks`], [`sending`],
//!   [`parcels`], [`hosting`]: its parent.
//! - [`ledger`], [`items`], [`visits`], [`blame`], [`rules`], [`turns`], [`staying`], [`sharing`], [`asking`]: what must hold.
//!   [`trace`]: what happened.

mod actions;
mod asking;
mod blame;
mod callers;
mod chunks;
mod curtain;
mod fate;
mod faults;
mod hosting;
mod items;
mod ledger;
mod life;
mod lodging;
mod maps;
mod page;
mod parcels;
mod plan;
mod process;
mod reading;
mod rules;
mod sending;
mod sharing;
mod staying;
mod steps;
mod terms;
mod trace;
mod turns;
mod visits;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::plan::Ending;
use self::rules::Broken;
use self::trace::Trace;
use self::world::World;

/// How many seeds are played when nothing else is said.
const SEEDS: u64 = 20_000;
/// How much of a failed run is printed.
const LAST_LINES: usize = 40;

#[test]
fn every_call_ends_exactly_once_whatever_happens() {
    if let Some(seed) = number("PROCPOOL_SEED") {
        return replay(seed, usize::MAX);
    }
    let seeds = number("PROCPOOL_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let played = catch_unwind(|| {
                        play(seed, Ending::Safety, &mut Trace::default());
                        play(seed, Ending::Liveness, &mut Trace::default());
                    });
                    if played.is_err() && !failed.swap(true, Ordering::Relaxed) {
                        replay(seed, LAST_LINES);
                    }
                }
            });
        }
    });
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn play(seed: u64, ending: Ending, trace: &mut Trace) {
    World::new(seed, ending, trace).run();
}

/// Plays a seed again and prints the end of its story; goes on with the panic if there was one.
fn replay(seed: u64, lines: usize) {
    for ending in [Ending::Safety, Ending::Liveness] {
        let mut trace = Trace::kept();
        let played = catch_unwind(AssertUnwindSafe(|| play(seed, ending, &mut trace)));
        if lines == usize::MAX || played.is_err() {
            eprintln!("seed {seed}, {ending:?}:");
            trace.print(lines);
        }
        if let Err(payload) = played {
            eprintln!("seed {seed} fails ({ending:?}); to see all of it:");
            eprintln!("    PROCPOOL_SEED={seed} cargo test --lib simulator -- --nocapture");
            match payload.downcast::<Broken>() {
                Ok(broken) => panic!("broken rule: {}: {}", broken.rule, broken.detail),
                Err(panic) => resume_unwind(panic),
            }
        }
    }
}
