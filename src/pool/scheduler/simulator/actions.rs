//! What the core wants done, done.

use super::plan::{Flaw, Work};
use super::process::{Frame, Hands, Process, Sent};
use super::rules::require;
use super::world::{DYING, Machine, Office, World};
use crate::pool::scheduler::{Action, Event, JobKey, Refusal, Ticket, WorkerId};
use crate::sys::clock::Moment;

impl World<'_> {
    /// Performs an action; a question is answered before the next action is taken.
    pub(super) fn perform(&mut self, action: Action<usize>) {
        self.starts.deserted = self.core.is_deserted();
        match action {
            Action::Start(worker) => self.start(worker),
            Action::Assign(worker, ticket, key) => self.assign(worker, ticket, key),
            Action::TakeBack(worker, ticket) => {
                self.touch(worker);
                let won = self.asked(worker).page.take_back(ticket);
                if won {
                    self.ledger.came_back(worker, ticket, self.now);
                }
                self.answer(Event::TakenBack(worker, ticket, won));
            }
            Action::End(worker, ticket, begun_by) => {
                self.touch(worker);
                let until = self.now + self.plan.rules.abort_grace;
                let process = self.asked(worker);
                let won = process.page.end(ticket, begun_by);
                if won {
                    process.check_alone();
                    (process.ended, process.spared_until) = (Some(ticket), until);
                }
                self.answer(Event::Ended(worker, ticket, won));
            }
            Action::Probe(worker, ticket) => {
                let progress = self.asked(worker).page.progress(ticket);
                self.answer(Event::Probed(worker, ticket, progress));
            }
            // Nobody is to do anything about it.
            Action::Slow(..) => {}
            Action::Retire(worker) => self.retire(worker),
            Action::Kill(worker) => {
                let index = self.index(worker);
                let (now, ending) = (self.now, self.is_ending());
                let reproached = self.core.reproach(worker).is_some();
                self.asked(worker).check_kill(now, reproached, ending);
                let at = self.now + self.rng.spread(10_000, DYING);
                self.machine.enter(at, Machine::Killed(index));
            }
            Action::Release(worker) => {
                self.seal(worker, None);
                self.rooms_asked = self.now;
                self.rooms.released(self.now, worker);
                self.visits.released(worker);
                self.act_for_rooms();
                self.asked(worker).check_release();
                let index = self.index(worker);
                let process = &self.processes[index];
                if let Some(died_at) = process.lost_at {
                    self.starts.lost(process, died_at, self.now);
                }
                if self.rng.percent(20) {
                    self.office.enter(
                        self.now + self.rng.spread(1_000, DYING),
                        Office::Echo(index),
                    );
                }
            }
            Action::Ask(worker, ticket, begun_by, why) => self.ask(worker, ticket, begun_by, why),
            Action::Cut(worker, ticket, key) => self.cut(worker, ticket, key),
            Action::Resolve(job, key, outcome, sent) if self.chunks.contains_key(&*job) => {
                self.break_chunk(*job, key, outcome, sent);
            }
            Action::Repeat(key, outcome) => {
                let job = self.core.attachment(key).copied();
                let job = job.expect("who is to be run again is in the pool");
                let now = (self.drained, self.now);
                self.ledger
                    .repeated(job, Some(outcome), &self.processes, now);
            }
            Action::Resolve(job, key, outcome, _) => {
                let job = *job;
                let (processes, starts) = (&self.processes, &self.starts);
                self.ledger
                    .resolved((job, true), key, outcome, processes, starts, self.now);
                if self.ledger.is_room(job) {
                    self.with_rooms(|rooms, now, around| rooms.broke(now, around, key, outcome));
                    // What is known of the worker is forgotten with its release.
                    self.act_for_rooms();
                }
            }
            Action::Closed => {
                require(!self.closed, "a pool is closed once", String::new);
                self.closed = true;
                if matches!(self.core.refusal(), Some(Refusal::Broken(_))) {
                    self.drop_pauses();
                }
            }
            Action::Over(outcome) => {
                self.with_rooms(|rooms, now, around| rooms.over(now, around, outcome));
                self.act_for_rooms();
            }
            Action::Finished => {
                self.ledger.check_all_answered("at Finished");
                self.visits.check_all_answered("at Finished");
                require(self.closed, "only a closed pool finishes", String::new);
                let left = self.processes.iter().find(|process| !process.released);
                require(left.is_none(), "no worker outlives the pool", || {
                    format!("{left:?}")
                });
                self.check_nothing_left();
                self.finished = true;
            }
        }
    }

    /// An answer is handed in before the next action is taken.
    pub(super) fn answer(&mut self, event: Event) {
        self.trace.note(self.now, || format!("answer  {event:?}"));
        if let Event::TakenBack(.., false) | Event::Ended(.., true) = event {
            self.starts.served();
        }
        self.core.handle(self.now, event);
        self.longest_line = self.longest_line.max(self.core.waiting());
    }

    fn assign(&mut self, worker: WorkerId, ticket: Ticket, key: JobKey) {
        let job = self.core.attachment(key).copied();
        require(job.is_some(), "only an unfinished job is assigned", || {
            format!("{key:?}")
        });
        let job = job.unwrap_or_default();
        self.touch(worker);
        self.asked(worker).assigned_at = self.now;
        self.asked(worker).check_assign(ticket);
        // A pool that cannot start workers lets anybody do it who lives.
        let bound = !self.starts.hopeless;
        self.ledger
            .assigned(job, worker, ticket, self.drained, bound);
        let planned = self.ledger.planned(job);
        let work = match self.chunks.get(&job) {
            Some(chunk) => self.maps[chunk.map].items[chunk.items[0]].next_run(),
            None => Work {
                length: planned.length,
                large: planned.large,
                flaw: Flaw::None,
                flawed: 0,
                last: planned.last,
                grows: planned.grows && planned.spec.room.is_none(),
            },
        };
        let frame = Frame {
            ticket,
            job,
            items: planned.spec.items,
            room: planned.spec.room.is_some(),
            item: 0,
            work,
        };
        let index = self.index(worker);
        let process = &mut self.processes[index];
        process.page.put(ticket);
        process.inbox.push_back(Sent::Call(frame));
        self.wake(index);
        if frame.room {
            self.open_room(worker, key);
        }
    }

    fn retire(&mut self, worker: WorkerId) {
        self.asked(worker).check_retire();
        let index = self.index(worker);
        self.wake(index);
    }

    /// Something was sent to a worker, which may sleep.
    pub(super) fn wake(&mut self, index: usize) {
        if self.processes[index].sleeps() && !self.processes[index].dead {
            let latency = self.rng.spread(500, 100_000);
            return self.step_after(index, latency);
        }
        if matches!(self.processes[index].hands, Hands::Hosting(_)) {
            let latency = self.rng.spread(500, 100_000);
            self.hurry_step(index, self.now + latency);
        }
    }

    /// Somebody in a room has something to do then, or before.
    pub(super) fn hurry_step(&mut self, index: usize, at: Moment) {
        if self.processes[index].rests_in_room(at) {
            self.step_after(index, self.now.until(at));
        }
    }

    pub(super) fn index(&self, worker: WorkerId) -> usize {
        let index = (worker.number as usize).wrapping_sub(1);
        let known = self
            .processes
            .get(index)
            .is_some_and(|process| process.id == worker);
        require(known, "actions name workers that exist", || {
            format!("{worker:?}")
        });
        index
    }

    /// The parent has to do with a worker's calls.
    pub(super) fn touch(&mut self, worker: WorkerId) {
        self.asked(worker).touched_at = self.now;
    }

    /// The process that an action is about.
    pub(super) fn asked(&mut self, worker: WorkerId) -> &mut Process {
        let index = self.index(worker);
        let process = &mut self.processes[index];
        require(
            !process.released,
            "nothing is asked about a released worker",
            || format!("{worker:?}"),
        );
        process
    }
}
