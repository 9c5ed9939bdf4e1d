//! A worker process: what the world knows of it, and what its parent has been told. What it does
//! is in [`steps`](super::steps).

use std::collections::{BTreeMap, VecDeque};

use super::page::Page;
use super::plan::Work;
use crate::pool::scheduler::{Ticket, WorkerId};
use crate::sys::clock::Moment;

/// A call as it travels to the worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) ticket: Ticket,
    pub(super) job: usize,
    /// How many items it carries; zero for a call that is no chunk.
    pub(super) items: u32,
    /// It opens a room.
    pub(super) room: bool,
    /// The item that is run.
    pub(super) item: u32,
    /// What that, or the call, is.
    pub(super) work: Work,
}

/// An async call as it travels to the worker, and is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest {
    pub(super) ticket: Ticket,
    pub(super) visit: usize,
    /// What this run of it is.
    pub(super) work: Work,
    /// It lets nothing else run beside it.
    pub(super) hogs: bool,
    /// Until when it runs, once it has been begun.
    pub(super) until: Option<Moment>,
}

/// What travels to the worker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    Call(Frame),
    Enter(Guest),
    Drop(Ticket),
}

/// What a worker says of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Answered,
    /// It is no more.
    Passed,
}

/// What travels back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Response(Frame),
    /// The answer to an item of a chunk.
    Part(Frame),
    Passed(Ticket),
    Guest(Guest, Spoken),
    /// With the response or the passing that stands before it.
    Resigned,
}

/// What the worker is at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hands {
    Empty,
    Running(Frame),
    /// An item is over, and its answer is not visible yet; whether it is the last.
    Unseen(Frame, bool),
    /// An item is over, and the next one has not been begun.
    Between(Frame),
    Writing(Frame),
    Written(Frame),
    /// It is in the room that was opened by this.
    Hosting(Frame),
}

/// The process, what the world knows of it, and what the parent has been told.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: WorkerId,
    pub(super) page: Page,
    pub(super) inbox: VecDeque<Sent>,
    pub(super) hands: Hands,
    /// Who is in its room.
    pub(super) guests: Vec<Guest>,
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
    /// Since when the oldest of the outbox is there, or an item is over.
    pub(super) unsaid: Option<Moment>,

    /// When its start was decided.
    pub(super) begun_at: Moment,
    /// It has begun a call.
    pub(super) served: bool,
    /// The parent has been told: it is ready.
    pub(super) ready: bool,
    /// When that was.
    pub(super) ready_at: Moment,
    /// When the parent was told of its end, if nobody had wanted that.
    pub(super) lost_at: Option<Moment>,
    /// When it was given a call last.
    pub(super) assigned_at: Moment,
    /// When the parent had to do with it last.
    pub(super) touched_at: Moment,
    /// When it was given a room last, or the parent heard of somebody in it.
    pub(super) guest_heard_at: Moment,
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
    /// The same for async calls.
    pub(super) berths: BTreeMap<u16, u64>,
    pub(super) berth_sequence: u64,
    /// Which of those were ended and are not known to be gone, and since when.
    pub(super) expelled: BTreeMap<u64, (usize, Moment)>,
    /// It was given a room just now.
    pub(super) fresh: bool,
    /// The core was told that somebody in its room does not yield.
    pub(super) unyielding: bool,
    /// It was killed when it had kept a finished call to itself for too long.
    pub(super) silent: bool,
    /// A call that was ended and that it has not passed by.
    pub(super) ended: Option<Ticket>,
    /// Until when that may come to its end by itself.
    pub(super) spared_until: Moment,
}

impl Process {
    pub(super) fn new(id: WorkerId, begun_at: Moment, tasks_left: u64) -> Self {
        Self {
            id,
            page: Page::new(),
            inbox: VecDeque::new(),
            hands: Hands::Empty,
            guests: Vec::new(),
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
            begun_at,
            served: false,
            ready: false,
            ready_at: Moment(0),
            lost_at: None,
            assigned_at: Moment(0),
            touched_at: Moment(0),
            guest_heard_at: Moment(0),
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
            berths: BTreeMap::new(),
            berth_sequence: 0,
            expelled: BTreeMap::new(),
            fresh: false,
            unyielding: false,
            silent: false,
            ended: None,
            spared_until: Moment(0),
        }
    }

