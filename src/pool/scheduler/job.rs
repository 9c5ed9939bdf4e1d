//! A job in the pool, as the scheduler knows it. A great many may wait, and most are plain: what only
//! some of them have is kept beside.

use std::time::Duration;

use super::again::Pause;
use super::event::{JobKey, JobSpec, Ticket, WorkerId};
use super::line::Waiter;
use super::retry::Retry;
use crate::sys::clock::Moment;

/// A job in the pool: what is known of it, what is attached to it, and where it is.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) number: u64,
    /// Which room it is; zero for a call.
    pub(super) room: u64,
    pub(super) load: Load,
    pub(super) attachment: T,
    /// The worker that holds it; `None` while it waits in the line, or pauses.
    pub(super) sent: Option<(WorkerId, Ticket)>,
    rare: Option<Box<Rare>>,
}

/// What a job is for a worker that gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Jobs of one kind are expected to take as long as each other.
    pub(super) kind: u64,
    /// The size of the encoded call.
    pub(super) bytes: usize,
    /// How many items it carries; zero for a call that is no chunk.
    pub(super) items: u32,
}

/// What only some jobs have: limits, a rank, a past.
#[derive(Clone, Debug)]
pub(super) struct Rare {
    pub(super) timeout: Option<Duration>,
    pub(super) soft_timeout: Option<Duration>,
    pub(super) deadline: Option<Moment>,
    pub(super) retry: Retry,
    pub(super) priority: i32,
    pub(super) key: Option<u64>,
    /// The moment until which it may wait.
    pub(super) until: Option<Moment>,
    /// The place for whose worker it waits in the line; `None` for any.
    pub(super) home: Option<usize>,
    /// It waits to be run again.
    pub(super) pause: Option<Pause>,
    /// How many of its runs have failed.
    pub(super) failures: u32,
}

/// What a plain job has of all that.
const PLAIN: Rare = Rare {
    timeout: None,
    soft_timeout: None,
    deadline: None,
    retry: Retry::NEVER,
    priority: 0,
    key: None,
    until: None,
    home: None,
    pause: None,
    failures: 0,
};

impl<T> Job<T> {
    /// A job of that number, which comes in now and waits for the worker of that place, or any.
    pub(super) fn new(
        (number, room): (u64, u64),
        now: Moment,
        spec: &JobSpec,
        home: Option<usize>,
        attachment: T,
    ) -> Self {
        let load = Load {
            kind: spec.kind,
            bytes: spec.bytes,
            items: spec.items,
        };
        let rare = (!spec.is_plain()).then(|| {
            let waits_until = spec.queue_timeout.map(|limit| now + limit);
            Box::new(Rare {
                timeout: spec.timeout,
                soft_timeout: spec.soft_timeout,
                deadline: spec.deadline,
                retry: spec.retry,
                priority: spec.priority,
                key: spec.key,
                until: waits_until.into_iter().chain(spec.deadline).min(),
                home,
                ..PLAIN
            })
        });
        Self {
            number,
            room,
            load,
            attachment,
            sent: None,
            rare,
        }
    }

    /// Whether that is its key, and not one of a job that was in its place before.
    pub(super) fn is(&self, key: JobKey) -> bool {
        (self.number, self.room) == (key.number, key.room)
    }

    /// What only some have.
    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&PLAIN)
    }

    /// What only some have, to be changed.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| Box::new(PLAIN))
    }

    /// Has it wait for the worker of that place, or any.
    pub(super) fn wait_at(&mut self, home: Option<usize>) {
        if self.rare().home != home {
            self.rare_mut().home = home;
        }
    }

    /// What the line has to know of it.
    pub(super) fn waiter(&self, key: JobKey) -> Waiter {
        let rare = self.rare();
        Waiter {
            job: key,
            priority: rare.priority,
            until: rare.until,
            home: rare.home,
        }
    }
}
