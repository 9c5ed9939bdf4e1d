//! In the crate's own unit tests a worker may be another than the real one: what it is to be shows
//! in its first words.

pub(crate) mod script;
mod stub;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::process::{TEST_STEPS, test_serve};
use crate::wire::message::Role;
use script::Script;

/// Serves as the worker that `first` asks for.
pub(super) fn serve(first: &[u8], program: Arc<OwnedFd>, channel: Vec<OwnedFd>) -> ! {
    if let Some(steps) = first.strip_prefix(TEST_STEPS) {
        test_serve(steps, program, channel)
    }
    let script = match postcard::from_bytes(first) {
        Ok(Role::Worker(start)) => Script::for_worker(&start.name),
        Ok(Role::Process) | Err(_) => None,
    };
    match script {
        Some(script) => stub::obey(script, program, channel),
        None => super::play(first, program, channel),
    }
}
