//! The span of a call in its worker, for a subscriber that the program has set there; where the call
//! is traced by whoever made it, and only with the feature `tracing`.

use crate::task::head::CallHead;

/// It. Nothing, where nobody traces the call.
pub(super) struct CallSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(feature = "tracing")]
impl CallSpan {
    /// That of the call, or item, with this number.
    pub(super) fn new(head: &CallHead<'_>, call: u64) -> Self {
        let span = head.labels.caller().map(|caller| {
            tracing::info_span!(
                target: "procpool",
                "task",
                call,
                name = head.labels.name(),
                attempt = head.attempt,
                caller.id,
                caller.name,
                caller.target,
            )
        });
        Self {
            span: span.unwrap_or_else(tracing::Span::none),
        }
    }

    /// What this thread does is inside of it, until the guard is dropped.
    pub(super) fn enter(&self) -> impl Drop + '_ {
        self.span.enter()
    }
}

#[cfg(not(feature = "tracing"))]
impl CallSpan {
    /// That of the call, or item, with this number.
    pub(super) fn new(_: &CallHead<'_>, _: u64) -> Self {
        Self {}
    }

    /// What this thread does is inside of it, until the guard is dropped.
    pub(super) fn enter(&self) -> impl Drop + '_ {
        struct Inside;
        impl Drop for Inside {
            fn drop(&mut self) {}
        }
        Inside
    }
}
