//! Which types can be changed in shared memory without a lock.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize};

use bytemuck::Pod;

use crate::sys::mapping::Atomic;

/// An integer with an atomic of its size, as which it can be [changed](crate::RawValue::as_atomic) in
/// shared memory without a lock: those of 32 and 64 bits. (Smaller ones are copied together with their
/// neighbours, and larger ones have no atomics.) It cannot be implemented for others.
pub trait AtomicPrimitive: Pod + sealed::Sealed {
    /// The atomic.
    type Atomic: Atomic;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! atomic {
    ($($integer:ty: $atomic:ty,)*) => {$(
        impl sealed::Sealed for $integer {}
        impl AtomicPrimitive for $integer {
            type Atomic = $atomic;
        }
    )*};
}

atomic! {
    u32: AtomicU32,
    i32: AtomicI32,
    u64: AtomicU64,
    i64: AtomicI64,
    usize: AtomicUsize,
    isize: AtomicIsize,
}
