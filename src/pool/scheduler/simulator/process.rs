//! A worker process, played: it reads calls in their order, passes by those that were taken back,
//! runs the others, and answers; and it may be stopped, crash or be killed between any two steps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::fate::Rng;
use super::page::Page;
use crate::pool::scheduler::{Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A call as it travels to the worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) ticket: Ticket,
    pub(super) job: usize,
    pub(super) length: Duration,
    /// Its response does not fit the outbox: it counts once it is written whole.
    pub(super) large: bool,
    /// After it the worker runs nothing more.
    pub(super) last: bool,
    /// With it the worker grows too large.
    pub(super) grows: bool,
}

/// What travels back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Response(Frame),
    Passed(Ticket),
    /// With the response or the passing that stands before it.
    Resigned,
}

/// What the worker is at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hands {
    Empty,
    Running(Frame),
    Writing(Frame),
    Written(Frame),
}

/// What the world must see to after a step.
#[derive(Debug, Default)]
pub(super) struct Stepped {
    /// The next step comes after this.
    pub(super) next: Option<Duration>,
    /// A job was started.
    pub(super) started: Option<usize>,
    /// There is something to be flushed, or something was written.
    pub(super) spoke: bool,
    /// It has left by itself.
    pub(super) left: bool,
}

/// The process, what the world knows of it, and what the parent has been told.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: WorkerId,
    pub(super) page: Page,
    pub(super) inbox: VecDeque<Frame>,
    pub(super) hands: Hands,
    /// Finished and in the outbox, not yet written.
    pub(super) outbox: VecDeque<Message>,
    /// Written, not yet read by the parent.
    pub(super) pipe: VecDeque<Message>,
    /// The step that is due; others are out of date.
    pub(super) step: Option<Moment>,
    pub(super) stopped: Option<Moment>,
    /// How many tasks it may still run.
    pub(super) tasks_left: u64,
    /// It uses more memory than it may.
    pub(super) grown: bool,
    /// It runs nothing more.
    pub(super) resigned: bool,
    /// When it went on after it had been stopped.
    pub(super) woken: Option<Moment>,
    pub(super) dead: bool,
    /// Its death was the core's kill and no accident.
    pub(super) killed_to_death: bool,
    /// Since when the oldest of the outbox is there.
    pub(super) unsaid: Option<Moment>,

    /// The parent has been told: it is ready.
    pub(super) ready: bool,
    /// When that was.
    pub(super) ready_at: Moment,
    /// When it was given a call last.
    pub(super) assigned_at: Moment,
    /// When the parent had to do with it last.
    pub(super) touched_at: Moment,
    /// The parent has been told: it is dead.
    pub(super) reaped: bool,
    pub(super) orphaned: bool,
    pub(super) condemned: bool,
    /// The core has said so.
    pub(super) killed: bool,
    pub(super) retired: bool,
    /// The parent has been told: it has resigned.
    pub(super) resignation: bool,
    /// Its place is too many.
    pub(super) surplus: bool,
    /// It finishes, or has been told to go.
    pub(super) leaves: bool,
    /// It is being renewed by plan.
    pub(super) planned: bool,
    pub(super) released: bool,
    /// Which sending holds which lane: from `Assign` until the parent has read the end of it.
    pub(super) lanes: BTreeMap<u16, u64>,
    pub(super) sequence: u64,
    /// It was killed when it had kept a finished call to itself for too long.
    pub(super) silent: bool,
    /// A call that was ended and that it has not passed by.
    pub(super) ended: Option<Ticket>,
}

impl Process {
    pub(super) fn new(id: WorkerId, tasks_left: u64) -> Self {
        Self {
            id,
            page: Page::new(),
            inbox: VecDeque::new(),
            hands: Hands::Empty,
            outbox: VecDeque::new(),
            pipe: VecDeque::new(),
            step: None,
            stopped: None,
            tasks_left,
            grown: false,
            resigned: false,
            woken: None,
            dead: false,
            killed_to_death: false,
            unsaid: None,
            ready: false,
            ready_at: Moment(0),
            assigned_at: Moment(0),
            touched_at: Moment(0),
            reaped: false,
            orphaned: false,
            condemned: false,
            killed: false,
            retired: false,
            resignation: false,
            surplus: false,
            leaves: false,
            planned: false,
            released: false,
            lanes: BTreeMap::new(),
            sequence: 0,
            silent: false,
            ended: None,
        }
    }

    /// Whether it sleeps and must be woken when something is sent to it.
    pub(super) fn sleeps(&self) -> bool {
        self.step.is_none() && matches!(self.hands, Hands::Empty)
    }

