//! The worker's second thread. It ends the worker, and all that its tasks started in its process
//! group, when the program that the worker serves is gone; and it flushes responses that wait
//! behind a call that was expected to be short and is not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, kill_current_process_group};

use super::outbox::Outbox;

/// How often the outbox is looked at while something in it waits. Two ticks bound how long a
/// finished result waits behind a running call.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 400_000,
};
/// After so many ticks with nothing to do the thread sleeps until the bell rings. Few, for where there are
/// many workers most of their ticks are such.
const IDLE_TICKS: u32 = 2;

/// The serving thread's side: wakes the watcher when something may have to be flushed.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    awake: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
}

/// Starts the thread. `program` is the pidfd of the program that the worker serves.
pub(super) fn watch(program: Arc<OwnedFd>, outbox: Arc<Outbox>) -> io::Result<Watcher> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let awake = Arc::new(AtomicBool::new(false));
    let watcher = Watcher {
        awake: awake.clone(),
        bell: bell.clone(),
    };
    let name = String::from("procpool-watch");
    std::thread::Builder::new()
        .name(name)
        .stack_size(64 * 1024)
        .spawn(move || run(&program, &bell, &awake, &outbox))?;
    Ok(watcher)
}

/// The same where there are no responses.
pub(super) fn end_with(program: Arc<OwnedFd>) -> io::Result<()> {
    let wait = move || loop {
        let mut fds = [PollFd::new(&*program, PollFlags::IN)];
        if poll(&mut fds, None).is_ok() && !fds[0].revents().is_empty() {
            let _ = kill_current_process_group(Signal::KILL);
        }
    };
    let thread = std::thread::Builder::new().name(String::from("procpool-watch"));
    thread.stack_size(64 * 1024).spawn(wait).map(drop)
}

/// The same for as long as `work` takes: then there is no such thread any more.
pub(super) fn end_with_during<T>(program: &OwnedFd, work: impl FnOnce() -> T) -> io::Result<T> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
    std::thread::scope(|scope| {
        let wait = || loop {
            let mut fds = [
                PollFd::new(program, PollFlags::IN),
                PollFd::new(&bell, PollFlags::IN),
            ];
            let polled = poll(&mut fds, None).is_ok();
            if polled && !fds[0].revents().is_empty() {
                let _ = kill_current_process_group(Signal::KILL);
            }
            if polled && !fds[1].revents().is_empty() {
                return;
            }
        };
        let thread = std::thread::Builder::new().name(String::from("procpool-watch"));
        thread.stack_size(64 * 1024).spawn_scoped(scope, wait)?;
        let done = work();
        let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
        Ok(done)
    })
}

impl Watcher {
    /// There is something in the outbox, and a call is about to run in front of it.
    pub(super) fn wake(&self) {
        // The response was made visible before this swap; the watcher looks at the outbox after
        // its own store of `false`. So either it sees the response or this sees `false`.
        if !self.awake.swap(true, Ordering::SeqCst) {
            // The counter cannot overflow by ones; a bell that rings already is as good.
            let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }
}

fn run(program: &OwnedFd, bell: &OwnedFd, awake: &AtomicBool, outbox: &Outbox) {
    let mut idle = 0;
    let mut seen = outbox.taken();
    loop {
        let ticking = awake.load(Ordering::SeqCst);
        let mut fds = [
            PollFd::new(program, PollFlags::IN),
            PollFd::new(bell, PollFlags::IN),
        ];
        let polled = poll(&mut fds, ticking.then_some(&TICK));
        if polled.is_ok() && !fds[0].revents().is_empty() {
            // The whole group, ourselves with it: nothing that a task started outlives us.
            let _ = kill_current_process_group(Signal::KILL);
        }
        if polled.is_ok() && !fds[1].revents().is_empty() {
            let _ = rustix::io::read(bell, &mut [0u8; 8]);
            idle = 0;
        }
        if !ticking {
            continue;
        }
        if outbox.waits() {
            idle = 0;
            let taken = outbox.taken();
            // Untouched since the last tick: the serving thread is inside a call.
            if taken == seen {
                // An error here is met again by the serving thread, which ends the worker.
                let _ = outbox.try_flush();
            }
            seen = outbox.taken();
        } else {
            idle += 1;
        }
        if idle >= IDLE_TICKS {
            awake.store(false, Ordering::SeqCst);
            if outbox.waits() {
                awake.store(true, Ordering::SeqCst);
            }
            idle = 0;
        }
    }
}
