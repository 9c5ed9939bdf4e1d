//! What a worker says of a call while it runs: that it has begun with the descriptors of its
//! argument, and what the task itself says, on its way to a mailbox.

use super::Done;
use super::state::State;
use crate::pool::job::Job;
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
        let Some(job) = self.job_in_hand(worker, &header)? else {
            // Its caller has an answer already.
            return Ok(());
        };
        let call = header.call;
        let Some(listener) = &job.terms().listener else {
            return Err(format!("an update of a call that has none: {call}"));
        };
        done.readers.extend(listener.put(ticket, update)?);
        Ok(())
    }

    /// A call was begun with its descriptors: what is kept of them here would keep them open.
    pub(super) fn take_in_receipt(
        &mut self,
        worker: WorkerId,
        header: Header,
    ) -> Result<(), String> {
        let job = self.job_in_hand(worker, &header)?;
        if let Some(job) = job.filter(|job| !job.terms().retry.is_any()) {
            job.argument.take_descriptors();
        }
        Ok(())
    }

    /// The job of which a worker speaks before it is answered; `None` if somebody else has answered
    /// it meanwhile.
    fn job_in_hand(&self, worker: WorkerId, header: &Header) -> Result<Option<&Job>, String> {
        let (kind, call, ticket) = (header.kind, header.call, header.ticket);
        let unknown = || format!("{kind:?} of a call that it does not have: {ticket:?}");
        let (number, job) = if usize::from(ticket.lane) < LANES {
            let sending = self.scheduler.sending(worker, ticket);
            let key = sending.map_err(|_| unknown())?;
            let job = key.and_then(|key| self.scheduler.attachment(key));
            (key.map(JobKey::number), job)
        } else {
            let number = self.rooms.sending(worker, ticket).map_err(|_| unknown())?;
            let job = number.and_then(|number| self.rooms.attachment(number));
            (number, job)
        };
        if number.is_some_and(|number| number != call) {
            return Err(format!("{kind:?} of call {call} under another's ticket"));
        }
        Ok(job)
    }
}
