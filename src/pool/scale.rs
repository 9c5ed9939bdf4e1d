//! How a pool behaves at sizes that no machine at hand has: the real scheduler decides, and what it
//! decides about is only reckoned. Time is counted, not taken, so a run says the same on every machine.
//!
//! ```text
//!   callers ──submit──▶ scheduler ──assign──▶ pipe ──▶ worker (reckoned)
//!      ▲                    ▲                              │
//!      └──────take──────────┴── complete ◀── pipe ◀────────┘
//! ```
//!
//! The parent is one thread that does one thing after the other; each worker has a core of its own. So many
//! callers each wait for an answer and then submit the next call.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use super::scheduler::{Action, Event, JobSpec, Progress, Rules, Scheduler, Ticket, WorkerId};
use crate::sys::clock::Moment;

/// What things cost, in nanoseconds: as measured with two workers, where what a call costs can be told from
/// what a read or a write costs by how many of them there were.
mod cost {
    /// A call in its parent, from its submission until its caller has the answer, without the system calls.
    pub(super) const CALL: u64 = 900;
    /// A look at who has something to say.
    pub(super) const POLL: u64 = 600;
    /// What one worker has said is read.
    pub(super) const READ: u64 = 1_000;
    /// What is for one worker is written.
    pub(super) const WRITE: u64 = 1_700;
    /// The same if the worker sleeps, and is on another core.
    pub(super) const WRITE_AND_WAKE: u64 = 8_000;
    /// Until who sleeps is awake.
    pub(super) const WAKE: u64 = 20_000;
    /// A call in its worker, beside its work.
    pub(super) const SERVE: u64 = 500;
}

/// A worker tells of each call before it begins one that takes longer than this.
const LONG: u64 = 150_000;

/// What is to be reckoned.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many workers there are.
    pub workers: usize,
    /// How many calls are made.
    pub calls: u64,
    /// How many callers there are.
    pub callers: usize,
    /// How long the work of a call takes.
    pub work: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Reckoning {
    /// How long all calls took together.
    pub wall: Duration,
    /// The share of that time in which the parent had something to do.
    pub parent: f64,
    /// The share in which a worker had, on average.
    pub worker: f64,
}

impl Reckoning {
    /// How many calls are answered in a second.
    pub fn rate(&self, load: &Load) -> f64 {
        load.calls as f64 / self.wall.as_secs_f64()
    }

    /// What a call costs its parent, in microseconds.
    pub fn parent_micros(&self, load: &Load) -> f64 {
        self.wall.as_secs_f64() * self.parent / load.calls as f64 * 1e6
    }
}

/// Reckons what becomes of a load.
pub fn reckon(load: &Load) -> Reckoning {
    let mut world = World::new(load);
    world.run();
    let wall = world.now;
    let share = |busy: u64| busy as f64 / wall as f64;
    let workers: u64 = world.workers.iter().map(|worker| worker.busy).sum();
    Reckoning {
        wall: Duration::from_nanos(wall),
        parent: share(world.busy),
        worker: share(workers) / load.workers as f64,
    }
}

/// A call in a worker's hands.
struct Held {
    ticket: Ticket,
    /// It is in the pipe.
    sent: bool,
    /// It was taken back.
    withdrawn: bool,
}

enum Said {
    Returned(Ticket),
    Passed(Ticket),
}

#[derive(Default)]
struct Worker {
    id: Option<WorkerId>,
    held: VecDeque<Held>,
    runs: Option<(Ticket, u64)>,
    /// What it has to say and has not written.
    outbox: Vec<Said>,
    /// What it has written.
    said: Vec<Said>,
    /// It waits for something to do.
    asleep: bool,
    busy: u64,
}

struct World {
    load: Load,
    now: u64,
    /// How long the parent had something to do.
    busy: u64,
    scheduler: Scheduler<()>,
    workers: Vec<Worker>,
    /// When which worker goes on.
    steps: BinaryHeap<Reverse<(u64, usize)>>,
    /// Who has written something.
    readable: BTreeSet<usize>,
    /// For whom there is something to be written.
    writable: BTreeSet<usize>,
    submitted: u64,
    answered: u64,
}

