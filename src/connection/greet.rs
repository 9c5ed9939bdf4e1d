//! The beginning of a conversation between an address's two ends: whether they will speak at all.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::authkey::{AuthKey, AuthMode};
use super::error::{Break, Fault};
use super::handshake::{Handshake, LONGEST, RANDOM, Role};
use super::inbox::Inbox;
use super::link::Link;
use super::outgoing::Frame;
use super::peer::Peer;
use super::refusal::HandshakeError;
use super::{Connection, ConnectionError};
use crate::sys::{network, secret};

/// What one end asks of the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) authkey: Option<AuthKey>,
    pub(super) mode: AuthMode,
    pub(super) any_user: bool,
    pub(super) keepalive: Option<Duration>,
}

/// A socket whose other end is the right one, and what has come from there already.
#[derive(Debug)]
pub(super) struct Greeted {
    link: Arc<Link>,
    inbox: Inbox,
}

impl Greeted {
    /// Of whom nothing was asked yet.
    fn new(socket: OwnedFd) -> Result<Self, HandshakeError> {
        Ok(Self {
            link: Link::new(socket).map_err(HandshakeError::system)?,
            inbox: Inbox::default(),
        })
    }

    pub(super) fn into_connection<S, R>(self) -> Connection<S, R> {
        Connection::new(self.link, self.inbox)
    }
}

impl Terms {
    /// Looks at who is there, which takes no time.
    pub(super) fn inspect(&self, socket: OwnedFd, peer: &Peer) -> Result<Greeted, HandshakeError> {
        if !self.any_user && !peer.is_of_this_user() {
            return Err(HandshakeError::foreign(peer));
        }
        if peer.socket_addr().is_some() {
            network::tune(&socket, self.keepalive).map_err(HandshakeError::system)?;
        }
        Greeted::new(socket)
    }

    /// Has both ends prove themselves, if there is a key. Notes on the way when the other end has, of
    /// which a client is not sure before the end.
    pub(super) async fn greet(
        &self,
        mut greeted: Greeted,
        role: Role,
        is_proven: &AtomicBool,
    ) -> Result<Greeted, HandshakeError> {
        if let Some(key) = &self.authkey {
            let mut random = [0; RANDOM];
            secret::fill_random(&mut random).map_err(HandshakeError::system)?;
            let handshake = Handshake::new(role, self.mode, key.clone(), random);
            greeted.shake_hands(handshake, is_proven).await?;
            // Where it will be waited for is another matter.
            greeted.link.leave();
        }
        Ok(greeted)
    }
}

impl Greeted {
    async fn shake_hands(
        &mut self,
        mut handshake: Handshake,
        is_proven: &AtomicBool,
    ) -> Result<(), HandshakeError> {
        if let Some(opening) = handshake.opening() {
            self.say(&opening).await?;
        }
        loop {
            let heard = self.hear().await?;
            let step = handshake.hear(&heard);
            let said = match &step.say {
                Some(message) => self.say(message).await,
                None => Ok(()),
            };
            match step.verdict {
                // What is wrong with the other end counts for more than that it does not listen.
                Some(Err(why)) => return Err(why.into()),
                Some(Ok(())) => return said,
                // The first that a listener hears is a proof, or the end.
                None => is_proven.store(true, Relaxed),
            }
            said?;
        }
    }

    async fn say(&self, message: &[u8]) -> Result<(), HandshakeError> {
        let mut frame = Some(Frame::of_bytes(message));
        let written = std::future::poll_fn(|context| self.link.poll_write(context, &mut frame));
        written.await.map_err(HandshakeError::of_connection)
    }

    async fn hear(&mut self) -> Result<Vec<u8>, HandshakeError> {
        loop {
            let next = self.inbox.next(LONGEST);
            let next = next.map_err(|fault: Fault| ConnectionError::from(fault));
            if next.map_err(HandshakeError::of_connection)?.is_some() {
                return Ok(self.inbox.take_bytes());
            }
            // Nobody has any to give before both know whom they have.
            if self.inbox.has_descriptors() {
                let why = ConnectionError::from(Fault::Broken(Break::Misplaced));
                return Err(HandshakeError::of_connection(why));
            }
            let Self { link, inbox } = self;
            let read = std::future::poll_fn(|context| link.poll_read(context, inbox));
            read.await.map_err(HandshakeError::of_connection)?;
        }
    }
}
