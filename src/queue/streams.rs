//! A queue as a `Stream` of its items, and as a `Sink` for them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encoded::Encoded;
use super::error::{Fault, GetError, PutError};
use super::plain::Queue;

type Pending<T> = Option<Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>>;

/// The items of a queue, until it is [finished](Queue::finish) and empty, or
/// [closed](Queue::close) here. Made by [`Queue::stream`].
///
/// An item that cannot be decoded is an error and does not end it. Dropping it loses no item.
pub struct QueueStream<T> {
    queue: Queue<T>,
    pending: Pending<Encoded>,
    ended: bool,
}

/// Puts into a queue. Made by [`Queue::sink`].
///
/// It has room for one item: an item that was given to it is in the queue when it is flushed, or ready for
/// the next. Dropped before that, the item is lost. Closing it flushes; it does not
/// [finish](Queue::finish) the queue, into which others may put.
pub struct QueueSink<T> {
    queue: Queue<T>,
    pending: Pending<()>,
}

impl<T> QueueStream<T> {
    pub(super) fn new(queue: Queue<T>) -> Self {
        Self {
            queue,
            pending: None,
            ended: false,
        }
    }
}

impl<T> QueueSink<T> {
    pub(super) fn new(queue: Queue<T>) -> Self {
        Self {
            queue,
            pending: None,
        }
    }
}

impl<T: DeserializeOwned> Stream for QueueStream<T> {
    type Item = Result<T, GetError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let pending = this.pending.get_or_insert_with(|| {
            let handle = this.queue.handle.clone();
            Box::pin(async move { handle.take().await })
        });
        let taken = ready!(pending.as_mut().poll(context));
        this.pending = None;
        match this.queue.decoded(taken) {
            Err(error) if error.is_finished() || error.is_closed() => {
                this.ended = true;
                Poll::Ready(None)
            }
            next => {
                this.ended = next.as_ref().is_err_and(|error| !error.is_decode());
                Poll::Ready(Some(next))
            }
        }
    }
}

impl<T: Serialize> Sink<T> for QueueSink<T> {
    type Error = PutError<()>;

    fn poll_ready(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PutError<()>>> {
        self.poll_flush(context)
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), PutError<()>> {
        let this = self.get_mut();
        let encoded = this.queue.handle.encode(&item);
        let encoded = encoded.map_err(|fault| PutError::new((), fault))?;
        let handle = this.queue.handle.clone();
        this.pending = Some(Box::pin(async move { handle.put(&encoded).await }));
        Ok(())
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PutError<()>>> {
        let this = self.get_mut();
        let Some(pending) = &mut this.pending else {
            return Poll::Ready(Ok(()));
        };
        let put = ready!(pending.as_mut().poll(context));
        this.pending = None;
        Poll::Ready(put.map_err(|fault| PutError::new((), fault)))
    }

    fn poll_close(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PutError<()>>> {
        self.poll_flush(context)
    }
}

impl<T> fmt::Debug for QueueStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueStream").field(&self.queue).finish()
    }
}

impl<T> fmt::Debug for QueueSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueSink").field(&self.queue).finish()
    }
}
