//! A fork server, seen from the program: asking it for workers, and hearing
//! from it what became of them.
//!
//! Its own death loses nothing that it has sent: what is in the socket is read
//! to the end before anything is called lost.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::child::{Child, Origin, Presence, Unclaimed, wake};
use super::errand::{self, Errand, Posting};
use super::executed::{end_unready, execute};
use super::protocol::{self, Id, Refusal, Reply, Request};
use super::{Exit, Keeper, Order, Program, StartError, key};
use crate::sys::socket::Received;
use crate::sys::{image, reactor, socket};

/// A fork server.
#[derive(Debug)]
pub(crate) struct Link {
    keeper: Arc<Keeper>,
    socket: AsyncFd<Arc<OwnedFd>>,
    server: Child,
    state: Mutex<State>,
    lost: watch::Sender<bool>,
    /// Given to its workers, so that their launcher can wait for them.
    workers: watch::Sender<()>,
    limit: Duration,
}

#[derive(Debug, Default)]
struct State {
    lost: bool,
    ending: bool,
    next: Id,
    /// Who waits for the answer to a request.
    asked: HashMap<Id, oneshot::Sender<Result<Unclaimed, NoWorker>>>,
    /// Who waits for the exit of a worker.
    running: HashMap<Id, oneshot::Sender<Exit>>,
}

/// Why a fork server gave no worker.
#[derive(Debug)]
pub(crate) enum NoWorker {
    /// The server has this many threads and cannot fork safely.
    Threads(u32),
    /// The server died first; another one may do it.
    Lost,
    /// It could not be done.
    Failed(StartError),
}

impl Link {
    /// Executes a fork server and waits until it is ready, at most as long as
    /// the program's handshake may take. If this is dropped before, the server
    /// is killed.
    pub(crate) async fn open(
        keeper: &Arc<Keeper>,
        program: &Program,
        servers: Presence,
        workers: watch::Sender<()>,
    ) -> Result<Arc<Self>, StartError> {
        let preloads = !program.preload.is_empty();
        let key = preloads.then(key::hand_down).transpose();
        let key = key.map_err(|error| StartError::system("copy a key", &error))?;
        let beside: Vec<_> = key
            .iter()
            .chain(&program.preload)
            .map(AsFd::as_fd)
            .collect();
        let (server, socket) =
            execute(keeper, program, WHO, &Errand::ForkServer, &beside, servers).await?;
        drop(key);
        let socket = reactor::register(Arc::new(socket), Interest::READABLE | Interest::WRITABLE)
            .map_err(|error| StartError::system("watch a fork server's socket", &error))?;
        let limit = program.handshake_timeout;
        match server.wait_for(limit, next_word(&socket)).await {
            Ok(Ok(word)) => check(&word)?,
            Ok(Err(_)) => return Err(StartError::exited(WHO, end_unready(server).await)),
            Err(_) => {
                end_unready(server).await;
                return Err(StartError::timed_out(WHO, limit));
            }
        }
        let server = if preloads {
            preloaded(server, &socket, program.preload_limit).await?
        } else {
            server
        };
        let link = Arc::new(Self {
            keeper: Arc::clone(keeper),
            socket,
            server: server.claim(),
            state: Mutex::default(),
            lost: watch::Sender::new(false),
            workers,
            limit,
        });
        keeper.handle().spawn(Arc::clone(&link).listen());
        Ok(link)
    }

    /// Whether there is no use in asking it.
    pub(crate) fn is_lost(&self) -> bool {
        self.state().lost
    }

