//! What the payloads of the crate's own frames say.

use serde::{Deserialize, Serialize};

use crate::sys::build_id::BuildId;

/// The first frame of every worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`PROTOCOL`](super::PROTOCOL) as the worker knows it.
    pub(crate) protocol: u32,
    /// Which build of the program it is.
    pub(crate) build: BuildId,
}

/// What a new worker is told before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerStart {
    /// The worker's name.
    pub(crate) name: String,
    /// How many pools it is inside of.
    pub(crate) depth: u8,
    /// The longest payload of a call or a result.
    pub(crate) max_frame: u64,
    /// How many tasks it runs at most; zero for no limit.
    pub(crate) max_tasks: u64,
    /// How many bytes of memory it may use when a task is over, if it is to stay.
    pub(crate) max_memory: Option<u64>,
    /// The function that is asked after each task whether it was the last, encoded; empty for none.
    pub(crate) retire_when: Vec<u8>,
}
