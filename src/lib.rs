//! A pool of worker processes for tokio.

#[allow(unsafe_code)]
mod sys;
mod process;
pub mod task;
mod worker;
