//! A room: async calls beside each other on this worker's main thread, for as long as there are
//! any.
//!
//! The parent opens a room by a request like any other, and sends the calls that are to go in
//! there. The room is left, and that request answered, when no call is in it and none has come. The
//! runtime stays, so that what tasks have left there (a client with its connections) goes on when
//! the next room is opened.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::select;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};

use super::guest::Guest;
use super::intake::Intake;
use super::serve::{Desk, KEPT, flush_stdio};
use super::watch::Watcher;
use crate::sys::reactor;
use crate::task::entry::Argument;
use crate::task::head::CallHead;
use crate::wire::Ticket;
use crate::wire::frame::Kind;

/// The place where async calls are run.
pub(super) struct Room {
    shared: Rc<Shared>,
    requests: AsyncFd<Arc<OwnedFd>>,
    /// Before the runtime: what is spawned here is dropped while that is still there.
    local: LocalSet,
    runtime: Option<Runtime>,
}

/// What a room and its guests have in common.
pub(super) struct Shared {
    pub(super) desk: Rc<Desk>,
    watcher: Rc<Watcher>,
    /// Where results are encoded.
    pub(super) scratch: RefCell<Vec<u8>>,
    guests: RefCell<HashMap<Ticket, AbortHandle>>,
    /// How many calls have been begun and are not over.
    pub(super) under_way: Cell<u64>,
    /// Rung when something has been answered.
    bell: Notify,
    /// Why nothing more can be answered.
    broken: RefCell<Option<io::Error>>,
}

impl Shared {
    /// A guest has been answered, or could not be.
    pub(super) fn answered(&self, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.broken.borrow_mut().get_or_insert(error);
        }
        // Should somebody keep the thread to himself, the watcher flushes.
        self.watcher.wake();
        self.bell.notify_one();
    }

    /// So many more calls are under way.
    pub(super) fn count(&self, calls: i64) {
        let under_way = self.under_way.get();
        self.under_way.set(under_way.saturating_add_signed(calls));
    }

    /// A guest has left.
    pub(super) fn left(&self, ticket: Ticket) {
        self.guests.borrow_mut().remove(&ticket);
        self.bell.notify_one();
    }
}

impl Room {
    pub(super) fn new(intake: &Intake, desk: Rc<Desk>, watcher: Rc<Watcher>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let requests = reactor::register(Arc::new(intake.pipe()?), Interest::READABLE)?;
        drop(entered);
        Ok(Self {
            shared: Rc::new(Shared {
                desk,
                watcher,
                scratch: RefCell::default(),
                guests: RefCell::default(),
                under_way: Cell::new(0),
                bell: Notify::new(),
                broken: RefCell::new(None),
            }),
            requests,
            local: LocalSet::new(),
            runtime: Some(runtime),
        })
    }

    /// Runs what comes until nothing is left.
    pub(super) fn run(&self, intake: &mut Intake) -> io::Result<()> {
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        self.local.block_on(runtime, self.receive(intake))
    }

    async fn receive(&self, intake: &mut Intake) -> io::Result<()> {
        let mut more = true;
        loop {
            let elsewhere = self.let_in(intake)?;
            if let Some(error) = self.shared.broken.take() {
                return Err(error);
            }
            if more && !elsewhere {
                match intake.try_fill()? {
                    Some(false) => more = false,
                    Some(true) => continue,
                    None => {}
                }
            }
            self.shared.desk.outbox.flush()?;
            if self.shared.guests.borrow().is_empty() {
                self.shared.scratch.borrow_mut().shrink_to(KEPT);
                return Ok(());
            }
            flush_stdio();
            let bell = std::pin::pin!(self.shared.bell.notified());
            if more && !elsewhere {
                select(bell, std::pin::pin!(self.readable())).await;
            } else {
                bell.await;
            }
        }
    }

    /// Waits until there may be something to read; asked again only when there was nothing.
    async fn readable(&self) {
        if let Ok(mut ready) = self.requests.readable().await {
            ready.clear_ready();
        }
    }

    /// Lets in who has arrived, and sees those out who are to go. True if the next request is for
    /// after the room.
    fn let_in(&self, intake: &mut Intake) -> io::Result<bool> {
        loop {
            match intake.peek().map_err(io::Error::other)? {
                None => return Ok(false),
                Some(Kind::Enter | Kind::Drop) => {}
                Some(_) => return Ok(true),
            }
            let Some((header, payload)) = intake.next().map_err(io::Error::other)? else {
                return Ok(false);
            };
            if header.kind == Kind::Drop {
                let guest = self.shared.guests.borrow().get(&header.ticket).cloned();
                guest.inspect(AbortHandle::abort);
                continue;
            }
            let Some((head, argument)) = CallHead::read(payload) else {
                self.shared.desk.refuse(header, "the request has no head")?;
                continue;
            };
            let argument = Argument {
                bytes: argument,
                beside: self.shared.desk.fetch_luggage(header)?,
            };
            let guest = Guest::new(self.shared.clone(), header, &head, argument);
            let task = self.local.spawn_local(guest);
            let guests = &mut *self.shared.guests.borrow_mut();
            guests.insert(header.ticket, task.abort_handle());
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Blocking work that a task has left there is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
