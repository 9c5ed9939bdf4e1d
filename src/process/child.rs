//! A child process, seen from its parent: signals to it and its group, and its
//! end. Every child has a task on the keeper that waits for its end and sees to
//! it that it is reaped, whether anybody still asks or not.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::{Exit, Keeper};
use crate::sys::{pidfd, reactor, wait};

/// A child process.
///
/// Dropping it kills nothing: whoever starts a child decides about its end. It
/// is reaped all the same.
#[derive(Debug)]
pub(crate) struct Child {
    process: Arc<Process>,
    exit: watch::Receiver<Option<Exit>>,
    /// Whether the server that forked it is lost; `None` if none did.
    orphaned: Option<watch::Receiver<bool>>,
    /// The end of a pipe: that it is closed tells the process of this one's end.
    pub(super) lifeline: Option<OwnedFd>,
}

/// Whose child it is, and with that who reaps it and knows its exit.
#[derive(Debug)]
pub(crate) enum Origin {
    /// This process's own.
    Executed,
    /// A fork server's.
    Forked {
        /// Brings the exit that the server reports.
        exit: oneshot::Receiver<Exit>,
        /// The server itself.
        server: Arc<OwnedFd>,
        /// Becomes true when the server is lost.
        server_lost: watch::Receiver<bool>,
    },
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    /// For a child of this process: held while it is reaped, and while its
    /// group is killed by number.
    reaping: Option<Mutex<()>>,
}

/// Says, while anybody holds one, that there is a child not yet reaped.
pub(crate) type Presence = watch::Receiver<()>;

impl Child {
    /// Begins to watch the child `pid`, which has not been reaped; on the
    /// keeper's runtime.
    ///
    /// # Errors
    ///
    /// Where the reactor cannot take another descriptor. The child is then as
    /// it was before.
    pub(crate) fn watch(
        keeper: &Arc<Keeper>,
        pid: Pid,
        pidfd: OwnedFd,
        origin: Origin,
        presence: Presence,
    ) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let end = reactor::register(Arc::clone(&pidfd), Interest::READABLE)?;
        let (report, exit) = watch::channel(None);
        let (reaping, reported, orphaned) = match origin {
            Origin::Executed => (Some(Mutex::new(())), None, None),
            Origin::Forked {
                exit,
                server,
                server_lost,
            } => (None, Some((exit, server)), Some(server_lost)),
        };
        let process = Arc::new(Process {
            pid,
            pidfd,
            reaping,
        });
        let watched = Arc::clone(&process);
        // The keeper's thread does not end before the child is reaped.
        let share = Arc::clone(keeper);
        keeper.handle().spawn(async move {
            wait_until_ended(&end).await;
            match reported {
                Some((reported, server)) => watched.hear(reported, &server, &report).await,
                None => watched.reap(&report).await,
            }
            drop((presence, share));
        });
        Ok(Self {
            process,
            exit,
            orphaned,
            lifeline: None,
        })
    }

    /// Its number; after it has ended, perhaps another's.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Its pidfd, which becomes readable when it has ended.
    pub(crate) fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.process.pidfd
    }

    /// Sends it `signal`; nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        pidfd::send(self.process.pidfd.as_fd(), signal)
    }

    /// Kills it and everything in its process group, also what is left of the
    /// group after its own end. Does nothing the second time.
    ///
    /// On kernels before 6.9 a group can only be killed through its leader: by
    /// us or by the fork server while that is not reaped. Where the server is
    /// lost too, the worker alone is killed there.
    pub(crate) fn kill_group(&self) {
        self.process.kill_group();
    }

    /// The way of kernels before 6.9.
    #[cfg(test)]
    pub(crate) fn kill_group_as_old_kernels_do(&self) {
        self.process.kill_group_by_number();
    }

    /// Waits until it has ended, and says how. Cancel safe.
    ///
    /// An exit that nobody reports within about a second of the end is unknown.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::UNKNOWN),
                // The watching task is gone before its time: with its runtime, in a
                // copy of this process that the program has forked.
                Err(_) => Exit::UNKNOWN,
            }
        }
    }

    /// Waits for what it is to do, at most that long; woken if somebody has stopped it.
    pub(crate) async fn wait_for<T>(
        &self,
        limit: Duration,
        deed: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        wait_for(self.as_fd(), limit, deed).await
    }

    /// Waits until its fork server is lost; for ever, if it never had one.
    /// Cancel safe.
    ///
    /// An orphan works as before, but its exit may be unknown and what escaped
    /// from its group is nobody's any more: better to replace it.
    pub(crate) async fn orphaned(&self) {
        if let Some(mut lost) = self.orphaned.clone() {
            if lost.wait_for(|lost| *lost).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }
}

/// A child that nobody has taken charge of yet. If nobody does, wherever it gets
/// lost, it is killed.
#[derive(Debug)]
pub(crate) struct Unclaimed(Option<Child>);

