//! Without the feature `tracing` no call has a span: the names are there, and cost nothing.

use std::sync::Arc;

use super::End;
use crate::supervisor::slot::Slot;
use crate::task::head::Caller;
use crate::wire::packed::Packed;

/// Where a call is submitted.
#[derive(Clone, Debug)]
pub(crate) struct Origin;

/// The span of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallTrace(());

/// What there is to tell.
#[derive(Debug, Default)]
pub(crate) struct Tales(());

impl Origin {
    /// Here.
    pub(crate) fn here() -> Self {
        Self
    }
}

impl CallTrace {
    /// Begins it.
    pub(crate) fn begin(_: &Origin, _: Option<&str>, _: u32) -> Self {
        Self(())
    }

    /// Whether there is one.
    pub(crate) fn is_live(&self) -> bool {
        false
    }

    /// What its worker is told.
    pub(crate) fn caller(&self) -> Option<Caller<'_>> {
        None
    }

    /// The call has got its number.
    pub(crate) fn numbered(&self, _: u64) {}

    /// The call was not accepted.
    pub(crate) fn refused(&self, _: &'static str) {}

    /// The call runs on a thread of this process.
    pub(crate) fn runs_on(&self, _: impl FnOnce() -> String) {}

    /// Does the call's work on a thread of this process.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    /// The call has ended like this.
    pub(crate) fn ended(&self, _: &End<'_>) {}

    /// The call is over.
    pub(crate) fn end(self) {}

    /// The span, as the parent of an event.
    pub(crate) fn id(&self) -> Option<tracing::Id> {
        None
    }
}

impl Tales {
    /// A worker has logged something.
    pub(crate) fn logged(
        &mut self,
        _: Option<&CallTrace>,
        _: &Arc<Slot>,
        _: Packed,
        _: u64,
    ) -> Result<(), String> {
        Err("a frame out of turn: Log".to_owned())
    }

    /// A call has ended.
    pub(crate) fn ended(&mut self, _: &CallTrace, _: End<'_>) {}

    /// Nothing more is noted here.
    pub(crate) fn take_turn(&mut self, _: &mut u64) {}
}

/// Has tales told in their order.
#[derive(Debug, Default)]
pub(crate) struct Teller(());

impl Teller {
    /// Tells.
    pub(crate) fn tell(&self, _: Tales) {}
}
