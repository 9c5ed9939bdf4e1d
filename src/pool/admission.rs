//! How many calls a bounded pool may hold: as many as may wait, and one for each worker. A pool of
//! threads counts in the same way.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How many jobs may be in the pool, beside those of maps.
pub(crate) fn room_for(max_pending: usize, workers: usize) -> usize {
    max_pending
        .saturating_add(workers)
        .min(Semaphore::MAX_PERMITS)
}

/// The number of workers has changed, from one to another. What is too much and in use is taken away
/// on `keeper` as it is given back.
pub(crate) fn resize(
    room: &Arc<Semaphore>,
    max_pending: usize,
    (before, after): (usize, usize),
    keeper: &Handle,
) {
    let (before, after) = (room_for(max_pending, before), room_for(max_pending, after));
    if after >= before {
        return room.add_permits(after - before);
    }
    // Before anybody else gets it: who waits for permits is served in order.
    let surplus = before - after;
    let left = surplus - room.forget_permits(surplus);
    let taken = room.clone().acquire_many_owned(left as u32);
    keeper.spawn(async move {
        if let Ok(permits) = taken.await {
            permits.forget();
        }
    });
}
