//! A call in the pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::reply::Answer;
use crate::wire::packed::Packed;

/// What the scheduler carries along unread: what the worker gets, and who gets the answer.
pub(crate) struct Job {
    /// The call's particulars, encoded.
    pub(crate) head: Packed,
    /// Its argument, encoded.
    pub(crate) argument: Packed,
    /// Which function it calls.
    pub(crate) kind: u64,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it may wait.
    pub(crate) queue_timeout: Option<Duration>,
    /// Who is to be told.
    pub(crate) reply: Arc<dyn Answer>,
    /// Its part of the room in the queue, given back with it.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}
