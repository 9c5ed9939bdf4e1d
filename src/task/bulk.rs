//! Large bytes, and arrays of plain old data, as a part of arguments and results.

pub mod adapt;
mod form;

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::form::Arrived;
use super::slabs::Borrowed;
use crate::sys::slab::Lent;

/// Bytes, or plain old data of another type, that get to a worker and back at the speed of a copy, however
/// many they are.
///
/// It is a slice: `payload[7]`, `payload.len()`, `&payload[..]`. It may stand anywhere in an argument or a
/// result: in structs, vectors and options, beside others. From 64 KiB on its elements go through memory that the pool
/// and its workers share and use again and again, and not through the pipe; a task reads its argument where
/// it lies there. Nothing is to be set up, nothing has a name, and nothing is left behind, however a worker ends.
///
/// It cannot be changed, and a clone is the same memory. [`to_vec`](slice::to_vec) makes a copy.
///
/// Elements are plain old data, for which the compiler asks by [`bytemuck::Pod`]: numbers, arrays of them,
/// and structs that derive it.
///
/// To leave the types of a program as they are, see [`payload`](crate::payload): by that, fields that are
/// vectors or [`Bytes`] go the same way. What is not marked so goes through the pipe, which
/// is several times slower for megabytes.
///
/// # What it costs
///
/// A process keeps such memory for a second after its last use. See
/// [`large_payloads`](crate::ProcessPoolBuilder::large_payloads) for how much there may be at most; what finds no room
/// there takes the pipe.
///
/// A task that puts its argument away for good keeps that memory from being used again.
///
/// A worker never gets the means to change what others read, but all workers of a program may see, in
/// memory that is used again, what others were sent. What no other worker may see has to go as `Vec<u8>`.
///
/// What comes so brings two descriptors for a moment. Where a process may have no more of them, what it sends takes
/// the pipe; what comes to it then is an error of the call, as for [`Fd`](crate::Fd).
///
/// # Elsewhere
///
/// In items of a [`Queue`](crate::Queue) it goes the same way, and is copied once on each side. In messages on
/// a [`Connection`](crate::Connection), in updates, and in whatever else serde writes, it is bytes: the
/// elements as they are in memory.
///
/// ```
/// use procpool::{Payload, ProcessPool};
///
/// /// Turns an image around.
/// fn rotate(pixels: Payload) -> Payload {
///     pixels.iter().rev().copied().collect()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = ProcessPool::builder().workers(1).build()?;
/// let mut pixels = vec![0; 3_000_000];
/// pixels[0] = 7;
/// let rotated = pool.submit(rotate, Payload::from(pixels)).await?;
/// assert_eq!(rotated.last(), Some(&7));
///
/// let mean = |samples: Payload<f64>| samples.iter().sum::<f64>() / samples.len() as f64;
/// assert_eq!(pool.submit(mean, vec![1.5; 1_000_000].into()).await?, 1.5);
/// # pool.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Payload<T = u8> {
    memory: Arc<dyn Memory>,
    element: PhantomData<fn() -> T>,
}

/// Where the elements are, aligned as they need it.
trait Memory: Send + Sync {
    fn bytes(&self) -> &[u8];
}

struct Elements<T>(Vec<T>);

impl<T: Pod + Send + Sync> Memory for Elements<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Memory for Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Begins at a page.
impl Memory for Lent {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Begins at a page.
impl Memory for Borrowed {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl<T> Payload<T> {
    fn new(memory: impl Memory + 'static) -> Self {
        const {
            assert!(size_of::<T>() > 0, "elements of no size need no memory");
            assert!(align_of::<T>() <= 4096, "memory is mapped at a page");
        }
        Self {
            memory: Arc::new(memory),
            element: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Payload<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(self.memory.bytes())
    }
}

impl<T: Pod> AsRef<[T]> for Payload<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

/// Copies nothing.
impl<T: Pod + Send + Sync> From<Vec<T>> for Payload<T> {
    fn from(elements: Vec<T>) -> Self {
        Self::new(Elements(elements))
    }
}

impl<T: Pod + Send + Sync> From<&[T]> for Payload<T> {
    fn from(elements: &[T]) -> Self {
        elements.to_vec().into()
    }
}

/// Copies nothing.
impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

/// Copies nothing.
impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        Self::from_owner(payload)
    }
}

/// Copies the elements.
impl<T: Pod> From<Payload<T>> for Vec<T> {
    fn from(payload: Payload<T>) -> Self {
        payload.to_vec()
    }
}

impl<T: Pod + Send + Sync> FromIterator<T> for Payload<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        elements.into_iter().collect::<Vec<_>>().into()
    }
}

/// Is the same memory.
impl<T> Clone for Payload<T> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            element: PhantomData,
        }
    }
}

/// Is empty.
impl<T: Pod + Send + Sync> Default for Payload<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

/// By its elements.
impl<T: Pod + PartialEq> PartialEq for Payload<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + Eq> Eq for Payload<T> {}

impl<T: Pod> fmt::Debug for Payload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload<{}>({})", type_name::<T>(), self.len())
    }
}

impl<T: Pod> Serialize for Payload<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        form::write(self.memory.bytes(), serializer)
    }
}

impl<'de, T: Pod + Send + Sync> Deserialize<'de> for Payload<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = |length: usize| length % size_of::<T>() == 0;
        match Arrived::read(deserializer)? {
            Arrived::Lent(lent) if whole(lent.len()) => Ok(Self::new(lent)),
            Arrived::Here(Cow::Owned(bytes))
                if whole(bytes.len()) && bytes.as_ptr().cast::<T>().is_aligned() =>
            {
                Ok(Self::new(Elements(bytes)))
            }
            Arrived::Shown(window, length) if whole(length) => {
                let copy = form::borrowed_copy(&window, length);
                copy.map(Self::new).map_err(de::Error::custom)
            }
            other => other.into_elements().map(Self::from),
        }
    }
}

#[cfg(test)]
mod tests;
