//! Without the feature `metrics` nothing is told: the names are there, and cost nothing.

use std::time::Duration;

use super::Levels;

/// The instruments of a pool.
#[derive(Debug)]
pub(crate) struct Meters;

/// What there is to tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaid(());

impl Meters {
    /// Those of a pool of that kind and name.
    pub(crate) fn new(_: &'static str, _: Option<&str>) -> Self {
        Self
    }

    /// Tells.
    pub(crate) fn tell(&self, _: Unsaid) {}
}

impl Unsaid {
    /// So many calls were accepted.
    pub(crate) fn submitted(&mut self, _: u64) {}

    /// So many calls will be accepted again.
    pub(crate) fn taken_back(&mut self, _: u64) {}

    /// A call has returned.
    pub(crate) fn done(&mut self) {}

    /// So many calls have failed for that reason.
    pub(crate) fn failed(&mut self, _: &'static str, _: u64) {}

    /// A call was answered that had waited and has run so long.
    pub(crate) fn took(&mut self, _: Duration, _: Duration) {}

    /// A call is run again.
    pub(crate) fn retried(&mut self) {}

    /// A worker has taken the place of another.
    pub(crate) fn restarted(&mut self) {}

    /// Whether there is nothing to tell.
    pub(crate) fn is_nothing(&self) -> bool {
        true
    }

    /// How things stand now.
    pub(crate) fn stand(&mut self, _: impl FnOnce() -> Levels) {}

    /// What there is to tell.
    pub(crate) fn take(&mut self) -> Self {
        Self(())
    }
}
