//! For fields whose types are to stay as they are: `#[serde(with = "procpool::payload")]`.
//!
//! A field that is marked so is sent as a [`Payload`](crate::Payload) is: large contents go to a worker and
//! back, or through a queue, by shared memory and not through the pipe. In other formats it is written as bytes, for vectors of
//! other elements than bytes: as these are in memory.
//!
//! It is for `Vec<T>`, `Box<[T]>` and `Arc<[T]>` of plain old data ([`bytemuck::Pod`]), and for
//! [`Bytes`](bytes::Bytes). Vectors are memory of their own, so what arrives is copied once more than it is
//! for a `Payload` or `Bytes`, which have it in place.
//!
//! ```
//! use procpool::ProcessPool;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Recording {
//!     rate: u32,
//!     #[serde(with = "procpool::payload")]
//!     samples: Vec<f32>,
//! }
//!
//! fn louder(mut recording: Recording) -> Recording {
//!     recording.samples.iter_mut().for_each(|sample| *sample *= 2.0);
//!     recording
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pool = ProcessPool::builder().workers(1).build()?;
//! let recording = Recording { rate: 48_000, samples: vec![0.25; 480_000] };
//! let louder = pool.submit(louder, recording).await?;
//! assert!(louder.rate == 48_000 && louder.samples.iter().all(|sample| *sample == 0.5));
//! # pool.shutdown().await;
//! # Ok(()) }
//! ```

use std::sync::Arc;

use bytemuck::Pod;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

use super::Payload;
use super::form::{self, Arrived};

/// Writes a field. For serde's derive.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<L: Large, S: Serializer>(large: &L, serializer: S) -> Result<S::Ok, S::Error> {
    form::write(large.bytes(), serializer)
}

/// Reads a field. For serde's derive.
///
/// # Errors
///
/// Those of the deserializer, and where what came is no whole number of elements.
pub fn deserialize<'de, L: Large, D: Deserializer<'de>>(deserializer: D) -> Result<L, D::Error> {
    L::read(deserializer)
}

/// What can be sent as a [`Payload`](crate::Payload) is. It cannot be implemented for others.
pub trait Large: sealed::Sealed {}

mod sealed {
    use serde::Deserializer;

    pub trait Sealed: Sized {
        fn bytes(&self) -> &[u8];
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    }
}

macro_rules! large {
    ($($type:ty),*) => {$(
        impl<T: Pod> Large for $type {}
        impl<T: Pod> sealed::Sealed for $type {
            fn bytes(&self) -> &[u8] {
                bytemuck::cast_slice(self)
            }

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let elements = Arrived::read(deserializer)?;
                elements.into_elements::<T, D::Error>().map(Self::from)
            }
        }
    )*};
}

large!(Vec<T>, Box<[T]>, Arc<[T]>);

impl Large for Bytes {}
impl sealed::Sealed for Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Payload::<u8>::deserialize(deserializer).map(Self::from)
    }
}
