//! One function over many items: [`ProcessPool::map`](crate::ProcessPool::map) and its relatives.
//!
//! - [`book`]: which item is where. [`roster`]: which chunks are out. Both are pure.
//! - [`crew`]: the way of the chunks into the pool. [`solo`]: a pool without workers.
//! - [`enumerated`]: results with the numbers of their items.

pub(super) mod book;
mod crew;
mod enumerated;
pub(super) mod roster;
mod solo;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::{self, FusedStream, Stream};
use pin_project::{pin_project, pinned_drop};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::book::Measure;
use self::crew::Crew;
use self::roster::Ending;
use self::solo::Solo;
use super::ProcessPool;
use super::driver::Driver;
use super::error::{ARGUMENT, Kind, TaskError};
use super::reply::{Raw, decode};
use super::stake::Stake;
use super::task::Options;
use crate::task::DecodeError;
use crate::task::identity::Target;
use crate::task::payload;
use crate::wire::packed::Packed;

pub use self::enumerated::Enumerated;

/// How many items are taken ahead of the reader, unless something else was asked for.
pub(crate) const LOOK_AHEAD: usize = 1_024;

/// The results of one function over many items: a stream of one `Result` per item.
///
/// Got from [`ProcessPool::map`](crate::ProcessPool::map),
/// [`map_unordered`](crate::ProcessPool::map_unordered) and
/// [`map_stream`](crate::ProcessPool::map_stream). `S` is the stream of items; where they come
/// from an iterator, that is [`futures::stream::Iter`].
///
/// It ends when every item has given its result, and stays ended. An item that fails ends neither
/// the stream nor the work on other items.
///
/// It keeps its pool open, as a clone of the pool does, until it has taken the last item from its
/// source or is dropped. When the pool is [closed](ProcessPool::close) or shut down before that, what
/// was taken by then is finished, and each item behind it gives an error that
/// [says so](TaskError::is_shut_down). Over a source without an end those are errors for as long as it
/// is read: the first of them, or [`is_closed`](ProcessPool::is_closed), says when to stop.
///
/// # Cancel safety
///
/// Waiting for the next result is cancel safe: a result that was not taken stays.
///
/// # Drop
///
/// Items that have not been started are never run. Those that run finish and their results are
/// dropped, unless [`abort_on_drop`](Self::abort_on_drop) was asked for. It never blocks.
///
/// ```
/// use futures::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let mut quotients = pool.map(|n: i32| 12 / n, [3, 0, 4]);
/// assert_eq!(quotients.next().await.unwrap()?, 4);
/// assert!(quotients.next().await.unwrap().unwrap_err().is_panic());
/// assert_eq!(quotients.next().await.unwrap()?, 3);
/// assert!(quotients.next().await.is_none());
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "dropping the stream drops what has not been started"]
#[pin_project(PinnedDrop)]
pub struct Map<S, R> {
    #[pin]
    items: S,
    source_ended: bool,
    ended: bool,
    /// How many items have been answered one by one, where nothing is sent.
    answered: u64,
    on_drop: Ending,
    /// Until everything has been taken.
    open: Option<Stake<Driver>>,
    hands: Hands,
    /// What is to be given next, while the item in its place is taken.
    given: Option<(u64, Raw)>,
    decode: fn(&Packed) -> Result<R, DecodeError>,
}

/// A [`Map`] over an iterator. Got from [`ProcessPool::map`](crate::ProcessPool::map).
pub type MapIter<I, R> = Map<stream::Iter<I>, R>;

/// Who runs the items.
enum Hands {
    /// Workers.
    Crew(Arc<Crew>),
    /// Who polls the stream.
    Solo(Solo),
    /// Nobody can: the error is each item's.
    Nobody(TaskError),
}

/// How a map is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) look_ahead: usize,
    pub(super) chunk_size: Option<usize>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            look_ahead: LOOK_AHEAD,
            chunk_size: None,
        }
    }
}

