//! Calls that do nothing: one at a time, and many at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Setting, micros};
use crate::place::{Place, cores};
use crate::rounds::Subject;
use crate::subjects::{Flavor, Pass, Scene, Seat, Way, pipe, procspawn, python};
use crate::work::Job;

/// So many calls are submitted, then all are awaited.
#[derive(Clone, Copy)]
struct Flights(u64);

impl Pass for Flights {
    async fn pass<W: Way>(self, way: Arc<W>, count: u64) -> Duration {
        let mut calls = Vec::new();
        let begun = Instant::now();
        for _ in 0..count {
            calls.extend((0..self.0).map(|n| way.call(Job::nothing(n))));
            for (n, call) in (0..).zip(calls.drain(..)) {
                assert_eq!(call.await, n + 1_u64);
            }
        }
        begun.elapsed()
    }
}

pub(super) fn lone_pinned(setting: &Setting) -> Vec<Subject> {
    lone(setting, Place::Pinned, Flavor::Current, Seat::BlockOn)
}

pub(super) fn lone_cross(setting: &Setting) -> Vec<Subject> {
    if cores() < 2 {
        eprintln!("  is left out: there is one core");
        return Vec::new();
    }
    lone(setting, Place::Cross, Flavor::Current, Seat::BlockOn)
}

pub(super) fn lone_free_spawned(setting: &Setting) -> Vec<Subject> {
    lone(setting, Place::Free, Flavor::Multi, Seat::Spawned)
}

pub(super) fn lone_free_block_on(setting: &Setting) -> Vec<Subject> {
    lone(setting, Place::Free, Flavor::Multi, Seat::BlockOn)
}

pub(super) fn lone_latency_mode(setting: &Setting) -> Vec<Subject> {
    let scene = Scene {
        flavor: Flavor::Multi,
        seat: Seat::Spawned,
        place: Place::Free,
    };
    let mut timed = vec![scene.awake(Flights(1))];
    timed.extend(scene.ways(&["spawn_blocking"], Flights(1)));
    timed.push(pipe::timed(Place::Free));
    setting.repeated(micros, timed)
}

fn lone(setting: &Setting, place: Place, flavor: Flavor, seat: Seat) -> Vec<Subject> {
    let scene = Scene {
        flavor,
        seat,
        place,
    };
    let names = [
        "procpool",
        "spawn_blocking",
        "rayon",
        "tokio_flush_each",
        "tokio_batched",
    ];
    let mut timed = scene.ways(&names, Flights(1));
    timed.push(pipe::timed(place));
    timed.push(procspawn::timed(place, 1));
    timed.extend(python::timed(place, 1));
    setting.repeated(micros, timed)
}

pub(super) fn inflight1024_ct(setting: &Setting) -> Vec<Subject> {
    inflight(setting, Flavor::Current, 1024)
}

pub(super) fn inflight1024_mt(setting: &Setting) -> Vec<Subject> {
    inflight(setting, Flavor::Multi, 1024)
}

pub(super) fn inflight64_ct(setting: &Setting) -> Vec<Subject> {
    inflight(setting, Flavor::Current, 64)
}

pub(super) fn inflight64_mt(setting: &Setting) -> Vec<Subject> {
    inflight(setting, Flavor::Multi, 64)
}

fn inflight(setting: &Setting, flavor: Flavor, flight: u64) -> Vec<Subject> {
    let (seat, place) = (Seat::Spawned, Place::Free);
    let scene = Scene {
        flavor,
        seat,
        place,
    };
    let names = [
        "procpool",
        "spawn_blocking",
        "spawn_blocking_cores",
        "rayon",
        "tokio_flush_each",
        "tokio_batched",
    ];
    let mut timed = scene.ways(&names, Flights(flight));
    timed.push(procspawn::timed(place, flight));
    timed.extend(python::timed(place, flight));
    setting.repeated(move |seconds| flight as f64 / seconds, timed)
}
