//! One function over many items, on threads: each item is a call of its own, and the stream has
//! the handles of those that are out.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{self, FusedStream, FuturesUnordered, Stream};
use pin_project::{pin_project, pinned_drop};

use super::driver::Driver;
use super::task::ThreadTask;
use crate::pool::error::TaskError;
use crate::pool::handle::TaskHandle;
use crate::pool::map::{Enumerated, with_more};
use crate::pool::stake::Stake;
use crate::pool::trace::Origin;

/// The results of one function over many items, on threads: a stream of one `Result` per item.
///
/// Got from [`ThreadPool::map`](crate::ThreadPool::map),
/// [`map_unordered`](crate::ThreadPool::map_unordered) and
/// [`map_stream`](crate::ThreadPool::map_stream). `S` is the stream of items.
///
/// It ends when every item has given its result, and stays ended. An item that fails ends neither
/// the stream nor the work on other items. It keeps its pool open until it has taken the last item
/// from its source, as a [`Map`](crate::Map) does.
///
/// # Cancel safety
///
/// Waiting for the next result is cancel safe: a result that was not taken stays.
///
/// # Drop
///
/// Items that have not been started are never run. Those that run finish and their results are
/// dropped; [`abort_on_drop`](Self::abort_on_drop) asks them to hurry. It never blocks.
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
    /// Until everything has been taken.
    open: Option<Stake<Driver>>,
    look_ahead: usize,
    /// Where the map was asked for.
    origin: Origin,
    out: Out<R>,
    /// What is to be given next, while the item in its place is taken.
    given: Option<(u64, Result<R, TaskError>)>,
    /// How many items have been taken.
    taken: u64,
    source_ended: bool,
    ended: bool,
    abort_on_drop: bool,
}

/// A [`ThreadMap`] over an iterator. Got from [`ThreadPool::map`](crate::ThreadPool::map).
pub type ThreadMapIter<I, R> = ThreadMap<stream::Iter<I>, R>;

/// The items that have been taken, and whose results have not.
enum Out<R> {
    InOrder(VecDeque<Item<R>>),
    AsReady(FuturesUnordered<Item<R>>),
}

/// An item that is out, and its number.
struct Item<R>(u64, TaskHandle<R>);

impl<R: Send + 'static> Future for Item<R> {
    type Output = (u64, Result<R, TaskError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let number = self.0;
        let result = Pin::new(&mut self.1).poll(context);
        result.map(|result| (number, result))
    }
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
            open: Some(task.stake()),
            task,
            look_ahead,
            origin: Origin::here(),
            out: if ordered {
                Out::InOrder(VecDeque::new())
            } else {
                Out::AsReady(FuturesUnordered::new())
            },
            given: None,
            taken: 0,
            source_ended: false,
            ended: false,
            abort_on_drop: false,
        }
    }

    /// Takes as many items as there is room for and the source has ready.
    pub(super) fn take(self: Pin<&mut Self>, context: &mut Context<'_>) {
        let mut this = self.project();
        while !*this.source_ended && this.out.len() < *this.look_ahead {
            match this.items.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => {
                    let handle = this.task.submit_item(item, this.origin);
                    this.out.push(Item(*this.taken, handle));
                    *this.taken += 1;
                }
                Poll::Ready(None) => {
                    *this.source_ended = true;
                    // What was taken is finished without it.
                    *this.open = None;
                }
                Poll::Pending => return,
            }
        }
    }
}

impl<S: Stream, R> ThreadMap<S, R> {
    /// Asks the items that are running to [end](crate::task::TaskContext::is_cancelled), too, when
    /// the stream is dropped; they cannot be made to.
    pub fn abort_on_drop(mut self) -> Self {
        self.abort_on_drop = true;
        self
    }

    /// Gives each result with the number of its item, counted from zero. See
    /// [`Map::enumerate`](crate::Map::enumerate).
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ThreadPool::builder().workers(2).build()?;
    /// let mut results = pool.map_unordered(|n: i32| 12 / n, [3, 0, 4]).enumerate();
    /// while let Some((item, result)) = results.next().await {
    ///     assert_eq!(result.is_err(), item == 1);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn enumerate(self) -> Enumerated<Self> {
        Enumerated::new(self)
    }
}

impl<S, R> ThreadMap<S, R>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    /// The next result and its item's number.
    fn poll_give(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(u64, Result<R, TaskError>)>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.given.is_none() {
            self.as_mut().take(context);
            let this = self.as_mut().project();
            *this.given = ready!(this.out.poll_next(context));
            if this.given.is_none() && !*this.source_ended {
                // The source has nothing yet, and wakes us.
                return Poll::Pending;
            }
            // As in a map on processes: no thread waits for the reader's next poll.
            self.as_mut().take(context);
        }
        let this = self.project();
        let next = this.given.take();
        *this.ended = next.is_none();
        Poll::Ready(next)
    }
}

impl<S, R> Stream for ThreadMap<S, R>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<R, TaskError>>> {
        let given = ready!(self.poll_give(context));
        Poll::Ready(given.map(|(_, result)| result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let source = (!self.source_ended).then(|| self.items.size_hint());
        with_more(self.out.len() + usize::from(self.given.is_some()), source)
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

impl<S, R> Stream for Enumerated<ThreadMap<S, R>>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    type Item = (usize, Result<R, TaskError>);

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<R, TaskError>)>> {
        let given = ready!(self.pinned().poll_give(context));
        Poll::Ready(given.map(|(number, result)| (number as usize, result)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map().size_hint()
    }
}

impl<S, R> FusedStream for Enumerated<ThreadMap<S, R>>
where
    S: Stream<Item: Send + 'static>,
    R: Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.map().is_terminated()
    }
}

impl<R: Send + 'static> Out<R> {
    fn push(&mut self, item: Item<R>) {
        match self {
            Self::InOrder(items) => items.push_back(item),
            Self::AsReady(items) => items.push(item),
        }
    }

    /// The next result; `None` if nothing is out.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<(u64, Result<R, TaskError>)>> {
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
        let this = self.project();
        let end = |item: &Item<R>| item.1.give_up(*this.abort_on_drop);
        match this.out {
            // From the end: who is asked to hurry would else take the next one before that is given up.
            Out::InOrder(items) => items.iter().rev().for_each(end),
            Out::AsReady(items) => items.iter().for_each(end),
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