impl<S, A, R> Map<S, R>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    /// A map that has taken nothing yet.
    pub(super) fn new(
        driver: &Arc<Driver>,
        function: fn(A) -> R,
        items: S,
        options: Options,
        manner: Manner,
        ordered: bool,
    ) -> Self {
        let measure = Measure {
            look_ahead: manner.look_ahead,
            chunk_size: manner.chunk_size,
            ordered,
            workers: driver.workers(),
        };
        let hands = match Target::of(function) {
            Ok(target) if driver.in_place.is_some() => {
                Hands::Solo(Solo::new(driver.clone(), target, options))
            }
            Ok(target) => Hands::Crew(Crew::new(driver.clone(), target, options, measure)),
            Err(error) => Hands::Nobody(TaskError::new(Kind::Foreign(error))),
        };
        Self {
            items,
            source_ended: false,
            ended: false,
            answered: 0,
            on_drop: Ending::Cancel,
            open: Some(Stake::new(driver.clone())),
            hands,
            given: None,
            decode: payload::unpack::<R>,
        }
    }

    /// Takes as many items as there is room for and the source has ready.
    pub(super) fn take(self: Pin<&mut Self>, context: &mut Context<'_>) {
        let mut this = self.project();
        let Hands::Crew(crew) = this.hands else {
            return;
        };
        while !*this.source_ended {
            let room = crew.room();
            if room == 0 {
                return;
            }
            let refusal = crew.refusal();
            let (mut taken, mut waits) = (Vec::new(), false);
            while taken.len() < room && !waits && !*this.source_ended {
                match this.items.as_mut().poll_next(context) {
                    Poll::Ready(Some(item)) => taken.push(match &refusal {
                        Some(error) => Err(error.clone()),
                        None => pack(&item, crew.max_item()),
                    }),
                    Poll::Ready(None) => *this.source_ended = true,
                    Poll::Pending => waits = true,
                }
            }
            crew.take(taken, *this.source_ended);
            if *this.source_ended {
                // What was taken is finished without it.
                *this.open = None;
            }
            if waits {
                return;
            }
        }
    }
}

impl<S, R> Map<S, R> {
    /// Ends the items that are running, too, when the stream is dropped.
    pub fn abort_on_drop(mut self) -> Self {
        self.on_drop = Ending::Abort;
        self
    }

    /// Gives each result with the number of its item, counted from zero.
    ///
    /// A result that is an error does not say which item has failed. Where results come in the
    /// order of the items, to count them is enough; where they come as they are ready, it is this
    /// that tells. ([`StreamExt::enumerate`](futures::StreamExt::enumerate) would count results.)
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let names = ["one", "zwei", "three"];
    /// let read = |name: String| assert!(name.is_ascii() && name != "zwei");
    /// let mut results = pool.map_unordered(read, names.map(String::from)).enumerate();
    /// while let Some((item, result)) = results.next().await {
    ///     if let Err(error) = result {
    ///         assert_eq!(names[item], "zwei");
    ///         assert!(error.is_panic());
    ///     }
    /// }
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn enumerate(self) -> Enumerated<Self> {
        Enumerated::new(self)
    }
}

/// How many results there will be: of what was taken, and of what there may be in the source.
pub(crate) fn with_more(
    taken: usize,
    source: Option<(usize, Option<usize>)>,
) -> (usize, Option<usize>) {
    let (least, most) = source.unwrap_or((0, Some(0)));
    let most = most.and_then(|most| most.checked_add(taken));
    (least.saturating_add(taken), most)
}

/// The number of the next one, from zero.
fn count(answered: &mut u64) -> u64 {
    *answered += 1;
    *answered - 1
}

fn pack<A: Serialize>(item: &A, limit: usize) -> Result<Packed, TaskError> {
    let packed =
        payload::pack_call(item).map_err(|error| TaskError::new(Kind::EncodeArgument(error)))?;
    let size = packed.size();
    if size > limit {
        return Err(TaskError::new(Kind::TooLarge {
            what: ARGUMENT,
            size,
            limit,
        }));
    }
    Ok(packed)
}

