//! What a worker does between its first word and the moment in which it is ready.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::outbox::Outbox;
use super::watch::{Watcher, watch};
use crate::sys::attributes::Refused;
use crate::wire::message::{Unfit, WorkerStart};

/// Makes the process what the pool wants its workers to be, and starts the watcher.
///
/// The order matters. The watcher's thread begins with the attributes of this one, so they come
/// before it; the limits may allow no thread any more, so they come after it.
pub(super) fn prepare(
    start: &WorkerStart,
    program: OwnedFd,
    outbox: Arc<Outbox>,
) -> Result<Watcher, Unfit> {
    start.attributes.take_on().map_err(unfit)?;
    let watcher = watch(program, outbox).map_err(|error| {
        let doing = "start a worker's second thread".to_owned();
        unfit(Refused { doing, error })
    })?;
    start.attributes.limit().map_err(unfit)?;
    Ok(watcher)
}

fn unfit(refused: Refused) -> Unfit {
    let Refused { doing, error } = refused;
    Unfit::System {
        doing,
        errno: error.raw_os_error(),
        text: error.to_string(),
    }
}
