//! Who has how many items in hand, of a queue that is joined: a table of processes, for one who has the
//! lock. Each change of it is in the books as well, so that it counts with them.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::books::Hand;
use super::core::{Core, HANDS, PLACES};
use crate::sys::incarnation::Incarnation;

impl Core {
    /// What is in a place.
    fn hand(&self, place: usize) -> Hand {
        let word = |number| self.cell.word(HANDS + 2 * place + number).load(Relaxed);
        Hand {
            place: place as u64 + 1,
            owner: word(0),
            count: word(1),
        }
    }

    /// Notes a change that the books have, once more or for the first time.
    pub(super) fn note(&self, hand: Hand) {
        let place = hand.place.checked_sub(1).map(|place| place as usize);
        if let Some(place) = place.filter(|place| *place < PLACES) {
            self.cell.word(HANDS + 2 * place).store(hand.owner, Relaxed);
            self.cell
                .word(HANDS + 2 * place + 1)
                .store(hand.count, Relaxed);
        }
    }

    /// The place of a process, if it has one.
    pub(super) fn hand_of(&self, process: Incarnation) -> Option<Hand> {
        let mut hands = (0..PLACES).map(|place| self.hand(place));
        hands.find(|hand| hand.owner == process.to_word())
    }

    /// A place that nobody has, or else nobody has any need of.
    pub(super) fn free_hand(&self) -> Option<Hand> {
        let mut hands = (0..PLACES).map(|place| self.hand(place));
        let free = hands.clone().find(|hand| hand.owner == 0);
        free.or_else(|| hands.find(|hand| hand.count == 0))
    }

    /// One that has died with items in hand, if there is any.
    pub(super) fn dead_hand(&self) -> io::Result<Option<Incarnation>> {
        for holder in self.holders() {
            if holder.open()?.is_none() {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// All who have items in hand, or have had some and may have again.
    pub(super) fn holders(&self) -> Vec<Incarnation> {
        let owners = (0..PLACES).map(|place| self.hand(place).owner);
        owners.filter_map(Incarnation::of_word).collect()
    }
}
