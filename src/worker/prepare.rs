//! What a worker does between its first word and the moment in which it is ready.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::outbox::Outbox;
use super::watch::{Watcher, watch};
use crate::sys::attributes::Refused;
use crate::sys::mapping;
use crate::task::hook;
use crate::wire::message::{Unfit, WorkerStart};

/// Makes the process what the pool wants its workers to be, starts the watcher, and runs the
/// initializer on this thread, which is that of the calls.
///
/// The order matters. The watcher's thread begins with the attributes of this one, so they come
/// before it; the limits may allow no thread any more, so they come after it. The initializer may
/// do anything, such as not to return: the watcher is there by then, to end it with the program.
pub(super) fn prepare(
    start: &WorkerStart,
    program: Arc<OwnedFd>,
    outbox: Arc<Outbox>,
    initializer: Option<OwnedFd>,
) -> Result<Watcher, Unfit> {
    start.attributes.take_on().map_err(unfit)?;
    let watcher = watch(program, outbox).map_err(|error| {
        let doing = "start a worker's second thread".to_owned();
        unfit(Refused { doing, error })
    })?;
    start.attributes.limit().map_err(unfit)?;
    if let Some(file) = initializer {
        let hook = mapping::read_copy(file).map_err(|error| {
            let doing = "read the initializer's argument".to_owned();
            unfit(Refused { doing, error })
        })?;
        hook::run(&hook).map_err(Unfit::Initializer)?;
    }
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
