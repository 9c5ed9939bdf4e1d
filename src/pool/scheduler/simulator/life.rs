//! The lives of workers: how they start, go on, speak, and die; and how the parent hears of it.

use std::num::NonZeroU64;
use std::time::Duration;

use super::chunks::Chunk;
use super::process::{Hands, Process};
use super::rules::require;
use super::world::{Birth, DYING, Machine, Office, World};
use crate::pool::scheduler::place::Phase;
use crate::pool::scheduler::{Event, StartFailure, Ticket, WorkerId};

/// How long the driver lets a start take.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A started job with a limit must have been stopped this long after it …
pub(super) const STOPPING: Duration = Duration::from_millis(50);
/// … and be answered this long after it, whatever its worker does.
pub(super) const ANSWERING: Duration = Duration::from_secs(3);

impl World<'_> {
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
        // The core's own word for it: it may have been decided a while before it is done.
        let begun = self.core.places[worker.place].worker.as_ref();
        let begun = begun.map_or(self.now, |worker| worker.begun);
        self.processes.push(Process::new(worker, begun, most));
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
        if !self.calm && self.rng.percent(self.plan.barren_starts) {
            let at = self.now + self.rng.up_to(3_000_000);
            self.machine.enter(at, Machine::Perish(index));
        }
        self.tell(Event::Ready(id));
    }

    fn start_failed(&mut self, index: usize, failure: StartFailure) {
        self.drain();
        let process = &mut self.processes[index];
        process.reaped = true;
        let id = process.id;
        if !process.killed || process.condemned {
            let (begun, alive) = (process.begun_at, self.core.count(Phase::Ready) > 0);
            self.starts.failed(failure, begun, alive, self.now);
        }
        self.tell(Event::StartFailed(id, failure));
    }

    pub(super) fn machine_goes_on(&mut self) {
        match self.machine.pop_until(self.now) {
            Some(Machine::Step(index)) => self.step(index),
            Some(Machine::Flush(index)) => self.flush(index),
            Some(Machine::Killed(index)) => self.die(index, true),
            Some(Machine::Perish(_)) if self.calm => {}
            Some(Machine::Perish(index)) => self.die(index, false),
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
        // Between two calls or items more often: there the parent has least to go by.
        let between = match process.hands {
            Hands::Empty => !process.inbox.is_empty(),
            Hands::Unseen(..) | Hands::Between(_) | Hands::Hosting(_) => true,
            Hands::Running(_) | Hands::Writing(_) | Hands::Written(_) => false,
        };
        let frozen = self.plan.frozen * if between { 8 } else { 1 };
        if !self.calm && self.rng.below(10_000) < frozen {
            return self.stop(index);
        }
        self.processes[index].step = None;
        let process = &mut self.processes[index];
        let (maps, chunks) = (&self.maps, &self.chunks);
        let work = |job, item| {
            let chunk: &Chunk = &chunks[&job];
            maps[chunk.map].items[chunk.items[item as usize]].next_run()
        };
        let stepped = process.take_step(self.now, &mut self.rng, work);
        let id = process.id;
        if stepped.died {
            return self.die(index, false);
        }
        if let Some((job, item, ticket)) = stepped.started {
            self.trace.note(self.now, || {
                format!("machine {id:?} starts job {job} ({item})")
            });
            self.begins(job, item, (id, ticket));
        }
        if let Some((visit, ticket)) = stepped.visited {
            self.visit_begins(visit, id, ticket);
        }
        if let Some((job, item)) = stepped.shown {
            self.item_is_shown(job, item);
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

    /// A job is started, or another item of it.
    fn begins(&mut self, job: usize, item: u32, sending: (WorkerId, Ticket)) {
        let (worker, _) = sending;
        require(
            !self.dropped,
            "nothing is started when all that waits was dropped",
            || format!("job {job} item {item} {worker:?}"),
        );
        self.starts.served();
        if item == 0 {
            self.ledger.started(job, worker, self.now, &self.processes);
        }
        self.set_soft_limit(job, item);
        if self.chunks.contains_key(&job) {
            return self.item_begins(job, item, sending);
        }
        if let Some(limit) = self.ledger.planned(job).spec.timeout {
            let due = self.now + limit;
            self.office
                .enter(due + STOPPING, Office::MustHaveStopped(job));
            self.office
                .enter(due + ANSWERING, Office::MustBeAnswered(job));
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
        process.lost_at = loss.then_some(self.now);
        let breaks = loss && self.starts.never && !ending;
        if breaks {
            self.starts.loss.get_or_insert(id);
        }
        self.tell(Event::Exited(id));
        if breaks {
            require(
                self.closed,
                "a pool that may not restart refuses jobs",
                String::new,
            );
            self.ledger.check_all_over(&self.processes);
            self.visits.check_all_over(&self.processes);
        }
    }

    /// Whether everything is being ended.
    pub(super) fn is_ending(&self) -> bool {
        self.ledger.terminated || self.starts.loss.is_some()
    }
}
