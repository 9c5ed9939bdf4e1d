//! A copy of this very process, forked on the calling thread, and reaped by whoever asks for its end:
//! as long as it has but one thread, a process has no keeper.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, setpgid};
use tokio::sync::watch;

use super::child::{Child, Origin};
use super::enter::{self, Serve};
use super::errand::Posting;
use super::private::{self, Private};
use super::{Exit, Keeper, Order};
use crate::sys::fork::{self, ForkError};
use crate::sys::{pidfd, prctl, signal, start, wait};

/// A child that shares this process's past.
#[derive(Debug)]
pub(crate) struct Forked {
    pid: Pid,
    pidfd: Private,
    /// Held while it is reaped, and while its group is killed by number.
    state: Mutex<State>,
    /// The end of a pipe: when it is closed, at the latest with this process, the kernel kills the
    /// child and its group.
    _lifeline: Private,
}

#[derive(Debug, Default)]
struct State {
    exit: Option<Exit>,
    /// To the keeper, which reaps it.
    is_handed_over: bool,
}

impl Forked {
    /// Forks. The copy goes on as `serve`, and never comes back from here.
    ///
    /// # Errors
    ///
    /// Where this process has other threads, or the system refuses.
    pub(crate) fn fork(order: Order, serve: Serve) -> Result<Self, ForkError> {
        let program = pidfd::open_own().map_err(ForkError::Os)?;
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (held_there, lifeline) = pipe.map_err(|errno| ForkError::Os(errno.into()))?;
        let lifeline = Private::new(lifeline);
        // What is printed here so far is not the copy's to print.
        let _ = io::stdout().flush();
        let pid = match fork::fork()? {
            fork::Forked::Parent(pid) => pid,
            fork::Forked::Child => begin(order, program, held_there, serve),
        };
        // Both sides do this: here, so that its group can be killed from now on; there, so that it
        // begins in a group of its own whoever is first.
        let _ = setpgid(Some(pid), Some(pid));
        match pidfd::open(pid) {
            Ok(pidfd) => Ok(Self {
                pid,
                pidfd: Private::new(pidfd),
                state: Mutex::default(),
                _lifeline: lifeline,
            }),
            Err(error) => {
                wait::kill_group_of_unreaped(pid);
                while matches!(wait::reap_pid(pid), Ok(None)) {
                    std::thread::yield_now();
                }
                Err(ForkError::Os(error))
            }
        }
    }

    /// Its number; after it has ended, perhaps another's.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has and is not handed over; it is reaped then. Never waits.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let mut state = self.lock();
        let is_over = state.is_handed_over || state.exit.is_some();
        if !is_over && !matches!(pidfd::has_ended(self.as_fd()), Ok(false)) {
            let _ = pidfd::kill_group(self.as_fd());
            state.exit = match wait::reap(self.as_fd()) {
                Ok(status) => status.as_ref().map(Exit::from_waitid),
                // Something else in the program has taken it.
                Err(_) => Some(Exit::UNKNOWN),
            };
        }
        state.exit
    }

    /// Has the keeper watch and reap it from now on; nothing, if that is done already.
    ///
    /// # Errors
    ///
    /// Where there is no room for that.
    pub(crate) fn hand_over(&self, keeper: &Arc<Keeper>) -> io::Result<Option<Child>> {
        let mut state = self.lock();
        if state.exit.is_some() || state.is_handed_over {
            return Ok(None);
        }
        let _inside = keeper.handle().enter();
        let (_, presence) = watch::channel(());
        let pidfd = self.pidfd.try_clone()?;
        let child = Child::watch(keeper, self.pid, pidfd, Origin::Executed, presence)?;
        state.is_handed_over = true;
        Ok(Some(child))
    }

    /// Sends it `signal`; nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        pidfd::send(self.as_fd(), signal)
    }

    /// Kills it and everything in its process group.
    pub(crate) fn kill_group(&self) {
        let state = self.lock();
        // Kernels before 6.9 know groups by number alone, which is its own until it is reaped.
        if pidfd::kill_group(self.as_fd()).is_err()
            && state.exit.is_none()
            && wait::is_unreaped_child(self.as_fd())
        {
            wait::kill_group_of_unreaped(self.pid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Forked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// What is on the stack below is the parent's, and is not to be unwound in the copy.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// In the copy: what is its parent's is let go, and it becomes what the order says.
fn begin(order: Order, program: OwnedFd, lifeline: OwnedFd, serve: Serve) -> ! {
    let _no_way_back = NoWayBack;
    private::close_in_copy();
    let _ = setpgid(None, None);
    signal::reset_inherited();
    start::leave_terminal();
    let armed = prctl::wake_when_parent_dies()
        .and_then(|()| prctl::kill_group_when_closed(lifeline.as_fd()));
    if let Err(error) = armed {
        enter::leave(&error);
    }
    private::keep_for_life(&program);
    private::keep_for_life(&lifeline);
    // Open to the end of the process.
    std::mem::forget(lifeline);
    let posting = Posting::of(&order);
    enter::begin(posting, program, order.into_descriptors(), serve)
}
