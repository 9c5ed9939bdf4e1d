//! Async calls on a pool's thread: many beside each other, on a runtime of the thread's own, for as
//! long as there are any. The runtime stays, and is driven again with the next ones.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, LocalSet};

use super::driver::{Desk, Driver, tell_end};
use super::job::{AsyncWork, Begun, Done, Job, Labour};
use super::timers::Timer;
use crate::pool::error::{Breakage, Kind, TaskError};
use crate::pool::reply::{Answer, Raw};
use crate::pool::trace::CallTrace;
use crate::pool::updates::Listener;
use crate::process::StartError;
use crate::sys::clock::Moment;
use crate::task::cancel::Asked;
use crate::task::context::{self, OnThread, TaskContext};
use crate::task::panic;

/// Where a thread runs its guests.
pub(super) struct Host {
    /// Before the runtime: what is spawned here is dropped while that is still there.
    local: LocalSet,
    runtime: Option<Runtime>,
}

impl Host {
    fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            local: LocalSet::new(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let local = std::mem::take(&mut self.local);
        panic::contain(|| drop(local));
        // Blocking work that a task has left there is not waited for.
        if let Some(runtime) = self.runtime.take() {
            panic::contain(|| runtime.shutdown_background());
        }
    }
}

/// What others know of a guest: how to ask it, and how to end it. Whoever claims it first says how it
/// ended.
pub(super) struct Stop {
    pub(super) name: Option<Arc<str>>,
    pub(super) asked: Arc<Asked>,
    accepted: Moment,
    begun: Moment,
    claimed: AtomicBool,
    reply: Arc<dyn Answer>,
    /// Has the future dropped.
    task: OnceLock<AbortHandle>,
    /// Given back when the call is over, before its caller knows.
    held: Mutex<Held>,
}

/// What an async call holds while it runs.
#[derive(Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    listener: Option<Listener>,
    timers: Vec<Timer>,
    trace: CallTrace,
}