impl World {
    fn new(load: &Load) -> Self {
        let rules = Rules {
            workers: load.workers,
            starts_at_once: load.workers,
            ..Rules::default()
        };
        let workers = (0..load.workers).map(|_| Worker {
            asleep: true,
            ..Worker::default()
        });
        Self {
            load: *load,
            now: 1,
            busy: 0,
            scheduler: Scheduler::new(rules),
            workers: workers.collect(),
            steps: BinaryHeap::new(),
            readable: BTreeSet::new(),
            writable: BTreeSet::new(),
            submitted: 0,
            answered: 0,
        }
    }

    fn run(&mut self) {
        self.scheduler.handle(self.moment(), Event::StartAll);
        self.perform();
        self.submit(self.load.callers as u64);
        self.write();
        while self.answered < self.load.calls {
            self.workers_go_on();
            if !self.readable.is_empty() {
                self.take_in();
            } else if self.scheduler.wake_at().is_some_and(|at| at.0 <= self.now) {
                self.scheduler.handle(self.moment(), Event::Tick);
                self.perform();
            } else {
                self.sleep();
                continue;
            }
            self.write();
        }
    }

    fn moment(&self) -> Moment {
        Moment(self.now)
    }

    /// The parent does something that takes so long.
    fn spend(&mut self, time: u64) {
        self.now += time;
        self.busy += time;
    }

    /// Nothing is to be done: until a worker has said something, or something is due.
    fn sleep(&mut self) {
        let tick = self.scheduler.wake_at().map(|at| at.0);
        loop {
            let step = self.steps.peek().map(|Reverse((at, _))| *at);
            let next = tick.into_iter().chain(step).min();
            self.now = self.now.max(next.expect("somebody has something to do"));
            self.workers_go_on();
            if !self.readable.is_empty() {
                self.now += cost::WAKE;
                return;
            }
            if tick.is_some_and(|tick| tick <= self.now) {
                return;
            }
        }
    }

    /// So many callers submit a call each, if there are any left to be made.
    fn submit(&mut self, callers: u64) {
        for _ in 0..callers.min(self.load.calls - self.submitted) {
            self.submitted += 1;
            self.spend(cost::CALL);
            let spec = JobSpec {
                kind: 1,
                bytes: 32,
                ..JobSpec::default()
            };
            let submitted = self.scheduler.submit(self.moment(), spec, ());
            submitted.expect("the pool is open");
            self.perform();
        }
    }

    /// The parent reads what has been said, and who has his answer makes his next call.
    fn take_in(&mut self) {
        self.spend(cost::POLL);
        for place in std::mem::take(&mut self.readable) {
            self.spend(cost::READ);
            let id = self.workers[place].id.expect("it speaks");
            let took = self.load.work;
            let mut answered = 0;
            for said in std::mem::take(&mut self.workers[place].said) {
                let now = self.moment();
                match said {
                    Said::Returned(ticket) => {
                        let completed = self.scheduler.complete(now, id, ticket, took);
                        let completed = completed.expect("it has that call");
                        answered += u64::from(completed.is_some());
                    }
                    Said::Passed(ticket) => {
                        let passed = Event::Acknowledged(id, ticket);
                        self.scheduler.handle(now, passed);
                    }
                }
            }
            self.scheduler.settle(self.moment());
            self.perform();
            self.answered += answered;
            self.submit(answered);
        }
    }

