//! Memory that several processes see: a block that all may write, and a slice that nobody can change.
//!
//! Both are anonymous files in memory, mapped by whoever has them. Nothing has a name, and nothing is
//! left when the last of them is gone, however that came. To get to another process they travel as
//! [`Fd`](crate::Fd) does, and only their descriptor: nothing is copied, whatever their size.

mod memory;
mod slice;

pub use self::memory::SharedMemory;
pub use self::slice::SharedSlice;
