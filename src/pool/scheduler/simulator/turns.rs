//! Whose turn it is: a job goes to a worker before all that are less urgent or came later.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rules::require;
use crate::pool::scheduler::JobSpec;
use crate::sys::clock::Moment;

/// The jobs that no worker has been given yet, in the order in which it is their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    first_time: BTreeSet<Turn>,
    /// Those that a worker was given and has not begun, by when they came back.
    returned: BTreeMap<Turn, Moment>,
    /// The place to which calls of a key have gone.
    homes: HashMap<u64, usize>,
}

type Turn = (Reverse<i32>, usize);

impl Turns {
    /// A job was accepted.
    pub(super) fn queue(&mut self, job: usize, spec: &JobSpec) {
        if spec.key.is_none() {
            self.first_time.insert(turn(job, spec));
        }
    }

    /// A job was answered.
    pub(super) fn forget(&mut self, job: usize, spec: &JobSpec) {
        self.first_time.remove(&turn(job, spec));
        self.returned.remove(&turn(job, spec));
    }

    /// A job was taken back from its worker.
    pub(super) fn came_back(&mut self, job: usize, spec: &JobSpec, now: Moment) {
        if spec.key.is_none() {
            self.returned.insert(turn(job, spec), now);
        }
    }

    /// There are more or fewer places: some keys go elsewhere.
    pub(super) fn forget_homes(&mut self) {
        self.homes.clear();
    }

    /// A job goes to a worker in this place; `bound` tells whether it must be where all of its key
    /// go. What has a key may go before others who cannot go there, and wait longer than others.
    pub(super) fn check_home(&mut self, spec: &JobSpec, place: usize, bound: bool) {
        let Some(key) = spec.key.filter(|_| bound) else {
            return;
        };
        let home = *self.homes.entry(key).or_insert(place);
        require(home == place, "all calls of a key go to one place", || {
            format!("{key}: {home} and {place}")
        });
    }

    /// A job without a key goes to a worker, which was decided at `decided` or later; `known` tells
    /// which jobs were there by then.
    pub(super) fn check(
        &mut self,
        job: usize,
        spec: &JobSpec,
        decided: Moment,
        known: impl Fn(usize) -> bool,
    ) {
        let own = turn(job, spec);
        let again = !self.first_time.remove(&own);
        self.returned.remove(&own);
        let mut waits = self.returned.range(..(own.0, usize::MAX));
        let before = waits.find(|(_, since)| !again && **since < decided);
        require(
            before.is_none(),
            "what comes back goes before the others of its priority",
            || format!("job {job} before {before:?}"),
        );
        let first = self.first_time.iter().find(|(_, job)| known(*job));
        let in_turn = first.is_none_or(|first| {
            // What comes back goes before the others of its priority.
            own < *first || (again && own.0 == first.0)
        });
        require(
            in_turn,
            "the most urgent goes first, then the first",
            || format!("job {job} before {first:?}"),
        );
    }
}

fn turn(job: usize, spec: &JobSpec) -> Turn {
    (Reverse(spec.priority), job)
}
