//! Pools of real processes, the first of which is a stub that obeys a script: dies at every
//! position in every way, or breaks the protocol.
//!
//! A stub answers with the argument; the function itself returns one more, so that a result tells
//! who has run the call.

mod hostile;
mod offsets;
mod positions;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::ProcessPool;
use super::builder::ProcessPoolBuilder;
use super::error::TaskError;
use crate::process::StartMethod;
use crate::worker::stand_in::script::Script;

/// More than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// What every process of a pool has in its environment.
const MARK: &str = "PROCPOOL_TEST_POOL";

/// What a stub does not do.
fn one_more(n: u64) -> u64 {
    n + 1
}

/// A pool of one worker.
struct Subject {
    pool: ProcessPool,
    label: String,
}

impl Subject {
    /// Its workers are called `name`, by which they know what to do.
    fn new(
        name: String,
        method: StartMethod,
        adjust: impl FnOnce(ProcessPoolBuilder) -> ProcessPoolBuilder,
    ) -> Self {
        let label = format!("{name} {method} {}", std::process::id());
        let builder = ProcessPool::builder()
            .workers(1)
            .start_method(method)
            .worker_name(name)
            .env(MARK, &label);
        let pool = adjust(builder).build().expect("a pool");
        Self { pool, label }
    }

    /// Two calls at once: what becomes of the first, which the stub gets, and of the second.
    async fn two_calls(&self) -> (Result<u64, TaskError>, Result<u64, TaskError>) {
        let first = self.pool.submit(one_more, 10);
        let second = self.pool.submit(one_more, 20);
        self.in_time(async { (first.await, second.await) }).await
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> T {
        let in_time = timeout(LIMIT, future).await;
        in_time.unwrap_or_else(|_| panic!("{} hangs:\n{}", self.label, self.pool.stats()))
    }

    /// Runs a call in a worker that is no stub, then ends the pool.
    async fn goes_on(self, workers: u64) {
        let third = self.in_time(self.pool.submit(one_more, 30)).await;
        assert_eq!(third.expect("a pool that goes on"), 31, "{}", self.label);
        let stats = self.pool.stats();
        assert_eq!(stats.workers_started, workers, "{}: {stats}", self.label);
        self.ends().await;
    }

    /// Ends the pool and finds nothing left of it.
    async fn ends(self) {
        self.in_time(self.pool.shutdown()).await;
        let gone = Instant::now() + Duration::from_secs(2);
        while !self.processes().is_empty() {
            assert!(Instant::now() < gone, "{}: left behind", self.label);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The processes that the pool has started, and what those have.
    fn processes(&self) -> Vec<String> {
        let variable = format!("{MARK}={}\0", self.label);
        let all = std::fs::read_dir("/proc").expect("a /proc");
        all.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|pid| {
                let environment = std::fs::read(format!("/proc/{pid}/environ"));
                let environment = environment.unwrap_or_default();
                let variable = variable.as_bytes();
                let mut places = environment.windows(variable.len());
                places.any(|place| place == variable)
            })
            .collect()
    }
}

/// Runs `test` once with each start method, side by side.
async fn with_every_method<F: Future<Output = ()>>(test: impl Fn(StartMethod) -> F) {
    futures::future::join_all(StartMethod::available().iter().copied().map(test)).await;
}

/// A pool whose first worker follows the script.
fn first(script: Script, method: StartMethod) -> Subject {
    Subject::new(script.for_the_first(), method, |builder| builder)
}
