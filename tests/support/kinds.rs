//! The kinds of executors that cases of conformance run on: threads, processes of each start method,
//! and a pool that runs calls where they are made.

use std::future::Future;
use std::time::Duration;

use procpool::{Executor, ProcessPool, StartMethod, TaskHandle, ThreadPool};

use crate::support::{HANG, PROMPTLY, runtime, scene, soon};

/// What a case wants of its executor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) workers: usize,
    pub(crate) max_pending: usize,
    pub(crate) min_workers: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) slow_call: Duration,
}

/// Nothing but workers.
pub(crate) const WANTED: Wanted = Wanted {
    workers: 1,
    max_pending: usize::MAX,
    min_workers: 0,
    idle_timeout: Duration::MAX,
    slow_call: Duration::MAX,
};

/// A way to make an executor.
pub(crate) trait Kind: Copy {
    type Pool: Executor;

    fn build(self, wanted: Wanted) -> Self::Pool;

    fn pool(self, workers: usize) -> Self::Pool {
        self.build(Wanted { workers, ..WANTED })
    }

    fn bounded(self, workers: usize, max_pending: usize) -> Self::Pool {
        self.build(Wanted {
            workers,
            max_pending,
            ..WANTED
        })
    }
}

macro_rules! built {
    ($builder:expr, $wanted:ident) => {
        $builder
            .workers($wanted.workers)
            .max_pending($wanted.max_pending)
            .min_workers($wanted.min_workers)
            .idle_timeout($wanted.idle_timeout)
            .slow_call($wanted.slow_call)
            .build()
            .unwrap()
    };
}

#[derive(Clone, Copy)]
pub(crate) struct Threads;

impl Kind for Threads {
    type Pool = ThreadPool;

    fn build(self, wanted: Wanted) -> ThreadPool {
        built!(ThreadPool::builder(), wanted)
    }
}

impl Kind for StartMethod {
    type Pool = ProcessPool;

    fn build(self, wanted: Wanted) -> ProcessPool {
        built!(ProcessPool::builder().start_method(self), wanted)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Inline;

impl Kind for Inline {
    type Pool = ProcessPool;

    fn build(self, wanted: Wanted) -> ProcessPool {
        built!(ProcessPool::builder().inline(), wanted)
    }
}

/// Runs a case on each kind of runtime, each in a scene of its own.
pub(crate) fn on_each_runtime<F: Future<Output = ()>>(case: impl Fn() -> F) {
    for threads in [1, 2] {
        let scene = scene();
        let runtime = runtime(threads);
        runtime.block_on(async {
            let case = tokio::time::timeout(HANG, case());
            assert!(case.await.is_ok(), "hangs on {threads} threads");
        });
        drop(runtime);
        drop(scene);
    }
}

/// Runs a case with each executor; `and inline` if it can be run where it is called.
macro_rules! on_every_executor {
    ($case:ident and inline) => {
        on_each_runtime(|| $case(Inline));
        on_every_executor!($case);
    };
    ($case:ident) => {
        on_each_runtime(|| $case(Threads));
        everywhere($case::<StartMethod>);
    };
}

pub(crate) async fn started<R: Send + 'static>(handle: &TaskHandle<R>) {
    assert!(
        soon(PROMPTLY, || handle.is_running()).await,
        "never started"
    );
}
