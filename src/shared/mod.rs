//! Memory that several processes see: blocks, values and arrays that all may write, and a slice that
//! nobody can change.
//!
//! All are anonymous files in memory, mapped by whoever has them. Nothing has a name, and nothing is
//! left when the last of them is gone, however that came. To get to another process they travel as
//! [`Fd`](crate::Fd) does, and only their descriptor: nothing is copied, whatever their size.

// - `memory`, `slice`: bytes, and a table
// - `raw_value`, `raw_array`, `atomic`: without a lock; `value`, `array`: with one
// - `plain`: elements in memory, and how they travel; `granules`: copies that are no data race
// - `locked`: elements and their lock; `guard`: references for who has it; `view`: of several dimensions
mod array;
mod atomic;
mod granules;
#[allow(unsafe_code)]
mod guard;
mod locked;
mod memory;
mod plain;
mod raw_array;
mod raw_value;
mod slice;
mod value;
#[cfg(feature = "ndarray")]
mod view;

pub use self::array::Array;
pub use self::atomic::AtomicPrimitive;
pub use self::guard::ValueGuard;
pub use self::memory::SharedMemory;
pub use self::raw_array::RawArray;
pub use self::raw_value::RawValue;
pub use self::slice::SharedSlice;
pub use self::value::Value;
