//! A ready worker, as its parent has it: its two pipes and what goes beside
//! them, its page, its process.
//!
//! A task on the pool's runtime serves it ([`Slot::serve`]): reads responses, writes requests that
//! could not be written at once, and sees the worker off when its process is dead. All
//! that the task does can be done by anyone else as well ([`Slot::pump`]), so a blocked or absent
//! runtime never makes a worker unreachable.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use rustix::thread::sched_getcpu;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::Owner;
use super::incoming::{Incoming, Pipe};
use super::outgoing::{Flushed, Outgoing};
use super::stdio::Tail;
use crate::process::Child;
use crate::sys::clock::Moment;
use crate::sys::memory::Memory;
use crate::sys::pipe::Enlargement;
use crate::sys::reactor;
use crate::wire::codec::Frame;
use crate::wire::frame::{Header, Kind};
use crate::wire::luggage::Luggage;
use crate::wire::packed::Packed;
use crate::wire::page::ControlPage;

/// How many reads one look at the response pipe may take before others on the runtime have a turn.
const READS: usize = 16;

/// A ready worker.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Which place it fills, and how many workers the pool had started before it.
    pub(crate) place: usize,
    /// Which worker of the pool it is.
    pub(crate) number: u64,
    /// What it is called.
    pub(crate) name: String,
    /// Its process.
    pub(crate) child: Child,
    /// The words by which calls change hands.
    pub(crate) page: ControlPage,
    /// Its memory, where that is bounded.
    pub(crate) memory: Option<Memory>,
    /// What it printed last, where that is captured.
    pub(crate) tail: Option<Arc<Tail>>,
    pub(super) outgoing: Outgoing,
    pub(super) luggage: Arc<Luggage>,
    pub(super) incoming: Mutex<Incoming>,
    pub(super) requests: Arc<OwnedFd>,
    pub(super) responses: Arc<OwnedFd>,
    /// Kept so that a write to a dead worker is "full" and never a signal.
    pub(super) _reader: OwnedFd,
    pub(super) _enlarged: [Option<Enlargement>; 2],
    /// Ends the readers of its outputs, when dropped.
    pub(super) _stops: [Option<oneshot::Sender<()>>; 2],
    pub(super) bell: Bell,
    pub(super) served: [AtomicBool; 2],
}

/// How others call the serving task.
#[derive(Debug, Default)]
pub(super) struct Bell {
    wakers: [AtomicWaker; 2],
    /// Something is queued that nobody has promised to write.
    flush: AtomicBool,
    /// The request pipe was full when it was last written to.
    blocked: AtomicBool,
    /// There was no room for descriptors.
    crowded: AtomicBool,
}

/// Which runtime a serving task runs on; a slot has at most one on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The pool's runtime.
    Home = 0,
    /// The crate's own thread, where nobody drives the pool's runtime.
    Keeper = 1,
}

/// How it went to look for what a worker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Something was found, and handed over.
    Found,
    /// There was nothing for as long as was looked.
    Nothing,
    /// It was not looked: the worker is on this processor.
    Barred,
}

/// Why the serving task was woken.
enum Call {
    Readable,
    Flush,
    Writable,
    Dead,
    Orphaned,
}

impl Slot {
    /// Claims the right to serve the worker on that runtime; true for the first to ask.
    pub(crate) fn claim(&self, server: Server) -> bool {
        !self.served[server as usize].swap(true, Ordering::AcqRel)
    }

    /// How many bytes of memory it uses; `None` if it is dead, or the system does not tell.
    pub(crate) fn memory_used(&self) -> Option<u64> {
        let pidfd = || self.child.pidfd().as_fd();
        match &self.memory {
            Some(memory) => memory.used().ok(),
            // Opened for this look: a pool may have more workers than descriptors to spare.
            None => Memory::of(self.child.pid(), pidfd()).ok()?.used().ok(),
        }
    }

    /// Queues a request. [`flush`](Self::flush) or [`flush_soon`](Self::flush_soon) sends it.
    pub(crate) fn push(&self, header: Header, head: &[u8], argument: &Packed) {
        self.outgoing.push(header, head, argument);
    }

    /// Queues a request without particulars.
    pub(crate) fn push_bare(&self, header: Header) {
        self.push(header, &[], &Packed::copy_of(&[]));
    }

    /// Writes what is queued now, as far as the pipe takes it.
    pub(crate) fn flush(&self) {
        if self.outgoing.try_flush() != Some(Flushed::All) {
            self.flush_soon();
        }
    }

