//! The socket of a connection, which its two halves share: reading and writing without waiting, and
//! waiting for either, asleep or in a future. What is left to do when nobody has it any more: `rest`.

mod rest;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::FutureExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;

use super::error::ConnectionError;
use super::inbox::Inbox;
use super::outgoing::{Frame, Outgoing};
use crate::process::{Keeper, home};
use crate::sys::{reactor, ready, stream};

/// One end's socket.
#[derive(Debug)]
pub(super) struct Link {
    registrations: Mutex<Vec<Registration>>,
    socket: Arc<OwnedFd>,
    carries_descriptors: bool,
    outgoing: Mutex<Outgoing>,
    /// The number of the error that has ended it, if one has. The system tells it once, to whoever
    /// reads or writes first.
    lost: OnceLock<i32>,
    /// How many of the halves are here of an end that is nowhere else; else [`ELSEWHERE`](rest::ELSEWHERE).
    halves: AtomicU8,
    /// Told when none of these is left.
    given_up: Notify,
}

/// A place in the reactor of a runtime.
#[derive(Debug)]
struct Registration {
    /// Who asked for it, `None` where there was no runtime.
    asker: Option<runtime::Id>,
    /// Whose reactor it is.
    home: runtime::Id,
    descriptor: Arc<AsyncFd<Arc<OwnedFd>>>,
    /// What drives that, where the one who asked does not.
    _keeper: Option<Arc<Keeper>>,
}

impl Link {
    /// Takes charge of a stream socket.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            carries_descriptors: stream::carries_descriptors(&socket)?,
            registrations: Mutex::default(),
            socket: Arc::new(socket),
            outgoing: Mutex::default(),
            lost: OnceLock::new(),
            halves: AtomicU8::new(rest::ELSEWHERE),
            given_up: Notify::new(),
        }))
    }

    /// Whether descriptors can go beside what is sent.
    pub(super) fn carries_descriptors(&self) -> bool {
        self.carries_descriptors
    }

    /// What waits to be written. The lock is not held while anybody waits.
    pub(super) fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        lock(&self.outgoing)
    }

    /// Reads once.
    pub(super) fn read(&self, inbox: &mut Inbox) -> io::Result<()> {
        match stream::receive(&self.socket, inbox.room()) {
            Ok(received) => match self.lost.get() {
                // After the error was told, nothing looks like an orderly end.
                Some(&why) if received.count == 0 => inbox.lose(why),
                _ => inbox.fill(received),
            },
            Err(error) => inbox.lose(self.note_loss(&error).ok_or(error)?),
        }
        Ok(())
    }

    /// Writes once, see [`Outgoing::write`].
    pub(super) fn write(&self, frame: &mut Option<Frame>) -> io::Result<bool> {
        let written = self.outgoing().write(&self.socket, frame);
        written.inspect_err(|error| {
            self.note_loss(error);
        })
    }

    /// Notes an error that has ended the connection; that can be so with TCP alone, where the network
    /// is between. Returns its number.
    fn note_loss(&self, error: &io::Error) -> Option<i32> {
        use io::ErrorKind::{Interrupted, OutOfMemory, WouldBlock};
        let passes = matches!(error.kind(), Interrupted | OutOfMemory | WouldBlock);
        if self.carries_descriptors || passes {
            return None;
        }
        let number = error.raw_os_error()?;
        Some(*self.lost.get_or_init(|| number))
    }

    /// Takes it out of all reactors: whoever waits next is somebody else.
    pub(super) fn leave(&self) {
        lock(&self.registrations).clear();
    }

    /// Reads once, when there is something.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), ConnectionError>> {
        let read = self.poll(context, Interest::READABLE, || self.read(inbox));
        read.map_err(ConnectionError::receiving)
    }

    /// Is ready when there is something to read, and leaves it there.
    pub(super) fn poll_readable(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        let look = || match ready::is_readable(self.as_fd())? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        let seen = self.poll(context, Interest::READABLE, look);
        seen.map_err(ConnectionError::receiving)
    }

    /// Writes until all that is here is written, and `frame`.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        frame: &mut Option<Frame>,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            let written = self.poll(context, Interest::WRITABLE, || self.write(frame));
            if ready!(written).map_err(ConnectionError::sending)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes a step that may find that it cannot be taken now, once it can. Each step is a turn, after
    /// so many of which others on the runtime have theirs.
    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        interest: Interest,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let (descriptor, is_new) = self.registered()?;
        if is_new {
            // Its reactor has not looked yet.
            match step() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return Poll::Ready(taken),
            }
        }
        loop {
            let mut guard = ready!(if interest.is_readable() {
                descriptor.poll_read_ready(context)
            } else {
                descriptor.poll_write_ready(context)
            })?;
            match step() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Sleeps until there is something to read; tells whether there is.
    pub(super) fn wait_to_read(&self, deadline: Option<Instant>) -> io::Result<bool> {
        ready::wait_to_read(self.as_fd(), deadline)
    }

    /// Sleeps until something can be written; tells whether it can.
    pub(super) fn wait_to_write(&self, deadline: Option<Instant>) -> io::Result<bool> {
        ready::wait_to_write(self.as_fd(), deadline)
    }

    /// Sleeps until something can be written or read; tells whether it can.
    pub(super) fn wait_to_write_or_read(&self, deadline: Option<Instant>) -> io::Result<bool> {
        ready::wait_to_write_or_read(self.as_fd(), deadline)
    }

    /// The place in the reactor of the runtime that polls, else in that of the crate's thread; and
    /// whether this has made it.
    fn registered(&self) -> io::Result<(Arc<AsyncFd<Arc<OwnedFd>>>, bool)> {
        let asker = Handle::try_current().ok().map(|runtime| runtime.id());
        let mut registrations = lock(&self.registrations);
        if let Some(found) = registrations.iter().find(|one| one.asker == asker) {
            return Ok((Arc::clone(&found.descriptor), false));
        }
        // Those of runtimes that have ended.
        let ended =
            |one: &Registration| matches!(one.descriptor.readable().now_or_never(), Some(Err(_)));
        registrations.retain(|one| !ended(one));
        let (home, keeper) = home()?;
        let known = registrations.iter().find(|one| one.home == home.id());
        let descriptor = match known {
            Some(known) => Arc::clone(&known.descriptor),
            None => {
                let _inside = home.enter();
                let both = Interest::READABLE | Interest::WRITABLE;
                Arc::new(reactor::register(Arc::clone(&self.socket), both)?)
            }
        };
        registrations.push(Registration {
            asker,
            home: home.id(),
            descriptor: Arc::clone(&descriptor),
            _keeper: keeper,
        });
        Ok((descriptor, true))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is kept under these is left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
