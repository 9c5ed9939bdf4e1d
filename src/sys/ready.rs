//! Descriptors that have something to be read, or room to be written to: looking, sleeping until it
//! is so, and one descriptor that stands for many of them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Sleeps until one of them has something to be read or has come to its end, at most until
/// `deadline`; tells of each whether it has.
pub(crate) fn readable(
    descriptors: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<Vec<bool>> {
    let polled = descriptors.iter();
    let polled = polled.map(|one| PollFd::from_borrowed_fd(*one, PollFlags::IN));
    let mut polled: Vec<_> = polled.collect();
    sleep(&mut polled, deadline)?;
    Ok(polled.iter().map(|one| !one.revents().is_empty()).collect())
}

/// Whether there is something to be read, or the end, at this moment.
pub(crate) fn is_readable(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    wait(descriptor, PollFlags::IN, Some(Instant::now()))
}

/// Sleeps until there is something to be read or the end, at most until `deadline`; tells whether
/// there is.
pub(crate) fn wait_to_read(
    descriptor: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    wait(descriptor, PollFlags::IN, deadline)
}

/// Sleeps until there is room to write or nobody to write to, at most until `deadline`; tells
/// whether there is.
pub(crate) fn wait_to_write(
    descriptor: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    wait(descriptor, PollFlags::OUT, deadline)
}

/// Sleeps until there is room to write or something to be read, or the end of either, at most until
/// `deadline`; tells whether there is.
pub(crate) fn wait_to_write_or_read(
    descriptor: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    wait(descriptor, PollFlags::OUT | PollFlags::IN, deadline)
}

/// Whether a connection is over in both directions.
pub(crate) fn is_gone(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    // That is told without being asked for.
    wait(descriptor, PollFlags::empty(), Some(Instant::now()))
}

/// One descriptor that has something to be read when one of these has. A file, which always has, is
/// not among them.
pub(crate) fn together(descriptors: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let all = epoll::create(CreateFlags::CLOEXEC)?;
    for descriptor in descriptors {
        match epoll::add(&all, descriptor, EventData::new_u64(0), EventFlags::IN) {
            // It cannot be waited for, or is there twice.
            Ok(()) | Err(Errno::PERM | Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(all)
}

fn wait(
    descriptor: BorrowedFd<'_>,
    what: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let count = sleep(&mut [PollFd::from_borrowed_fd(descriptor, what)], deadline)?;
    Ok(count > 0)
}

fn sleep(polled: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<usize> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // What does not fit is beyond anybody's time.
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(FOR_AGES));
        match poll(polled, left.as_ref()) {
            Err(Errno::INTR) => {}
            count => return Ok(count?),
        }
    }
}

const FOR_AGES: Timespec = Timespec {
    tv_sec: Duration::from_secs(u32::MAX as u64).as_secs() as i64,
    tv_nsec: 0,
};

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn one_stands_for_many() {
        let pairs = [(); 3].map(|()| UnixStream::pair().unwrap());
        let file = File::open("/dev/null").unwrap();
        let regular = File::open(std::env::current_exe().unwrap()).unwrap();
        let mut all: Vec<_> = pairs.iter().map(|(one, _)| one.as_fd()).collect();
        all.extend([pairs[0].0.as_fd(), regular.as_fd()]);
        let together = together(&all).unwrap();
        assert!(!is_readable(together.as_fd()).unwrap());
        (&pairs[1].1).write_all(b"x").unwrap();
        assert!(is_readable(together.as_fd()).unwrap());
        all.push(file.as_fd());
        let now = Some(Instant::now());
        let ready = readable(&all, now).unwrap();
        assert_eq!(ready, [false, true, false, false, true, true]);
    }
}
