//! Which process it is, told from all others that have had its number or will: number and time of start
//! in one word, so that memory can say whose something is.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::Pid;

use super::pidfd;

/// How many bits a process id has at most on Linux.
const PID_BITS: u32 = 22;

/// How many bits a word of this kind has: ticks of a hundredth of a second for some centuries, and a
/// process id.
pub(crate) const BITS: u32 = 63;

/// A process, for as long as the machine runs; of the namespace in which it was written down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incarnation(NonZeroU64);

/// This process's, once it has been looked up.
static OWN: AtomicU64 = AtomicU64::new(0);

impl Incarnation {
    /// This process.
    ///
    /// # Errors
    ///
    /// Where there is no `/proc`.
    pub(crate) fn own() -> io::Result<Self> {
        match NonZeroU64::new(OWN.load(Ordering::Relaxed)) {
            Some(own) => Ok(Self(own)),
            None => Self::look_up(),
        }
    }

    #[cold]
    fn look_up() -> io::Result<Self> {
        extern "C" fn forget() {
            OWN.store(0, Ordering::Relaxed);
        }
        static FORGETS: Once = Once::new();
        // SAFETY: the call keeps a pointer to a function of the program, which is there to its end.
        // In a forked child it is called with one thread, and stores to an atomic. Where there is no
        // room for it a copy would take itself for its parent, and that is refused here.
        FORGETS.call_once(|| unsafe {
            if libc::pthread_atfork(None, None, Some(forget)) != 0 {
                std::process::abort();
            }
        });
        let pid = rustix::process::getpid();
        let own = Self::new(pid, started(pid)?);
        OWN.store(own.to_word(), Ordering::Relaxed);
        Ok(own)
    }

    fn new(pid: Pid, started: u64) -> Self {
        let pid = u64::from(pid.as_raw_nonzero().get().unsigned_abs());
        let word = (started << PID_BITS | pid) & ((1 << BITS) - 1);
        Self(NonZeroU64::new(word).expect("no process has the number zero"))
    }

    /// The word that stands for it, of so many bits and never zero.
    pub(crate) fn to_word(self) -> u64 {
        self.0.get()
    }

    /// Whom a word stands for; `None` where it can be nobody.
    pub(crate) fn of_word(word: u64) -> Option<Self> {
        let pid = word & ((1 << PID_BITS) - 1);
        NonZeroU64::new(word)
            .filter(|_| pid != 0 && word >> BITS == 0)
            .map(Self)
    }

    /// Opens the process, if it has not ended.
    ///
    /// # Errors
    ///
    /// At the limits of the system: then it is not known.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw((self.to_word() & ((1 << PID_BITS) - 1)) as i32) else {
            return Ok(None);
        };
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return Ok(None);
            }
            // The number is a thread's now, so the process it was is gone.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            Err(error) => return Err(error),
        };
        // From here on the number is this one's, or nobody's whom we mean.
        let same = match started(pid) {
            Ok(started) => Self::new(pid, started) == self,
            Err(error) if is_gone(&error) => false,
            Err(error) => return Err(error),
        };
        Ok((same && !pidfd::has_ended(pidfd.as_fd())?).then_some(pidfd))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.to_word();
        write!(f, "{}@{}", word & ((1 << PID_BITS) - 1), word >> PID_BITS)
    }
}

/// The namespace of process ids that this process is in, by its number.
pub(crate) fn namespace() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino())
}

/// When a process was started, in ticks since the machine was.
fn started(pid: Pid) -> io::Result<u64> {
    let status = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name before it may have anything in it, parentheses too; of the fields after it, the first
    // is the third.
    let mut fields = status
        .rsplitn(2, |byte| *byte == b')')
        .next()
        .unwrap_or_default()
        .split(|byte| *byte == b' ');
    let field = fields
        .nth(20)
        .and_then(|field| std::str::from_utf8(field).ok());
    let started = field.and_then(|field| field.parse().ok());
    started.ok_or_else(|| io::Error::other("/proc/PID/stat is not as it is documented"))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_alive_and_always_the_same() {
        let own = Incarnation::own().unwrap();
        assert_eq!(own, Incarnation::own().unwrap());
        assert_eq!(Incarnation::of_word(own.to_word()), Some(own));
        assert!(own.open().unwrap().is_some());
    }

    #[test]
    fn another_that_had_the_number_is_dead() {
        let own = Incarnation::own().unwrap();
        let earlier = Incarnation::of_word(own.to_word() - (1 << PID_BITS)).unwrap();
        assert!(earlier.open().unwrap().is_none());
    }

    #[test]
    fn a_child_is_alive_until_it_ends_reaped_or_not() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let one = Incarnation::new(pid, started(pid).unwrap());
        let pidfd = one.open().unwrap().expect("it sleeps");
        child.kill().unwrap();
        while !pidfd::has_ended(pidfd.as_fd()).unwrap() {
            std::thread::yield_now();
        }
        assert!(one.open().unwrap().is_none(), "a zombie holds nothing");
        child.wait().unwrap();
        assert!(one.open().unwrap().is_none());
    }

    #[test]
    fn a_word_that_is_nobody_is_none() {
        for word in [0, 1 << PID_BITS, u64::MAX] {
            assert_eq!(Incarnation::of_word(word), None);
        }
    }

    #[test]
    fn a_copy_of_this_process_is_another() {
        use crate::sys::{fork, wait};
        let own = Incarnation::own().unwrap();
        let copy = fork::copy(|| {
            let other = Incarnation::own().is_ok_and(|copy| copy != own);
            fork::exit_now(i32::from(!other));
        });
        let copy = copy.unwrap();
        let status = loop {
            if let Some(status) = wait::reap_pid(copy).unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.exit_status(), Some(0));
    }
}
