//! The fork server's own loop: one thread that forks workers on request, is
//! their parent, and takes everything with it when the program ends.
//!
//! It waits for three things at once: requests on its socket, the end of the
//! program, and changes of its children. It never waits to send: replies queue
//! up, and while too many do it takes no more requests.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, setpgid};

use super::enter::{self, Deeds, Preload, Serve};
use super::errand::Posting;
use super::protocol::{self, Id, Refusal, Reply, Request};
use super::{Exit, key};
use crate::sys::fork::{ForkError, Forked};
use crate::sys::{fork, image, pidfd, prctl, signal, socket, title, wait};

/// Is a fork server until the program or the launcher ends it. In the forked
/// processes this goes on as `deeds.serve`.
pub(crate) fn run(socket: OwnedFd, program: OwnedFd, beside: Vec<OwnedFd>, deeds: Deeds) -> ! {
    let mut server = match Server::new(socket, program) {
        Ok(server) => server,
        Err(error) => enter::leave(&error),
    };
    // Only now, lest it ended before anybody here would have noticed.
    enter::leave_with(&server.program);
    if !beside.is_empty() {
        server.preload(beside, deeds.preload);
    }
    match server.serve_requests() {
        Next::End => server.end(),
        Next::Begin(newborn) => newborn.begin(server.into_program(), deeds.serve),
    }
}

struct Server {
    socket: OwnedFd,
    program: OwnedFd,
    changes: OwnedFd,
    workers: HashMap<Pid, Id>,
    outgoing: VecDeque<Outgoing>,
    buffer: Vec<u8>,
}

/// A reply that waits to be sent.
struct Outgoing {
    packet: Vec<u8>,
    /// With a reply that brings a worker: which, and its two descriptors.
    newborn: Option<(Id, Pid, [OwnedFd; 2])>,
}

/// How the server's loop ends.
enum Next {
    /// This is the server, and it has to end.
    End,
    /// This is not the server but the worker it has just forked.
    Begin(Newborn),
}

