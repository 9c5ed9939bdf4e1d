//! The processes of this one that run, and what becomes of daemons when this one ends in order.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Process;
use super::body::Body;
use crate::process::{Own, lineage};
use crate::sys::{exit, ready};

/// How long a daemon has between SIGTERM and SIGKILL. A program's end takes that much longer, at
/// most.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Those of one process, by the order in which they were started.
#[derive(Debug, Default)]
struct Registry {
    count: u64,
    running: BTreeMap<u64, Arc<Body>>,
}

static REGISTRY: Own<Mutex<Registry>> = Own::new();

/// How many have been given a name by their number.
static NAMED: Own<AtomicU64> = Own::new();

/// Returns the processes that this one has started and that have not ended, in the order of their
/// starts, whether their handles are still there or not. As Python's `active_children()`.
///
/// These handles leave the values out: [`join`](Process::join) waits as always, and takes nothing.
///
/// ```
/// use procpool::{Process, active_children};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let patience = |_: ()| -> () { loop { std::thread::park() } };
/// drop(Process::builder().name("forgotten").spawn(patience, ()).await?);
/// let find = || active_children().into_iter().find(|child| child.name() == "forgotten");
/// let child = find().expect("it runs, though nobody has it");
/// child.terminate()?;
/// assert_eq!(child.wait().await.signal(), Some(15));
/// assert!(find().is_none());
/// # Ok(()) }
/// ```
pub fn active_children() -> Vec<Process<()>> {
    let mut running: Vec<_> = registry().running.values().cloned().collect();
    running.retain(|body| body.exit().is_none());
    running.into_iter().map(Process::without_value).collect()
}

/// A number by which a process will be [noted](note).
pub(super) fn next_number() -> u64 {
    let mut registry = registry();
    registry.count += 1;
    registry.count
}

/// Notes a process that runs.
pub(super) fn note(body: &Arc<Body>) {
    static AT_EXIT: Once = Once::new();
    if body.is_daemon() {
        AT_EXIT.call_once(|| exit::at_exit(end_daemons));
    }
    registry().running.insert(body.number(), Arc::clone(body));
}

/// Forgets one that has ended.
pub(super) fn forget(number: u64) {
    let ended = registry().running.remove(&number);
    // Outside of the lock.
    drop(ended);
}

/// A name for a process that was not given one.
pub(super) fn next_name() -> String {
    let number = NAMED.get().fetch_add(1, Ordering::Relaxed) + 1;
    match lineage::standing() {
        Some(own) => format!("{}:{number}", own.lineage.name),
        None => format!("Process-{number}"),
    }
}

/// Called when this process ends by returning from `main` or by `exit`. Whatever is left after it is
/// killed, as with any other end.
extern "C" fn end_daemons() {
    let mut daemons: Vec<_> = registry().running.values().cloned().collect();
    daemons.retain(|body| body.is_daemon() && body.signal(Signal::TERM).is_ok());
    let deadline = Instant::now() + GRACE;
    for daemon in &daemons {
        let _ = ready::wait_to_read(daemon.as_fd(), Some(deadline));
        daemon.kill();
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    // Nothing panics under it.
    let registry = REGISTRY.get().lock();
    registry.unwrap_or_else(PoisonError::into_inner)
}
