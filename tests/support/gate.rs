//! Holding tasks back until the test lets them go: a directory that test and workers both see.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A gate that is closed at first. What is in its directory goes with it.
#[derive(Debug)]
pub(crate) struct Gate(PathBuf);

/// A task that is held longer has been forgotten.
const LIMIT: Duration = Duration::from_secs(60);
const OPEN: &str = "open";
const PERMIT: &str = "permit-";
const MARK: &str = "mark-";

impl Gate {
    /// Makes a gate of its own directory.
    pub(crate) fn new() -> Self {
        static GATES: AtomicU64 = AtomicU64::new(0);
        let number = GATES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gate-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    /// What a task is given, to call [`pass`], [`acquire`] and [`mark`] with.
    pub(crate) fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }

    /// Lets everybody pass, from now on.
    pub(crate) fn open(&self) {
        fs::write(self.0.join(OPEN), "").unwrap();
    }

    /// Lets so many tasks acquire a permit.
    pub(crate) fn release(&self, permits: usize) {
        for number in 0..permits {
            fs::write(self.0.join(format!("{PERMIT}{number}")), "").unwrap();
        }
    }

    /// The marks that tasks have left, sorted.
    pub(crate) fn marks(&self) -> Vec<String> {
        let mut marks: Vec<_> = names(&self.0)
            .filter_map(|name| name.strip_prefix(MARK).map(str::to_owned))
            .collect();
        marks.sort();
        marks
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "nobody opened the gate");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// In a task: waits until the gate is open.
pub(crate) fn pass(gate: String) {
    let open = Path::new(&gate).join(OPEN);
    wait_until(|| open.exists());
}

/// In a task: waits for a permit and uses it up.
pub(crate) fn acquire(gate: String) {
    let gate = Path::new(&gate);
    wait_until(|| {
        names(gate)
            .filter(|name| name.starts_with(PERMIT))
            // Whoever removes it has it.
            .any(|name| fs::remove_file(gate.join(name)).is_ok())
    });
}

/// In a task: leaves a mark that the test sees.
pub(crate) fn mark(gate: &str, text: &str) {
    fs::write(Path::new(gate).join(format!("{MARK}{text}")), "").unwrap();
}
