//! The spans of calls, and what is logged in workers (feature `tracing`).
//!
//! A call that somebody may want to see has a span from when it is submitted until it is over, as a
//! child of the one in which it was submitted. What its task logs comes from the worker as frames
//! and is logged again inside of that span. A subscriber may do anything, so nothing of this happens
//! under the pool's lock: under it is written down what there is to tell ([`Tales`]), and told after.
//!
//! - `live`: the spans. `replay`: events of other processes. `idle`: the same names, and nothing
//!   behind them, without the feature.

#[cfg(not(feature = "tracing"))]
mod idle;
#[cfg(feature = "tracing")]
mod live;
#[cfg(feature = "tracing")]
mod replay;

use std::sync::Arc;
use std::time::Duration;

use crate::supervisor::slot::Slot;

#[cfg(not(feature = "tracing"))]
pub(crate) use self::idle::{CallTrace, Origin, Tales, Teller};
#[cfg(feature = "tracing")]
pub(crate) use self::live::{CallTrace, Origin, Tales, Teller};

/// How a call that has a span has ended.
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) struct End<'a> {
    /// The worker that had it last, as far as that is known.
    pub(crate) slot: Option<&'a Arc<Slot>>,
    /// In a word or two.
    pub(crate) outcome: &'static str,
    /// How many times it was started.
    pub(crate) attempt: u32,
    /// How long it had waited.
    pub(crate) waited: Option<Duration>,
    /// How long it ran.
    pub(crate) ran: Option<Duration>,
}
