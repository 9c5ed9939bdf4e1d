//! What stands in for the driver: it does what the scheduler and the rooms decide, at once.

use super::actor::Request;
use super::stage::{Around, Job, Stage};
use crate::pool::rooms::{Act, Surroundings};
use crate::pool::scheduler::{Action, Event, JobSpec, StartFailure, WorkerId};

impl Stage {
    pub(super) fn perform(&mut self) {
        loop {
            while let Some(action) = self.scheduler.next_action() {
                self.perform_one(action);
            }
            let around = Around(&self.scheduler, &self.actors);
            self.rooms.turn(self.now, &around);
            if !self.act_for_rooms() {
                return;
            }
        }
    }

    fn perform_one(&mut self, action: Action<Job>) {
        let now = self.now;
        let send = |worker: WorkerId, request: Request| {
            if let Some(actor) = self.actors.borrow_mut().get_mut(&worker) {
                actor.requests.push_back(request);
            }
        };
        match action {
            Action::Start(worker) => self.starting.push(worker),
            Action::Assign(worker, ticket, key) => {
                let room = matches!(self.scheduler.attachment(key), Some(Job::Room));
                if let Some(actor) = self.actors.borrow_mut().get_mut(&worker) {
                    actor.offer(ticket);
                }
                if room {
                    send(worker, Request::Host(ticket));
                    let around = Around(&self.scheduler, &self.actors);
                    self.rooms.opened(now, &around, worker, key);
                } else {
                    send(worker, Request::Call(ticket));
                }
            }
            Action::TakeBack(worker, ticket) => {
                let won = Around(&self.scheduler, &self.actors).take_back(worker, ticket);
                self.scheduler
                    .handle(now, Event::TakenBack(worker, ticket, won));
            }
            Action::Ask(..) => {}
            Action::End(worker, ticket, _) => {
                let won = Around(&self.scheduler, &self.actors).end(worker, ticket);
                self.scheduler
                    .handle(now, Event::Ended(worker, ticket, won));
            }
            // Nobody is to do anything about it.
            Action::Slow(..) => {}
            Action::Probe(worker, ticket) => {
                let progress = Around(&self.scheduler, &self.actors).progress(worker, ticket);
                self.scheduler
                    .handle(now, Event::Probed(worker, ticket, progress));
            }
            Action::Retire(worker) => send(worker, Request::Leave),
            Action::Kill(worker) => {
                self.killed += 1;
                self.starting.retain(|starting| *starting != worker);
                let known = self
                    .actors
                    .borrow_mut()
                    .get_mut(&worker)
                    .map(|actor| actor.dead = true);
                if known.is_none() {
                    let failure = StartFailure::Worker;
                    self.scheduler
                        .handle(now, Event::StartFailed(worker, failure));
                }
            }
            Action::Release(worker) => self.rooms.released(now, worker),
            Action::Over(outcome) => {
                let around = Around(&self.scheduler, &self.actors);
                self.rooms.over(now, &around, outcome);
                self.act_for_rooms();
            }
            Action::Resolve(job, key, outcome, _) => match *job {
                Job::Room => {
                    let around = Around(&self.scheduler, &self.actors);
                    self.rooms.broke(now, &around, key, outcome);
                    self.act_for_rooms();
                }
                Job::Blocking(number) => self
                    .records
                    .entry(number)
                    .or_default()
                    .outcomes
                    .push(outcome),
            },
            Action::Finished => {
                assert!(self.rooms.is_idle(), "finished with calls in it");
                self.finished = true;
            }
            Action::Cut(..) | Action::Repeat(..) | Action::Closed => {}
        }
    }

    pub(super) fn act_for_rooms(&mut self) -> bool {
        let mut acted = false;
        while let Some(act) = self.rooms.next_act() {
            acted = true;
            self.act_once(act);
        }
        acted
    }

    fn act_once(&mut self, act: Act<()>) {
        let now = self.now;
        match act {
            Act::Open(number, priority) => {
                let spec = JobSpec {
                    kind: u64::MAX,
                    priority,
                    room: Some(number),
                    ..JobSpec::default()
                };
                let key = self.scheduler.take_in(now, spec, Job::Room);
                self.rooms.asked_for(key);
            }
            Act::Forget(key) => self.scheduler.handle(now, Event::Cancel(key)),
            Act::Enter(worker, ticket, number) => {
                let mut actors = self.actors.borrow_mut();
                let actor = actors.get_mut(&worker).expect("its room is open");
                actor.offer(ticket);
                actor.requests.push_back(Request::Enter(ticket, number));
            }
            Act::Drop(worker, ticket) => {
                if let Some(actor) = self.actors.borrow_mut().get_mut(&worker) {
                    actor.requests.push_back(Request::Drop(ticket));
                }
            }
            Act::Condemn(worker, ..) | Act::Silent(worker) => {
                self.scheduler.handle(now, Event::Condemned(worker))
            }
            Act::Repeat(..) => {}
            Act::Resolve((), number, outcome, _) => {
                self.records
                    .entry(number)
                    .or_default()
                    .outcomes
                    .push(outcome);
            }
            Act::Calls(any) => self.scheduler.handle(now, Event::AsyncCalls(any)),
        }
    }
}
