//! A call in the pool.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::reply::Answer;

/// What the scheduler carries along unread: what the worker gets, and who gets the answer.
pub(crate) struct Job {
    /// The call's particulars, encoded.
    pub(crate) head: Vec<u8>,
    /// Its argument, encoded.
    pub(crate) argument: Bytes,
    /// Which function it calls.
    pub(crate) kind: u64,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it may wait.
    pub(crate) queue_timeout: Option<Duration>,
    /// Who is to be told.
    pub(crate) reply: Arc<dyn Answer>,
    /// Its part of the room in the queue, given back with it.
    #[expect(dead_code, reason = "it is held for what its drop does")]
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}
