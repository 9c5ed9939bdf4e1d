//! `procpool` itself.

use std::future::Future;
use std::time::Duration;

use procpool::{ProcessPool, ProcessPoolBuilder};
use tokio::runtime::Runtime;

use super::Way;
use crate::place::Place;
use crate::work::Job;

pub(crate) struct Pool(ProcessPool);

impl Pool {
    pub(crate) fn start(runtime: &Runtime, place: Place) -> Self {
        Self(start(runtime, place, place.workers()))
    }

    /// One whose sides wait for each other awake, each on a core of its own.
    pub(crate) fn start_awake(runtime: &Runtime, place: Place) -> Self {
        let builder = builder(place, 1).busy_poll(Duration::from_micros(100));
        Self(ready(runtime, build(runtime, builder)))
    }
}

impl Way for Pool {
    fn call(&self, job: Job) -> impl Future<Output = u64> + Send + 'static {
        let handle = self.0.submit(Job::run, job);
        async { handle.await.expect("the job is plain") }
    }
}

/// A pool all of whose workers are ready.
pub(crate) fn start(runtime: &Runtime, place: Place, workers: usize) -> ProcessPool {
    ready(runtime, build(runtime, builder(place, workers)))
}

fn ready(runtime: &Runtime, pool: ProcessPool) -> ProcessPool {
    runtime.block_on(pool.ready()).expect("its workers start");
    pool
}

pub(crate) fn build(runtime: &Runtime, builder: ProcessPoolBuilder) -> ProcessPool {
    let _inside = runtime.enter();
    builder.build().expect("this program can have a pool")
}

fn builder(place: Place, workers: usize) -> ProcessPoolBuilder {
    let builder = ProcessPool::builder().workers(workers);
    match place.theirs() {
        Some(core) => builder.cpu_affinity([core]),
        None => builder,
    }
}
