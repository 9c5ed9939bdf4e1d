//! Async tasks that tests have run in workers, and how tests follow them.

use std::future::pending;
use std::time::Duration;

use crate::deeds::hang;
use crate::gate::{Gate, mark};
use crate::support::{PROMPTLY, soon};

/// Adds one, after it has yielded once.
pub(crate) async fn add_one(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n + 1
}

/// Sleeps, and tells in which process.
pub(crate) async fn nap(millis: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    std::process::id()
}

/// Waits for ever.
pub(crate) async fn never(_: ()) {
    pending().await
}

/// Marks that it is there, and then waits for ever.
pub(crate) async fn stay(gate: String) {
    mark(
        &gate,
        &format!("in {}", procpool::task::current().unwrap().id()),
    );
    pending().await
}

/// Waits until the gate is open.
pub(crate) async fn pass(gate: String) {
    while !std::path::Path::new(&gate).join("open").exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps the thread to itself.
pub(crate) async fn hog(gate: String) {
    mark(&gate, "hog");
    hang(());
}

/// Waits until so many marks have been made.
pub(crate) async fn marked(gate: &Gate, count: usize) {
    until(|| gate.marks().len() >= count).await;
}

/// Waits until this has come about.
pub(crate) async fn until(condition: impl FnMut() -> bool) {
    assert!(soon(PROMPTLY, condition).await, "it does not happen");
}
