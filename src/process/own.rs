//! A static that each process has for itself, also after a fork.

use std::fmt;
use std::sync::OnceLock;

/// A value of each process's own, made when it is first asked for.
///
/// After a fork the child finds its parent's value, perhaps locked by a thread that it does not
/// have. So each process has a place of its own, in a list that only grows, by one with each
/// generation that uses the crate.
pub(crate) struct Own<T>(OnceLock<Box<Place<T>>>);

struct Place<T> {
    pid: u32,
    value: T,
    next: OnceLock<Box<Place<T>>>,
}

impl<T> Own<T> {
    /// For no process yet.
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Default> Own<T> {
    /// This process's value.
    pub(crate) fn get(&self) -> &T {
        let pid = std::process::id();
        let mut place = &self.0;
        loop {
            let found = place.get_or_init(|| {
                Box::new(Place {
                    pid,
                    value: T::default(),
                    next: OnceLock::new(),
                })
            });
            if found.pid == pid {
                return &found.value;
            }
            place = &found.next;
        }
    }
}

impl<T> fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::sys::{fork, wait};

    static COUNT: Own<Mutex<u32>> = Own::new();

    #[test]
    fn a_copy_of_this_process_has_its_own_whoever_holds_its_parents() {
        let mut count = COUNT.get().lock().unwrap();
        *count = 7;
        let copy = fork::copy(|| {
            let fresh = *COUNT.get().lock().unwrap() == 0;
            fork::exit_now(i32::from(!fresh));
        });
        let copy = copy.unwrap();
        let status = loop {
            if let Some(status) = wait::reap_pid(copy).unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(*count, 7);
    }
}
