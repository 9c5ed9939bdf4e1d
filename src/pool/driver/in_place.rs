//! Jobs of a pool without workers, which are run by who submits them. Everything else about such a
//! pool is as it is elsewhere: how jobs are made, counted, told of and answered, and how it ends.

use std::time::Duration;

use super::{Answered, Done, Driver};
use crate::pool::error::{Breakage, Kind, RESULT, TaskError};
use crate::pool::events::PoolEvent;
use crate::pool::in_place::{self, InPlace};
use crate::pool::job::{Job, again};
use crate::pool::reply::Raw;
use crate::pool::scheduler::{Event, JobKey};
use crate::pool::trace::End;
use crate::process::StartError;
use crate::supervisor::Owner;
use crate::sys::clock::Moment;
use crate::task::context;
use crate::task::entry::Argument;
use crate::task::head::CallHead;
use crate::task::place::Place;

/// How one run of a job has ended.
struct Run {
    raw: Raw,
    /// How long it took; `None` if what it gave does not count, or it was not begun.
    took: Option<Duration>,
}

impl Driver {
    /// Runs a job on this thread, to its end, and answers it; or says why not.
    pub(super) fn run_in_place(&self, place: &InPlace, mut job: Job) -> Result<JobKey, TaskError> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        let unfit = |error| {
            TaskError::new(Kind::Broken {
                why: Breakage::Start(error),
                started: false,
            })
        };
        self.prepare_in_place(place).map_err(unfit)?;
        job.since = Moment::now();
        let number = self.admit_in_place()?;
        job.trace.numbered(number);
        let run = loop {
            let run = self.run_once(place, number, &job);
            let Raw::Failed(error) = run.raw else {
                break run;
            };
            let Some(pause) = again(job.terms().retry, &error, &job.terms().failures)
                .filter(|_| !place.is_ended())
            else {
                let raw = Raw::Failed(error);
                break Run { raw, ..run };
            };
            self.lock().counts.repeated(number, &error, &job.trace);
            job.try_again(error);
            sleep(pause, &job);
        };
        self.answer_in_place(number, job, run);
        Ok(JobKey::of_number(number))
    }

    /// Makes ready for calls, once.
    pub(crate) fn prepare_in_place(&self, place: &InPlace) -> Result<(), StartError> {
        place.prepare(|error| {
            tracing::warn!(target: "procpool", %error, "a pool without workers is unfit");
            self.hub.note(|| PoolEvent::StartFailed(error.clone()));
            self.lock().start_error = Some(error.clone());
            self.tell(Event::Unfit);
        })
    }

    fn admit_in_place(&self) -> Result<u64, TaskError> {
        let mut state = self.lock();
        let admitted = state.scheduler.admit_in_place();
        let number = admitted.map_err(|refusal| state.refused(refusal))?;
        state.counts.submitted(1);
        self.hub.note(|| PoolEvent::TaskStarted {
            task: number,
            items: 1,
            pid: std::process::id(),
        });
        drop(state);
        if self.hub.is_heard() {
            self.hub.tell();
        }
        Ok(number)
    }

    fn run_once(&self, place: &InPlace, number: u64, job: &Job) -> Run {
        let (head, _) = CallHead::read(&job.head).expect("a head is read as it was packed");
        let started = Moment::now();
        if let Some(deadline) = job
            .terms()
            .deadline
            .filter(|deadline| deadline.at <= started)
        {
            return Run::late(deadline.missed());
        }
        let limit = job.terms().timeout.map(|limit| started + limit);
        let until = limit.into_iter().chain(head.deadline).min();
        place.begin(number, started);
        let raw = {
            let soft_deadline = job.terms().soft_timeout.map(|limit| started + limit);
            let here = Place::new(place.ending(), soft_deadline, until);
            let max_frame = self.plan.recipe.max_frame;
            let hearing = job.terms().listener.as_ref().map(|one| one.here(max_frame));
            let its = here.clone();
            let name = head.labels.name();
            let argument = if job.terms().retry.is_any() {
                Argument::copied_from(&job.argument)
            } else {
                Argument::taken_from(&job.argument)
            };
            let enter = || context::enter_in_place(number, name, head.attempt, its, hearing);
            let raw = if job.is_async {
                // The thread ends with the call, and with it what it knows of it.
                let enter = || std::mem::forget(enter());
                in_place::run_async(head.target, argument, until, &job.trace, enter)
            } else {
                job.trace.inside(|| {
                    let _current = enter();
                    in_place::run(head.target, argument)
                })
            };
            here.run_is_over();
            raw
        };
        place.over(number);
        let now = Moment::now();
        if place.is_ended() {
            return Run::late(TaskError::new(Kind::ShutDown { started: true }));
        }
        if let Some(late) = late(job, started, now) {
            return late;
        }
        Run {
            raw: self.fitting(raw),
            took: Some(started.until(now)),
        }
    }

    /// A result is no longer than one that travels.
    fn fitting(&self, raw: Raw) -> Raw {
        let limit = self.plan.recipe.max_frame;
        match raw {
            Raw::Returned(result) if result.len() > limit => {
                let size = result.len();
                let what = RESULT;
                Raw::Failed(TaskError::new(Kind::TooLarge { what, size, limit }))
            }
            raw => raw,
        }
    }

    fn answer_in_place(&self, number: u64, mut job: Job, run: Run) {
        let now = Moment::now();
        let attempt = job.attempt();
        let raw = job.conclude(run.raw);
        let mut done = Done::default();
        let end = End {
            slot: None,
            outcome: raw.error().map_or("returned", TaskError::reason),
            attempt,
            waited: None,
            ran: run.took,
        };
        done.tales.ended(&job.trace, end);
        let mut state = self.lock();
        match (&raw, run.took) {
            (raw, Some(took)) => {
                state.counts.answered(raw.error(), now, job.since, took);
                self.hub.note_answer(number, raw, took);
            }
            (Raw::Failed(error), None) => {
                state.counts.failed(error, 1);
                self.hub.note_failure(number, error);
            }
            (Raw::Returned(_), None) => {}
        }
        state.scheduler.handle(now, Event::RanInPlace);
        done.replies.push(Answered::new(number, job, raw));
        self.perform_all(&mut state, now, &mut done);
        drop(state);
        self.deliver(done);
    }
}

impl Run {
    /// What the run gave, if it was one, does not count.
    fn late(error: TaskError) -> Self {
        Self {
            raw: Raw::Failed(error),
            took: None,
        }
    }
}

/// A run that took longer than it might: whichever limit was the first to pass.
fn late(job: &Job, started: Moment, now: Moment) -> Option<Run> {
    let ran_out = job
        .terms()
        .timeout
        .map(|limit| (started + limit, Kind::RanTooLong(limit)));
    let missed = job.terms().deadline.map(|deadline| {
        let (limit, started) = (deadline.limit, true);
        (deadline.at, Kind::Expired { limit, started })
    });
    let passed = ran_out
        .into_iter()
        .chain(missed)
        .filter(|(at, _)| *at <= now);
    let (_, kind) = passed.min_by_key(|(at, _)| *at)?;
    Some(Run::late(TaskError::new(kind)))
}

/// Waits before the next run, but not beyond the deadline, which that run then notices.
fn sleep(pause: Duration, job: &Job) {
    let now = Moment::now();
    let left = job.terms().deadline.map(|deadline| now.until(deadline.at));
    let pause = left.map_or(pause, |left| pause.min(left));
    if !pause.is_zero() {
        std::thread::sleep(pause);
    }
}
