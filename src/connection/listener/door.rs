//! The listening socket's side: takes in whoever connects, and has each prove itself beside the
//! others. It runs on the crate's thread for as long as its listener lives.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::select_all;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};

use super::lobby::{End, Lobby, Visitor};
use crate::connection::greet::{Greeted, Terms};
use crate::connection::handshake::Role;
use crate::connection::peer::Peer;
use crate::connection::refusal::{HandshakeError, Refusal};
use crate::sys::network;

/// So long nobody is taken in after the system had no room for another. Somebody else has to make
/// some, and the clients wait meanwhile in the system's queue.
const PAUSE: Duration = Duration::from_millis(50);

/// So long nobody has to make room for another: enough for an honest client on a busy machine. It
/// trades that against how long the last of a thousand silent ones waits for its turn to be turned
/// away, and the honest one behind it: half a second, with 64 places.
const GRACE: Duration = Duration::from_millis(40);

/// What lets clients in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) socket: AsyncFd<Arc<OwnedFd>>,
    pub(super) terms: Terms,
    pub(super) limit: Duration,
    /// So many may be at their handshakes.
    pub(super) max_pending: usize,
    /// Those of all who have come and were not taken.
    pub(super) places: Arc<Semaphore>,
    pub(super) lobby: Arc<Lobby>,
}

/// A client at its handshake.
#[derive(Debug)]
struct Guest {
    peer: Peer,
    since: Instant,
    is_proven: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    /// Lets in whoever comes, until that is not possible any more.
    pub(super) async fn run(self) {
        let mut guests = VecDeque::new();
        let why = loop {
            // Where so many wait that nobody takes, the others stay outside.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match self.next().await {
                Ok((socket, address)) => {
                    self.let_in(&mut guests, socket, address, place).await;
                }
                Err(error) if is_over(&error) => break error,
                Err(error) if is_shortage(&error) => sleep(PAUSE).await,
                // A client that was gone before it was taken in, or the like.
                Err(_) => {}
            }
        };
        self.lobby.end(End::Failed(Arc::new(why)));
    }

    async fn next(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        loop {
            let mut ready = self.socket.readable().await?;
            match network::accept(self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // What listens no more says the same for ever at a path, and is always ready.
                    if ready.ready().is_read_closed() {
                        return Err(io::Error::from_raw_os_error(libc::EINVAL));
                    }
                    ready.clear_ready();
                }
                taken => return taken,
            }
        }
    }

    /// Has a client begin its handshake, or lets it in at once if it has nothing to prove.
    async fn let_in(
        &self,
        guests: &mut VecDeque<Guest>,
        socket: OwnedFd,
        address: Option<SocketAddr>,
        place: OwnedSemaphorePermit,
    ) {
        let Ok(peer) = Peer::of(&socket, address) else {
            return;
        };
        match self.terms.inspect(socket, &peer) {
            Err(reason) => self.lobby.admit(Err(Refusal { peer, reason })),
            Ok(greeted) if self.terms.authkey.is_none() => {
                self.lobby.admit(Ok(Visitor::new(peer, greeted, place)));
            }
            Ok(met) => {
                self.make_room(guests).await;
                guests.push_back(self.receive(met, peer, place));
            }
        }
    }

    /// Waits until there is room for another at its handshake. After its grace the oldest makes it, of
    /// those that have proved nothing if there are such.
    async fn make_room(&self, guests: &mut VecDeque<Guest>) {
        loop {
            // This thread may have been kept from running: first what has come in meanwhile.
            yield_now().await;
            // Here and at the handshakes it is one thread: of who is not finished nothing was told.
            guests.retain(|guest| !guest.task.is_finished());
            if guests.len() < self.max_pending {
                return;
            }
            let unproven = guests
                .iter()
                .position(|guest| !guest.is_proven.load(Relaxed));
            let oldest = unproven.unwrap_or(0);
            let left = GRACE.saturating_sub(guests[oldest].since.elapsed());
            if left.is_zero() {
                let guest = guests.remove(oldest);
                return guest.into_iter().for_each(|guest| self.turn_away(guest));
            }
            let somebody = select_all(guests.iter_mut().map(|guest| &mut guest.task));
            let _ = timeout(left, somebody).await;
        }
    }

    fn turn_away(&self, guest: Guest) {
        let (peer, reason) = (guest.peer.clone(), HandshakeError::displaced());
        self.lobby.admit(Err(Refusal { peer, reason }));
    }

    /// Leads a client through its handshake, in at most so much time.
    fn receive(&self, met: Greeted, peer: Peer, place: OwnedSemaphorePermit) -> Guest {
        let (terms, lobby, limit) = (self.terms.clone(), Arc::clone(&self.lobby), self.limit);
        let is_proven = Arc::<AtomicBool>::default();
        let (who, proof) = (peer.clone(), Arc::clone(&is_proven));
        let task = tokio::spawn(async move {
            let greeted = timeout(limit, terms.greet(met, Role::Listener, &proof)).await;
            let greeted = greeted.unwrap_or_else(|_| Err(HandshakeError::timed_out(limit)));
            lobby.admit(match greeted {
                Ok(greeted) => Ok(Visitor::new(who, greeted, place)),
                Err(reason) => Err(Refusal { peer: who, reason }),
            });
        });
        Guest {
            peer,
            since: Instant::now(),
            is_proven,
            task,
        }
    }
}

/// Whether nobody will ever be taken in any more: the socket does not listen, because somebody who
/// has a copy of it has ended that, or its runtime is gone.
fn is_over(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL) | None)
}

/// Whether the process or the system has no room for another socket just now.
fn is_shortage(error: &io::Error) -> bool {
    use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let number = error.raw_os_error();
    number.is_some_and(|number| [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(&number))
}
