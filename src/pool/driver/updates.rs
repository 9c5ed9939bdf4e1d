//! What tasks say while they run, on its way from a worker to a mailbox.

use super::Done;
use super::state::State;
use crate::pool::scheduler::{JobKey, WorkerId};
use crate::wire::frame::Header;
use crate::wire::packed::Packed;
use crate::wire::page::LANES;

impl State {
    /// Takes in an update. Under the lock, because what a worker may not send has to show in its
    /// order among the frames; and it is but a few bytes that change hands.
    pub(super) fn take_in_update(
        &mut self,
        worker: WorkerId,
        header: Header,
        update: Packed,
        done: &mut Done,
    ) -> Result<(), String> {
        let ticket = header.ticket;
        let unknown = || format!("an update of a call that it does not have: {ticket:?}");
        let (number, job) = if usize::from(ticket.lane) < LANES {
            let sending = self.scheduler.sending(worker, ticket);
            let key = sending.map_err(|_| unknown())?;
            let job = key.and_then(|key| self.scheduler.attachment(key));
            (key.map(JobKey::number), job)
        } else {
            let number = self.rooms.sending(worker, ticket).map_err(|_| unknown())?;
            (
                number,
                number.and_then(|number| self.rooms.attachment(number)),
            )
        };
        let Some(number) = number else {
            // Its caller has an answer already.
            return Ok(());
        };
        let call = header.call;
        if number != call {
            return Err(format!("an update of call {call} under another's ticket"));
        }
        let Some(listener) = job.and_then(|job| job.listener.as_ref()) else {
            return Err(format!("an update of a call that has none: {call}"));
        };
        done.readers.extend(listener.put(ticket, update)?);
        Ok(())
    }
}
