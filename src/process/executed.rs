//! Executing the running program again, as a worker or as a fork server.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::timeout;

use super::child::{Child, Origin, Presence, Unclaimed};
use super::errand::Errand;
use super::{Exit, Keeper, Program, StartError, protocol};
use crate::sys::{pidfd, socket};

/// Executes `program` in a process group of its own and sends it its errand
/// with `descriptors`, on the keeper's thread. Returns the child and our end of
/// its socket.
///
/// This takes about a millisecond of the thread's time. `who` is what the child
/// is to be called in an error.
pub(crate) async fn execute(
    keeper: &Arc<Keeper>,
    program: &Program,
    who: &'static str,
    errand: &Errand,
    descriptors: &[BorrowedFd<'_>],
    presence: Presence,
) -> Result<(Unclaimed, OwnedFd), StartError> {
    debug_assert!(keeper.is_here());
    // Everything that can fail for want of something is had before there is a
    // process to take back, but for the pidfd, which needs one.
    let packet = protocol::encode(errand)
        .map_err(|error| StartError::system("encode the errand of a child", &error))?;
    let own = pidfd::open_own().map_err(|error| StartError::system("open a pidfd", &error))?;
    let (ours, theirs) =
        socket::pair().map_err(|error| StartError::system("make a socket pair", &error))?;

    let (pid, pidfd) =
        run(program, theirs).map_err(|error| StartError::system("execute the program", &error))?;
    let child = Child::watch(keeper, pid, pidfd, Origin::Executed, presence)
        .map(Unclaimed::new)
        .map_err(|error| StartError::system("watch a child", &error))?;

    let mut beside = vec![own.as_fd()];
    beside.extend_from_slice(descriptors);
    match socket::send(&ours, &packet, &beside) {
        Ok(()) => Ok((child, ours)),
        // It did not even wait for its errand.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(StartError::exited(who, end_unready(child).await))
        }
        Err(error) => Err(StartError::system("send a child its errand", &error)),
    }
}

/// Ends a child that did not become ready, and says how it ended.
pub(crate) async fn end_unready(child: Unclaimed) -> Exit {
    // One that is ending by itself gets the time to show how.
    if let Ok(exit) = timeout(LAST_WORDS, child.exited()).await {
        return exit;
    }
    child.kill_group();
    child.exited().await
}

/// Runs the program with `stdin`. The file behind `/proc/self/exe` is the one
/// that is running, whatever has become of its name.
fn run(program: &Program, stdin: OwnedFd) -> io::Result<(Pid, OwnedFd)> {
    let mut command = Command::new("/proc/self/exe");
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let (boot, value) = &program.boot;
    program.environment.apply(&mut command);
    command
        .args(arguments)
        .env(boot, value)
        .stdin(Stdio::from(stdin))
        // A group of its own: the terminal's signals are for the program.
        // Nothing here may need `pre_exec`, which would fork this process.
        .process_group(0);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a child without a number"))?;
    match pidfd::open(pid) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(error) => {
            // Nobody else knows of it yet. The wait is for the kernel alone,
            // and fails at once where something else has reaped the child.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// How long a child that has left its socket may take to end. It has closed its
/// descriptors, so that only the kernel's part is left, such as a core dump.
const LAST_WORDS: Duration = Duration::from_millis(500);
