//! A pool of worker processes for tokio.

mod pool;
mod process;
mod supervisor;
#[allow(unsafe_code)]
mod sys;
pub mod task;
mod wire;
mod worker;

pub use pool::builder::ProcessPoolBuilder;
pub use pool::error::{BuildError, NotClosed, TaskError, TrySubmitError, WorkerExit};
pub use pool::handle::TaskHandle;
pub use pool::reply::CallbackId;
pub use pool::shutdown::ShutdownOptions;
pub use pool::stats::{Stats, WorkerStats};
pub use pool::task::{Task, TaskCall};
pub use pool::{ProcessPool, Restart};
pub use process::{Exit, StartError, StartMethod, UnknownStartMethod};
pub use supervisor::stdio::{Stdio, WorkerLine};
pub use task::Call;
pub use task::PanicInfo;
pub use worker::boot::init;
