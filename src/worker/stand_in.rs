//! In the crate's own unit tests a worker may be another than the real one: what it is to be shows
//! in its first words.

use std::os::fd::OwnedFd;

use crate::wire::message::WorkerStart;

/// Serves as the worker that `first` asks for.
pub(super) fn serve(first: &[u8], program: OwnedFd, channel: Vec<OwnedFd>) -> ! {
    let start: Result<WorkerStart, _> = postcard::from_bytes(first);
    match start {
        Ok(start) if start.name.contains('-') => super::serve::serve(first, program, channel),
        _ => crate::process::test_serve(first, program, channel),
    }
}
