//! What all handles of one process share, and what tells them of its end.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

use super::error::ProcessFault;
use crate::process::{Child, Exit};
use crate::sys::{blocking, pidfd};
use crate::task::answer::{self, Answer};
use crate::wire::packed::Packed;

/// How long it may take to hear how a process has ended that has; it is unknown then.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// A process of ours.
#[derive(Debug)]
pub(super) struct Body {
    name: String,
    daemon: bool,
    child: Child,
    ended: watch::Receiver<Option<Exit>>,
    heard: Mutex<Heard>,
}

/// What the process has said of its call.
#[derive(Debug)]
enum Heard {
    /// Nobody has asked.
    Unread(OwnedFd),
    /// This, if anything.
    Read(Option<Answer>),
}

impl Body {
    /// A process that will say on `socket` how its call ended. `ended` tells when the process has.
    pub(super) fn new(
        name: String,
        daemon: bool,
        child: Child,
        socket: OwnedFd,
        ended: watch::Receiver<Option<Exit>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            daemon,
            child,
            ended,
            heard: Mutex::new(Heard::Unread(socket)),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// How it ended, if that was told.
    pub(super) fn told(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        let told = self.told();
        if told.is_some() || matches!(pidfd::has_ended(self.as_fd()), Ok(false)) {
            return told;
        }
        // Whoever saw its descriptor readable wants to know how, and that is on its way.
        self.blocking_ended(Some(REPORT_LIMIT))
            .or(Some(Exit::UNKNOWN))
    }

    /// Waits until it has ended, and says how. Cancel safe.
    pub(super) fn ended(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::UNKNOWN),
                // Who would tell is not in this process, which is a copy.
                Err(_) => Exit::UNKNOWN,
            }
        }
    }

    /// The same on a thread that may block; `None` when the limit has passed.
    pub(super) fn blocking_ended(&self, limit: Option<Duration>) -> Option<Exit> {
        // A task of tokio's that has had its turn would be told to wait for the next one.
        let mut ended = pin!(tokio::task::unconstrained(self.ended()));
        blocking::wait(
            limit,
            |context| Pin::as_mut(&mut ended).poll(context),
            || {},
        )
    }

    /// What the process has said. Asked when it has ended, and knows how.
    pub(super) fn outcome(&self, exit: Exit) -> Result<Packed, ProcessFault> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Heard::Unread(socket) = &*heard {
            *heard = Heard::Read(answer::receive(socket).ok());
        }
        match &*heard {
            Heard::Read(Some(Answer::Returned(result))) => Ok(result.clone()),
            Heard::Read(Some(Answer::Failed(failure))) => Err(failure.clone().into()),
            Heard::Read(None) | Heard::Unread(_) => Err(ProcessFault::Lost(exit)),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    pub(super) fn kill(&self) {
        self.child.kill_group();
    }
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

/// A process that nobody has taken charge of yet. If nobody does, it is killed.
#[derive(Debug)]
pub(super) struct Unclaimed(Option<Arc<Body>>);

impl Unclaimed {
    pub(super) fn new(body: Arc<Body>) -> Self {
        Self(Some(body))
    }

    /// Takes charge.
    pub(super) fn claim(mut self) -> Arc<Body> {
        self.0.take().expect("only this takes it, and only once")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(body) = &self.0 {
            body.kill();
        }
    }
}
