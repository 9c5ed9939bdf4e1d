//! What an end still has to do when whoever sent on it has left: the rest of a message that was begun is
//! written, whatever happens.
//!
//! The other end may do the same, and neither is read any more. So once nobody will receive at an end,
//! what comes there is read, too, and dropped.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::select;
use tokio::task::yield_now;

use super::Link;
use crate::process::Keeper;
use crate::sys::stream;

/// So many bytes that nobody wants are read at once.
const UNWANTED: usize = 16 * 1024;

impl Link {
    /// Notes that both halves are here.
    pub(in super::super) fn is_whole(&self) {
        self.halves.store(2, Relaxed);
    }

    /// Notes that there is a copy elsewhere, for which things may come here.
    pub(in super::super) fn is_copied(&self) {
        self.halves.store(0, Relaxed);
    }

    /// Notes that a half is dropped. Of an end that was whole nothing more will be received then.
    pub(in super::super) fn let_go(&self) {
        let one_less = |halves: u8| halves.checked_sub(1);
        if self.halves.fetch_update(Relaxed, Relaxed, one_less) == Ok(1) {
            self.given_up.notify_one();
        }
    }

    /// Has the rest of a message that was begun written by the crate's thread, whatever becomes of
    /// the runtime and of the connection.
    pub(in super::super) fn tend(self: &Arc<Self>) {
        let mut outgoing = self.outgoing();
        if outgoing.is_empty() || outgoing.tended {
            return;
        }
        // Where no thread can be started, the next who sends writes it.
        let Ok(keeper) = Keeper::get() else {
            return;
        };
        outgoing.tended = true;
        drop(outgoing);
        let link = Arc::clone(self);
        let runtime = keeper.handle().clone();
        runtime.spawn(async move {
            // An error hits whoever sends next as well.
            let _ = select(pin!(link.see_off()), pin!(link.pass_over())).await;
            drop(link);
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
                    outgoing.tended = false;
                    return Ok(());
                }
                (Err(error), _) | (_, Err(error)) => {
                    outgoing.tended = false;
                    return Err(error);
                }
            }
        }
    }

    /// Once nobody will receive here any more, reads what comes and drops it: the other end may be
    /// waiting for that, before it reads what is still to be written. Never ends.
    async fn pass_over(&self) {
        self.given_up.notified().await;
        // What else there is to be told, writing is told as well.
        let Err(_) = self.read_in_vain().await;
        std::future::pending().await
    }

    async fn read_in_vain(&self) -> io::Result<Infallible> {
        let mut unwanted = vec![0; UNWANTED];
        loop {
            let (descriptor, _) = self.registered()?;
            let mut ready = descriptor.readable().await?;
            match stream::receive(&self.socket, &mut unwanted) {
                Ok(received) if received.count == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                received => drop(received?),
            }
            // The crate's thread has other things to do.
            yield_now().await;
        }
    }
}
