//! What a running task says beside its result: into the outbox like a response, and flushed by the
//! watcher a moment later, together with what else is said in that moment.

use std::io;
use std::sync::Arc;

use super::outbox::Outbox;
use super::watch::Watcher;
use crate::task::progress::Outlet;
use crate::wire::Ticket;
use crate::wire::frame::{Header, Kind};

/// The way out for updates.
pub(super) struct Reports {
    pub(super) outbox: Arc<Outbox>,
    pub(super) watcher: Watcher,
    pub(super) max_frame: usize,
}

impl Outlet for Reports {
    fn report(
        &self,
        (ticket, call): (Ticket, u64),
        update: &[u8],
        admit: &mut dyn FnMut() -> bool,
    ) -> io::Result<bool> {
        let header = Header {
            ticket,
            call,
            ..Header::control(Kind::Update, update.len())
        };
        let sent = self.outbox.report(header, update, admit)?;
        if sent {
            self.watcher.wake();
        }
        Ok(sent)
    }

    fn flush(&self) {
        // An error is met again by the serving thread, which ends the worker.
        let _ = self.outbox.flush();
    }

    fn max_frame(&self) -> usize {
        self.max_frame
    }
}
