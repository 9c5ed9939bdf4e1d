//! How a process of the program becomes a worker: without set-up, before `main`, or in [`init`].
//! What it then does is the business of the module above.
//!
//! A pool executes its own program again, with a variable in the environment that names one copy of
//! this crate, and with a Unix socket in the place of standard input. In every process of the
//! program, libc calls this copy before `main`. It looks at the variable, finds none, and that is
//! all; where it finds its own name, the process never reaches `main`:
//!
//! ```text
//!   variable: absent ───────────────────────────┐
//!             another copy's name ──────────────┤
//!             ours, with raised privileges ─────┼──> libc goes on, to `main`
//!             ours
//!               │ remove it
//!             descriptor 0: no Unix socket of this user ──> one line on standard error, exit code 125
//!               │ take the socket, put /dev/null there, undo what the exec handed down
//!             the constructors behind ours
//!               │ what std does before `main`: SIGPIPE, the report of stack overflows
//!             enter(socket)
//! ```
//!
//! Nothing may run between finding the name and taking the socket: a constructor could start a
//! program, and that would inherit both.

use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::net::{AddressFamily, sockopt};
use rustix::{process, stdio, thread};
use thiserror::Error;

use crate::sys::image::main_image;
use crate::sys::{descriptors, signal, stack, start, title};

/// Makes this process a worker if a pool has started it as one; in any other process it notes that
/// pools may be built, and returns at once.
///
/// With the feature `auto-init`, which is on by default, this happens before `main` and need not be
/// called. Without it, this must be the first line of `main`, before a runtime or any other thread
/// is started: workers are new processes of the program, and this call is where they leave its
/// usual way. A pool cannot be built in a program that has not called it.
///
/// `#[tokio::main]` starts its threads before the first line of the function below it; `main` has to
/// be written out:
///
/// ```
/// use procpool::ProcessPool;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procpool::init(); // in a worker this does not return
///     tokio::runtime::Runtime::new()?.block_on(async {
///         let pool = ProcessPool::builder().workers(1).build()?;
///         assert_eq!(pool.submit(|n: u64| n + 1, 1).await?, 2);
///         pool.shutdown().await;
///         Ok(())
///     })
/// }
/// ```
///
/// Calling it again does nothing.
pub fn init() {
    if is_claimed() {
        if !is_alone() {
            refuse(&Refusal::TooLate);
        }
        become_worker(|| Ok(()));
    }
    HAS_LOOKED.store(true, Ordering::Relaxed);
}

#[cfg(feature = "auto-init")]
crate::sys::constructor::at_program_start!(on_program_start);

#[cfg(feature = "auto-init")]
fn on_program_start(start: crate::sys::constructor::ProgramStart) {
    if is_claimed() {
        become_worker(|| Ok(start.run_constructors_behind()?));
    }
    HAS_LOOKED.store(true, Ordering::Relaxed);
}

/// Tells whether processes of this program can become workers of this copy of the crate.
pub(crate) fn readiness() -> Readiness {
    if own_offset().is_none() {
        Readiness::NotInMainImage
    } else if start::has_raised_privileges() {
        Readiness::RaisedPrivileges
    } else if HAS_LOOKED.load(Ordering::Relaxed) {
        Readiness::Ready
    } else {
        Readiness::NotInitialised
    }
}

/// What [`readiness`] finds. Unless it is `Ready`, a worker would go on to `main` and build a pool
/// of its own, and so on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// Pools may be built.
    Ready,
    /// This copy of the crate has not run before `main`, and nobody has called [`init`].
    NotInitialised,
    /// This copy of the crate lies in a shared library, which a new process of the program need not
    /// load, and where start-up code runs under the loader's lock.
    NotInMainImage,
    /// The program has more rights than its caller (set-user-id, file capabilities), and does not
    /// obey its environment.
    RaisedPrivileges,
}

/// Returns the variable, name and value, by which a process that this one executes becomes a worker
/// of this copy of the crate. The copy must be ready: see [`readiness`].
pub(crate) fn boot_variable() -> (&'static str, String) {
    (VARIABLE, own_offset().map(name_of).unwrap_or_default())
}

/// The variable that makes a process a worker. It is removed before anything else is run, so that
/// what a task starts is not taken for one.
const VARIABLE: &str = "PROCPOOL_BOOT";

/// By this code `env`, `nohup` and their like say that they failed themselves, and not what they
/// were to run.
const REFUSED: i32 = 125;

/// Whether the variable has been looked at in this process. Its address tells this copy of the
/// crate from another version of it in the same program.
static HAS_LOOKED: AtomicBool = AtomicBool::new(false);

/// Says where this copy lies in the program, the same in all its processes; nowhere for a copy in a
/// shared library.
fn own_offset() -> Option<u64> {
    main_image().offset(ptr::from_ref(&HAS_LOOKED) as usize)
}

fn name_of(offset: u64) -> String {
    format!("{offset:x}")
}

fn is_claimed() -> bool {
    // Nearly always there is no variable, and the image is not looked at.
    env::var_os(VARIABLE)
        .is_some_and(|value| claims(&value, own_offset(), start::has_raised_privileges()))
}

