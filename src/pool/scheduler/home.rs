//! The place to which calls of one key go, so that they find in its worker what calls before them
//! have left there.
//!
//! A place is chosen by the key alone, so nothing has to be remembered of any key. It outlives its
//! workers: when one dies, the next in the place gets the calls. As long as the worker of its place
//! is busy, a call waits aside of the line, and keeps nobody waiting who can go elsewhere.

use super::event::JobKey;
use super::{Mode, Scheduler, waits};
use crate::sys::clock::Moment;

impl<T> Scheduler<T> {
    /// The place for whose worker a job of that key has to wait; `None` for any.
    pub(super) fn home_of(&self, key: Option<u64>) -> Option<usize> {
        // Where no worker can be started any more, any that lives must do.
        let key = key.filter(|_| self.mode != Mode::Stranded)?;
        (0..self.rules.workers).max_by_key(|place| affinity(key, *place))
    }

    /// The first of the jobs that wait for the worker of one place and could go there now: its key
    /// and its place.
    pub(super) fn first_at_home(&mut self, now: Moment) -> Option<(JobKey, usize)> {
        let (mut best, mut from) = (None, 0);
        while let Some(place) = self.line.next_awaited(from) {
            from = place + 1;
            let jobs = &self.jobs;
            let Some(key) = self.line.first_aside(place, |key| waits(jobs, key)) else {
                continue;
            };
            let (load, turn) = (jobs[key.index].load, self.turn(key));
            let can = self.places[place].is_idle() || self.has_room(now, place, load);
            if can && best.is_none_or(|(first, _, _)| turn < first) {
                best = Some((turn, key, place));
            }
        }
        best.map(|(_, key, place)| (key, place))
    }

    /// There are other places now: whoever waits for the worker of one waits for the right one.
    pub(super) fn move_homes(&mut self) {
        for key in self.leave_homes() {
            let home = self.home_of(self.jobs[key.index].rare().key);
            self.wait_at(home, key);
        }
    }

    /// Lets everybody who waits for the worker of one place wait for any.
    pub(super) fn forget_homes(&mut self) {
        for key in self.leave_homes() {
            self.wait_at(None, key);
        }
    }

    /// Takes out all who wait for the worker of one place, those of one key in their order.
    fn leave_homes(&mut self) -> Vec<JobKey> {
        let mut left = Vec::new();
        while let Some(place) = self.line.next_awaited(0) {
            let jobs = &self.jobs;
            let first = self.line.first_aside(place, |key| waits(jobs, key));
            let Some(key) = first else { break };
            self.line.take_first(jobs[key.index].waiter(key));
            left.push(key);
        }
        left
    }

    fn wait_at(&mut self, home: Option<usize>, key: JobKey) {
        let job = &mut self.jobs[key.index];
        job.wait_at(home);
        self.line.push_back(job.waiter(key));
    }
}

/// How much a key prefers a place: each has an order of its own in which it likes them, so that
/// with one place more or less few keys move.
fn affinity(key: u64, place: usize) -> u64 {
    let mixed = (key ^ (place as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