    /// Asks for a worker. If this is dropped before there is an answer, the
    /// worker is killed as soon as there is one.
    pub(crate) async fn fork(&self, order: &Order) -> Result<Unclaimed, NoWorker> {
        let (answer, mut answered) = oneshot::channel();
        let id = {
            let mut state = self.state();
            if state.lost {
                return Err(NoWorker::Lost);
            }
            state.next += 1;
            let id = state.next;
            state.asked.insert(id, answer);
            id
        };
        let posting = Posting::of(order);
        let exchange = async {
            if let Err(error) = self.send(&Request::Fork { id, posting }, order).await {
                // The server's own end is told by the answer that never comes.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    self.state().asked.remove(&id);
                    let error = StartError::system("ask the fork server for a worker", &error);
                    return Ok(Err(NoWorker::Failed(error)));
                }
            }
            (&mut answered).await
        };
        let answer = match self.server.wait_for(self.limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                // A server that hangs is as good as dead. What it did send
                // before still counts.
                self.server.kill_group();
                answered.await
            }
        };
        answer.unwrap_or(Err(NoWorker::Lost))
    }

    /// Tells the server to end, with everything below it, and waits until it
    /// has.
    pub(crate) async fn end(&self) {
        self.state().ending = true;
        socket::end(self.socket.get_ref());
        // Somebody may have stopped it.
        wake(self.server.as_fd());
        if timeout(END_LIMIT, self.server.exited()).await.is_err() {
            self.server.kill_group();
            self.server.exited().await;
        }
    }

    async fn send(&self, request: &Request, order: &Order) -> io::Result<()> {
        let packet = protocol::encode(request)?;
        let beside = errand::descriptors(order);
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|socket| socket::send(socket.get_ref(), &packet, &beside)) {
                Ok(sent) => return sent,
                Err(_would_block) => {}
            }
        }
    }

    /// Hears the server out, to its end and what it had sent by then.
    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; socket::MAX_MESSAGE];
        loop {
            let next = {
                let next = pin!(receive(&self.socket, &mut buffer));
                match select(next, pin!(self.server.exited())).await {
                    Either::Left((Ok(received), _)) => received,
                    _ => break,
                }
            };
            if next.length == 0 || self.hear(&buffer[..next.length], next).is_err() {
                break;
            }
        }
        // Whatever the reason: there is one way out of here.
        self.server.kill_group();
        let exit = self.server.exited().await;
        while let Ok(last) = socket::receive(self.socket.get_ref(), &mut buffer) {
            if last.length == 0 || self.hear(&buffer[..last.length], last).is_err() {
                break;
            }
        }
        self.lose(exit);
    }

    /// Acts on one packet.
    fn hear(&self, packet: &[u8], received: Received) -> Result<(), Nonsense> {
        match protocol::decode(packet).ok_or(Nonsense)? {
            Reply::Ready { .. } | Reply::Loaded | Reply::Failed { .. } => Err(Nonsense),
            Reply::Forked { id, pid } => {
                let pid = Pid::from_raw(pid).ok_or(Nonsense)?;
                self.welcome(id, pid, received)
            }
            Reply::Refused { id, why } => {
                let answer = self.state().asked.remove(&id).ok_or(Nonsense)?;
                let why = match why {
                    Refusal::Threads(threads) => NoWorker::Threads(threads),
                    Refusal::Errno(errno) => {
                        let error = io::Error::from_raw_os_error(errno);
                        NoWorker::Failed(StartError::system("fork a worker", &error))
                    }
                };
                // Nobody waiting any more is as good as the answer heard.
                let _ = answer.send(Err(why));
                Ok(())
            }
            Reply::Exited { id, exit } => {
                let running = self.state().running.remove(&id).ok_or(Nonsense)?;
                let _ = running.send(exit);
                Ok(())
            }
        }
    }

    /// Takes charge of a new worker and hands it to who asked for it.
    fn welcome(&self, id: Id, pid: Pid, received: Received) -> Result<(), Nonsense> {
        let (report, exit) = oneshot::channel();
        let answer = {
            let mut state = self.state();
            state.running.insert(id, report);
            state.asked.remove(&id).ok_or(Nonsense)?
        };
        // Where nobody waits for it any more, dropping it unclaimed kills it.
        let _ = answer.send(self.take(pid, received, exit).map_err(|error| {
            // It has not begun, and ends now that it cannot.
            NoWorker::Failed(StartError::system("take a worker from its server", &error))
        }));
        Ok(())
    }

    fn take(
        &self,
        pid: Pid,
        received: Received,
        exit: oneshot::Receiver<Exit>,
    ) -> io::Result<Unclaimed> {
        let Ok([pidfd, go]) = <[OwnedFd; 2]>::try_from(received.descriptors) else {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        };
        let origin = Origin::Forked {
            exit,
            server: Arc::clone(self.server.pidfd()),
            server_lost: self.lost.subscribe(),
        };
        let presence = self.workers.subscribe();
        let mut child = Child::watch(&self.keeper, pid, pidfd, origin, presence)?;
        // A worker that has died meanwhile needs no leave to begin.
        let _ = rustix::io::write(&go, &[1]);
        child.lifeline = Some(go);
        Ok(Unclaimed::new(child))
    }

    fn lose(&self, exit: Exit) {
        let unanswered = {
            let mut state = self.state();
            state.lost = true;
            if !state.ending {
                tracing::warn!(pid = self.server.pid(), %exit, "a fork server was lost");
            }
            (
                std::mem::take(&mut state.asked),
                std::mem::take(&mut state.running),
            )
        };
        // Dropping these tells who waits, outside the lock.
        drop(unanswered);
        self.lost.send_replace(true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a server has preloaded what it had to.
async fn preloaded(
    server: Unclaimed,
    socket: &AsyncFd<Arc<OwnedFd>>,
    limit: Duration,
) -> Result<Unclaimed, StartError> {
    match server.wait_for(limit, next_word(socket)).await {
        Ok(Ok(word)) => match protocol::decode(&word) {
            Some(Reply::Loaded) => Ok(server),
            Some(Reply::Failed { text }) => Err(StartError::preload(text)),
            _ => Err(StartError::protocol(WHO, "its second word was not one")),
        },
        Ok(Err(_)) => {
            let exit = end_unready(server).await;
            Err(StartError::preload(format!(
                "the fork server ended: {exit}"
            )))
        }
        Err(_) => {
            server.kill_group();
            server.exited().await;
            Err(StartError::preload(format!(
                "it took longer than {limit:?}"
            )))
        }
    }
}

/// The server sent what no server of this build sends.
struct Nonsense;

async fn next_word(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; socket::MAX_MESSAGE];
    let length = receive(socket, &mut buffer).await?.length;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(length);
    Ok(buffer)
}

/// Receives one message; cancel safe.
async fn receive(socket: &AsyncFd<Arc<OwnedFd>>, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| socket::receive(socket.get_ref(), buffer)) {
            Ok(received) => return received,
            Err(_would_block) => {}
        }
    }
}