fn claims(value: &OsStr, own_offset: Option<u64>, raised_privileges: bool) -> bool {
    !raised_privileges && own_offset.is_some_and(|offset| value == name_of(offset).as_str())
}

fn become_worker(run_constructors: impl FnOnce() -> Result<(), Refusal>) -> ! {
    start::remove_variable(VARIABLE);
    match prepare(run_constructors) {
        Ok(socket) => super::enter(socket),
        Err(refusal) => refuse(&refusal),
    }
}

fn prepare(run_constructors: impl FnOnce() -> Result<(), Refusal>) -> Result<OwnedFd, Refusal> {
    let socket = take_socket()?;
    descriptors::close_inherited().map_err(Refusal::Table)?;
    signal::reset_inherited();
    start::leave_terminal();
    title::prepare();
    // The kernel names it after the file that was executed, which is a link called `exe`.
    title::set_name("procpool");
    run_constructors()?;
    HAS_LOOKED.store(true, Ordering::Relaxed);
    signal::ignore_sigpipe();
    // A worker that cannot report an overflow still dies of it, by SIGSEGV.
    let _ = stack::report_overflow_on_this_thread();
    Ok(socket)
}

/// Takes the socket from descriptor 0 and leaves all three standard descriptors open.
fn take_socket() -> Result<OwnedFd, Refusal> {
    let given = stdio::stdin();
    if sockopt::socket_domain(given) != Ok(AddressFamily::UNIX) {
        return Err(Refusal::NoSocket);
    }
    if start::peer_user(given).ok() != Some(process::geteuid()) {
        return Err(Refusal::ForeignSocket);
    }
    let socket = above_stdio(given).map_err(Refusal::Descriptors)?;
    redirect_stdio().map_err(Refusal::Descriptors)?;
    Ok(socket)
}

fn redirect_stdio() -> Result<(), Errno> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // It may have got the number of a standard descriptor that was closed.
    let null = above_stdio(null)?;
    stdio::dup2_stdin(&null)?;
    if fcntl_getfd(stdio::stdout()) == Err(Errno::BADF) {
        stdio::dup2_stdout(&null)?;
    }
    if fcntl_getfd(stdio::stderr()) == Err(Errno::BADF) {
        stdio::dup2_stderr(&null)?;
    }
    Ok(())
}

fn above_stdio(descriptor: impl AsFd) -> Result<OwnedFd, Errno> {
    const FIRST: i32 = 3;
    fcntl_dupfd_cloexec(descriptor, FIRST)
}

/// Tells whether this is the main thread, and the only one.
fn is_alone() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    thread::gettid() == process::getpid() && threads.is_ok_and(|count| count == 1)
}

/// Why a process that was started as a worker cannot be one.
#[derive(Debug, Error)]
enum Refusal {
    #[error("standard input is not a Unix socket")]
    NoSocket,
    #[error("the socket on standard input is not connected, or belongs to another user")]
    ForeignSocket,
    #[error("its descriptors cannot be arranged: {0}")]
    Descriptors(Errno),
    #[error("its inherited descriptors cannot be listed: {0}")]
    Table(std::io::Error),
    #[cfg(feature = "auto-init")]
    #[error("{0}; call `procpool::init()` in `main` and turn the feature `auto-init` off")]
    Constructors(#[from] crate::sys::constructor::ConstructorsNotFound),
    #[error("`procpool::init()` was not called before other threads were started")]
    TooLate,
}

/// Ends the process. It was not started to be the program, so that it must never reach `main`.
fn refuse(refusal: &Refusal) -> ! {
    eprintln!("procpool: this process was started as a worker, but {refusal}");
    start::exit_at_once(REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_copy_that_is_named_claims_a_process() {
        let value = OsStr::new("1f30");
        assert!(claims(value, Some(0x1f30), false));
        assert!(!claims(value, Some(0x1f31), false));
        assert!(!claims(OsStr::new(""), Some(0), false));
        assert!(!claims(OsStr::new("01f30"), Some(0x1f30), false));
    }

    #[test]
    fn a_copy_in_a_shared_library_claims_nothing() {
        assert!(!claims(OsStr::new("1f30"), None, false));
        assert!(!claims(OsStr::new(""), None, false));
    }

    #[test]
    fn a_program_with_raised_privileges_does_not_obey_the_variable() {
        assert!(!claims(OsStr::new("1f30"), Some(0x1f30), true));
    }

    #[test]
    fn this_copy_claims_what_its_own_variable_says() {
        let (name, value) = boot_variable();
        assert_eq!(name, VARIABLE);
        assert!(claims(OsStr::new(&value), own_offset(), false));
    }

    #[test]
    fn an_ordinary_process_is_ready_and_stays_so() {
        init();
        init();
        assert_eq!(readiness(), Readiness::Ready);
    }

    #[test]
    #[cfg(feature = "auto-init")]
    fn the_constructor_has_run_before_main() {
        assert!(HAS_LOOKED.load(Ordering::Relaxed));
    }
}
