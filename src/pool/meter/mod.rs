//! What a pool tells the `metrics` facade (feature `metrics`). The names are listed in the
//! [guide](crate::guide::observing).
//!
//! A recorder is the program's code, so nothing is told under the pool's lock: what there is to tell
//! is added up under it ([`Unsaid`]), and told after ([`Meters::tell`]). `live` has all of it, `idle`
//! the same names and nothing behind them.

#[cfg(not(feature = "metrics"))]
mod idle;
#[cfg(feature = "metrics")]
mod live;

#[cfg(not(feature = "metrics"))]
pub(crate) use self::idle::{Meters, Unsaid};
#[cfg(feature = "metrics")]
pub(crate) use self::live::{Meters, Unsaid};

/// What goes up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
pub(crate) struct Levels {
    /// How many calls wait and have not been given to a worker.
    pub(crate) queued: usize,
    /// How many workers are ready.
    pub(crate) workers: usize,
    /// How many of them hold calls.
    pub(crate) busy: usize,
}
