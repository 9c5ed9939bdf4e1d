//! Values as `Stream` and `Sink`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ConnectionError;
use super::{Connection, Receiver, Sender};

/// The values, until the other end is closed. An error that leaves more to be received does not end
/// it.
impl<T: DeserializeOwned> Stream for Receiver<T> {
    type Item = Result<T, ConnectionError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.poll_recv(context));
        match &next {
            Err(error) if error.is_closed() => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Err(error) => this.ended = !error.is_decode(),
            Ok(_) => {}
        }
        Poll::Ready(Some(next))
    }
}

/// A value that was taken is sent, also if nobody flushes: at the latest when the half is dropped, and before
/// the process ends in order ([who is waited for](Sender#sent-and-not-sent)).
/// Closing flushes, and leaves the half open until it is dropped.
impl<T: Serialize> Sink<T> for Sender<T> {
    type Error = ConnectionError;

    fn poll_ready(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sender::poll_flush(self.get_mut(), context)
    }

    fn start_send(self: Pin<&mut Self>, value: T) -> Result<(), ConnectionError> {
        let frame = self.frame(&value)?;
        self.link.outgoing().push(frame);
        Ok(())
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sender::poll_flush(self.get_mut(), context)
    }

    fn poll_close(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sender::poll_flush(self.get_mut(), context)
    }
}

/// What [`Receiver`] does.
impl<S, R: DeserializeOwned> Stream for Connection<S, R> {
    type Item = Result<R, ConnectionError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(context)
    }
}

/// What [`Sender`] does.
impl<S: Serialize, R> Sink<S> for Connection<S, R> {
    type Error = ConnectionError;

    fn poll_ready(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sink::poll_ready(Pin::new(&mut self.get_mut().sender), context)
    }

    fn start_send(self: Pin<&mut Self>, value: S) -> Result<(), ConnectionError> {
        Sink::start_send(Pin::new(&mut self.get_mut().sender), value)
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sink::poll_flush(Pin::new(&mut self.get_mut().sender), context)
    }

    fn poll_close(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        Sink::poll_close(Pin::new(&mut self.get_mut().sender), context)
    }
}
