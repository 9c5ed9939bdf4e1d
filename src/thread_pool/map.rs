//! One function over many items, on threads: each item is a call of its own, and the stream has
//! the handles of those that are out.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{self, FusedStream, FuturesUnordered, Stream};
use pin_project::{pin_project, pinned_drop};

use super::task::{Room, ThreadTask};
use crate::pool::error::TaskError;
use crate::pool::handle::TaskHandle;

/// The results of one function over many items, on threads: a stream of one `Result` per item.
///
/// Got from [`ThreadPool::map`](crate::ThreadPool::map),
/// [`map_unordered`](crate::ThreadPool::map_unordered) and
/// [`map_stream`](crate::ThreadPool::map_stream). `S` is the stream of items.
///
/// It ends when every item has given its result, and stays ended. An item that fails ends neither
/// the stream nor the work on other items.
///
/// # Cancel safety
///
/// Waiting for the next result is cancel safe: a result that was not taken stays.
///
/// # Drop
///
/// Items that have not been started are never run. Those that run finish and their results are
/// dropped. It never blocks.
///
/// ```
/// use futures::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ThreadPool::builder().workers(1).build()?;
/// let mut quotients = pool.map(|n: i32| 12 / n, [3, 0, 4]);
/// assert_eq!(quotients.next().await.unwrap()?, 4);
/// assert!(quotients.next().await.unwrap().unwrap_err().is_panic());
/// assert_eq!(quotients.next().await.unwrap()?, 3);
/// assert!(quotients.next().await.is_none());
/// # Ok(()) }
/// ```
#[must_use = "dropping the stream drops what has not been started"]
#[pin_project(PinnedDrop)]
pub struct ThreadMap<S: Stream, R> {
    #[pin]
    items: S,
    task: ThreadTask<S::Item, R>,
    look_ahead: usize,
    out: Out<R>,
    source_ended: bool,
    ended: bool,
}

/// A [`ThreadMap`] over an iterator. Got from [`ThreadPool::map`](crate::ThreadPool::map).
pub type ThreadMapIter<I, R> = ThreadMap<stream::Iter<I>, R>;

/// The items that have been taken, and whose results have not.
enum Out<R> {
    InOrder(VecDeque<TaskHandle<R>>),
    AsReady(FuturesUnordered<TaskHandle<R>>),
}

impl<S, R> ThreadMap<S, R>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    /// A map that has taken nothing yet.
    pub(super) fn new(
        task: ThreadTask<S::Item, R>,
        items: S,
        look_ahead: usize,
        ordered: bool,
    ) -> Self {
        Self {
            items,
            task,
            look_ahead,
            out: if ordered {
                Out::InOrder(VecDeque::new())
            } else {
                Out::AsReady(FuturesUnordered::new())
            },
            source_ended: false,
            ended: false,
        }
    }

    /// Takes as many items as there is room for and the source has ready.
    pub(super) fn take(self: Pin<&mut Self>, context: &mut Context<'_>) {
        let mut this = self.project();
        while !*this.source_ended && this.out.len() < *this.look_ahead {
            match this.items.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => {
                    this.out.push(this.task.submit_into(Room::NotNeeded, item));
                }
                Poll::Ready(None) => *this.source_ended = true,
                Poll::Pending => return,
            }
        }
    }
}

impl<S, R> Stream for ThreadMap<S, R>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<R, TaskError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.as_mut().take(context);
        let this = self.project();
        let next = ready!(this.out.poll_next(context));
        if next.is_none() && !*this.source_ended {
            // The source has nothing yet, and wakes us.
            return Poll::Pending;
        }
        *this.ended = next.is_none();
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended { (0, Some(0)) } else { (0, None) }
    }
}

impl<S, R> FusedStream for ThreadMap<S, R>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<R: Send + 'static> Out<R> {
    fn push(&mut self, handle: TaskHandle<R>) {
        match self {
            Self::InOrder(handles) => handles.push_back(handle),
            Self::AsReady(handles) => handles.push(handle),
        }
    }

    /// The next result; `None` if nothing is out.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<R, TaskError>>> {
        match self {
            Self::InOrder(handles) => {
                let Some(first) = handles.front_mut() else {
                    return Poll::Ready(None);
                };
                let result = ready!(Pin::new(first).poll(context));
                handles.pop_front();
                Poll::Ready(Some(result))
            }
            Self::AsReady(handles) => Pin::new(handles).poll_next(context),
        }
    }
}

impl<R> Out<R> {
    fn len(&self) -> usize {
        match self {
            Self::InOrder(handles) => handles.len(),
            Self::AsReady(handles) => handles.len(),
        }
    }
}

#[pinned_drop]
impl<S: Stream, R> PinnedDrop for ThreadMap<S, R> {
    fn drop(self: Pin<&mut Self>) {
        match self.project().out {
            Out::InOrder(handles) => handles.iter().for_each(TaskHandle::take_back),
            Out::AsReady(handles) => handles.iter().for_each(TaskHandle::take_back),
        }
    }
}

impl<S: Stream, R> fmt::Debug for ThreadMap<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadMap")
            .field("out", &self.out.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
