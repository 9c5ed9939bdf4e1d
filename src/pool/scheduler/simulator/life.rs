//! The lives of workers: how they start, go on, speak, and die; and how the parent hears of it.

use std::num::NonZeroU64;
use std::time::Duration;

use super::process::{Hands, Message, Process};
use super::rules::require;
use super::world::{Birth, DYING, Machine, Office, World};
use crate::pool::scheduler::{Event, StartFailure, WorkerId};

/// How long the driver lets a start take.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A started job with a limit must have been stopped this long after it …
pub(super) const STOPPING: Duration = Duration::from_millis(50);
/// … and be answered this long after it, whatever its worker does.
pub(super) const ANSWERING: Duration = Duration::from_secs(3);

/// How often the parent looks at the memory of its workers.
const MEASURE: Duration = Duration::from_millis(250);

impl World<'_> {
    /// The parent looks at the memory of its workers.
    pub(super) fn measure(&mut self) {
        let Some(max) = self
            .plan
            .rules
            .renewal
            .max_memory
            .filter(|_| !self.finished)
        else {
            return;
        };
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.ready && !process.reaped {
                let used = if process.grown { max + 1 } else { max };
                let id = process.id;
                self.tell(Event::Measured(id, used));
            }
        }
        self.office.enter(self.now + MEASURE, Office::Measure);
    }

    pub(super) fn start(&mut self, worker: WorkerId) {
        self.starts.check(worker, &self.processes, self.now);
        let index = self.processes.len();
        require(
            worker.number == index as u64 + 1,
            "workers are numbered",
            || format!("{worker:?}"),
        );
        let most = self.plan.rules.renewal.max_tasks;
        let most = most.map_or(u64::MAX, NonZeroU64::get);
        self.processes.push(Process::new(worker, most));
        let plan = &self.plan;
        let (birth, takes) = if self.calm || index < plan.sound_starts {
            (Birth::Ready, self.rng.spread(50_000, 5_000_000))
        } else if self.rng.percent(plan.hanging_starts) {
            (Birth::Fails, START_LIMIT)
        } else if self.rng.percent(plan.refused_starts) {
            (Birth::Refused, self.rng.up_to(200_000))
        } else if self.rng.percent(plan.failing_starts) {
            (Birth::Fails, self.rng.spread(100_000, 1_000_000_000))
        } else if self.rng.percent(plan.hopeless_starts) {
            (Birth::Hopeless, self.rng.spread(100_000, 5_000_000))
        } else {
            (Birth::Ready, self.rng.spread(50_000, 20_000_000))
        };
        self.office
            .enter(self.now + takes, Office::Born(index, birth));
    }

    /// A start has come to its end.
    pub(super) fn born(&mut self, index: usize, birth: Birth) {
        if self.processes[index].dead {
            return;
        }
        let failure = match birth {
            Birth::Ready => return self.ready(index),
            Birth::Fails => StartFailure::Worker,
            Birth::Refused => StartFailure::System,
            Birth::Hopeless => StartFailure::Permanent,
        };
        self.processes[index].die(false);
        self.start_failed(index, failure);
    }

    fn ready(&mut self, index: usize) {
        self.drain();
        let process = &mut self.processes[index];
        process.ready = true;
        process.ready_at = self.now;
        process.touched_at = self.now;
        self.last_ready = self.now;
        if !process.killed {
            self.starts.succeeded();
        }
        let id = process.id;
        self.tell(Event::Ready(id));
    }

    fn start_failed(&mut self, index: usize, failure: StartFailure) {
        self.drain();
        let process = &mut self.processes[index];
        process.reaped = true;
        let id = process.id;
        if !process.killed || process.condemned {
            self.starts.failed(failure, self.now);
        }
        self.tell(Event::StartFailed(id, failure));
    }

    pub(super) fn machine_goes_on(&mut self) {
        match self.machine.pop_until(self.now) {
            Some(Machine::Step(index)) => self.step(index),
            Some(Machine::Flush(index)) => self.flush(index),
            Some(Machine::Killed(index)) => self.die(index, true),
            Some(Machine::Continue(index)) => self.go_on(index),
            None => {}
        }
    }

    fn step(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.stopped.is_some() || process.step.is_none_or(|at| at > self.now) {
            return;
        }
        if !self.calm && self.rng.below(10_000) < self.plan.fragile {
            return self.die(index, false);
        }
        // Between two calls more often: there the parent has least to go by.
        let between = matches!(process.hands, Hands::Empty) && !process.inbox.is_empty();
        let frozen = self.plan.frozen * if between { 8 } else { 1 };
        if !self.calm && self.rng.below(10_000) < frozen {
            return self.stop(index);
        }
        self.processes[index].step = None;
        let process = &mut self.processes[index];
        let stepped = process.take_step(self.now, &mut self.rng);
        let id = process.id;
        if let Some(job) = stepped.started {
            self.trace
                .note(self.now, || format!("machine {id:?} starts job {job}"));
            self.ledger.started(job, id, self.now, &self.processes);
            if self.processes[index].grown {
                let due = self.now + MEASURE;
                self.office
                    .enter(due + STOPPING, Office::MustHaveStopped(job));
            }
            if let Some(limit) = self.ledger.planned(job).spec.timeout {
                let due = self.now + limit;
                self.office
                    .enter(due + STOPPING, Office::MustHaveStopped(job));
                self.office
                    .enter(due + ANSWERING, Office::MustBeAnswered(job));
            }
        }
        if let Some(next) = stepped.next {
            self.step_after(index, next);
        }
        if stepped.spoke {
            self.speak(index);
        }
        if stepped.left {
            self.speak_out(index);
            self.die(index, false);
        }
    }

    pub(super) fn step_after(&mut self, index: usize, pause: Duration) {
        let at = self.now + pause;
        self.processes[index].step = Some(at);
        self.machine.enter(at, Machine::Step(index));
    }

    /// What is written is on its way; what is not will be.
    fn speak(&mut self, index: usize) {
        let process = &self.processes[index];
        if !process.outbox.is_empty() {
            let pause = self.rng.spread(100, 400_000);
            self.machine.enter(self.now + pause, Machine::Flush(index));
        }
        if !process.pipe.is_empty() {
            self.office.enter(
                self.now + self.rng.spread(1_000, 400_000),
                Office::Read(index),
            );
        }
    }

    fn flush(&mut self, index: usize) {
        if !self.processes[index].dead && self.processes[index].stopped.is_none() {
            self.speak_out(index);
        }
    }

    fn speak_out(&mut self, index: usize) {
        self.processes[index].flush();
        self.speak(index);
    }

    pub(super) fn stop(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.stopped.get_or_insert(self.now);
        let id = process.id;
        self.trace
            .note(self.now, || format!("machine {id:?} is stopped"));
        if self.rng.percent(60) {
            let pause = self.rng.spread(10_000, 5_000_000_000);
            self.machine
                .enter(self.now + pause, Machine::Continue(index));
        }
    }

    pub(super) fn go_on(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.dead || process.stopped.take().is_none() {
            return;
        }
        process.woken = Some(self.now);
        let (id, step) = (process.id, process.step);
        self.trace
            .note(self.now, || format!("machine {id:?} goes on"));
        if let Some(step) = step {
            self.step_after(index, self.now.until(step));
        }
        self.speak(index);
    }

    /// The process is dead; its parent hears of that later.
    pub(super) fn die(&mut self, index: usize, killed: bool) {
        let process = &mut self.processes[index];
        if process.dead {
            return;
        }
        process.die(killed);
        let id = process.id;
        let how = if killed {
            "is killed"
        } else {
            "dies by itself"
        };
        self.trace
            .note(self.now, || format!("machine {id:?} {how}"));
        self.office.enter(
            self.now + self.rng.spread(1_000, DYING),
            Office::Reap(index),
        );
    }

    /// A worker's death is noticed: first all that it left is read, then the core is told.
    pub(super) fn reap(&mut self, index: usize) {
        if !self.processes[index].ready {
            return self.start_failed(index, StartFailure::Worker);
        }
        self.processes[index].flush();
        self.read(index);
        self.drain();
        let ending = self.is_ending();
        let process = &mut self.processes[index];
        process.reaped = true;
        let (id, loss) = (process.id, process.is_loss());
        let breaks = loss && self.starts.never && !ending;
        if breaks {
            self.starts.loss.get_or_insert(id);
        }
        // Killed for its silence, or because a grace was over at the same time: either will do.
        let certain = !process.silent || process.ended.is_none();
        self.tell(Event::Exited(id));
        if breaks && certain {
            require(
                self.closed,
                "a pool that may not restart refuses jobs",
                String::new,
            );
            self.ledger.check_all_over(&self.processes);
        }
    }

    /// Whether everything is being ended.
    pub(super) fn is_ending(&self) -> bool {
        self.ledger.terminated || self.starts.loss.is_some()
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
            match message {
                Message::Response(frame) => {
                    let job = frame.job;
                    self.trace
                        .note(self.now, || format!("event   {id:?} response of job {job}"));
                    self.processes[index].free_lane(frame.ticket);
                    // A worker may say what it likes about how long it took.
                    let took = if self.rng.percent(1) {
                        Duration::MAX
                    } else {
                        frame.length
                    };
                    if self.rng.percent(self.plan.terms.panics)
                        && self.core.panicked(self.now, id, frame.ticket).is_some()
                    {
                        self.ledger.repeated(job, None, &self.processes, self.now);
                        continue;
                    }
                    match self.core.complete(self.now, id, frame.ticket, took) {
                        Ok(Some((answered, _))) => self.ledger.responded(answered, job, id),
                        Ok(None) => self.ledger.check_response_was_late(job),
                        Err(_) => {
                            require(false, "a true response is known", || format!("{frame:?}"))
                        }
                    }
                }
                Message::Resigned => {
                    self.processes[index].resignation = true;
                    let event = Event::Resigned(id);
                    self.trace.note(self.now, || format!("event   {event:?}"));
                    self.core.handle(self.now, event);
                }
                Message::Passed(ticket) => {
                    self.drain();
                    self.processes[index].free_lane(ticket);
                    self.tell(Event::Acknowledged(id, ticket));
                }
            }
            if self.rng.percent(20) {
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
