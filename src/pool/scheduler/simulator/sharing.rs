//! A rule that takes time: where somebody has nothing to do, the items behind a long one are not
//! left to wait for it.

use std::time::Duration;

use super::process::Hands;
use super::rules::require;
use super::world::{Office, World};
use crate::pool::scheduler::WorkerId;
use crate::pool::scheduler::place::Phase;

/// An item that runs for so long is certainly known to be late …
const LATE: Duration = Duration::from_millis(10);
/// … and after this, what waits behind it has gone to whoever had nothing to do all the time.
const SHARED: Duration = Duration::from_millis(20);

impl World<'_> {
    /// An item is begun: if it is long, it will be looked at.
    pub(super) fn set_sharing(&mut self, job: usize, item: u32) {
        let chunk = &self.chunks[&job];
        let work = self.maps[chunk.map].items[chunk.items[item as usize]].work();
        // What has a key is not for others.
        let bound = self.ledger.planned(job).spec.key.is_some();
        if !bound && item + 1 < chunk.tally.items() && work.length > LATE + SHARED {
            self.office.enter(self.now + LATE, Office::Late(job, item));
        }
    }

    /// The item is late if it still runs: notes who has nothing to do.
    pub(super) fn late(&mut self, job: usize, item: u32) {
        let idle = self.idle();
        if self.is_whole(job, item) && !idle.is_empty() {
            self.chunks.entry(job).and_modify(|chunk| chunk.idle = idle);
            self.office
                .enter(self.now + SHARED, Office::MustBeShared(job, item));
        }
    }

    /// The item is very late if it still runs.
    pub(super) fn check_shared(&mut self, job: usize, item: u32) {
        let idle = self.idle();
        let chunk = &self.chunks[&job];
        let idler = chunk.idle.iter().find(|known| idle.contains(known));
        require(
            idler.is_none() || !self.is_whole(job, item),
            "who has nothing to do gets what waits behind a long item",
            || format!("{idler:?} job {job} item {item} {chunk:?}"),
        );
    }

    /// Whether that item runs and others wait behind it.
    fn is_whole(&self, job: usize, item: u32) -> bool {
        let waits = item + 1 < self.chunks[&job].tally.items();
        let runs = |hands| {
            matches!(hands, Hands::Running(frame) | Hands::Writing(frame)
                if frame.job == job && frame.item == item)
        };
        let there = |process: &&super::process::Process| runs(process.hands);
        let process = self.processes.iter().find(there);
        let stays = process.is_some_and(|process| {
            // Who is being dismissed, or is in a grace, is not asked for anything.
            let known = self.core.places.get(process.id.place);
            let known = known.and_then(|place| place.worker.as_ref());
            let ready = known.is_some_and(|known| known.phase == Phase::Ready);
            ready && !process.killed && !process.condemned && process.ended.is_none()
        });
        waits && stays
    }

    /// The workers that have nothing to do, and how much each was given before.
    fn idle(&self) -> Vec<(WorkerId, u64)> {
        let idle = self.core.places.iter().filter(|place| place.is_idle());
        let ids = idle.filter_map(|place| Some(place.worker.as_ref()?.id));
        ids.map(|id| (id, self.processes[self.index(id)].sequence))
            .collect()
    }
}
