//! Descriptors in tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