impl Server {
    fn new(socket: OwnedFd, program: OwnedFd) -> io::Result<Self> {
        // Not ignored: what is sent to a worker before it has its signals in order waits for that.
        signal::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT]);
        title::set_title("procpool-server", "procpool: fork server");
        prctl::adopt_orphans()?;
        let mut server = Self {
            socket,
            program,
            changes: signal::child_changes()?,
            workers: HashMap::new(),
            outgoing: VecDeque::new(),
            buffer: vec![0; socket::MAX_MESSAGE],
        };
        server.reply(&Reply::Ready {
            version: protocol::VERSION,
            build: image::main_image().build_id().clone(),
        });
        Ok(server)
    }

    /// Makes what all workers are to have, and says so. What does that has the program's key, as they
    /// have.
    fn preload(&mut self, mut hooks: Vec<OwnedFd>, preload: Preload) {
        // A server of another build is found out before.
        let _ = self.flush();
        let key = key::take_on(hooks.remove(0));
        let key = key.map_err(|error| format!("its key could not be read: {error}"));
        match key.and_then(|()| preload(&self.program, hooks)) {
            Ok(()) => self.reply(&Reply::Loaded),
            Err(text) => {
                self.reply(&Reply::Failed { text });
                let _ = self.flush();
                fork::exit_now(enter::FAILED)
            }
        }
    }

    /// Drops the server, with every descriptor that is not a worker's.
    fn into_program(self) -> OwnedFd {
        self.program
    }

    fn serve_requests(&mut self) -> Next {
        loop {
            let Ok(ready) = self.wait() else {
                return Next::End;
            };
            if ready.program {
                return Next::End;
            }
            if ready.children {
                self.bury();
            }
            if ready.request {
                match self.receive() {
                    Ok(None) => {}
                    Ok(Some(next)) => return next,
                    Err(_) => return Next::End,
                }
            }
            if self.flush().is_err() {
                return Next::End;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut interest = PollFlags::empty();
        if self.outgoing.len() < MAX_OUTGOING {
            interest |= PollFlags::IN;
        }
        if !self.outgoing.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut entries = [
            PollFd::new(&self.socket, interest),
            PollFd::new(&self.program, PollFlags::IN),
            PollFd::new(&self.changes, PollFlags::IN),
        ];
        match poll(&mut entries, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [socket, program, changes] = entries.map(|entry| entry.revents());
        Ok(Ready {
            // A hang-up is told without being asked for; it is the stream's end.
            request: socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            program: !program.is_empty(),
            children: !changes.is_empty(),
        })
    }

    /// Takes one request; an error is the end of the stream, or not one of ours.
    fn receive(&mut self) -> io::Result<Option<Next>> {
        let received = match socket::receive(&self.socket, &mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let request =
            protocol::decode(&self.buffer[..received.length]).ok_or(io::ErrorKind::InvalidData)?;
        match request {
            Request::Fork { id, .. } if received.truncated => {
                let why = Refusal::Errno(libc::EMFILE);
                self.reply(&Reply::Refused { id, why });
            }
            Request::Fork { id, posting } => match self.fork(id) {
                Ok(None) => {}
                Ok(Some(go)) => {
                    return Ok(Some(Next::Begin(Newborn {
                        posting,
                        descriptors: received.descriptors,
                        go,
                    })));
                }
                Err(why) => self.reply(&Reply::Refused { id, why }),
            },
        }
        Ok(None)
    }

    /// Forks worker `id`. What comes back in the worker is what lets it begin.
    fn fork(&mut self, id: Id) -> Result<Option<OwnedFd>, Refusal> {
        let (go, let_go) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| refusal(&errno.into()))?;
        let pid = match fork::fork() {
            Ok(Forked::Child) => return Ok(Some(go)),
            Ok(Forked::Parent(pid)) => pid,
            Err(ForkError::Threads(threads)) => return Err(Refusal::Threads(threads)),
            Err(ForkError::Os(error)) => return Err(refusal(&error)),
        };
        // Both sides do this: here, so that its group can be killed from now
        // on; there, so that it begins in a group of its own whoever is first.
        let _ = setpgid(Some(pid), Some(pid));
        let pidfd = pidfd::open(pid).map_err(|error| {
            wait::kill_group_of_unreaped(pid);
            refusal(&error)
        })?;
        self.workers.insert(pid, id);
        let pid_number = pid.as_raw_nonzero().get();
        self.queue(
            &Reply::Forked {
                id,
                pid: pid_number,
            },
            Some((id, pid, [pidfd, let_go])),
        );
        Ok(None)
    }

    /// Reaps what has ended: workers, whose groups are killed first and whose
    /// exits are reported, and orphans from below them.
    fn bury(&mut self) {
        signal::drain(self.changes.as_fd());
        while let Ok(Some(pid)) = wait::any_ended() {
            let worker = self.workers.remove(&pid);
            if worker.is_some() {
                wait::kill_group_of_unreaped(pid);
            }
            let Ok(Some(status)) = wait::reap_pid(pid) else {
                return;
            };
            if let Some(id) = worker {
                let exit = Exit::from_waitid(&status);
                self.reply(&Reply::Exited { id, exit });
            }
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.queue(reply, None);
    }

    fn queue(&mut self, reply: &Reply, newborn: Option<(Id, Pid, [OwnedFd; 2])>) {
        // Replies are flat and of a few bytes; encoding them cannot fail.
        if let Ok(packet) = protocol::encode(reply) {
            self.outgoing.push_back(Outgoing { packet, newborn });
        }
    }

    /// Sends what can be sent; an error is the end of the stream.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(next) = self.outgoing.pop_front() {
            let beside = next.newborn.iter().flat_map(|(.., two)| two);
            let beside: Vec<_> = beside.map(AsFd::as_fd).collect();
            match socket::send(&self.socket, &next.packet, &beside) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.outgoing.push_front(next);
                    return Ok(());
                }
                Err(error) => match next.newborn {
                    // Only the descriptor may have been what was one too many.
                    Some((id, pid, ..)) if error.raw_os_error() != Some(libc::EPIPE) => {
                        self.discard(id, pid, &error);
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Takes back a worker that the launcher was never told of.
    fn discard(&mut self, id: Id, pid: Pid, error: &io::Error) {
        // If it has been reaped already it is not among the workers, its number
        // may be another's, and its exit waits to be sent.
        if self.workers.remove(&pid).is_some() {
            wait::kill_group_of_unreaped(pid);
        }
        let exit_of_it = |other: &Outgoing| {
            matches!(
                protocol::decode(&other.packet),
                Some(Reply::Exited { id: other, .. }) if other == id
            )
        };
        self.outgoing.retain(|other| !exit_of_it(other));
        let why = refusal(error);
        self.reply(&Reply::Refused { id, why });
    }

    /// Kills everything below this process, and ends.
    fn end(mut self) -> ! {
        for &leader in self.workers.keys() {
            wait::kill_group_of_unreaped(leader);
        }
        let deadline = Instant::now() + END_LIMIT;
        // What dies makes its own children ours, so this takes a few rounds.
        while Instant::now() < deadline {
            self.bury();
            if wait::any_ended().is_err() {
                break;
            }
            for child in children() {
                // It is a child that only this process reaps, so that the
                // number is still its own.
                let _ = kill_process(child, Signal::KILL);
            }
            let mut entry = [PollFd::new(&self.changes, PollFlags::IN)];
            let _ = poll(&mut entry, Some(&ROUND));
        }
        fork::exit_now(0)
    }
}

/// What the server need not wait for.
struct Ready {
    request: bool,
    program: bool,
    children: bool,
}

/// A worker just forked, in its own process.
struct Newborn {
    posting: Posting,
    descriptors: Vec<OwnedFd>,
    go: OwnedFd,
}

impl Newborn {
    /// Begins when the launcher says so.
    ///
    /// The other end of `go` travels to the launcher beside the server's reply.
    /// So there is one moment at which this worker is the launcher's, the
    /// sending of that message, whatever is killed when:
    ///
    /// - If the server dies before, the other end goes with it, this worker ends
    ///   without having touched its channel, and the launcher, which finds its
    ///   request unanswered, can give the same channel to another.
    /// - If the server dies after, the launcher reads the reply all the same.
    /// - If the launcher cannot take the descriptors, or does not want the
    ///   worker any more, the other end is closed there.
    fn begin(self, program: OwnedFd, serve: Serve) -> ! {
        let _ = setpgid(None, None);
        signal::reset_inherited();
        if let Err(error) = prctl::wake_when_parent_dies() {
            enter::leave(&error);
        }
        let told = rustix::io::retry_on_intr(|| rustix::io::read(&self.go, &mut [0_u8; 1]));
        if told != Ok(1) {
            fork::exit_now(0);
        }
        // From now on it is a lifeline, which closes when the program ends. Without
        // it a worker that is stopped then, and whose server was gone before,
        // would stay as it is; all others have other signs.
        let _ = prctl::wake_when_closed(self.go.as_fd());
        let _ = self.go.into_raw_fd();
        enter::begin(self.posting, program, self.descriptors, serve)
    }
}

/// The children of this process; empty where the kernel does not list them.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            let numbers = list.split_ascii_whitespace();
            numbers
                .filter_map(|number| Pid::from_raw(number.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn refusal(error: &io::Error) -> Refusal {
    Refusal::Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// How many replies may wait before requests have to. Beside them there is one
/// exit for each living worker at most, so the queue is bounded.
const MAX_OUTGOING: usize = 64;

/// How long the server tries to see the last of its children before it leaves
/// them to whoever is above it. Only a process that the kernel cannot interrupt
/// lives that long after a SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How long it waits for a child to die before it looks for new ones.
const ROUND: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};
