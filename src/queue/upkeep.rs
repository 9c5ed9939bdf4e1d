//! What a process keeps for large items of queues, while they come and go.

use std::sync::Arc;

use crate::process::Keeper;
use crate::task::slabs::{self, Slabs};

/// Keeps it as long as it is used, by a task on the crate's thread, which is there as long; `false` where
/// there can be none, and nothing is kept.
pub(super) fn keep(slabs: Arc<Slabs>) -> bool {
    let Ok(keeper) = Keeper::get() else {
        return false;
    };
    let runtime = keeper.handle().clone();
    runtime.spawn(async move {
        let _thread = keeper;
        loop {
            tokio::time::sleep(slabs::IDLE).await;
            if !slabs.trim_for_queues() {
                return;
            }
        }
    });
    true
}
