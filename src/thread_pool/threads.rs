//! The threads: how they are started, what they do with a call, and when they leave.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::driver::{Desk, Driver, Place, State, tell_end};
use super::host::Host;
use super::job::{Job, Labour};
use super::roster::{Step, Summons};
use crate::pool::error::{Breakage, Kind, TaskError};
use crate::pool::events::PoolEvent;
use crate::pool::trace::CallTrace;
use crate::process::StartError;
use crate::sys::clock::Moment;
use crate::task::context::{self, OnThread};
use crate::task::panic;

impl Driver {
    /// Starts all threads that there may be. One that ends at once is not started again.
    pub(super) fn start_all(&self) -> Result<(), StartError> {
        for _ in 0..self.workers() {
            let mut state = self.lock();
            if state.roster.is_closed() {
                return Err(StartError::shutting_down());
            }
            let place = state.roster.sit_down(Moment::now());
            self.unlock(state);
            let Some(place) = place else { break };
            self.start_thread(place)?;
        }
        Ok(())
    }

    /// Starts those that stay. One that cannot be started is told of, and started when it is needed.
    pub(super) fn start_those_that_stay(&self) {
        for _ in 0..self.plan.min_workers {
            let mut state = self.lock();
            let place = state.roster.sit_down_to_stay(Moment::now());
            self.unlock(state);
            let Some(place) = place else { return };
            if self.start_thread(place).is_err() {
                return;
            }
        }
    }

    /// Has somebody see to a call that waits.
    pub(super) fn summon(&self, state: MutexGuard<'_, State>, summons: Summons) {
        match summons {
            Summons::Nobody => {}
            Summons::Host(place) => state.places[place].desk.guests.notify_one(),
            Summons::Wake(place) => state.places[place].desk.woken.notify_one(),
            Summons::Start(place) => {
                self.unlock(state);
                // Without a thread the call waits for another, or fails.
                let _ = self.start_thread(place);
                return;
            }
        }
        self.unlock(state);
    }

    pub(super) fn start_thread(&self, place: usize) -> Result<(), StartError> {
        let Some(driver) = self.this.upgrade() else {
            return Err(StartError::shutting_down());
        };
        let desk = Arc::new(Desk::default());
        let mut state = self.lock();
        state.counts.started += 1;
        if state.places.len() <= place {
            state.places.resize_with(place + 1, Place::default);
        }
        state.places[place].desk = desk.clone();
        drop(state);
        if self.plan.initializer.is_some() {
            self.starts.begin();
        }
        let thread = std::thread::Builder::new().name(self.thread_name(place));
        let spawned = thread.spawn(move || driver.work(place, &desk));
        spawned.map(drop).map_err(|error| {
            let error = StartError::system("start a thread", &error);
            self.not_started(place, &error);
            error
        })
    }

    pub(super) fn thread_name(&self, place: usize) -> String {
        format!("{}-{}", self.plan.name, place + 1)
    }

    /// What waits waits for the other threads; where there are none, it fails.
    fn not_started(&self, place: usize, error: &StartError) {
        tracing::warn!(target: "procpool", %error, "a thread could not be started");
        // Whoever hears of it finds it counted.
        if self.plan.initializer.is_some() {
            self.starts.end(Some(error.clone()));
        }
        let mut state = self.lock();
        let unrun = state.roster.unstarted(place);
        state.counts.ended += 1;
        self.unlock(state);
        self.hub.note(|| PoolEvent::StartFailed(error.clone()));
        self.answer_all(
            unrun,
            &Kind::Broken {
                why: Breakage::Start(error.clone()),
                started: false,
            },
        );
        self.tell();
        self.finish_if_over();
    }

    /// A thread's life.
    fn work(self: &Arc<Self>, place: usize, desk: &Arc<Desk>) {
        if let Some(initializer) = &self.plan.initializer {
            if let Err(error) = initializer.run() {
                return self.not_started(place, &error);
            }
            self.starts.end(None);
        }
        let mut host = None;
        while let Some((number, job)) = self.next(place, desk) {
            if job.is_async() {
                self.receive(place, desk, &mut host, (number, job));
            } else {
                self.serve(place, desk, number, job);
            }
        }
        drop::<Option<Host>>(host);
        self.finish_if_over();
    }

    /// Runs a blocking call and answers it.
    fn serve(&self, place: usize, desk: &Arc<Desk>, number: u64, mut job: Job) {
        self.tell();
        panic::contain(|| job.trace.runs_on(|| self.thread_name(place)));
        let started = Moment::now();
        let told = self.run(number, &mut job, desk, started);
        let error = told.as_ref().err();
        let ran = started.until(Moment::now());
        self.done(place, number, error, job.since, ran);
        let waited = job.since.until(started);
        tell_end(&job.trace, number, error, (Some(waited), Some(ran)));
        self.tell();
        // Room is given back before the answer is, so that who has the answer finds the room.
        job.permit = None;
        // And so that the stream of updates has ended.
        panic::contain(|| job.listener = None);
        // The span ends before the caller goes on.
        panic::contain(|| job.trace.end());
        if let Labour::Blocking(work) = job.work {
            work.answer(None);
        }
    }