impl Stop {
    /// Whoever is told `true` has to say how the call ended.
    pub(super) fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }

    /// Ends a call that was claimed for that: its caller is told now, the future is dropped as soon as
    /// its thread comes to that.
    pub(super) fn end(&self, number: u64, error: TaskError) {
        self.asked.over();
        self.task.get().inspect(|task| task.abort());
        self.release(number, Some(&error), self.begun.until(Moment::now()));
        panic::contain(|| self.reply.clone().resolve(Raw::Failed(error)));
    }

    /// Gives back what the call holds, and tells how it has ended after it ran for so long.
    fn release(&self, number: u64, error: Option<&TaskError>, ran: Duration) {
        let trace = self.let_go();
        let waited = self.accepted.until(self.begun);
        tell_end(&trace, number, error, (Some(waited), Some(ran)));
        // The span ends before the caller goes on.
        panic::contain(|| trace.end());
    }

    pub(super) fn trace(&self) -> CallTrace {
        self.held().trace.clone()
    }

    fn let_go(&self) -> CallTrace {
        let Held {
            permit,
            listener,
            timers,
            trace,
        } = std::mem::take(&mut *self.held());
        drop((permit, timers));
        // It may wake a reader, in code of the user's.
        panic::contain(|| drop(listener));
        trace
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    /// What others are to know of a call when it becomes a guest.
    pub(super) fn stop_of(job: &Job, work: &dyn AsyncWork) -> Arc<Stop> {
        Arc::new(Stop {
            name: job.name.clone(),
            asked: Arc::default(),
            accepted: job.since,
            begun: Moment::now(),
            claimed: AtomicBool::new(false),
            reply: work.reply(),
            task: OnceLock::new(),
            held: Mutex::new(Held {
                trace: job.trace.clone(),
                ..Held::default()
            }),
        })
    }

    /// Is host to a call, and to those that come meanwhile, until all have gone.
    pub(super) fn receive(
        self: &Arc<Self>,
        place: usize,
        desk: &Desk,
        host: &mut Option<Host>,
        first: (u64, Job),
    ) {
        let ready = match host.take() {
            Some(ready) => Ok(ready),
            None => Host::new(),
        };
        let ready = match ready {
            Ok(ready) => host.insert(ready),
            Err(error) => {
                let error = StartError::system("make a runtime", &error);
                return self.turn_away(
                    place,
                    first,
                    &Kind::Broken {
                        why: Breakage::Start(error),
                        started: false,
                    },
                );
            }
        };
        let local = &ready.local;
        let guests = async {
            self.let_in(place, local, first);
            loop {
                while let Some(next) = self.next_guest(place) {
                    self.let_in(place, local, next);
                }
                if self.lock().roster.is_idle(place) {
                    return;
                }
                desk.guests.notified().await;
            }
        };
        if let Some(runtime) = &ready.runtime {
            local.block_on(runtime, guests);
        }
    }

    /// There is no way to run a call that was begun.
    fn turn_away(&self, place: usize, (number, job): (u64, Job), reason: &Kind) {
        let mut state = self.lock();
        state.guests.remove(&number);
        state.roster.done(place, number);
        drop(state);
        self.answer_all([(number, job)], reason);
    }

    fn let_in(self: &Arc<Self>, place: usize, local: &LocalSet, (number, job): (u64, Job)) {
        self.tell();
        let Some(stop) = self.lock().guests.get(&number).cloned() else {
            return;
        };
        panic::contain(|| job.trace.runs_on(|| self.thread_name(place)));
        let since = stop.begun;
        let soft = job.soft_timeout.or(self.plan.task_soft_timeout);
        let mut timers = Vec::new();
        timers.extend(soft.map(|limit| self.ask_after(limit, number, stop.asked.clone())));
        timers.extend(job.timeout.map(|limit| self.end_after(limit, number)));
        let slow = self.plan.slow_call;
        timers.extend(slow.map(|bound| self.tell_after(bound, number, since)));
        let until = job.deadline.as_ref().map(|(until, _)| *until);
        timers.extend(job.deadline.map(|(_, timer)| timer));
        let listener = job.listener.as_ref();
        let context = TaskContext::of_thread(OnThread {
            id: number,
            name: job.name,
            asked: stop.asked.clone(),
            soft_deadline: soft.map(|limit| since + limit),
            deadline: job
                .timeout
                .map(|limit| since + limit)
                .into_iter()
                .chain(until)
                .min(),
            hearing: listener.map(|listener| listener.on_thread(&stop.asked)),
        });
        let Labour::Async(work) = job.work else {
            return;
        };
        let mut held = stop.held();
        (held.permit, held.listener, held.timers) = (job.permit, job.listener, timers);
        drop(held);
        if stop.claimed.load(Ordering::SeqCst) {
            // It was ended before it held these.
            stop.let_go();
        }
        let guest = Guest {
            driver: self.clone(),
            place,
            number,
            stop: stop.clone(),
            trace: job.trace,
            context,
            call: Some(work.begin()),
        };
        let task = local.spawn_local(guest);
        let _ = stop.task.set(task.abort_handle());
        if stop.claimed.load(Ordering::SeqCst) {
            task.abort();
        }
    }
}

/// An async call on its thread. Dropped before its end, it was ended by somebody.
struct Guest {
    driver: Arc<Driver>,
    place: usize,
    number: u64,
    stop: Arc<Stop>,
    trace: CallTrace,
    context: TaskContext,
    call: Option<Begun>,
}

impl Future for Guest {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(call) = &mut this.call else {
            return Poll::Ready(());
        };
        let current = context::enter_again(&this.context);
        let polled = this.trace.inside(|| call.as_mut().poll(context));
        drop(current);
        polled.map(|done| this.leave(Some(done)))
    }
}

impl Guest {
    /// It is over, and its thread has room for another one before its caller knows.
    fn leave(&mut self, done: Option<Done>) {
        let Some(call) = self.call.take() else { return };
        // What it has in hand may ask which task it is in.
        let current = context::enter_again(&self.context);
        let trace = std::mem::take(&mut self.trace);
        trace.inside(|| panic::contain(|| drop(call)));
        panic::contain(|| trace.end());
        drop(current);
        self.context.run_is_over();
        let done = done.filter(|_| self.stop.claim());
        let (number, stop) = (self.number, &self.stop);
        let ran = stop.begun.until(Moment::now());
        let mut state = self.driver.lock();
        state.guests.remove(&number);
        state.roster.done(self.place, number);
        if let Some(Done { told, .. }) = &done {
            let error = told.as_ref().err();
            self.driver
                .count(&mut state, number, error, stop.accepted, ran);
        }
        self.driver.unlock(state);
        if let Some(Done { told, answer }) = done {
            stop.release(number, told.as_ref().err(), ran);
            self.driver.tell();
            answer();
        }
        self.driver.look_for_guests(self.place);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave(None);
    }
}
