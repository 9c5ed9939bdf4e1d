//! Threads of this process: what people use who can do without another process.

use std::future::Future;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::Way;
use crate::place::Place;
use crate::work::Job;

/// tokio's own, of the runtime it is called in. By default that has up to 512 of them.
pub(crate) struct SpawnBlocking;

impl Way for SpawnBlocking {
    fn call(&self, job: Job) -> impl Future<Output = u64> + Send + 'static {
        let handle = tokio::task::spawn_blocking(move || job.run());
        async { handle.await.expect("the job is plain") }
    }
}

pub(crate) struct Rayon(ThreadPool);

impl Rayon {
    pub(crate) fn start(place: Place) -> Self {
        Self(pool(place))
    }
}

/// As many threads as others have workers.
pub(crate) fn pool(place: Place) -> ThreadPool {
    let builder = ThreadPoolBuilder::new().num_threads(place.workers());
    let builder = builder.start_handler(move |_| place.take_theirs());
    builder.build().expect("this process can have threads")
}

impl Way for Rayon {
    fn call(&self, job: Job) -> impl Future<Output = u64> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        self.0.spawn(move || {
            // Whoever waited may be gone.
            let _ = answer.send(job.run());
        });
        async { answered.await.expect("the job is plain") }
    }
}
