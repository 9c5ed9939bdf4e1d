//! Descriptors in tokio's reactor.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

/// Registers `descriptor` with the current runtime, which must have I/O.
///
/// # Errors
///
/// Where the system has no room for another registration.
// The `unsafe` successor of `with_interest` asks for a descriptor that stays
// open and the same; an owned one does by its type, so that nothing would be
// won, and the versions of tokio without it lost.
#[allow(deprecated)]
pub(crate) fn register(
    descriptor: Arc<OwnedFd>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(descriptor, interest)
}

thread_local! {
    /// What was found out here last, and of which runtime: mostly that is asked of one again and again.
    static KNOWN: Cell<Option<(Id, bool)>> = const { Cell::new(None) };
}

/// Tells whether descriptors can be registered with a runtime. One that has ended says yes here, and
/// refuses later.
///
/// Where it says no for the first time there is also tokio's own complaint on stderr: a panic is its only
/// answer to this question.
pub(crate) fn has_io(runtime: &Handle) -> bool {
    let id = runtime.id();
    if let Some((_, has)) = KNOWN.get().filter(|(known, _)| *known == id) {
        return has;
    }
    let Ok(probe) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
        return true;
    };
    let _inside = runtime.enter();
    let register = AssertUnwindSafe(|| drop(register(Arc::new(probe), Interest::READABLE)));
    let has = catch_unwind(register).is_ok();
    KNOWN.set(Some((id, has)));
    has
}
