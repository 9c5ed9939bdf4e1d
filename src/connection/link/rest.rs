//! What an end still has to do when whoever sent on it has left: the rest of a message that was begun is
//! written, whatever happens.
//!
//! The other end may do the same, and neither is read any more. So once nobody will receive at an end,
//! what comes there is read, too, and dropped.
//!
//! TCP forgets what is on its way when a socket is closed at which something is unread, or still comes: it
//! is closed when the other machine has all of it. What was dropped is no secret: the other end is told of a
//! reset then, and not of an end.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures::future::select;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Link;
use crate::process::Keeper;
use crate::process::unsent::Unsent;
use crate::sys::{ready, stream};

/// So many bytes that nobody wants are read at once.
const UNWANTED: usize = 16 * 1024;

/// Whether the other machine has everything is asked after so long, and then less and less often.
const SOON: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_secs(1);

/// Instead of how many halves are here: the end is, or may be, elsewhere too.
pub(super) const ELSEWHERE: u8 = u8::MAX;

impl Link {
    /// Notes that both halves are here.
    pub(in super::super) fn is_whole(&self) {
        self.halves.store(2, Relaxed);
    }

    /// Notes that there is a copy elsewhere, for which things may come here.
    pub(in super::super) fn is_copied(&self) {
        self.halves.store(ELSEWHERE, Relaxed);
    }

    /// Notes that a half is dropped. Of an end that was whole nothing more will be received then.
    pub(in super::super) fn let_go(self: &Arc<Self>) {
        let one_less = |halves: u8| (halves != ELSEWHERE).then_some(halves.saturating_sub(1));
        if self.halves.fetch_update(Relaxed, Relaxed, one_less) == Ok(1) {
            self.given_up.notify_one();
            self.tend();
        }
    }

    fn is_given_up(&self) -> bool {
        self.halves.load(Relaxed) == 0
    }

    /// Has the rest of a message that was begun written by the crate's thread, whatever becomes of
    /// the runtime and of the connection.
    pub(in super::super) fn tend(self: &Arc<Self>) {
        let mut outgoing = self.outgoing();
        if outgoing.is_tended() || outgoing.is_empty() && !self.would_be_cut() {
            return;
        }
        // Where no thread can be started, the next who sends writes it.
        let Ok(keeper) = Keeper::get() else {
            return;
        };
        let passed_over = AtomicBool::new(outgoing.is_empty());
        outgoing.set_tended(true);
        drop(outgoing);
        // Also what is on its way: where there is nothing to be written, that is all.
        let unsent = Unsent::begin();
        let link = Arc::clone(self);
        let runtime = keeper.handle().clone();
        runtime.spawn(async move {
            let whole = async {
                // An error hits whoever sends next as well.
                if link.see_off().await.is_ok() {
                    link.arrive().await;
                }
            };
            select(pin!(whole), pin!(link.pass_over(&passed_over))).await;
            if passed_over.into_inner() && !link.carries_descriptors {
                let _ = stream::reset_when_closed(&link.socket);
            }
            drop(link);
            drop(unsent);
            drop(keeper);
        });
    }

    async fn see_off(&self) -> io::Result<()> {
        loop {
            // `poll_write` is for one at a time, and that is whoever sends.
            let descriptor = self.registered();
            let ready = match &descriptor {
                Ok((descriptor, _)) => descriptor.writable().await,
                Err(error) => Err(io::Error::from(error.kind())),
            };
            let mut outgoing = self.outgoing();
            let written = outgoing.write(&self.socket, &mut None);
            match (ready, written) {
                (Ok(mut ready), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                (Ok(_), Ok(false)) => {}
                (_, Ok(true)) => {
                    outgoing.set_tended(false);
                    return Ok(());
                }
                (Err(error), _) | (_, Err(error)) => {
                    outgoing.give_up();
                    return Err(error);
                }
            }
        }
    }

    /// Whether closing the socket now would take from the other end what is on its way there.
    fn would_be_cut(&self) -> bool {
        let unread = || stream::unread(&self.socket).is_ok_and(|bytes| bytes > 0);
        !self.carries_descriptors && self.is_given_up() && unread() && self.is_on_its_way()
    }

    /// Whether the other machine does not have everything yet, and may still get it.
    fn is_on_its_way(&self) -> bool {
        let gone = ready::is_gone(self.socket.as_fd()).unwrap_or(true);
        !gone && stream::unacknowledged(&self.socket).is_ok_and(|bytes| bytes > 0)
    }

    /// Of an end of which nobody has anything any more: waits until the other machine has what was written.
    async fn arrive(&self) {
        let mut pause = SOON;
        while !self.carries_descriptors && self.is_given_up() && self.is_on_its_way() {
            sleep(pause).await;
            pause = SELDOM.min(pause * 2);
        }
    }

    /// Once nobody will receive here any more, reads what comes and drops it: the other end may be
    /// waiting for that, before it reads what is still to be written. Never ends.
    async fn pass_over(&self, something: &AtomicBool) {
        self.given_up.notified().await;
        // What else there is to be told, writing is told as well.
        let Err(_) = self.read_in_vain(something).await;
        std::future::pending().await
    }

    async fn read_in_vain(&self, something: &AtomicBool) -> io::Result<Infallible> {
        let mut unwanted = vec![0; UNWANTED];
        loop {
            let (descriptor, _) = self.registered()?;
            let mut ready = descriptor.readable().await?;
            match stream::receive(&self.socket, &mut unwanted) {
                Ok(received) if received.count == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                received => {
                    drop(received?);
                    something.store(true, Relaxed);
                }
            }
            // The crate's thread has other things to do.
            yield_now().await;
        }
    }
}
