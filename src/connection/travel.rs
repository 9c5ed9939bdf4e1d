//! Ends of connections as parts of values: their descriptor goes beside the value, and what has come
//! in and was not taken yet goes in it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::inbox::Inbox;
use super::link::Link;
use super::{Connection, Receiver, Sender};
use crate::task::attached;

/// What is written of an end.
#[derive(Serialize, Deserialize)]
struct End {
    descriptor: u32,
    unread: Bytes,
}

impl End {
    fn of<E: ser::Error>(link: &Link, inbox: Option<&Inbox>) -> Result<Self, E> {
        let refused = |why: &dyn fmt::Display| {
            E::custom(format_args!("a connection cannot be sent while {why}"))
        };
        if !link.outgoing().is_empty() {
            return Err(refused(&"a message that was begun on it is not sent whole"));
        }
        let unread = inbox.map_or(Ok(Vec::new()), Inbox::to_unread);
        Ok(Self {
            unread: unread.map_err(|why| refused(&why))?.into(),
            descriptor: attached::attach(link)?,
        })
        .inspect(|_| link.is_copied())
    }

    fn open<E: de::Error>(self) -> Result<(Arc<Link>, Inbox), E> {
        let descriptor = attached::take(self.descriptor)?;
        let link = Link::new(descriptor)
            .map_err(|error| E::custom(format_args!("no connection came along: {error}")))?;
        Ok((link, Inbox::of_unread(self.unread.into())))
    }
}

impl<S, R> Serialize for Connection<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        End::of(&self.sender.link, Some(&self.receiver.inbox))?.serialize(serializer)
    }
}

impl<'de, S, R> Deserialize<'de> for Connection<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (link, inbox) = End::deserialize(deserializer)?.open()?;
        Ok(Self::new(link, inbox))
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        End::of(&self.link, Some(&self.inbox))?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (link, inbox) = End::deserialize(deserializer)?.open()?;
        Ok(Self::new(link, inbox))
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        End::of(&self.link, None)?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (link, _) = End::deserialize(deserializer)?.open()?;
        Ok(Self::new(link))
    }
}

/// A stream socket that somebody else has connected, whose messages are framed as those of this
/// module.
///
/// # Errors
///
/// Where the descriptor is no stream socket; it is closed then.
impl<S, R> TryFrom<OwnedFd> for Connection<S, R> {
    type Error = io::Error;

    fn try_from(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self::new(Link::new(socket)?, Inbox::default()))
    }
}
