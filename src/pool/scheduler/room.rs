//! Which workers to ask for room behind what they hold, so that not all of them are asked for every
//! job.

use std::collections::VecDeque;

use super::job::Load;
use crate::wire::page::LANES;

/// A call up to this size is not refused for its size before a worker's lanes are all taken.
const SMALL: usize = super::place::AHEAD_BYTES / LANES;

/// The places to be asked, in turn, so that all get their share.
///
/// A worker that had no room gets some when it has less to do, and time alone gives it none: until
/// then its place is left out, unless a job comes that weighs less than what was refused.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    turn: VecDeque<usize>,
    /// Which places are among them.
    listed: Vec<bool>,
    /// The most that those who are not have refused; `None` if they have refused nothing.
    refused: Option<Load>,
}

impl Candidates {
    /// The worker of a place has less to do than before, or something at all: it is asked.
    pub(super) fn add(&mut self, place: usize) {
        if self.listed.len() <= place {
            self.listed.resize(place + 1, false);
        }
        if !self.listed[place] {
            self.listed[place] = true;
            self.turn.push_back(place);
        }
    }

    /// The first of so many places that has room for this load. The others have their turns before
    /// it has one again.
    pub(super) fn find(
        &mut self,
        load: Load,
        places: usize,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.refused.is_some_and(|refused| !weighs(load, refused)) {
            self.refused = None;
            (0..places).for_each(|place| self.add(place));
        }
        while let Some(place) = self.turn.front().copied() {
            if has_room(place) {
                if self.turn.len() > 1 {
                    self.turn.rotate_left(1);
                }
                return Some(place);
            }
            self.turn.pop_front();
            self.listed[place] = false;
            self.refused = Some(load);
        }
        None
    }
}

/// Whether who had no room for `refused` has none for `load`.
fn weighs(load: Load, refused: Load) -> bool {
    let chunks = (load.items > 0) == (refused.items > 0);
    let bytes = load.bytes >= refused.bytes || load.bytes <= SMALL && refused.bytes <= SMALL;
    load.kind == refused.kind && chunks && load.items >= refused.items && bytes
}
