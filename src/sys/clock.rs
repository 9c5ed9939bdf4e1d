//! Moments on the clock that every process of the machine shares.
//!
//! The parent and its workers compare times (when a call started, when it must end), so they need
//! one clock: `CLOCK_MONOTONIC`, which no change of the wall clock moves.

use std::ops::Add;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A moment on the machine's monotonic clock, in nanoseconds since an unspecified start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Reads the clock.
    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// How long before `later` this moment lies; zero if it does not.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// The same moment on std's clock, which on Linux is the same clock without its number.
    pub(crate) fn to_instant(self) -> Instant {
        let now = Self::now();
        if self >= now {
            Instant::now() + now.until(self)
        } else {
            let ago = self.until(now);
            Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
        }
    }
}

/// How many nanoseconds a length has; a moment cannot be further away than the most there are.
pub(crate) fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(nanos(length)))
    }
}
