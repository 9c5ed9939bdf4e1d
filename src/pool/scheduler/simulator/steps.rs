//! What a worker does, step by step: it reads calls in their order, passes by those that were taken
//! back, runs the others, and answers; and it may be stopped, crash or be killed between any two
//! steps.

use std::time::Duration;

use super::fate::Rng;
use super::plan::{Flaw, Work};
use super::process::{Frame, Hands, Message, Process, Sent};
use crate::pool::scheduler::Ticket;
use crate::sys::clock::Moment;
use crate::wire::page::Step;

/// The longest wait for room in the pipe.
const WAIT: u64 = 20_000_000;

/// What the world must see to after a step.
#[derive(Debug, Default)]
pub(super) struct Stepped {
    /// The next step comes after this.
    pub(super) next: Option<Duration>,
    /// A job, or this item of it, was started, under this name.
    pub(super) started: Option<(usize, u32, Ticket)>,
    /// The answer to this item of a job can be read by the parent, whatever becomes of the worker.
    pub(super) shown: Option<(usize, u32)>,
    /// This async call was begun, under this name.
    pub(super) visited: Option<(usize, Ticket)>,
    /// There is something to be flushed, or something was written.
    pub(super) spoke: bool,
    /// It has left by itself.
    pub(super) left: bool,
    /// What it ran has killed it.
    pub(super) died: bool,
}

impl Process {
    /// One step of its loop; `work` tells what an item of a job is.
    pub(super) fn take_step(
        &mut self,
        now: Moment,
        rng: &mut Rng,
        work: impl Fn(usize, u32) -> Work,
    ) -> Stepped {
        // Now and then the pipe is full, and there is a wait between one thing and the next.
        let soon = Some(match rng.percent(3) {
            true => rng.spread(1_000, WAIT),
            false => rng.up_to(500),
        });
        match self.hands {
            Hands::Empty => self.read_on(now),
            Hands::Running(frame) if frame.work.flaw == Flaw::Deadly => Stepped {
                died: true,
                ..Stepped::default()
            },
            Hands::Running(frame) if frame.work.large => self.begin_writing(frame, now, rng),
            Hands::Running(frame) if frame.items > 0 => {
                let step = self.page.finish_item(frame.ticket);
                self.item_over(frame, step, now, soon)
            }
            Hands::Running(frame) => {
                self.hands = Hands::Empty;
                match self.page.finish(frame.ticket) {
                    true => self.say(Message::Response(frame), now),
                    false => self.say(Message::Passed(frame.ticket), now),
                }
                self.task_over(frame);
                said(soon)
            }
            Hands::Unseen(frame, last) => {
                self.say(Message::Part(frame), now);
                self.task_over(frame);
                let shown = Some((frame.job, frame.item));
                let stepped = self.after_item(frame, last, now, soon);
                Stepped { shown, ..stepped }
            }
            Hands::Between(frame) => self.next_item(frame, now, work),
            Hands::Hosting(frame) => self.take_step_in_room(frame, now, rng),
            Hands::Writing(frame) => {
                // The parent may read it whole before the word says so: the next step is later.
                self.hands = Hands::Written(frame);
                let part = frame.items > 0;
                self.pipe.push_back(match part {
                    true => Message::Part(frame),
                    false => Message::Response(frame),
                });
                self.task_over(frame);
                self.flush();
                Stepped {
                    shown: part.then_some((frame.job, frame.item)),
                    ..said(Some(rng.up_to(200_000)))
                }
            }
            Hands::Written(frame) if frame.items > 0 => match self.page.finish_item(frame.ticket) {
                Step::Ended => self.item_over(frame, Step::Ended, now, soon),
                step => {
                    self.unsaid.get_or_insert(now);
                    self.after_item(frame, step == Step::Last, now, soon)
                }
            },
            Hands::Written(frame) => {
                // Ended meanwhile or not, it has been said.
                self.page.finish(frame.ticket);
                self.hands = Hands::Empty;
                Stepped {
                    next: soon,
                    ..Stepped::default()
                }
            }
        }
    }

