//! What the callers of maps do: they take items from their source as far as there is room, send
//! them out in chunks, read results, and now and then lose interest. The books are the real ones.

use std::collections::VecDeque;

use super::blame::error;
use super::items::Item;
use super::parcels::Parcel;
use super::plan::Work;
use super::rules::require;
use super::world::World;
use crate::pool::map::roster::{Ending as Loss, Roster};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{JobSpec, Retry};
use crate::sys::clock::Moment;
use crate::wire::packed::Packed;

/// One map.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) roster: Roster,
    pub(super) ordered: bool,
    /// What each of its chunks asks for.
    pub(super) spec: JobSpec,
    /// Which failures of its items are no end.
    pub(super) retry: Retry,
    /// When somebody will look whether a pause is over.
    pub(super) alarm: Option<Moment>,
    /// Where the items come from.
    pub(super) source: VecDeque<Work>,
    /// Those that have been taken.
    pub(super) items: Vec<Item>,
    /// There are no more; that is known when the source is asked for more than it has.
    exhausted: bool,
    /// How many results the reader has been given, and how many of them were errors.
    pub(super) given: usize,
    errors: usize,
    /// The reader is about to put items into the books.
    taking: bool,
    /// Nobody reads any more.
    pub(super) abandoned: bool,
    /// The pool has agreed to wait, before it was closed.
    pub(super) safe: bool,
    /// The reader has seen the end.
    pub(super) ended: bool,
}

impl World<'_> {
    /// Somebody who has a map, or wants one, does something.
    pub(super) fn act_on_maps(&mut self) {
        let maps = self.maps.len();
        match self.rng.below(10) {
            0..3 if maps < 3 => self.open_map(),
            9 if maps > 0 && self.rng.percent(self.plan.abandons) => {
                let map = self.rng.below(maps);
                self.abandon(map);
            }
            _ if maps > 0 => {
                let map = self.rng.below(maps);
                self.read_map(map);
            }
            _ => self.open_map(),
        }
    }

    fn open_map(&mut self) {
        let (measure, spec, retry, source) = self.plan.map(self.now, &mut self.rng);
        self.trace.note(self.now, || {
            format!("map     {measure:?} {spec:?} {retry:?} {source:?}")
        });
        self.maps.push(Map {
            roster: Roster::new(measure),
            ordered: measure.ordered,
            spec,
            retry,
            alarm: None,
            source,
            items: Vec::new(),
            exhausted: false,
            given: 0,
            errors: 0,
            taking: false,
            abandoned: false,
            safe: false,
            ended: false,
        });
        self.read_map(self.maps.len() - 1);
    }

    /// The reader looks: takes what there is room for, and reads what is there.
    pub(super) fn read_map(&mut self, index: usize) {
        let map = &mut self.maps[index];
        if map.abandoned || map.ended || map.taking {
            return;
        }
        while let Some((number, raw)) = map.roster.give() {
            map.check_given(number, raw);
        }
        if map.roster.book().is_finished() {
            map.ended = true;
            return map.check_ended();
        }
        let room = map.roster.book().room();
        if room > 0 && !map.exhausted {
            let count = match self.rng.percent(70) {
                true => room,
                false => 1 + self.rng.below(room),
            };
            map.taking = true;
            let refused = self.core.refusal().is_some();
            self.hand(Parcel::Prepare(index, count, refused));
        }
    }

    /// Items are going into the books; whether they may was seen before.
    pub(super) fn prepare(&mut self, index: usize, count: usize, refused: bool) {
        let map = &mut self.maps[index];
        let count = match map.source.len() < count {
            true => {
                map.exhausted = true;
                map.source.len()
            }
            false => count,
        };
        let hold = count > 0 && !refused && map.roster.prepare();
        if hold {
            // Whoever comes later is safe if this is.
            map.safe = false;
            self.hand(Parcel::Hold(index, count));
        } else {
            self.hand(Parcel::Take(index, count, refused));
        }
    }

    /// The pool knows that there is work, if there is.
    pub(super) fn take(&mut self, index: usize, count: usize, refused: bool) {
        let map = &mut self.maps[index];
        let numbers = map.items.len()..map.items.len() + count;
        let safe = map.safe && map.roster.is_holding() && !refused;
        for work in map.source.drain(..count) {
            let mut item = Item::new(work);
            item.safe = safe;
            if refused {
                item.fail(error());
            }
            map.items.push(item);
        }
        let items = numbers.map(|number| match refused {
            true => Err(error()),
            false => Ok(Packed::copy_of(&(number as u32).to_le_bytes())),
        });
        map.roster.take(items, map.exhausted);
        map.taking = false;
        self.send_out(index);
        if self.calm {
            self.read_map(index);
        }
    }

    /// Nobody reads a map any more.
    pub(super) fn abandon(&mut self, index: usize) {
        let loss = match self.rng.percent(50) {
            true => Loss::Cancel,
            false => Loss::Abort,
        };
        self.abandon_by(index, loss);
    }

    pub(super) fn abandon_by(&mut self, index: usize, loss: Loss) {
        let map = &mut self.maps[index];
        if map.abandoned || map.ended || map.taking {
            return;
        }
        self.trace
            .note(self.now, || format!("map     {index} is left: {loss:?}"));
        map.abandoned = true;
        for event in map.roster.abandon(loss) {
            self.withdraw(event);
        }
        self.send_out(index);
    }
}

impl Map {
    /// What its items are, taken or not.
    pub(super) fn works(&self) -> impl Iterator<Item = Work> + '_ {
        let taken = self.items.iter().map(Item::work);
        taken.chain(self.source.iter().copied())
    }

    fn check_given(&mut self, number: u64, raw: Raw) {
        let number = number as usize;
        let returned = match &raw {
            Raw::Returned(bytes) => (**bytes).try_into().ok().map(u32::from_le_bytes),
            Raw::Failed(_) => None,
        };
        let own = returned.is_none_or(|returned| returned as usize == number);
        require(own, "a result has the number of its item", || {
            format!("{raw:?} as {number}")
        });
        let in_order = !self.ordered || number == self.given;
        require(in_order, "results come in their order", || {
            format!("{raw:?} in place {}", self.given)
        });
        match self.items.get_mut(number) {
            Some(item) => item.give(raw.error()),
            None => require(false, "only items have results", || format!("{number}")),
        }
        self.given += 1;
        self.errors += usize::from(returned.is_none());
        let failed = self.items.iter().filter(|item| item.has_failed()).count();
        require(
            self.given <= self.items.len() && self.errors <= failed,
            "no more results than items",
            || format!("{} of {}", self.given, self.items.len()),
        );
    }

    fn check_ended(&self) {
        let all = self.source.is_empty() && self.given == self.items.len();
        require(all, "a map ends when all is given", || format!("{self:?}"));
    }
}