impl<S, A, R> Map<S, R>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
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
            let given = ready!(self.as_mut().poll_hands(context));
            *self.as_mut().project().given = given;
            // Here and not at the next poll: what is given now may be long in the reader's hands, and
            // no worker is to wait for that. Should the source panic, it is not lost.
            self.as_mut().take(context);
        }
        let this = self.project();
        let given = this.given.take();
        if given.is_none() {
            (*this.source_ended, *this.ended) = (true, true);
            *this.open = None;
        }
        Poll::Ready(given.map(|(number, raw)| (number, decode(*this.decode, raw))))
    }

    /// The next answer and its item's number, from whoever runs the items.
    fn poll_hands(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(u64, Raw)>> {
        if let Hands::Crew(crew) = &self.hands {
            let given = crew.poll_give(context);
            if given.is_ready() {
                return given;
            }
            // There may be items that could not be had before.
            self.as_mut().take(context);
        }
        let this = self.project();
        match this.hands {
            Hands::Crew(crew) => crew.poll_give(context),
            Hands::Solo(solo) => {
                let item = ready!(this.items.poll_next(context));
                Poll::Ready(item.map(|item| {
                    let packed = pack(&item, solo.max_item());
                    drop(item);
                    let raw = packed.map_or_else(Raw::Failed, |item| solo.run(item));
                    (count(this.answered), raw)
                }))
            }
            Hands::Nobody(error) => {
                let item = ready!(this.items.poll_next(context));
                Poll::Ready(item.map(|_| (count(this.answered), Raw::Failed(error.clone()))))
            }
        }
    }
}

impl<S, A, R> Stream for Map<S, R>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
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
        let taken = match &self.hands {
            Hands::Crew(crew) => crew.unread(),
            Hands::Solo(_) | Hands::Nobody(_) => 0,
        };
        let kept = usize::from(self.given.is_some());
        let source = (!self.source_ended).then(|| self.items.size_hint());
        with_more(taken + kept, source)
    }
}

impl<S, A, R> FusedStream for Map<S, R>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

#[pinned_drop]
impl<S, R> PinnedDrop for Map<S, R> {
    fn drop(self: Pin<&mut Self>) {
        if let (Hands::Crew(crew), false) = (&self.hands, self.ended) {
            crew.abandon(self.on_drop);
        }
    }
}

impl<S, R> fmt::Debug for Map<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// One function over many items.
impl ProcessPool {
    /// Runs a function over many items; the results come as a stream, in the order of the items.
    ///
    /// Work starts at once. Up to 1,024 items ([adjustable](crate::Task::look_ahead)) are taken here and
    /// now, and more only as the stream is read, so the items may have no end. They are handed
    /// to workers in chunks that take about half a millisecond
    /// ([or of a given size](crate::Task::chunk_size)). Still each item stands for itself: an error, a
    /// panic, a time limit or the death of a worker fails the item that was running, and the rest
    /// of its chunk is run elsewhere.
    ///
    /// What is taken counts as accepted: [`close`](Self::close) lets it finish. It takes no room
    /// of [`max_pending`](crate::ProcessPoolBuilder::max_pending).
    ///
    /// ```
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let squares: Vec<u64> = pool.map(|n: u64| n * n, 0..1_000).try_collect().await?;
    /// assert_eq!(squares[999], 998_001);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "imap")]
    #[doc(alias = "starmap")]
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> MapIter<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task(function).map(items)
    }

    /// Runs a function over many items; the results come in the order in which they are ready.
    /// [`enumerate`](Map::enumerate) tells which item's each is. Otherwise as [`map`](Self::map).
    ///
    /// ```
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let lengths = pool.map_unordered(|word: String| word.len(), ["one".into(), "three".into()]);
    /// let total = lengths.try_fold(0, async |sum, length| Ok(sum + length)).await?;
    /// assert_eq!(total, 8);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "imap_unordered")]
    #[doc(alias = "as_completed")]
    pub fn map_unordered<A, R, I>(&self, function: fn(A) -> R, items: I) -> MapIter<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.task(function).map_unordered(items)
    }

    /// Runs a function over a stream of items; the results come in the order of the items. The
    /// stream of items is polled only while the results are. Otherwise as [`map`](Self::map).
    ///
    /// ```
    /// use futures::{StreamExt, TryStreamExt, stream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
    /// let numbers = stream::iter(0..10).filter(|n| std::future::ready(n % 2 == 0));
    /// let halves: Vec<i32> = pool.map_stream(|n| n / 2, numbers).try_collect().await?;
    /// assert_eq!(halves, [0, 1, 2, 3, 4]);
    /// # pool.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn map_stream<A, R, S>(&self, function: fn(A) -> R, items: S) -> Map<S, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
        S: Stream<Item = A>,
    {
        self.task(function).map_stream(items)
    }
}
