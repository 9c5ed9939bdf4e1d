//! Results with the numbers of their items.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};
use pin_project::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Map;
use crate::pool::error::TaskError;

/// The results of a [`Map`] or a [`ThreadMap`](crate::ThreadMap), each with the number of its item.
/// Got from [`Map::enumerate`](crate::Map::enumerate) or
/// [`ThreadMap::enumerate`](crate::ThreadMap::enumerate).
///
/// It is the map in every other respect: what ends it, what dropping it loses.
///
/// ```
/// use futures::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = procpool::ProcessPool::builder().workers(1).build()?;
/// let results: Vec<_> = pool.map(|n: i32| 12 / n, [3, 0]).enumerate().collect().await;
/// assert!(matches!(results[0], (0, Ok(4))));
/// assert!(matches!(results[1], (1, Err(_))));
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping the stream drops what has not been started"]
#[pin_project]
pub struct Enumerated<M> {
    #[pin]
    map: M,
}

impl<M> Enumerated<M> {
    pub(crate) fn new(map: M) -> Self {
        Self { map }
    }

    pub(crate) fn map(&self) -> &M {
        &self.map
    }

    pub(crate) fn pinned(self: Pin<&mut Self>) -> Pin<&mut M> {
        self.project().map
    }
}

impl<S, A, R> Stream for Enumerated<Map<S, R>>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
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
        self.map.size_hint()
    }
}

impl<S, A, R> FusedStream for Enumerated<Map<S, R>>
where
    S: Stream<Item = A>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    fn is_terminated(&self) -> bool {
        self.map.is_terminated()
    }
}
