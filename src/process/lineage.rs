//! Who this process is among those of its program: its name, and whose child it is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::{Own, StartMethod};

/// What a process is told of itself when it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lineage {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is one that nobody waits for.
    pub(crate) daemon: bool,
    /// How it was to be started.
    pub(crate) method: StartMethod,
    /// Who had it started.
    pub(crate) parent: Parent,
}

/// Who has had a process started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parent {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its name.
    pub(crate) name: String,
}

/// A process's place: what it was told, and the pidfd of its parent.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What it was told.
    pub(crate) lineage: Lineage,
    /// The process that had it started, which is not the fork server.
    parent: Arc<OwnedFd>,
}

impl AsFd for Standing {
    /// The parent's pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }
}

static STANDING: Own<RwLock<Option<Arc<Standing>>>> = Own::new();

/// The name of a process that nobody of its kind has started.
const MAIN: &str = "MainProcess";

impl Lineage {
    /// That of a child of this process.
    pub(crate) fn of_child(name: &str, daemon: bool, method: StartMethod) -> Self {
        Self {
            name: name.to_owned(),
            daemon,
            method,
            parent: Parent {
                pid: std::process::id(),
                name: own_name(),
            },
        }
    }

    /// Makes it that of this process, which is to end with the one behind the pidfd.
    pub(crate) fn take_on(self, parent: &Arc<OwnedFd>) {
        let parent = Arc::clone(parent);
        let standing = Arc::new(Standing {
            lineage: self,
            parent,
        });
        let place = STANDING.get().write();
        *place.unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }
}

/// The place of this process; none where nobody of its kind has started it.
pub(crate) fn standing() -> Option<Arc<Standing>> {
    let place = STANDING.get().read();
    place.unwrap_or_else(PoisonError::into_inner).clone()
}

/// The name of this process.
pub(crate) fn own_name() -> String {
    standing().map_or_else(|| MAIN.to_owned(), |own| own.lineage.name.clone())
}
