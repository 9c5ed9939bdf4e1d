//! What a fork server does once, before it forks: it makes what all its workers are to have.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::watch;
use crate::sys::{fork, mapping};
use crate::task::{hook, panic};

/// How long a thread that was waited for may take to be gone from the system's list, too.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Runs the hooks, in their order, on this thread, which must be alone afterwards.
pub(super) fn preload(program: &OwnedFd, hooks: Vec<OwnedFd>) -> Result<(), String> {
    panic::install_hook();
    let run = |file| {
        let hook = mapping::read_copy(file)
            .map_err(|error| format!("its argument could not be read: {error}"))?;
        hook::run(&hook)
    };
    watch::end_with_during(program, || hooks.into_iter().try_for_each(run)).map_err(
        |error| format!("a fork server's second thread could not be started: {error}"),
    )??;
    match threads_left() {
        1 => Ok(()),
        threads => Err(format!(
            "it has left threads running ({}), with which no process can be forked",
            threads - 1
        )),
    }
}

/// The number of threads, when there has been time for all that are ending.
fn threads_left() -> u32 {
    let deadline = Instant::now() + LAST_STEPS;
    loop {
        // Without a count there is no fork either, which will say so.
        let threads = fork::threads().unwrap_or(1);
        if threads == 1 || Instant::now() >= deadline {
            return threads;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}