    /// Does what the scheduler wants.
    fn perform(&mut self) {
        while let Some(action) = self.scheduler.next_action() {
            match action {
                Action::Start(id) => {
                    self.workers[id.place].id = Some(id);
                    self.scheduler.handle(self.moment(), Event::Ready(id));
                }
                Action::Assign(id, ticket, _) => {
                    self.workers[id.place].held.push_back(Held {
                        ticket,
                        sent: false,
                        withdrawn: false,
                    });
                    self.writable.insert(id.place);
                }
                Action::TakeBack(id, ticket) => {
                    self.workers_go_on();
                    let mut held = self.workers[id.place].held.iter_mut();
                    let held = held.find(|held| held.ticket == ticket);
                    let won = held.map(|held| held.withdrawn = true).is_some();
                    let event = Event::TakenBack(id, ticket, won);
                    self.scheduler.handle(self.moment(), event);
                }
                Action::Probe(id, ticket) => {
                    self.workers_go_on();
                    let progress = self.workers[id.place].progress(ticket);
                    let event = Event::Probed(id, ticket, progress);
                    self.scheduler.handle(self.moment(), event);
                }
                action => unreachable!("nobody asks for it: {action:?}"),
            }
        }
    }

    /// What is for a worker goes into its pipe.
    fn write(&mut self) {
        for place in std::mem::take(&mut self.writable) {
            self.workers_go_on();
            let asleep = std::mem::take(&mut self.workers[place].asleep);
            self.spend(if asleep {
                cost::WRITE_AND_WAKE
            } else {
                cost::WRITE
            });
            for held in &mut self.workers[place].held {
                held.sent = true;
            }
            if asleep {
                self.steps.push(Reverse((self.now + cost::WAKE, place)));
            }
        }
    }

    /// The workers do what they have done by now.
    fn workers_go_on(&mut self) {
        while let Some(Reverse((at, place))) = self.steps.peek().copied() {
            if at > self.now {
                return;
            }
            self.steps.pop();
            self.step(at, place);
        }
    }

    /// A worker is done with a call, or awake.
    fn step(&mut self, at: u64, place: usize) {
        let work = self.load.work.as_nanos() as u64;
        let worker = &mut self.workers[place];
        if let Some((ticket, _)) = worker.runs.take() {
            worker.outbox.push(Said::Returned(ticket));
        }
        while worker.held.front().is_some_and(|held| held.sent) {
            let Some(held) = worker.held.pop_front() else {
                break;
            };
            if held.withdrawn {
                worker.outbox.push(Said::Passed(held.ticket));
                continue;
            }
            worker.runs = Some((held.ticket, at));
            break;
        }
        let next = worker.runs.is_some();
        if (!next || work > LONG) && !worker.outbox.is_empty() {
            worker.said.append(&mut worker.outbox);
            self.readable.insert(place);
        }
        if next {
            worker.busy += work + cost::SERVE;
            self.steps.push(Reverse((at + work + cost::SERVE, place)));
        } else {
            worker.asleep = true;
        }
    }
}

impl Worker {
    fn progress(&self, ticket: Ticket) -> Progress {
        match self.runs {
            Some((runs, since)) if runs == ticket => Progress::Running(Moment(since)),
            _ if self.held.iter().any(|held| held.ticket == ticket) => Progress::Waiting,
            _ => Progress::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_calls_keep_their_workers_busy_and_short_ones_their_parent() {
        let long = Load {
            workers: 64,
            calls: 20_000,
            callers: 256,
            work: Duration::from_millis(10),
        };
        let reckoned = reckon(&long);
        assert!(reckoned.worker > 0.9, "{reckoned:?}");
        assert!((0.03..0.2).contains(&reckoned.parent), "{reckoned:?}");

        let short = Load {
            callers: 1_024,
            work: Duration::ZERO,
            ..long
        };
        let reckoned = reckon(&short);
        assert!(reckoned.parent > 0.9, "{reckoned:?}");
        assert!(reckoned.worker < 0.1, "{reckoned:?}");
        assert!(reckoned.rate(&short) < 1e9 / cost::CALL as f64);
    }

    #[test]
    fn what_a_call_costs_does_not_grow_with_their_number() {
        let few = Load {
            workers: 4,
            calls: 10_000,
            callers: 64,
            work: Duration::from_micros(10),
        };
        let many = Load {
            calls: 80_000,
            ..few
        };
        let (few, many) = (reckon(&few).rate(&few), reckon(&many).rate(&many));
        assert!((0.95..1.05).contains(&(many / few)), "{few} {many}");
    }
}