    /// Has what is queued written by the serving task, together with what is queued until then.
    pub(crate) fn flush_soon(&self) {
        if self.claim_bell() {
            self.ring();
        }
    }

    /// Asks the serving task to write; true for the first to ask, who has to [`ring`](Self::ring).
    pub(crate) fn claim_bell(&self) -> bool {
        !self.bell.flush.swap(true, Ordering::AcqRel)
    }

    /// Wakes the serving task.
    pub(crate) fn ring(&self) {
        self.bell.wakers.iter().for_each(AtomicWaker::wake);
    }

    /// Tells the worker to end when it has done everything that was sent before.
    pub(crate) fn retire(&self) {
        self.push_bare(Header::control(Kind::Leave, 0));
        self.flush();
    }

    /// Reads what has come, without waiting, and hands it to the owner.
    pub(crate) fn pump<O: Owner>(self: &Arc<Self>, owner: &O) -> Pipe {
        let mut incoming = lock(&self.incoming);
        let mut outcome = Ok(Pipe::More);
        for _ in 0..READS {
            outcome = incoming.read(&self.responses);
            if !matches!(outcome, Ok(Pipe::More)) {
                break;
            }
        }
        let reason = outcome.as_ref().err().map(ToString::to_string);
        self.hand_over(incoming, owner, reason);
        outcome.unwrap_or(Pipe::Ended)
    }

    /// Looks for something that the worker says, awake, until then at the longest, and hands it to the
    /// owner. Not where the worker needs the processor that this would keep.
    pub(crate) fn look<O: Owner>(self: &Arc<Self>, owner: &O, until: Moment) -> Sight {
        let here = sched_getcpu();
        if !self.page.ran_elsewhere(here) {
            return Sight::Barred;
        }
        let _look = self.page.look(here);
        loop {
            if self.take(owner) {
                return Sight::Found;
            }
            if Moment::now() >= until {
                return Sight::Nothing;
            }
            std::hint::spin_loop();
        }
    }

    /// Takes in what the page says is there, wherever it is; tells whether anything was.
    fn take<O: Owner>(self: &Arc<Self>, owner: &O) -> bool {
        // Whoever has the lock does the same.
        let Ok(mut incoming) = self.incoming.try_lock() else {
            return false;
        };
        if !incoming.has_more(&self.page) {
            return false;
        }
        let mut taken = incoming.take(&self.page);
        if let Ok(false) = taken {
            // The worker was first, and writes it to the pipe.
            taken = incoming.read(&self.responses).map(|_| true);
        }
        let reason = taken.err().map(|error| error.to_string());
        if incoming.frames.is_empty() && reason.is_none() {
            return false;
        }
        self.hand_over(incoming, owner, reason);
        true
    }

    /// Hands the frames over under the lock, which keeps their order, and does the rest without.
    fn hand_over<O: Owner>(
        self: &Arc<Self>,
        mut incoming: MutexGuard<'_, Incoming>,
        owner: &O,
        mut reason: Option<String>,
    ) {
        let mut done = None;
        // Looked at before it is swapped: hardly ever is there anything.
        let crowded = &self.bell.crowded;
        if crowded.load(Ordering::Acquire) && crowded.swap(false, Ordering::AcqRel) {
            // What has been said may be that some were taken.
            self.flush_soon();
        }
        if !incoming.frames.is_empty() {
            let mut frames = std::mem::take(&mut incoming.frames);
            frames
                .iter_mut()
                .filter(|frame| frame.header.beside)
                .for_each(|frame| self.fetch_luggage(frame));
            let (left, verdict) = owner.received(self, &mut frames);
            done = Some(left);
            frames.clear();
            incoming.frames = frames;
            if let Err(violation) = verdict {
                reason = Some(violation);
            }
        }
        if reason.is_some() {
            incoming.shut();
        }
        drop(incoming);
        if let Some(done) = done {
            owner.deliver(done);
        }
        if let Some(reason) = reason {
            owner.condemned(self, reason);
        }
    }

    /// Puts the descriptors that came with a frame beside its payload: those that have arrived.
    fn fetch_luggage(&self, frame: &mut Frame) {
        let arrived = self.luggage.receive(frame.header.ticket);
        let bytes = std::mem::replace(&mut frame.payload, Packed::copy_of(&[]));
        frame.payload = Packed::beside(bytes, arrived.unwrap_or_default());
    }

    /// Serves the worker until it is dead and everything it said has been handed in.
    pub(crate) async fn serve<O: Owner>(self: Arc<Self>, owner: Arc<O>, server: Server) {
        // Without descriptors to watch there is only one thing to do, and it needs none.
        if self.try_serve(&owner, server).await.is_err() {
            self.child.kill_group();
        }
        let exit = self.child.exited().await;
        self.drain(&*owner);
        owner.gone(&self, exit);
    }

