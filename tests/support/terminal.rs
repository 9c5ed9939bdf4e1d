//! Terminals: who sits at one, and who uses it without being in front.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::fs::File;
use std::io::{Error, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{null, null_mut};

use procpool::Fd;

/// The terminal of whoever opens it.
const OWN: &str = "/dev/tty";

/// Makes a terminal: the end where is typed, and the end that a program has.
#[expect(unsafe_code, reason = "terminals are made through libc")]
pub fn terminal() -> (File, OwnedFd) {
    let (mut keys, mut screen) = (-1, -1);
    let (name, options, size) = (null_mut(), null(), null());
    // SAFETY: both numbers may be written to, and nothing else is asked for.
    let done = unsafe { libc::openpty(&mut keys, &mut screen, name, options, size) };
    assert_eq!(done, 0, "{}", Error::last_os_error());
    // SAFETY: the call has just opened both, and nobody else has them.
    let [keys, screen] = [keys, screen].map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    for end in [&keys, &screen] {
        // The programs of other tests must not hold this terminal.
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    (File::from(keys), screen)
}

/// Makes the command's program the leader of a session of that terminal.
#[expect(unsafe_code, reason = "a session is begun between fork and exec")]
pub fn begin_session(command: &mut Command, screen: &OwnedFd) {
    let screen = screen.as_raw_fd();
    let begin = move || {
        // SAFETY: numbers alone are passed; the descriptor is open in the copy, too.
        let done = unsafe { libc::setsid() >= 0 && libc::ioctl(screen, libc::TIOCSCTTY, 0) == 0 };
        if done {
            Ok(())
        } else {
            Err(Error::last_os_error())
        }
    };
    // SAFETY: the closure makes two system calls and touches no memory.
    unsafe { command.pre_exec(begin) };
}

/// This process's terminal, at which those who write without being in front are stopped from now on.
pub fn own_terminal() -> Fd<File> {
    let terminal = File::options().read(true).write(true).open(OWN).unwrap();
    stop_who_writes(&terminal);
    Fd(terminal)
}

/// As a task: does at a terminal what only those in front may, and tells whether it could, and has none itself.
pub fn write_from_behind(mut terminal: Fd<File>) -> bool {
    stop_who_writes(&terminal);
    writeln!(terminal, "written").is_ok() && File::open(OWN).is_err()
}

#[expect(unsafe_code, reason = "terminals are set through libc")]
fn stop_who_writes(terminal: &File) {
    let terminal = terminal.as_raw_fd();
    // SAFETY: the settings are a local, which the first call fills and the second reads.
    let done = unsafe {
        let mut settings = std::mem::zeroed();
        libc::tcgetattr(terminal, &mut settings) == 0 && {
            settings.c_lflag |= libc::TOSTOP;
            libc::tcsetattr(terminal, libc::TCSANOW, &settings) == 0
        }
    };
    assert!(done, "{}", Error::last_os_error());
}
