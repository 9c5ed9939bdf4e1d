//! The key that a program's processes have in common, by which they can prove to each other what they
//! are. It is handed down in a file of memory: never in a message, an argument or a variable.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Own;
use crate::sys::secret::Secret;

static KEY: Own<Mutex<Option<Arc<Secret>>>> = Own::new();

/// This process's key: what its parent has handed down, or what it was told; else it is made now, of
/// chance.
///
/// # Errors
///
/// At the limits of the system, if it has to be made.
pub(crate) fn own() -> io::Result<Arc<Secret>> {
    let mut key = lock();
    if let Some(key) = &*key {
        return Ok(Arc::clone(key));
    }
    let made = Arc::new(Secret::random()?);
    *key = Some(Arc::clone(&made));
    Ok(made)
}

/// Makes it another, also for the children that this process has from now on.
pub(crate) fn replace(key: Arc<Secret>) {
    let former = lock().replace(key);
    // It may be the last who has it, and is wiped then, for which nobody has to wait.
    drop(former);
}

/// A copy for a child.
///
/// # Errors
///
/// At the limits of the system.
pub(crate) fn hand_down() -> io::Result<OwnedFd> {
    own()?.to_file()
}

/// Makes what was handed down this process's.
///
/// # Errors
///
/// At the limits of the system.
pub(super) fn take_on(file: OwnedFd) -> io::Result<()> {
    replace(Arc::new(Secret::read(file)?));
    Ok(())
}

fn lock() -> MutexGuard<'static, Option<Arc<Secret>>> {
    KEY.get().lock().unwrap_or_else(PoisonError::into_inner)
}
