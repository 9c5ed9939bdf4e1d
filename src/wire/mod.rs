//! Frames and messages: what goes over a worker's pipes, and the page beside them.
//!
//! ```text
//!              request pipe:   Call, Call, Call …            ▶
//!    parent                                                     worker
//!            ◀ response pipe:  Hello, Ready, Returned …
//!              control page:   who holds each call; the outbox
//!            ◀ socket ▶        descriptors that go with calls and results
//! ```
//!
//! - [`frame`]: the header that stands before every payload.
//! - [`codec`]: frames out of a stream of bytes, for the parent's side.
//! - [`luggage`]: descriptors that go with a frame.
//! - [`message`]: what the payloads of the crate's own frames say.
//! - [`packed`]: a payload at rest.
//! - [`page`]: the words by which a call changes hands, and the outbox.
//!
//! Nothing here knows of processes.

pub(crate) mod codec;
pub(crate) mod frame;
pub(crate) mod luggage;
pub(crate) mod message;
pub(crate) mod packed;
pub(crate) mod page;

/// The version of everything in this folder; both ends compare it before anything else.
pub(crate) const PROTOCOL: u32 = 1;

/// Names one sending of one call to one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    /// Which word of the worker's control page the call has.
    pub(crate) lane: u16,
    /// How many calls were sent to that worker before it.
    pub(crate) sequence: u64,
}
