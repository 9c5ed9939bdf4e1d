//! In the crate's own unit tests a worker may be another than the real one: what it is to be shows
//! in its first words.

pub(crate) mod script;
mod stub;

use std::os::fd::OwnedFd;

use crate::process::{TEST_STEPS, test_serve};
use crate::wire::message::WorkerStart;
use script::Script;

/// Serves as the worker that `first` asks for.
pub(super) fn serve(first: &[u8], program: OwnedFd, channel: Vec<OwnedFd>) -> ! {
    if let Some(steps) = first.strip_prefix(TEST_STEPS) {
        test_serve(steps, program, channel)
    }
    let start: Option<WorkerStart> = postcard::from_bytes(first).ok();
    match start.and_then(|start| Script::for_worker(&start.name)) {
        Some(script) => stub::obey(script, program, channel),
        None => super::serve::serve(first, program, channel),
    }
}