    fn read_on(&mut self, now: Moment) -> Stepped {
        if self.resigned {
            self.inbox.retain(|sent| !matches!(sent, Sent::Call(_)));
        }
        let frame = match self.inbox.pop_front() {
            None => {
                return Stepped {
                    left: self.retired,
                    ..Stepped::default()
                };
            }
            Some(Sent::Call(frame)) => frame,
            // It came too late for its room.
            Some(Sent::Enter(guest)) => {
                self.pass_guest(guest);
                return said(Some(Duration::from_nanos(200)));
            }
            Some(Sent::Drop(_)) => return said(Some(Duration::from_nanos(200))),
        };
        if self.page.start(frame.ticket, now) {
            return match frame.room {
                true => self.host(frame),
                false => self.run(frame),
            };
        }
        self.outbox.push_back(Message::Passed(frame.ticket));
        said(Some(Duration::from_nanos(200)))
    }

    fn host(&mut self, frame: Frame) -> Stepped {
        self.served = true;
        self.hands = Hands::Hosting(frame);
        Stepped {
            next: Some(Duration::from_nanos(200)),
            started: Some((frame.job, 0, frame.ticket)),
            ..Stepped::default()
        }
    }

    fn run(&mut self, frame: Frame) -> Stepped {
        self.spend();
        self.served = true;
        self.grown |= frame.work.grows;
        self.hands = Hands::Running(frame);
        Stepped {
            next: Some(frame.work.length),
            started: Some((frame.job, frame.item, frame.ticket)),
            ..Stepped::default()
        }
    }

    /// The swap at the end of an item has been made.
    fn item_over(
        &mut self,
        frame: Frame,
        step: Step,
        now: Moment,
        next: Option<Duration>,
    ) -> Stepped {
        if step == Step::Ended {
            self.hands = Hands::Empty;
            self.outbox.push_back(Message::Passed(frame.ticket));
            self.task_over(frame);
            return said(next);
        }
        self.unsaid.get_or_insert(now);
        self.hands = Hands::Unseen(frame, step == Step::Last);
        Stepped {
            next,
            ..Stepped::default()
        }
    }

    /// The answer to an item is visible.
    fn after_item(
        &mut self,
        frame: Frame,
        last: bool,
        now: Moment,
        next: Option<Duration>,
    ) -> Stepped {
        if last || frame.item + 1 == frame.items || self.resigned {
            self.close(frame, now);
        } else {
            self.hands = Hands::Between(frame);
        }
        said(next)
    }

    fn next_item(
        &mut self,
        frame: Frame,
        now: Moment,
        work: impl Fn(usize, u32) -> Work,
    ) -> Stepped {
        if !self.page.next_item(frame.ticket, now) {
            self.close(frame, now);
            return said(Some(Duration::ZERO));
        }
        if self.outbox.is_empty() {
            self.unsaid = None;
        }
        let item = frame.item + 1;
        let work = work(frame.job, item);
        self.run(Frame {
            item,
            work,
            ..frame
        })
    }

    /// Nothing is left of a chunk.
    fn close(&mut self, frame: Frame, now: Moment) {
        self.page.close(frame.ticket);
        self.hands = Hands::Empty;
        self.say(Message::Response(frame), now);
        self.task_over(frame);
    }

    fn begin_writing(&mut self, frame: Frame, now: Moment, rng: &mut Rng) -> Stepped {
        self.flush();
        if self.page.is_running(frame.ticket) {
            self.hands = Hands::Writing(frame);
        } else {
            self.hands = Hands::Empty;
            self.say(Message::Passed(frame.ticket), now);
            self.task_over(frame);
        }
        said(Some(rng.spread(1_000, 20_000_000)))
    }

    /// A task has come to its end, and may have been the last. Of calls it does not run too many
    /// because it is not given more; of items it counts those that it has run.
    fn task_over(&mut self, frame: Frame) {
        let spent = frame.items > 0 && self.tasks_left == 0;
        self.resigned |= frame.work.last || self.grown || spent;
        if self.resigned {
            self.outbox.push_back(Message::Resigned);
        }
    }

    pub(super) fn say(&mut self, message: Message, now: Moment) {
        // Nobody waits to hear that a call was passed by.
        if !matches!(message, Message::Passed(_)) {
            self.unsaid.get_or_insert(now);
        }
        self.outbox.push_back(message);
    }
}

/// Something was said; the next step comes after this.
pub(super) fn said(next: Option<Duration>) -> Stepped {
    Stepped {
        next,
        spoke: true,
        ..Stepped::default()
    }
}
