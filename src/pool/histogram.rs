//! How long things took, counted in steps that grow with the length.

use std::fmt;
use std::time::Duration;

use crate::sys::clock::nanos;

/// Steps for each doubling, as a power of two: lengths are told to within an eighth.
const FINE: u32 = 3;
/// Lengths are told apart from this on, in nanoseconds, as a power of two.
const FIRST: u32 = 8;
/// Doublings from there: up to half a day.
const DOUBLINGS: usize = 38;
const STEPS: usize = DOUBLINGS << FINE;

/// The lengths of many runs or waits: how many, how long on the whole, and how they are spread.
///
/// Part of [`Stats`](crate::Stats). Quantiles are right to within an eighth.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// pool.submit(|n: u64| n + 1, 1).await?;
/// let ran = pool.stats().ran;
/// assert_eq!(ran.count(), 1);
/// assert!(ran.quantile(0.5).unwrap() <= ran.max().unwrap());
/// println!("{ran}");
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Histogram {
    steps: Box<[u64; STEPS]>,
    count: u64,
    /// In nanoseconds, which is what there is of each call: 584 years together at the most.
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            steps: Box::new([0; STEPS]),
            count: 0,
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one.
    pub(crate) fn record(&mut self, length: Duration) {
        self.record_nanos(nanos(length));
    }

    /// Counts one of so many nanoseconds.
    pub(crate) fn record_nanos(&mut self, length: u64) {
        self.steps[step_of(length)] += 1;
        self.count += 1;
        // A worker may say what it likes of how long it took.
        self.total = self.total.saturating_add(length);
        self.max = self.max.max(length);
    }

    /// Returns how many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns how long they took together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }

    /// Returns the mean; `None` if there were none.
    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.total().div_f64(self.count as f64))
    }

    /// Returns the longest; `None` if there were none.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(Duration::from_nanos(self.max))
    }

    /// Returns a length that this part of them did not exceed, 0.5 for the median; `None` if there
    /// were none. Parts below 0 count as 0, above 1 as 1.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = ((part.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.steps.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(end_of(step).min(Duration::from_nanos(self.max)))
    }
}

/// The step that a length falls into.
fn step_of(nanos: u64) -> usize {
    let Some(doubling) = nanos.checked_ilog2().and_then(|log| log.checked_sub(FIRST)) else {
        return 0;
    };
    // The bits behind the first tell the part of the doubling.
    let part = (nanos >> (FIRST + doubling - FINE)) as usize & ((1 << FINE) - 1);
    ((doubling as usize) << FINE | part).min(STEPS - 1)
}

/// Where a step ends.
fn end_of(step: usize) -> Duration {
    let (doubling, part) = (step >> FINE, step & ((1 << FINE) - 1));
    let parts = (1u64 << FINE) + part as u64 + 1;
    Duration::from_nanos(parts << (FIRST as usize + doubling - FINE as usize))
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantile = |part| self.quantile(part).unwrap_or_default();
        write!(
            f,
            "median {:.1?}, 90 % {:.1?}, 99 % {:.1?}, longest {:.1?}",
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            Duration::from_nanos(self.max),
        )
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({}: {self})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: impl IntoIterator<Item = Duration>) -> Histogram {
        let mut histogram = Histogram::default();
        lengths
            .into_iter()
            .for_each(|length| histogram.record(length));
        histogram
    }

    #[test]
    fn nothing_has_no_mean_and_no_quantile() {
        let nothing = Histogram::default();
        assert_eq!(
            (nothing.mean(), nothing.max(), nothing.quantile(0.5)),
            (None, None, None)
        );
    }

    #[test]
    fn every_length_lies_in_its_step_to_within_an_eighth_of_a_doubling() {
        for exponent in 0..40 {
            for near in [0, 1, 7] {
                let nanos = (1u64 << exponent) + near * (1 << exponent) / 8;
                let end = end_of(step_of(nanos)).as_nanos() as u64;
                assert!(end > nanos, "{nanos} ends at {end}");
                assert!(
                    nanos < 1 << FIRST || end <= nanos + nanos / 8 + 1,
                    "{nanos} ends at {end}"
                );
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_lengths() {
        let histogram = of((1..=1_000).map(Duration::from_micros));
        for (part, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let micros = histogram.quantile(part).unwrap().as_secs_f64() * 1e6;
            assert!(
                (exact..=exact * 1.125).contains(&micros),
                "{part}: {micros}"
            );
        }
        assert_eq!(histogram.quantile(1.0), histogram.max());
        assert_eq!(histogram.max(), Some(Duration::from_millis(1)));
        assert_eq!(histogram.mean(), Some(Duration::from_nanos(500_500)));
    }

    #[test]
    fn no_length_is_too_short_or_too_long() {
        let histogram = of([Duration::ZERO, Duration::MAX, Duration::MAX]);
        assert_eq!(histogram.count(), 3);
        let longest = Duration::from_nanos(u64::MAX);
        assert_eq!(
            (histogram.max(), histogram.total()),
            (Some(longest), longest)
        );
        assert!(histogram.quantile(0.1).unwrap() < Duration::from_micros(1));
    }
}