    /// Whether it runs the call that was sent under this name.
    pub(super) fn works_on(&self, ticket: Ticket) -> bool {
        match self.hands {
            Hands::Empty => false,
            // It is over for the worker, too: what is left is to say so.
            Hands::Written(_) => false,
            Hands::Running(frame) | Hands::Writing(frame) => frame.ticket == ticket,
        }
    }

    /// Whether the parent waits for it to become ready.
    pub(super) fn is_starting(&self) -> bool {
        !self.ready && !self.reaped && !self.killed
    }

    /// Whether it does what a call wants, unknown how long and with no limit, or has finished such
    /// a call and not said so: stopped there, nobody can tell it from one that works.
    pub(super) fn stopped_unseen(&self, limited: impl Fn(usize) -> bool) -> bool {
        let running = match self.hands {
            Hands::Empty => false,
            Hands::Running(frame) | Hands::Writing(frame) | Hands::Written(frame) => {
                !limited(frame.job)
            }
        };
        let unsaid = self
            .outbox
            .iter()
            .chain(&self.pipe)
            .any(|message| match message {
                Message::Response(frame) => !limited(frame.job),
                Message::Passed(_) | Message::Resigned => false,
            });
        self.stopped.is_some() && (running || unsaid)
    }

    /// One step of its loop.
    pub(super) fn take_step(&mut self, now: Moment, rng: &mut Rng) -> Stepped {
        match self.hands {
            Hands::Empty => self.read_on(now),
            Hands::Running(frame) if frame.large => self.begin_writing(frame, now, rng),
            Hands::Running(frame) => {
                self.hands = Hands::Empty;
                let done = self.page.finish(frame.ticket);
                self.say(frame, done, now);
                Stepped {
                    next: Some(rng.up_to(500)),
                    spoke: true,
                    ..Stepped::default()
                }
            }
            Hands::Writing(frame) => {
                // The parent may read it whole before the word says so: the next step is later.
                self.pipe.push_back(Message::Response(frame));
                self.task_over(frame);
                self.flush();
                self.hands = Hands::Written(frame);
                Stepped {
                    next: Some(rng.up_to(200_000)),
                    spoke: true,
                    ..Stepped::default()
                }
            }
            Hands::Written(frame) => {
                // Ended meanwhile or not, it has been said.
                self.page.finish(frame.ticket);
                self.hands = Hands::Empty;
                Stepped {
                    next: Some(rng.up_to(500)),
                    ..Stepped::default()
                }
            }
        }
    }

    fn read_on(&mut self, now: Moment) -> Stepped {
        if self.resigned {
            self.inbox.clear();
        }
        let Some(frame) = self.inbox.pop_front() else {
            return Stepped {
                left: self.retired,
                ..Stepped::default()
            };
        };
        if self.page.start(frame.ticket, now) {
            self.spend();
            self.grown |= frame.grows;
            self.hands = Hands::Running(frame);
            let (next, started) = (Some(frame.length), Some(frame.job));
            return Stepped {
                next,
                started,
                ..Stepped::default()
            };
        }
        self.outbox.push_back(Message::Passed(frame.ticket));
        Stepped {
            next: Some(Duration::from_nanos(200)),
            spoke: true,
            ..Stepped::default()
        }
    }

    fn begin_writing(&mut self, frame: Frame, now: Moment, rng: &mut Rng) -> Stepped {
        self.flush();
        if self.page.is_running(frame.ticket) {
            self.hands = Hands::Writing(frame);
        } else {
            self.hands = Hands::Empty;
            self.say(frame, false, now);
        }
        Stepped {
            next: Some(rng.spread(1_000, 20_000_000)),
            spoke: true,
            ..Stepped::default()
        }
    }

    fn say(&mut self, frame: Frame, done: bool, now: Moment) {
        self.unsaid.get_or_insert(now);
        self.outbox.push_back(match done {
            true => Message::Response(frame),
            false => Message::Passed(frame.ticket),
        });
        self.task_over(frame);
    }

    /// A task has come to its end, and may have been the last.
    fn task_over(&mut self, frame: Frame) {
        if frame.last || self.grown {
            self.resigned = true;
            self.outbox.push_back(Message::Resigned);
        }
    }

    /// Writes out what is finished.
    pub(super) fn flush(&mut self) {
        self.pipe.append(&mut self.outbox);
        self.unsaid = None;
    }

    /// It is dead. What was finished is still in the pipe and the outbox; the rest is gone.
    pub(super) fn die(&mut self, killed: bool) {
        self.dead = true;
        self.killed_to_death = killed;
        self.hands = Hands::Empty;
        self.step = None;
        self.outbox
            .retain(|message| matches!(message, Message::Response(_)));
    }
}