    async fn try_serve<O: Owner>(
        self: &Arc<Self>,
        owner: &Arc<O>,
        server: Server,
    ) -> io::Result<()> {
        let responses = reactor::register(self.responses.clone(), Interest::READABLE)?;
        let requests = reactor::register(self.requests.clone(), Interest::WRITABLE)?;
        // Told by whoever watches its pidfd, which is on the crate's own thread: a second
        // registration there would be refused.
        let mut exited = std::pin::pin!(self.child.exited());
        let mut orphaned = std::pin::pin!(self.child.orphaned());
        let (mut ended, mut orphan) = (false, false);
        loop {
            let call = poll_fn(|context| {
                self.bell.wakers[server as usize].register(context.waker());
                if self.bell.flush.load(Ordering::Acquire) {
                    return Poll::Ready(Call::Flush);
                }
                // An end that was closed stays ready for ever: it is not looked at again.
                if !ended {
                    if let Poll::Ready(pipe) = self.poll_responses(&responses, &**owner, context) {
                        ended = pipe == Pipe::Ended;
                        return Poll::Ready(Call::Readable);
                    }
                }
                let blocked = self.bell.blocked.load(Ordering::Acquire);
                if blocked && poll_writable(&requests, context).is_ready() {
                    return Poll::Ready(Call::Writable);
                }
                if !orphan && orphaned.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Call::Orphaned);
                }
                exited.as_mut().poll(context).map(|_| Call::Dead)
            })
            .await;
            match call {
                Call::Readable => {
                    if ended {
                        owner.hung_up(self);
                    }
                    tokio::task::yield_now().await;
                }
                Call::Flush => {
                    // Whoever else is ready to send does so before this writes for all of them.
                    // The bell is answered only then: if this task is never run again, another
                    // that serves the slot still hears it.
                    tokio::task::yield_now().await;
                    self.bell.flush.store(false, Ordering::Release);
                    self.write_on();
                }
                Call::Writable => self.write_on(),
                Call::Orphaned => {
                    orphan = true;
                    owner.orphaned(self);
                }
                Call::Dead => return Ok(()),
            }
        }
    }

    /// Writes what is queued, and notes how far that went.
    fn write_on(&self) {
        let flushed = self.outgoing.flush();
        self.bell
            .blocked
            .store(flushed == Flushed::Blocked, Ordering::Release);
        match flushed {
            Flushed::More => self.flush_soon(),
            // Tried once more with the mark set: what was taken before that has rung no bell.
            Flushed::Crowded if !self.bell.crowded.swap(true, Ordering::AcqRel) => {
                self.flush_soon();
            }
            Flushed::Crowded => {}
            Flushed::All | Flushed::Blocked | Flushed::Broken => {}
        }
    }

    /// Reads while there is something to read; ready when others should have a turn in between, or
    /// at the end.
    fn poll_responses<O: Owner>(
        self: &Arc<Self>,
        responses: &AsyncFd<Arc<OwnedFd>>,
        owner: &O,
        context: &mut Context<'_>,
    ) -> Poll<Pipe> {
        while let Poll::Ready(Ok(mut readable)) = responses.poll_read_ready(context) {
            match self.pump(owner) {
                Pipe::Empty => readable.clear_ready(),
                pipe @ (Pipe::More | Pipe::Ended) => return Poll::Ready(pipe),
            }
        }
        Poll::Pending
    }

    /// Takes in everything that a dead worker has left: what is in the pipe, until there is nothing
    /// more (never until its end, which a process that a task has started may hold back), then
    /// what had not reached the pipe.
    fn drain<O: Owner>(self: &Arc<Self>, owner: &O) {
        while self.pump(owner) == Pipe::More {}
        let mut incoming = lock(&self.incoming);
        let reason = incoming
            .read_outbox(&self.page)
            .err()
            .map(|error| error.to_string());
        self.hand_over(incoming, owner, reason);
    }
}

/// Waits until the pipe can be written to, and takes that readiness.
fn poll_writable(fd: &AsyncFd<Arc<OwnedFd>>, context: &mut Context<'_>) -> Poll<()> {
    fd.poll_write_ready(context).map(|guard| {
        if let Ok(mut guard) = guard {
            guard.clear_ready();
        }
    })
}

fn lock(mutex: &Mutex<Incoming>) -> MutexGuard<'_, Incoming> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
