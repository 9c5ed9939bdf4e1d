//! What the payloads of the crate's own frames say.

use serde::{Deserialize, Serialize};

use crate::sys::attributes::Attributes;
use crate::sys::build_id::BuildId;

/// The first frame of every worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`PROTOCOL`](super::PROTOCOL) as the worker knows it.
    pub(crate) protocol: u32,
    /// Which build of the program it is.
    pub(crate) build: BuildId,
}

/// The first words to every child: what it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A worker of a pool.
    Worker(Box<WorkerStart>),
    /// A process that runs one call; what that is comes beside this.
    Process,
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
    /// How long it waits awake for its next call, in nanoseconds.
    pub(crate) busy_poll: u64,
    /// How much memory it may have for large payloads.
    pub(crate) large_payloads: u64,
    /// What its process is to be like.
    pub(crate) attributes: Attributes,
    /// Whether an initializer, a hook as `task` encodes it, is in a file beside this.
    pub(crate) initializer: bool,
    /// What it runs before it leaves, a hook as well; empty for nothing.
    pub(crate) finalizer: Vec<u8>,
    /// How many tasks it runs at most; zero for no limit.
    pub(crate) max_tasks: u64,
    /// How many bytes of memory it may use when a task is over, if it is to stay.
    pub(crate) max_memory: Option<u64>,
    /// The function that is asked after each task whether it was the last, encoded; empty for none.
    pub(crate) retire_when: Vec<u8>,
    /// Up to which level it says what is logged in it, one for errors alone; zero for nothing.
    pub(crate) log_level: u8,
}

/// The payload of [`Kind::Ready`](super::frame::Kind::Ready): whether it is. Nothing follows it if
/// not.
pub(crate) type Readiness = Result<(), Unfit>;

/// Why a worker cannot take calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unfit {
    /// The system refused something.
    System {
        /// What was to be done ("set the nice value to -5").
        doing: String,
        /// The system's number for the reason.
        errno: Option<i32>,
        /// The reason.
        text: String,
    },
    /// Its initializer failed, and says this.
    Initializer(String),
}
