//! The executor.

mod scheduler;