/// Checks that the first word is that of a server of this build.
fn check(word: &[u8]) -> Result<(), StartError> {
    let nonsense = || StartError::protocol(WHO, "its first word was not one");
    let version = protocol::version_of(word).ok_or_else(nonsense)?;
    if version != protocol::VERSION {
        let protocol = |version| format!("protocol {version}");
        let (ours, theirs) = (protocol(protocol::VERSION), protocol(version));
        return Err(StartError::mismatch(WHO, ours, theirs));
    }
    let ours = image::main_image().build_id();
    match protocol::decode(word) {
        Some(Reply::Ready { build, .. }) if build == *ours => Ok(()),
        Some(Reply::Ready { build, .. }) => {
            let (ours, theirs) = (format!("build {ours}"), format!("build {build}"));
            Err(StartError::mismatch(WHO, ours, theirs))
        }
        _ => Err(nonsense()),
    }
}

const WHO: &str = "the fork server";

/// How long a server that was told to end may take; it gives itself a little
/// less to see the last of its children.
const END_LIMIT: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::build_id::BuildId;

    fn word(version: u32, build: BuildId) -> Vec<u8> {
        protocol::encode(&Reply::Ready { version, build }).expect("a first word")
    }

    fn own_build() -> BuildId {
        image::main_image().build_id().clone()
    }

    fn other_build() -> BuildId {
        BuildId::hash([b"another".as_slice()].into_iter())
    }

    #[test]
    fn a_server_of_this_build_is_welcome() {
        check(&word(protocol::VERSION, own_build())).unwrap();
    }

    #[test]
    fn a_server_of_another_build_is_refused_and_both_are_named() {
        let error = check(&word(protocol::VERSION, other_build())).unwrap_err();
        assert!(error.is_mismatch() && !error.is_resource());
        let text = error.to_string();
        let names_both =
            text.contains(&own_build().to_string()) && text.contains(&other_build().to_string());
        assert!(names_both && text.contains("fork server"), "{text}");
    }

    /// Of such a server nothing but the version can be understood, not even its build.
    #[test]
    fn a_server_of_another_protocol_is_refused_whatever_else_it_says() {
        let theirs = protocol::VERSION + 1;
        let mut word = word(theirs, own_build());
        word.extend(b"and something new");
        let error = check(&word).unwrap_err();
        assert!(error.is_mismatch());
        let text = error.to_string();
        assert!(
            text.contains(&format!("protocol {theirs} instead of")),
            "{text}"
        );
    }

    #[test]
    fn a_first_word_that_is_none_is_a_broken_protocol_and_no_mismatch() {
        let reply = Reply::Refused {
            id: 1,
            why: Refusal::Threads(2),
        };
        let mut torn = word(protocol::VERSION, own_build());
        torn.pop();
        for word in [
            protocol::encode(&reply).unwrap(),
            torn,
            vec![0xff; 40],
            vec![],
        ] {
            let error = check(&word).unwrap_err();
            assert!(!error.is_mismatch(), "{error}");
            assert!(error.to_string().contains("broke the protocol"), "{error}");
        }
    }
}
