//! Values as pickles, for Python programs that `send` and `recv` objects.
//!
//! A pickle is a program for a small machine, and can ask for any class or function of Python. None of
//! that is done here: a message is looked through first (`plain`), and only one that builds plain
//! values, within limits, is read at all.

mod plain;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_pickle::{DeOptions, SerOptions};

use super::error::{ConnectionError, Fault};
use super::outgoing::Frame;
use super::{Connection, Receiver, Sender};
use crate::task::{DecodeError, EncodeError};

/// The value as a message, which is its pickle and nothing else.
fn frame<T: Serialize + ?Sized>(value: &T) -> Result<Frame, ConnectionError> {
    let pickle = serde_pickle::to_vec(&value, SerOptions::new());
    let pickle = pickle.map_err(|error| Fault::Encode(EncodeError::because::<T>(error)))?;
    Ok(Frame::of_bytes(&pickle))
}

/// Reads the value of a message that is a pickle.
pub(super) fn read<T: DeserializeOwned>(pickle: &[u8]) -> Result<T, ConnectionError> {
    let read = plain::check(pickle)
        .map_err(|why| DecodeError::without_bytes::<T>(why))
        .and_then(|()| {
            let value = serde_pickle::from_slice(pickle, DeOptions::new());
            value.map_err(|error| DecodeError::without_bytes::<T>(error))
        });
    read.map_err(|error| Fault::Decode(error).into())
}

/// Pickled values, with the feature `pickle`.
impl<T> Sender<T> {
    /// Sends a value as a pickle, which a Python program gets by `recv()`. It may be of any type, the
    /// connection's or another.
    ///
    /// | serde, Rust | Python |
    /// | --- | --- |
    /// | `bool`, numbers, `String` and `&str` | `bool`, `int`, `float`, `str` |
    /// | `()`, `None` | `None` |
    /// | `bytes::Bytes`, `serde_bytes` | `bytes`; a `Vec<u8>` is a `list` of `int` |
    /// | sequences, tuples | `list`, `tuple` |
    /// | maps, structs | `dict` |
    /// | variants of an enum | `str` of the name, or a `dict` of the name to what it has |
    ///
    /// # Errors
    ///
    /// Where the value cannot be pickled ([`is_encode`](ConnectionError::is_encode)), and else as
    /// [`send_bytes`](Self::send_bytes).
    ///
    /// # Cancel safety
    ///
    /// As with [`send`](Self::send).
    pub fn send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, T, V> {
        self.transmit(frame(value))
    }

    /// The same where there is room for the beginning of it. See [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// Where there is none ([`is_full`](ConnectionError::is_full)), and as
    /// [`send_pickled`](Self::send_pickled).
    pub fn try_send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
    ) -> Result<(), ConnectionError> {
        self.attempt(frame(value)?)
    }

    /// The same from a thread that may block. See [`blocking_send`](Self::blocking_send).
    ///
    /// # Errors
    ///
    /// Where `limit` passes first ([`is_timeout`](ConnectionError::is_timeout)), and as
    /// [`send_pickled`](Self::send_pickled).
    pub fn blocking_send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.block(frame(value)?, limit)
    }
}

/// Pickled values, with the feature `pickle`.
impl<T> Receiver<T> {
    /// Receives a value that a Python program has sent by `send(value)`, as any type that fits it. See
    /// [`Sender::send_pickled`]; a set comes as a sequence, `bytearray` as bytes, and a number has to
    /// fit its type. An `int` below -2^63, or from 2^63 on, is an error for all of them, though such a
    /// `u64` can be sent.
    ///
    /// Nothing of a pickle is run. It may consist of plain values alone: `None`, `bool`, `int`,
    /// `float`, `str`, `bytes`, `bytearray`, `list`, `tuple`, `dict`, `set`, `frozenset`, as Python 3
    /// pickles them from protocol 3 on, no deeper in each other than 128, and with no more than 1 GiB
    /// of memory to be needed for them, which [`set_max_length`](Self::set_max_length) makes less: a
    /// value needs 32 bytes for each of its pickle at most, unless the pickle repeats itself.
    ///
    /// # Errors
    ///
    /// Where it is no such pickle, or its value no `V` ([`is_decode`](ConnectionError::is_decode)). An
    /// object is told by the name of its class. The next message can be received. Else as
    /// [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_pickled<V: DeserializeOwned>(&mut self) -> Result<V, ConnectionError> {
        read(&self.recv_bytes().await?)
    }

    /// The same if a whole message is there. See [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// Where none is ([`is_empty`](ConnectionError::is_empty)), and as
    /// [`recv_pickled`](Self::recv_pickled).
    pub fn try_recv_pickled<V: DeserializeOwned>(&mut self) -> Result<V, ConnectionError> {
        read(&self.try_recv_bytes()?)
    }

    /// The same on a thread that may block. See [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Errors
    ///
    /// Where `limit` passes first ([`is_timeout`](ConnectionError::is_timeout)), and as
    /// [`recv_pickled`](Self::recv_pickled).
    pub fn blocking_recv_pickled<V: DeserializeOwned>(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<V, ConnectionError> {
        read(&self.blocking_recv_bytes(limit)?)
    }
}

/// Pickled values, with the feature `pickle`. See [`Sender`] and [`Receiver`].
impl<S, R> Connection<S, R> {
    /// Sends a value as a pickle. See [`Sender::send_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // The other one may be in a Python program.
    /// let (mut one, mut other) = procpool::pipe::<(), ()>()?;
    /// one.send_pickled(&("resize", [640, 480])).await?;
    /// let question: (String, Vec<u32>) = other.recv_pickled().await?;
    /// assert_eq!(question, ("resize".to_owned(), vec![640, 480]));
    /// other.send_pickled(&BTreeMap::from([("done", true)])).await?;
    /// let answer: BTreeMap<String, bool> = one.recv_pickled().await?;
    /// assert!(answer["done"]);
    /// # Ok(()) }
    /// ```
    pub fn send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + use<'_, S, R, V> {
        self.exchange(frame(value))
    }

    /// Sends a value as a pickle and never waits. See [`Sender::try_send_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
    ) -> Result<(), ConnectionError> {
        self.sender.try_send_pickled(value)
    }

    /// Sends a value as a pickle from a thread that may block. See
    /// [`Sender::blocking_send_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_send_pickled<V: Serialize + ?Sized>(
        &mut self,
        value: &V,
        limit: Option<Duration>,
    ) -> Result<(), ConnectionError> {
        self.blocking_exchange(frame(value)?, limit)
    }

    /// Receives a value of a pickle. See [`Receiver::recv_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_pickled<V: DeserializeOwned>(&mut self) -> Result<V, ConnectionError> {
        self.receiver.recv_pickled().await
    }

    /// Receives a value of a pickle and never waits. See [`Receiver::try_recv_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_pickled<V: DeserializeOwned>(&mut self) -> Result<V, ConnectionError> {
        self.receiver.try_recv_pickled()
    }

    /// Receives a value of a pickle on a thread that may block. See
    /// [`Receiver::blocking_recv_pickled`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn blocking_recv_pickled<V: DeserializeOwned>(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<V, ConnectionError> {
        self.receiver.blocking_recv_pickled(limit)
    }
}
