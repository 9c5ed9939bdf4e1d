//! What all handles of one process share, and what tells them of its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use super::error::ProcessFault;
use super::home::{Home, LINGER};
use super::registry;
use crate::process::private::Private;
use crate::process::{Child, Exit, Forked, Keeper};
use crate::sys::{blocking, pidfd, ready};
use crate::task::answer::{self, Answer};
use crate::wire::packed::Packed;

/// How long it may take to hear how a process has ended that has; it is unknown then.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait before an ended process is asked for its exit again, which a debugger holds back.
const PAUSE: Duration = Duration::from_millis(5);

/// A process of ours.
#[derive(Debug)]
pub(super) struct Body {
    number: u64,
    name: String,
    daemon: bool,
    life: Life,
    heard: Mutex<Heard>,
}

/// Who watches over it.
#[derive(Debug)]
pub(super) enum Life {
    /// The keeper, which tells of its end.
    Kept(Kept),
    /// Whoever asks; and the keeper once somebody cannot wait otherwise.
    Forked(Forked, OnceLock<Kept>),
}

/// A process that the keeper watches.
#[derive(Debug)]
pub(super) struct Kept {
    child: Child,
    ended: watch::Receiver<Option<Exit>>,
}

/// What the process has said of its call.
#[derive(Debug)]
enum Heard {
    /// Nobody has asked.
    Unread(Private),
    /// This, if anything.
    Read(Option<Answer>),
}

impl Body {
    /// A process that will say on `socket` how its call ended.
    pub(super) fn new(
        number: u64,
        name: String,
        daemon: bool,
        life: Life,
        socket: Private,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            name,
            daemon,
            life,
            heard: Mutex::new(Heard::Unread(socket)),
        })
    }

    /// Its number among all of this program.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.life {
            Life::Kept(kept) => kept.child.pid(),
            Life::Forked(forked, _) => forked.pid(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// How it ended, if that is known. Never waits.
    pub(super) fn told(&self) -> Option<Exit> {
        match (&self.life, self.kept()) {
            (_, Some(kept)) => *kept.ended.borrow(),
            (Life::Forked(forked, _), None) => {
                let exit = forked.exit();
                if exit.is_some() {
                    registry::forget(self.number);
                }
                exit
            }
            (Life::Kept(_), None) => None,
        }
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
    pub(super) async fn ended(self: Arc<Self>) -> Exit {
        if let Some(exit) = self.told() {
            return exit;
        }
        match self.hand_over() {
            Some(kept) => wait(kept.ended.clone()).await,
            // It has ended meanwhile; or there is no room for the keeper, and to wait here is better
            // than not to.
            None => self.blocking_ended(None).unwrap_or(Exit::UNKNOWN),
        }
    }

    /// The same on a thread that may block; `None` when the limit has passed.
    pub(super) fn blocking_ended(&self, limit: Option<Duration>) -> Option<Exit> {
        if let Some(kept) = self.kept() {
            // A task of tokio's that has had its turn would be told to wait for the next one.
            let mut ended = pin!(tokio::task::unconstrained(wait(kept.ended.clone())));
            return blocking::wait(
                limit,
                |context| Pin::as_mut(&mut ended).poll(context),
                || {},
            );
        }
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let ended = ready::wait_to_read(self.as_fd(), deadline).unwrap_or(true);
            let told = self.told();
            if told.is_some() || !ended {
                return told;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Sees to it that it is reaped by somebody when its last handle goes.
    pub(super) fn let_go(self: &Arc<Self>) {
        // Beside this one there is the registry's, as long as its end is not known.
        if Arc::strong_count(self) <= 2 && self.told().is_none() {
            self.hand_over();
        }
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
        match &self.life {
            Life::Kept(kept) => kept.child.signal(signal),
            Life::Forked(forked, _) => forked.signal(signal),
        }
    }

    pub(super) fn kill(&self) {
        match (&self.life, self.kept()) {
            (_, Some(kept)) => kept.child.kill_group(),
            (Life::Forked(forked, _), None) => forked.kill_group(),
            (Life::Kept(_), None) => {}
        }
    }

    fn kept(&self) -> Option<&Kept> {
        match &self.life {
            Life::Kept(kept) => Some(kept),
            Life::Forked(_, kept) => kept.get(),
        }
    }

    /// Has the keeper watch it, which does so from then on.
    fn hand_over(&self) -> Option<&Kept> {
        if let Life::Forked(forked, kept) = &self.life {
            if let Ok(keeper) = Keeper::get() {
                // Who comes second finds that it is done.
                if let Ok(Some(child)) = forked.hand_over(&keeper) {
                    let _ = kept.set(Kept::new(child, keeper, self.number, (), None));
                }
            }
        }
        self.kept()
    }
}

impl Kept {
    /// Has the keeper tell of the end of a child, which it watches. `outputs` are let go then, and
    /// `home` a moment later.
    pub(super) fn new(
        child: Child,
        keeper: Arc<Keeper>,
        number: u64,
        outputs: impl Send + 'static,
        home: Option<Arc<Home>>,
    ) -> Self {
        let exited = child.exited();
        let (end, ended) = watch::channel(None);
        keeper.handle().clone().spawn(async move {
            let exit = exited.await;
            registry::forget(number);
            drop(outputs);
            end.send_replace(Some(exit));
            if home.is_some() {
                tokio::time::sleep(LINGER).await;
            }
            // In this order: the keeper's thread goes with the last who has a share in it.
            drop((home, keeper));
        });
        Self { child, ended }
    }
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.life {
            Life::Kept(kept) => kept.child.as_fd(),
            Life::Forked(forked, _) => forked.as_fd(),
        }
    }
}

async fn wait(mut ended: watch::Receiver<Option<Exit>>) -> Exit {
    match ended.wait_for(Option::is_some).await {
        Ok(exit) => exit.unwrap_or(Exit::UNKNOWN),
        // Who would tell is not in this process, which is a copy.
        Err(_) => Exit::UNKNOWN,
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
            body.let_go();
        }
    }
}