    /// Whether it sleeps and must be woken when something is sent to it.
    pub(super) fn sleeps(&self) -> bool {
        self.step.is_none() && matches!(self.hands, Hands::Empty)
    }

    /// Whether it runs the call that was sent under this name, or this item of it.
    pub(super) fn works_on(&self, ticket: Ticket, item: u32) -> bool {
        match self.hands {
            Hands::Running(frame) | Hands::Writing(frame) => {
                (frame.ticket, frame.item) == (ticket, item)
            }
            Hands::Hosting(frame) => frame.ticket == ticket || self.lodges(ticket),
            // It is over for the worker, too: what is left is to say so.
            Hands::Empty | Hands::Unseen(..) | Hands::Between(_) | Hands::Written(_) => false,
        }
    }

    /// Whether it runs anything that the parent could end.
    pub(super) fn runs(&self) -> bool {
        match self.hands {
            Hands::Running(frame) | Hands::Writing(frame) | Hands::Hosting(frame) => {
                self.page.is_running(frame.ticket)
            }
            Hands::Empty | Hands::Unseen(..) | Hands::Between(_) | Hands::Written(_) => false,
        }
    }

    /// Whether the item in its hands is over, whatever of that can be seen.
    pub(super) fn is_after_item(&self) -> bool {
        !matches!(self.hands, Hands::Running(_) | Hands::Writing(_))
    }

    /// Whether it is in a room.
    pub(super) fn is_in_room(&self) -> bool {
        matches!(self.hands, Hands::Hosting(_))
    }

    /// Whether it is in a room, and nobody else is.
    pub(super) fn is_alone_in_room(&self) -> bool {
        self.is_in_room() && self.guests.iter().all(|guest| guest.until.is_none())
    }

    /// Whether the parent waits for it to become ready.
    pub(super) fn is_starting(&self) -> bool {
        !self.ready && !self.reaped && !self.killed
    }

    /// Whether it does what a call wants, unknown how long and with no limit, or has finished such
    /// a call and not said so: stopped there, nobody can tell it from one that works.
    pub(super) fn stopped_unseen(
        &self,
        limited: impl Fn(usize) -> bool,
        limited_visit: impl Fn(usize) -> bool,
    ) -> bool {
        let running = match self.hands {
            Hands::Empty => false,
            Hands::Hosting(_) => {
                let mut begun = self.guests.iter().filter(|guest| guest.until.is_some());
                begun.any(|guest| !limited_visit(guest.visit))
            }
            Hands::Running(frame)
            | Hands::Unseen(frame, _)
            | Hands::Between(frame)
            | Hands::Writing(frame)
            | Hands::Written(frame) => !limited(frame.job),
        };
        let unsaid = self
            .outbox
            .iter()
            .chain(&self.pipe)
            .any(|message| match message {
                Message::Response(frame) | Message::Part(frame) => !limited(frame.job),
                Message::Guest(guest, _) => !limited_visit(guest.visit),
                Message::Passed(_) | Message::Resigned => false,
            });
        self.stopped.is_some() && (running || unsaid)
    }

    /// Writes out what is finished.
    pub(super) fn flush(&mut self) {
        self.pipe.append(&mut self.outbox);
        // Who does not go on from one item to the next is as silent as who says nothing.
        if !matches!(self.hands, Hands::Unseen(..) | Hands::Between(_)) {
            self.unsaid = None;
        }
    }

    /// It is dead. What was finished is still in the pipe and the outbox; the rest is gone.
    pub(super) fn die(&mut self, killed: bool) {
        self.dead = true;
        self.killed_to_death = killed;
        self.hands = Hands::Empty;
        self.guests.clear();
        self.step = None;
        self.outbox.retain(|message| match message {
            Message::Response(_) | Message::Part(_) | Message::Guest(_, Spoken::Answered) => true,
            Message::Passed(_) | Message::Guest(_, Spoken::Passed) | Message::Resigned => false,
        });
    }
}
