//! The core by hand: a desk at which the pages, the workers and the clock are played one move at a
//! time, and what each move must lead to. The [simulator](super::simulator) tries the rest.

mod ask;
mod bugs;
mod calls;
mod chunk_bugs;
mod chunks;
mod home;
mod limits;
mod line;
mod renewal;
mod retry;
mod size;
mod slow;
mod workers;

use std::collections::HashMap;
use std::time::Duration;

use super::{
    Action, Event, JobKey, JobSpec, Outcome, Progress, Restart, Rules, Scheduler, StartFailure,
    Ticket, WorkerId,
};
use crate::pool::scheduler::event::Request;
use crate::sys::clock::Moment;

const MS: Duration = Duration::from_millis(1);
const LEAVE_LIMIT: Duration = Duration::from_millis(500);
const US: Duration = Duration::from_micros(1);

/// How a job came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Response,
    Told(Outcome),
}

/// The core and all that it knows of the world. Jobs have names.
struct Desk {
    core: Scheduler<&'static str>,
    now: Moment,
    keys: HashMap<&'static str, JobKey>,
    /// Where each job was sent last.
    sent: HashMap<&'static str, (WorkerId, Ticket)>,
    pages: HashMap<(WorkerId, Ticket), Progress>,
    answers: HashMap<&'static str, Answer>,
    started: Vec<WorkerId>,
    assigned: Vec<&'static str>,
    retired: Vec<WorkerId>,
    killed: Vec<WorkerId>,
    cuts: Vec<(WorkerId, Ticket)>,
    /// What was running when it was asked to come to its end, and why it was.
    asked: Vec<(WorkerId, Ticket, Request)>,
    repeated: Vec<(&'static str, Outcome)>,
    /// Of which runs it was told that they take long, by their beginnings.
    slow: Vec<(&'static str, Moment)>,
    finished: bool,
}

/// The rules of a pool that may not replace a worker it has lost.
fn without_restart(workers: usize) -> Rules {
    Rules {
        workers,
        starts_at_once: workers,
        restart: Restart::Never,
        leave_limit: LEAVE_LIMIT,
        ..Rules::default()
    }
}

impl Desk {
    fn new(workers: usize) -> Self {
        Self::with(Rules {
            workers,
            starts_at_once: workers,
            restart: Restart::OnFailure,
            leave_limit: LEAVE_LIMIT,
            ..Rules::default()
        })
    }

    fn with(rules: Rules) -> Self {
        Self {
            core: Scheduler::new(rules),
            now: Moment(1_000_000_000),
            keys: HashMap::new(),
            sent: HashMap::new(),
            pages: HashMap::new(),
            answers: HashMap::new(),
            started: Vec::new(),
            assigned: Vec::new(),
            retired: Vec::new(),
            killed: Vec::new(),
            cuts: Vec::new(),
            asked: Vec::new(),
            repeated: Vec::new(),
            slow: Vec::new(),
            finished: false,
        }
    }

    /// A desk whose workers are all ready.
    fn ready(workers: usize) -> Self {
        Self::new(workers).readied()
    }

    fn readied(mut self) -> Self {
        self.tell(Event::StartAll);
        while !self.core.is_complete() {
            let worker = *self.started.last().expect("a worker is being started");
            self.tell(Event::Ready(worker));
            for worker in self.started.clone() {
                self.tell(Event::Ready(worker));
            }
        }
        self
    }

    fn submit(&mut self, name: &'static str, spec: JobSpec) {
        let key = self
            .core
            .submit(self.now, spec, name)
            .expect("the pool is open");
        self.keys.insert(name, key);
        self.drain();
    }

    /// Submits jobs of one kind with no limits.
    fn submit_all(&mut self, kind: u64, names: &[&'static str]) {
        for name in names {
            self.submit(
                name,
                JobSpec {
                    kind,
                    ..JobSpec::default()
                },
            );
        }
    }

    /// Submits a chunk of so many items.
    fn submit_chunk(&mut self, kind: u64, name: &'static str, items: u32) {
        self.submit(
            name,
            JobSpec {
                kind,
                items,
                ..JobSpec::default()
            },
        );
    }

    /// Its worker has finished an item of the chunk and not begun the next.
    fn end_item(&mut self, name: &str) {
        let page = self
            .pages
            .get_mut(&self.sent[name])
            .expect("what was sent has a word");
        let Progress::Running(since) = *page else {
            panic!("{name} runs no item: {page:?}");
        };
        *page = Progress::Between(since);
    }

    /// Its worker begins the next item of the chunk.
    fn next_item(&mut self, name: &str) {
        let page = self
            .pages
            .get_mut(&self.sent[name])
            .expect("what was sent has a word");
        assert!(matches!(page, Progress::Between(_)), "{name} can go on");
        *page = Progress::Running(self.now);
    }

    /// Makes the core know how long calls of a kind take. Needs an idle worker.
    fn teach(&mut self, kind: u64, took: Duration) {
        self.submit_all(kind, &["a lesson"]);
        self.start("a lesson");
        self.finish("a lesson", took);
    }

    fn tell(&mut self, event: Event) {
        self.core.handle(self.now, event);
        self.drain();
    }

    fn cancel(&mut self, name: &str) {
        self.tell(Event::Cancel(self.keys[name]));
    }

    fn abort(&mut self, name: &str) {
        self.tell(Event::Abort(self.keys[name]));
    }

    /// Its worker starts the call.
    fn start(&mut self, name: &str) {
        let page = self
            .pages
            .get_mut(&self.sent[name])
            .expect("what was sent has a word");
        assert_eq!(*page, Progress::Waiting, "{name} can be started");
        *page = Progress::Running(self.now);
    }

    /// Its worker ends the call; the response is not yet there.
    fn end(&mut self, name: &str) {
        let page = self
            .pages
            .get_mut(&self.sent[name])
            .expect("what was sent has a word");
        assert!(matches!(page, Progress::Running(_)), "{name} can be ended");
        *page = Progress::Over;
    }

    /// Its response arrives.
    fn respond(&mut self, name: &'static str, took: Duration) {
        let (worker, ticket) = self.sent[name];
        let answered = self
            .core
            .complete(self.now, worker, ticket, took)
            .expect("the call is known");
        let answered = answered.expect("the call is unanswered");
        assert_eq!(answered, name);
        self.answers.insert(name, Answer::Response);
        self.core.settle(self.now);
        self.drain();
    }

    fn finish(&mut self, name: &'static str, took: Duration) {
        self.end(name);
        self.respond(name, took);
    }

    /// Its worker passes by the call, which it must not run or answer.
    fn pass_by(&mut self, name: &str) {
        let (worker, ticket) = self.sent[name];
        self.tell(Event::Acknowledged(worker, ticket));
    }

    /// Time passes, with a tick whenever one is due.
    fn pass(&mut self, length: Duration) {
        let until = self.now + length;
        while let Some(at) = self.core.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(Event::Tick);
        }
        self.now = until;
    }

    fn drain(&mut self) {
        let mut performed = 0;
        while let Some(action) = self.core.next_action() {
            performed += 1;
            assert!(
                performed < 10_000,
                "there is an end to what is to be done: {action:?}"
            );
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action<&'static str>) {
        assert!(!self.finished, "nothing comes after Finished: {action:?}");
        let now = self.now;
        match action {
            Action::Start(worker) => self.started.push(worker),
            Action::Assign(worker, ticket, key) => {
                let name = *self
                    .core
                    .attachment(key)
                    .expect("an assigned job is unfinished");
                self.sent.insert(name, (worker, ticket));
                self.assigned.push(name);
                self.pages.insert((worker, ticket), Progress::Waiting);
            }
            Action::TakeBack(worker, ticket) => {
                let won = self.swap((worker, ticket), |page| page == Progress::Waiting);
                self.core.handle(now, Event::TakenBack(worker, ticket, won));
            }
            Action::Cut(worker, ticket, _) => {
                if self.pages[&(worker, ticket)] == Progress::Waiting {
                    self.core.handle(now, Event::Uncut(worker, ticket));
                } else {
                    self.cuts.push((worker, ticket));
                }
            }
            Action::Ask(worker, ticket, begun_by, why) => {
                let page = self.pages[&(worker, ticket)];
                if matches!(page, Progress::Running(since) if since <= begun_by) {
                    self.asked.push((worker, ticket, why));
                }
            }
            Action::Repeat(key, outcome) => {
                let name = *self.core.attachment(key).expect("it is unfinished");
                self.repeated.push((name, outcome));
            }
            Action::End(worker, ticket, begun_by) => {
                let running = |page| matches!(page, Progress::Running(since) if since <= begun_by);
                let won = self.swap((worker, ticket), running);
                self.core.handle(now, Event::Ended(worker, ticket, won));
            }
            Action::Probe(worker, ticket) => {
                let progress = self.pages[&(worker, ticket)];
                self.core
                    .handle(now, Event::Probed(worker, ticket, progress));
            }
            Action::Slow(_, _, key, begun) => {
                let name = *self.core.attachment(key).expect("it is unfinished");
                self.slow.push((name, begun));
            }
            Action::Retire(worker) => self.retired.push(worker),
            Action::Kill(worker) => self.killed.push(worker),
            Action::Release(_) | Action::Closed | Action::Over(_) => {}
            Action::Resolve(name, key, outcome, _) => {
                let name = *name;
                assert_eq!(self.keys[name], key);
                let before = self.answers.insert(name, Answer::Told(outcome));
                assert_eq!(before, None, "{name} is answered once");
            }
            Action::Finished => self.finished = true,
        }
    }

    fn swap(&mut self, at: (WorkerId, Ticket), can: impl Fn(Progress) -> bool) -> bool {
        let page = self
            .pages
            .get_mut(&at)
            .expect("what is asked about was sent");
        let won = can(*page);
        if won {
            *page = Progress::Over;
        }
        won
    }

    fn worker_of(&self, name: &str) -> WorkerId {
        self.sent[name].0
    }

    /// Of two calls first the one whose worker has been sent `third` as well, then the other.
    fn behind(&self, third: &str, calls: [&'static str; 2]) -> [&'static str; 2] {
        let [one, two] = calls;
        if self.worker_of(third) == self.worker_of(one) {
            [one, two]
        } else {
            [two, one]
        }
    }

    fn was_sent(&self, name: &str) -> bool {
        self.sent.contains_key(name)
    }

    fn outcome(&self, name: &str) -> Option<Outcome> {
        match self.answers.get(name) {
            Some(Answer::Told(outcome)) => Some(*outcome),
            Some(Answer::Response) | None => None,
        }
    }

    fn responded(&self, name: &str) -> bool {
        self.answers.get(name) == Some(&Answer::Response)
    }

    fn exit(&mut self, worker: WorkerId) {
        self.tell(Event::Exited(worker));
    }

    fn start_fails(&mut self, worker: WorkerId) {
        self.tell(Event::StartFailed(worker, StartFailure::Worker));
    }
}
