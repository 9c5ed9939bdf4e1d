//! One worker's room: who is in it, and which of its lanes are taken. It outlives the call that
//! opened it, because a guest that was taken back or ended has its lane until the worker has passed
//! by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pool::scheduler::{JobKey, Outcome, Ticket};
use crate::sys::clock::Moment;
use crate::wire::page::{BERTHS, LANES};

/// A room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The call by which it is open, for the scheduler.
    pub(super) job: Option<JobKey>,
    /// By their lanes.
    pub(super) guests: BTreeMap<u16, Guest>,
    sequence: u64,
    /// How many of them were taken back, and only have to be passed by.
    passing: usize,
    /// It has been opened just now.
    pub(super) fresh: bool,
    /// Somebody in it did not yield when that was last looked at.
    pub(super) stuck: bool,
    /// Since when it is known that nobody is in it, though it was not left.
    pub(super) silent: Option<Moment>,
    /// When to look whether everybody in it has been begun, or whether it ends if nobody is.
    pub(super) look_at: Option<Moment>,
    /// It was closed like this, with guests in it whose answers may be on the way.
    pub(super) ending: Option<Outcome>,
}

/// Who is in a room.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) ticket: Ticket,
    /// What the call is called.
    pub(super) name: Option<Arc<str>>,
    pub(super) entered: Moment,
    pub(super) stay: Stay,
}

/// What is known of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is to be answered: the number of the call.
    Here(u64),
    /// It was taken back before it was begun, and the worker has not passed by it.
    TakenBack,
    /// It was ended while it ran.
    Ended {
        /// The call that it was.
        number: u64,
        /// Whether that is run again when this run is over.
        again: bool,
        /// The worker was told to drop it.
        dropped: bool,
        /// When it is looked at next.
        until: Moment,
    },
}

impl Room {
    /// Whether it may be entered.
    pub(super) fn is_open(&self) -> bool {
        self.job.is_some() && self.ending.is_none()
    }

    /// How many there are that run or will. Those that were taken back are none of them: a room that
    /// is opened while they are passed by must not be empty for that, or it would end, and the next
    /// would find those that came too late for this one.
    pub(super) fn guests(&self) -> usize {
        self.guests.len() - self.passing
    }

    /// Has it looked at then, or before.
    pub(super) fn look_by(&mut self, at: Moment) {
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    /// Whether there is a lane for one more.
    pub(super) fn has_lane(&self) -> bool {
        self.guests.len() < BERTHS
    }

    /// A guest has been taken back.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        if let Some(guest) = self.guest(ticket) {
            if guest.stay != Stay::TakenBack {
                guest.stay = Stay::TakenBack;
                self.passing += 1;
            }
        }
    }

    /// A guest's lane is free again.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Guest> {
        self.guest(ticket)?;
        let guest = self.guests.remove(&ticket.lane)?;
        self.passing -= usize::from(guest.stay == Stay::TakenBack);
        Some(guest)
    }

    /// Lets a call in; there must be a lane.
    pub(super) fn enter(&mut self, now: Moment, number: u64, name: Option<Arc<str>>) -> Ticket {
        self.sequence += 1;
        // The lanes cut in turn: one that has just been left is the last to be taken again.
        let first = LANES as u64 + self.sequence % BERTHS as u64;
        let lane = (first..(LANES + BERTHS) as u64)
            .chain(LANES as u64..first)
            .map(|lane| lane as u16)
            .find(|lane| !self.guests.contains_key(lane))
            .expect("there are more lanes than guests");
        let ticket = Ticket {
            lane,
            sequence: self.sequence,
        };
        let guest = Guest {
            ticket,
            name,
            entered: now,
            stay: Stay::Here(number),
        };
        self.guests.insert(lane, guest);
        ticket
    }

    /// The guest of that name.
    pub(super) fn guest(&mut self, ticket: Ticket) -> Option<&mut Guest> {
        self.guests
            .get_mut(&ticket.lane)
            .filter(|guest| guest.ticket == ticket)
    }

    /// Who is to be answered, with the number of the call.
    pub(super) fn here(&self) -> impl Iterator<Item = (Ticket, u64, Moment)> {
        self.guests.values().filter_map(|guest| match guest.stay {
            Stay::Here(number) => Some((guest.ticket, number, guest.entered)),
            Stay::TakenBack | Stay::Ended { .. } => None,
        })
    }
}
