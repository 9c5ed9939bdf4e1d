//! Which failures are repeated, how often, and after what pause.

use std::time::Duration;

/// How often, when and after which failures a task is run again.
///
/// Given to [`Task::retry`](crate::Task::retry); a plain number will do where only its worker's
/// death is to be survived.
///
/// ```
/// use std::time::Duration;
/// use procpool::Retry;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// fn fetch(url: String) -> usize {
///     let attempt = procpool::task::current().map_or(1, |task| task.attempt());
///     assert!(attempt > 2, "the network is down");
///     url.len()
/// }
///
/// let retry = Retry::new(3)
///     .backoff(Duration::from_millis(10), Duration::from_secs(1))
///     .on_panic(true);
/// let length = pool.task(fetch).retry(retry).submit("example".to_owned()).await?;
/// assert_eq!(length, 7); // at the third attempt
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to a task"]
pub struct Retry {
    times: u32,
    first: Duration,
    most: Duration,
    on_panic: bool,
    on_timeout: bool,
}

impl Retry {
    /// No failure is followed by another run.
    pub(crate) const NEVER: Self = Self {
        times: 0,
        first: Duration::ZERO,
        most: Duration::ZERO,
        on_panic: false,
        on_timeout: false,
    };

    /// Whether any failure may be followed by another run.
    pub(crate) fn is_any(self) -> bool {
        self.times > 0
    }

    /// Runs a task again up to so many times when its worker is lost, at once, and after no other
    /// failure.
    pub fn new(times: u32) -> Self {
        Self {
            times,
            ..Self::default()
        }
    }

    /// Pauses before each repetition: `first` before the first, twice as long before each
    /// following one, never longer than `most`. Default: no pause.
    ///
    /// A pause occupies no worker.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.first, self.most) = (first, most);
        self
    }

    /// Sets whether a task is run again that has panicked. Default: no, because what panics once
    /// mostly panics always.
    pub fn on_panic(mut self, repeats: bool) -> Self {
        self.on_panic = repeats;
        self
    }

    /// Sets whether a task is run again that has run for its whole
    /// [`timeout`](crate::Task::timeout). Default: no.
    pub fn on_timeout(mut self, repeats: bool) -> Self {
        self.on_timeout = repeats;
        self
    }

    /// Whether a run that ended like this is repeated after so many failures before it.
    pub(crate) fn allows(&self, failure: Failure, before: u32) -> bool {
        let counts = match failure {
            Failure::Lost => true,
            Failure::Panicked => self.on_panic,
            Failure::RanTooLong => self.on_timeout,
        };
        counts && before < self.times
    }

    /// The pause after the failure that is the `count`th, from one.
    pub(crate) fn pause(&self, count: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(count.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.most)
    }

    /// How often a task may be run again.
    #[cfg(test)]
    pub(crate) fn times(&self) -> u32 {
        self.times
    }
}

impl From<u32> for Retry {
    fn from(times: u32) -> Self {
        Self::new(times)
    }
}

/// How a run failed that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its worker died.
    Lost,
    /// It panicked.
    Panicked,
    /// It ran longer than it may.
    RanTooLong,
}
