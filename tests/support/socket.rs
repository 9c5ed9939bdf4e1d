//! Places for listeners: a directory of the test's own, and an address of each kind.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use procpool::Address;

/// A directory, removed with all that is in it when this is dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("listening-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path for a socket, which nothing is at.
    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// How much is in it.
    pub fn count(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }

    /// An address of each kind.
    pub fn addresses(&self) -> [Address; 3] {
        [
            self.socket().try_into().unwrap(),
            "127.0.0.1:0".parse().unwrap(),
            "[::1]:0".parse().unwrap(),
        ]
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
