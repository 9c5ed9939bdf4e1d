//! A pool of worker processes for tokio.

mod pool;
mod process;
mod supervisor;
#[allow(unsafe_code)]
mod sys;
pub mod task;
mod worker;