impl Unclaimed {
    /// Nobody has taken charge of `child`.
    pub(crate) fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// Takes charge.
    pub(crate) fn claim(mut self) -> Child {
        self.0.take().expect("only this takes it, and only once")
    }
}

impl Deref for Unclaimed {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("it is there until it is claimed")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.kill_group();
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }
}

impl Process {
    fn kill_group(&self) {
        if pidfd::kill_group(self.pidfd.as_fd()).is_err() {
            self.kill_group_by_number();
        }
    }

    /// The way of kernels before 6.9.
    fn kill_group_by_number(&self) {
        let Some(reaping) = &self.reaping else {
            // The fork server kills the group before it reaps the leader.
            let _ = pidfd::send(self.pidfd.as_fd(), Signal::KILL);
            return;
        };
        let _guard = reaping.lock().unwrap_or_else(PoisonError::into_inner);
        // Not reaped by us, for that takes the guard, and not by a stranger.
        if wait::is_unreaped_child(self.pidfd.as_fd()) {
            wait::kill_group_of_unreaped(self.pid);
        }
    }

    /// Reaps our own child, which has ended, and reports its exit.
    async fn reap(&self, report: &watch::Sender<Option<Exit>>) {
        let deadline = Instant::now() + REPORT_LIMIT;
        let mut pause = FIRST_PAUSE;
        loop {
            // Before it is reaped, so that the group is still named by it.
            self.kill_group();
            match self.take_status() {
                Ok(Some(exit)) => {
                    report.send_replace(Some(exit));
                    return;
                }
                // A debugger holds it: it has ended, and is not ours to take
                // before that lets go, which no descriptor tells.
                Ok(None) => {
                    if Instant::now() >= deadline && report.borrow().is_none() {
                        report.send_replace(Some(Exit::UNKNOWN));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                // Something else in the program has taken it.
                Err(_) => {
                    report.send_replace(Some(self.ask_the_kernel().await));
                    return;
                }
            }
        }
    }

    fn take_status(&self) -> io::Result<Option<Exit>> {
        let _guard = self
            .reaping
            .as_ref()
            .map(|reaping| reaping.lock().unwrap_or_else(PoisonError::into_inner));
        let status = wait::reap(self.pidfd.as_fd())?;
        Ok(status.as_ref().map(Exit::from_waitid))
    }

    /// Hears from the fork server how its child, which has ended, did so.
    async fn hear(
        &self,
        reported: oneshot::Receiver<Exit>,
        server: &OwnedFd,
        report: &watch::Sender<Option<Exit>>,
    ) {
        let exit = match wait_for(server.as_fd(), REPORT_LIMIT, reported).await {
            Ok(Ok(exit)) => exit,
            // The server is lost, or hangs: nobody has killed the group.
            _ => {
                let _ = pidfd::kill_group(self.pidfd.as_fd());
                match wait::reap(self.pidfd.as_fd()) {
                    // The orphan had come to this process, which is the first one of a container
                    // or adopts orphans, and nobody else would have reaped it.
                    Ok(Some(status)) => Exit::from_waitid(&status),
                    _ => self.ask_the_kernel().await,
                }
            }
        };
        report.send_replace(Some(exit));
    }

    /// The exit that the kernel keeps for the holders of a pidfd, once the
    /// process is reaped by whoever has to.
    async fn ask_the_kernel(&self) -> Exit {
        let deadline = Instant::now() + REPORT_LIMIT / 2;
        loop {
            match pidfd::wait_status(self.pidfd.as_fd()) {
                Ok(Some(status)) => return Exit::from_wait_status(status),
                Ok(None) if Instant::now() < deadline => sleep(FIRST_PAUSE).await,
                _ => return Exit::UNKNOWN,
            }
        }
    }
}

/// Waits for what a process is to do, at most that long. One that takes its time may have been
/// stopped by somebody, and is woken.
async fn wait_for<T>(
    process: BorrowedFd<'_>,
    limit: Duration,
    deed: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut deed = pin!(deed);
    if let Ok(done) = timeout(WAKE_AFTER.min(limit), &mut deed).await {
        return Ok(done);
    }
    wake(process);
    timeout(limit.saturating_sub(WAKE_AFTER), deed).await
}

/// Lets a process go on that somebody has stopped; another takes no notice.
pub(super) fn wake(process: BorrowedFd<'_>) {
    let _ = pidfd::send(process, Signal::CONT);
}

async fn wait_until_ended(pidfd: &AsyncFd<Arc<OwnedFd>>) {
    loop {
        let Ok(mut ready) = pidfd.readable().await else {
            // The reactor is going away, and this task with it.
            return;
        };
        if !matches!(pidfd::has_ended(pidfd.get_ref().as_fd()), Ok(false)) {
            return;
        }
        ready.clear_ready();
    }
}

/// How long after the end the exit may still be reported.
const REPORT_LIMIT: Duration = Duration::from_secs(1);

/// After how long a process that does not do its part is taken for one that was stopped.
const WAKE_AFTER: Duration = Duration::from_millis(100);

/// The pauses between attempts, where no descriptor says when to try again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(500);
