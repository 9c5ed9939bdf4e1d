//! Pipes between processes: messages of values or bytes, one after the other, in one direction or in
//! both.
//!
//! ```text
//!    Connection<S, R>                                       Connection<R, S>
//!      Sender<S> ───── length │ count │ value ──────────────▶ Receiver<S>
//!      Receiver<R> ◀── length │ bytes ─────────────────────── Sender<R>
//!                 one stream socket; descriptors beside it
//! ```
//!
//! The socket is never made non-blocking: that would be so for all who have a copy of it, in other
//! processes too. Each call says that it does not wait.

// - `duplex`: both halves as one; `sender`, `receiver`: each half; `streams`: as `Sink` and `Stream`
// - `link`: the socket that the halves share, and waiting for it
// - `inbox`: what has come in; `outgoing`: what is on its way out. Neither waits
// - `frame`: the length before each message; `message`: a value in one
// - `pickle`: values for Python programs
// - `trial`: what reads bytes here, for `src/fuzzing.rs`
// - `look`: whether there is something; `wait`: on which of many
// - `listener`, `client`: ends that find each other by an `address`, where `peer` is who came
// - `greet`: whether they speak; `authkey`: what they may have to prove; `handshake`: how, without
//   I/O; `refusal`: why they do not
// - `travel`: ends as parts of values; `error`: how all of this fails
mod address;
mod authkey;
mod client;
mod duplex;
mod error;
mod frame;
mod greet;
mod handshake;
mod inbox;
mod link;
mod listener;
mod look;
mod message;
mod outgoing;
mod peer;
#[cfg(feature = "pickle")]
mod pickle;
mod receiver;
mod refusal;
mod sender;
mod streams;
mod travel;
#[cfg(any(test, fuzzing))]
pub(crate) mod trial;
mod wait;

use std::io;

pub use self::address::{Address, AddressError};
pub use self::authkey::{AuthKey, AuthMode};
pub use self::client::{Client, ClientBuilder, ConnectError};
pub use self::duplex::Connection;
pub use self::error::ConnectionError;
use self::inbox::Inbox;
use self::link::Link;
pub use self::listener::{AcceptError, Arrival, Listener, ListenerBuilder};
pub use self::peer::Peer;
pub use self::receiver::Receiver;
pub use self::refusal::{HandshakeError, Refusal};
pub use self::sender::Sender;
pub use self::wait::{Waitable, blocking_wait, wait};
use crate::sys::stream;

/// Makes a pipe with two ends that both send and receive, as Python's `Pipe()` does: what one sends
/// as an `A`, the other receives. It is a Unix stream socket; no name of it is anywhere.
///
/// Both ends are in this process first. One of them goes to another, as a part of a task's argument,
/// and is dropped here.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut one, mut other) = procpool::pipe::<String, usize>()?;
/// one.send(&"seven".to_owned()).await?;
/// let text = other.recv().await?;
/// other.send(&text.len()).await?;
/// assert_eq!(one.recv().await?, 5);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// At the limits of the process or of the system.
#[doc(alias = "Pipe")]
pub fn pipe<A, B>() -> io::Result<(Connection<A, B>, Connection<B, A>)> {
    let (one, other) = stream::pair()?;
    Ok((
        Connection::new(Link::new(one)?, Inbox::default()),
        Connection::new(Link::new(other)?, Inbox::default()),
    ))
}

/// Makes a pipe that goes one way, as Python's `Pipe(duplex=False)` does. That the end to send on
/// cannot receive is a matter of its type:
///
/// ```compile_fail,E0599
/// let (mut sender, _receiver) = procpool::one_way::<u32>().unwrap();
/// sender.try_recv();
/// ```
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// use procpool::connection::Sender;
///
/// fn report(mut to: Sender<String>) {
///     to.blocking_send(&"all is well".to_owned(), None).expect("somebody listens");
/// }
///
/// let (sender, mut receiver) = procpool::one_way()?;
/// let task = pool.submit(report, sender);
/// assert_eq!(receiver.recv().await?, "all is well");
/// task.await?;
/// assert!(receiver.recv().await.unwrap_err().is_closed());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// At the limits of the process or of the system.
#[doc(alias = "Pipe")]
pub fn one_way<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (one, other) = stream::pair()?;
    let receiver = Receiver::new(Link::new(other)?, Inbox::default());
    Ok((Sender::new(Link::new(one)?), receiver))
}
