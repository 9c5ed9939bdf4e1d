//! What can be asked of the scheduler. Nothing changes by it.

use std::time::Duration;

use super::event::{JobKey, Refusal, Ticket, WorkerId};
use super::place::Phase;
use super::{Mode, Scheduler, UnknownCall};
use crate::pool::meter::Levels;
use crate::sys::clock::Moment;

/// A call that is expected to take less than this does not make finished responses wait long.
const SHORT: Duration = Duration::from_micros(50);

/// What a worker holds and has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// The call it is running, or about to run.
    pub(crate) first: Option<(JobKey, Ticket)>,
    /// How many calls it holds.
    pub(crate) held: usize,
    /// How many it has answered.
    pub(crate) done: u64,
    /// It is given nothing more.
    pub(crate) leaving: bool,
    /// Since when it has been ready.
    pub(crate) ready: Option<Moment>,
    /// How many workers its place had before it.
    pub(crate) restarts: u64,
}

impl<T> Scheduler<T> {
    /// What is attached to a job.
    pub(crate) fn attachment(&self, job: JobKey) -> Option<&T> {
        self.job(job).map(|job| &job.attachment)
    }

    /// What is attached to a job, to be changed.
    pub(crate) fn attachment_mut(&mut self, job: JobKey) -> Option<&mut T> {
        let known = self.jobs.get_mut(job.index)?;
        known.is(job).then_some(&mut known.attachment)
    }

    /// The worker that holds the job, and the name of that sending.
    pub(crate) fn holder(&self, job: JobKey) -> Option<(WorkerId, Ticket)> {
        self.job(job)?.sent
    }

    /// Whether the job is unfinished.
    pub(crate) fn is_open(&self, job: JobKey) -> bool {
        self.job(job).is_some()
    }

    /// Why jobs are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// How many jobs wait in the line.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// How many jobs wait in the line that are no rooms.
    pub(crate) fn calls_waiting(&self) -> usize {
        self.line.len() - self.line.rooms()
    }

    /// How many jobs are unfinished.
    pub(crate) fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// How many workers have nothing to do, and how many more could be started.
    pub(crate) fn spare(&self) -> (usize, usize) {
        let places = self.places.iter().take(self.rules.workers);
        let idle = places.clone().filter(|place| place.is_idle()).count();
        let vacant = places.filter(|place| place.worker.is_none()).count();
        match self.mode {
            Mode::Open | Mode::Closing => (idle, vacant),
            Mode::Stranded | Mode::Ending(_) => (idle, 0),
        }
    }

    /// Whether a worker has that room, with so many async calls in it, and may be given one more.
    pub(crate) fn admits(&self, worker: WorkerId, room: JobKey, calls: usize) -> bool {
        let place = self.places.get(worker.place);
        let state = place.and_then(|place| place.worker.as_ref());
        state.is_some_and(|state| {
            let serves = state.phase == Phase::Ready && !state.stopping;
            let has_it = state.ahead.front().is_some_and(|sent| sent.job == room);
            state.id == worker && has_it && serves && state.stay.allows_more(|| calls as u64)
        })
    }

    /// How many jobs wait that are no rooms, how many workers are ready, and how many of those have something to do.
    pub(crate) fn levels(&self) -> Levels {
        let workers = self.places.iter().filter_map(|place| place.worker.as_ref());
        let ready = workers.filter(|worker| worker.ready.is_some() && !worker.is_dying());
        let mut levels = Levels {
            queued: self.calls_waiting(),
            ..Levels::default()
        };
        for worker in ready {
            levels.workers += 1;
            levels.busy += usize::from(!worker.ahead.is_empty());
        }
        levels
    }

    /// The job that a worker is running, or about to run.
    pub(crate) fn running(&self, worker: WorkerId) -> Option<(JobKey, Ticket)> {
        let state = self.places.get(worker.place)?.worker.as_ref();
        let state = state.filter(|state| state.id == worker)?;
        state.ahead.front().map(|sent| (sent.job, sent.ticket))
    }

    /// What is attached to the job that a worker holds by that name.
    pub(crate) fn job_of(&self, worker: WorkerId, ticket: Ticket) -> Option<&T> {
        let state = self.places.get(worker.place)?.worker.as_ref()?;
        let held = state.ahead.iter().filter(|_| state.id == worker);
        let sent = held.into_iter().find(|sent| sent.ticket == ticket)?;
        self.attachment(sent.job)
    }

    /// The job of which a worker speaks that names a sending; `None` if that was taken back or
    /// ended, and the worker has not said that it knows; an error if the worker has no such call.
    pub(crate) fn sending(
        &self,
        worker: WorkerId,
        ticket: Ticket,
    ) -> Result<Option<JobKey>, UnknownCall> {
        let place = self.places.get(worker.place).ok_or(UnknownCall)?;
        let state = place.worker.as_ref().filter(|state| state.id == worker);
        let state = state.ok_or(UnknownCall)?;
        match state.ahead.iter().find(|sent| sent.ticket == ticket) {
            Some(sent) => Ok(Some(sent.job)),
            None if state.recalled.contains(&ticket) => Ok(None),
            None => Err(UnknownCall),
        }
    }

    /// For what it did itself a worker is being killed, if for that.
    pub(crate) fn reproach(&self, worker: WorkerId) -> Option<&'static str> {
        let state = self.places.get(worker.place)?.worker.as_ref();
        state.filter(|state| state.id == worker)?.condemned
    }

    /// How long the job is expected to run, if any of its kind has been.
    pub(crate) fn expected_run(&self, job: JobKey) -> Option<Duration> {
        self.expected_nanos(job).map(Duration::from_nanos)
    }

    fn expected_nanos(&self, job: JobKey) -> Option<u64> {
        self.costs.expected(self.job(job)?.load.kind)
    }

    /// Whether the job is of a kind that takes so little time that a response may wait for it.
    pub(crate) fn is_short(&self, job: JobKey) -> bool {
        // Asked for every call: in numbers.
        let short = SHORT.as_nanos() as u64;
        self.expected_nanos(job).is_some_and(|nanos| nanos < short)
    }

    /// What a worker holds and has done.
    pub(crate) fn load(&self, worker: WorkerId) -> Load {
        let place = self.places.get(worker.place);
        let state = place.and_then(|place| Some((place, place.worker.as_ref()?)));
        let state = state.filter(|(_, state)| state.id == worker);
        state.map_or_else(Load::default, |(place, state)| Load {
            first: state.ahead.front().map(|sent| (sent.job, sent.ticket)),
            held: state.ahead.len(),
            done: state.done,
            leaving: state.phase != Phase::Ready,
            ready: state.ready,
            restarts: place.served,
        })
    }
}
