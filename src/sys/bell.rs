//! A bell that is heard in every process that has it, and what a sleeper keeps watch on beside it.
//!
//! It is an eventfd that is written and never read: each ring is an edge for whoever keeps watch, and
//! nobody can take it from another, however his process ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// Makes a bell.
pub(crate) fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Rings it.
pub(crate) fn ring(bell: impl AsFd) {
    // It is full after 2^64 rings, and cannot fail otherwise.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// One sleeper's watch. As a descriptor it is readable when there is news.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<OwnedFd>);

impl Watch {
    /// Begins to listen for the bell. That it was ever rung before is the first news.
    pub(crate) fn of(bell: impl AsFd) -> io::Result<Self> {
        let watch = Self(Arc::new(epoll::create(CreateFlags::CLOEXEC)?));
        let edges = EventFlags::IN | EventFlags::ET;
        epoll::add(&watch.0, bell, EventData::new_u64(0), edges)?;
        Ok(watch)
    }

    /// Watches a process as well, whose end is news for as long as it is watched.
    pub(crate) fn add(&self, pidfd: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            pidfd,
            EventData::new_u64(1),
            EventFlags::IN,
        )?)
    }

    /// Watches it no more.
    pub(crate) fn remove(&self, pidfd: impl AsFd) {
        // It is there, or closing it has removed it.
        let _ = epoll::delete(&self.0, pidfd);
    }

    /// Sleeps until there is news, at most until `deadline`, and takes it in.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> io::Result<()> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 4];
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // A limit beyond what the clock can say is none.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match epoll::wait(&self.0, &mut events, left.as_ref()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Takes in what news there is, without waiting for any.
    pub(crate) fn take_in(&self) -> io::Result<()> {
        self.sleep(Some(Instant::now()))
    }
}

impl Watch {
    /// What is to be registered, to be told when there is news.
    pub(crate) fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }
}