    /// Runs a job. What is to happen meanwhile is over with it.
    fn run(
        &self,
        number: u64,
        job: &mut Job,
        desk: &Arc<Desk>,
        started: Moment,
    ) -> Result<(), TaskError> {
        let soft = job.soft_timeout.or(self.plan.task_soft_timeout);
        let _asks = soft.map(|limit| self.ask_after(limit, number, desk.asked.clone()));
        let slow = self.plan.slow_call;
        let _tells = slow.map(|bound| self.tell_after(bound, number, started));
        let name = job.name.take();
        let asked = desk.asked.clone();
        let soft_deadline = soft.map(|limit| started + limit);
        let listener = job.listener.as_ref();
        let hearing = listener.map(|listener| listener.on_thread(&asked));
        let Labour::Blocking(work) = &mut job.work else {
            return Ok(());
        };
        let _current = context::enter_on_thread(OnThread {
            id: number,
            name,
            asked,
            soft_deadline,
            deadline: None,
            hearing,
        });
        job.trace.inside(|| work.run())
    }

    /// Waits for the next job of a thread; `None` when it is to end.
    fn next(&self, place: usize, desk: &Desk) -> Option<(u64, Job)> {
        let mut state = self.lock();
        let mut idle_for = self.plan.idle_timeout;
        let idle_since = Moment::now();
        loop {
            match state.roster.take(place, Moment::now()) {
                Step::Run(number, job) => {
                    let job = self.begun(&mut state, place, number, job);
                    // A guest may have waited behind it.
                    if let Some(host) = state.roster.host() {
                        state.places[host].desk.guests.notify_one();
                    }
                    self.unlock(state);
                    return Some((number, job));
                }
                Step::Wait => {}
                Step::Leave => {
                    state.counts.ended += 1;
                    // It may have been woken for a call, which others have to see to now.
                    let summons = state.roster.summon(Moment::now());
                    self.summon(state, summons);
                    return None;
                }
            }
            let Some(limit) = idle_for else {
                let woken = desk.woken.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = limit.saturating_sub(idle_since.until(Moment::now()));
            if !left.is_zero() {
                let woken = desk.woken.wait_timeout(state, left);
                (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
            } else if state.roster.leave(place) {
                state.counts.ended += 1;
                self.unlock(state);
                return None;
            } else {
                // It is one of those that stay, until it has run something again.
                idle_for = None;
            }
        }
    }

    /// The next guest of a host, if there is one for it now.
    pub(super) fn next_guest(&self, place: usize) -> Option<(u64, Job)> {
        let mut state = self.lock();
        let now = Moment::now();
        if let Some((number, job)) = state.roster.take_guest(place, now) {
            let job = self.begun(&mut state, place, number, job);
            self.unlock(state);
            return Some((number, job));
        }
        // Woken for a call that it has no berth for, it leaves it to others.
        let summons = match state.roster.host() {
            Some(host) => Summons::Host(host),
            None => state.roster.summon(now),
        };
        self.summon(state, summons);
        None
    }

    /// A thread has taken a call.
    fn begun(&self, state: &mut State, place: usize, number: u64, mut job: Job) -> Job {
        job.timer = None;
        if let Labour::Async(work) = &job.work {
            let stop = Self::stop_of(&job, &**work);
            stop.asked.begin(number);
            state.guests.insert(number, stop);
        } else {
            state.places[place].desk.asked.begin(number);
            state.places[place].call.clone_from(&job.name);
            state.places[place].trace = job.trace.clone();
        }
        self.hub.note(|| PoolEvent::TaskStarted {
            task: number,
            items: 1,
            pid: std::process::id(),
        });
        job
    }

    /// Has a host look for guests, or find that there are none.
    pub(super) fn look_for_guests(&self, place: usize) {
        self.lock().places[place].desk.guests.notify_one();
    }

    /// A thread has run a call that was accepted at `since`, for so long.
    fn done(
        &self,
        place: usize,
        number: u64,
        error: Option<&TaskError>,
        since: Moment,
        ran: Duration,
    ) {
        let mut state = self.lock();
        state.roster.done(place, number);
        state.places[place].call = None;
        // The job has it still: no span ends under the lock.
        state.places[place].trace = CallTrace::default();
        self.count(&mut state, number, error, since, ran);
        self.unlock(state);
    }

    /// Counts a call that was run, and notes what there is to tell of it.
    pub(super) fn count(
        &self,
        state: &mut State,
        number: u64,
        error: Option<&TaskError>,
        since: Moment,
        ran: Duration,
    ) {
        state.counts.answered(error, Moment::now(), since, ran);
        match error {
            None => self.hub.note_return(number, ran),
            Some(error) => self.hub.note_failure(number, error),
        }
    }
}
