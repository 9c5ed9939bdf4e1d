//! Those who are compared. Here are the ones that give a future for a call; others measure themselves or block,
//! each in its own file.

pub(crate) mod pipe;
pub(crate) mod pool;
pub(crate) mod procspawn;
pub(crate) mod python;
pub(crate) mod threads;
pub(crate) mod tokio_worker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::goals::OURS;
use crate::place::{Place, cores};
use crate::work::Job;

/// A way to have a job done elsewhere.
pub(crate) trait Way: Send + Sync + 'static {
    /// Submits it at once; the future is its answer.
    fn call(&self, job: Job) -> impl Future<Output = u64> + Send + 'static;
}

/// What a round does, for any of the ways.
pub(crate) trait Pass: Copy + Send + 'static {
    /// Does it so often, and says how long that took.
    fn pass<W: Way>(self, way: Arc<W>, count: u64) -> impl Future<Output = Duration> + Send;
}

/// Where those run who call, and what is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) flavor: Flavor,
    pub(crate) seat: Seat,
    pub(crate) place: Place,
}

/// The two kinds of runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Current,
    Multi,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The thread that is in `block_on`, which in a runtime of several threads is none of those.
    BlockOn,
    /// A task, as in a service.
    Spawned,
}

/// A name, and what does something so often and says how long that took.
pub(crate) type Timed = (&'static str, Box<dyn FnMut(u64) -> Duration>);

impl Scene {
    /// These of the ways, on runtimes of their own.
    pub(crate) fn ways(self, names: &[&'static str], pass: impl Pass) -> Vec<Timed> {
        names.iter().map(|name| self.way(name, pass)).collect()
    }

    /// `procpool` in a pool whose sides wait for each other awake.
    pub(crate) fn awake(self, pass: impl Pass) -> Timed {
        self.place.take();
        let runtime = self.runtime(OURS);
        let pool = pool::Pool::start_awake(&runtime, self.place);
        self.timed(OURS, runtime, pool, pass)
    }

    fn way(self, name: &'static str, pass: impl Pass) -> Timed {
        self.place.take();
        let (runtime, place) = (self.runtime(name), self.place);
        match name {
            "procpool" => {
                let pool = pool::Pool::start(&runtime, place);
                self.timed(name, runtime, pool, pass)
            }
            "spawn_blocking" | "spawn_blocking_cores" => {
                self.timed(name, runtime, threads::SpawnBlocking, pass)
            }
            "rayon" => self.timed(name, runtime, threads::Rayon::start(place), pass),
            "tokio_flush_each" | "tokio_batched" => {
                let batched = name == "tokio_batched";
                let workers =
                    tokio_worker::Workers::start(&runtime, place, place.workers(), batched);
                self.timed(name, runtime, workers, pass)
            }
            _ => unreachable!("{name} is none of the ways"),
        }
    }

    fn timed<W: Way>(self, name: &'static str, runtime: Runtime, way: W, pass: impl Pass) -> Timed {
        let place = self.place;
        // In this order they are dropped: what is called, then the runtime that serves it.
        let stage = (Arc::new(way), runtime);
        let timed = move |count| {
            let (way, runtime) = &stage;
            place.take();
            let way = way.clone();
            let work = async move { pass.pass(way, count).await };
            match self.seat {
                Seat::BlockOn => runtime.block_on(work),
                Seat::Spawned => runtime
                    .block_on(runtime.spawn(work))
                    .expect("it answers right"),
            }
        };
        (name, Box::new(timed))
    }

    /// A runtime that has its threads where they belong.
    pub(crate) fn runtime(self, subject: &str) -> Runtime {
        let mut builder = match self.flavor {
            Flavor::Current => Builder::new_current_thread(),
            Flavor::Multi => Builder::new_multi_thread(),
        };
        if self.flavor == Flavor::Multi {
            builder.worker_threads(cores());
        }
        if subject == "spawn_blocking_cores" {
            builder.max_blocking_threads(self.place.workers());
        }
        // In a runtime of the current thread the others are those that block.
        if self.flavor == Flavor::Current {
            builder.on_thread_start(move || self.place.take_theirs());
        }
        builder.enable_all().build().expect("a runtime")
    }
}
