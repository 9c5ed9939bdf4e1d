//! The parent reads what its workers have said.

use std::time::Duration;

use super::process::Message;
use super::rules::require;
use super::world::{Office, World};
use crate::pool::scheduler::Event;

impl World<'_> {
    /// Whether it is said next that the worker has resigned: in the same breath as what came before.
    fn resigns(&self, index: usize) -> bool {
        let next = self.processes[index].pipe.front();
        matches!(next, Some(Message::Resigned))
    }

    /// The parent reads what has arrived. Many responses may be handed in before what follows from
    /// them is done.
    pub(super) fn read(&mut self, index: usize) {
        if self.processes[index].reaped || self.processes[index].condemned {
            return;
        }
        let id = self.processes[index].id;
        while let Some(message) = self.processes[index].pipe.pop_front() {
            self.processes[index].touched_at = self.now;
            self.unsettled = true;
            match message {
                Message::Part(frame) => {
                    self.trace
                        .note(self.now, || format!("event   {id:?} answer to {frame:?}"));
                    self.take_in_part(id, frame);
                }
                Message::Response(frame) => {
                    let job = frame.job;
                    self.trace
                        .note(self.now, || format!("event   {id:?} response of job {job}"));
                    self.processes[index].free_lane(frame.ticket);
                    self.starts.served();
                    // A worker may say what it likes about how long it took.
                    let took = if self.rng.percent(1) {
                        Duration::MAX
                    } else {
                        frame.work.length
                    };
                    if frame.items == 0
                        && !frame.room
                        && self.rng.percent(self.plan.terms.panics)
                        && self.core.panicked(self.now, id, frame.ticket).is_some()
                    {
                        let now = (self.now, self.now);
                        self.ledger.repeated(job, None, &self.processes, now);
                        continue;
                    }
                    match self.core.complete(self.now, id, frame.ticket, took) {
                        Ok(Some(answered)) => {
                            self.ledger.responded(answered, job, id);
                            if frame.items > 0 {
                                self.chunk_over(frame);
                            }
                            if frame.room {
                                self.room_is_left(id);
                            }
                        }
                        Ok(None) => self.ledger.check_response_was_late(job),
                        Err(_) => {
                            require(false, "a true response is known", || format!("{frame:?}"))
                        }
                    }
                }
                Message::Guest(guest, spoken) => {
                    self.processes[index].guest_heard_at = self.now;
                    self.trace.note(self.now, || {
                        format!("event   {id:?} {spoken:?} guest {guest:?}")
                    });
                    self.take_in_guest(index, guest, spoken);
                }
                Message::Resigned => {
                    // It is in the frame before, so nothing can have been decided between the two.
                    self.processes[index].resignation = true;
                    let event = Event::Resigned(id);
                    self.trace.note(self.now, || format!("event   {event:?}"));
                    self.core.handle(self.now, event);
                    self.drain();
                }
                Message::Passed(ticket) => {
                    self.drain();
                    self.processes[index].free_lane(ticket);
                    self.seal(id, Some(ticket));
                    let event = Event::Acknowledged(id, ticket);
                    match self.resigns(index) {
                        true => self.core.handle(self.now, event),
                        false => self.tell(event),
                    }
                }
            }
            if !self.resigns(index) && self.rng.percent(20) {
                self.drain();
            }
        }
        match self.rng.percent(80) {
            true => self.drain(),
            false => self
                .office
                .enter(self.now + self.rng.up_to(50_000), Office::Drain),
        }
    }
}
