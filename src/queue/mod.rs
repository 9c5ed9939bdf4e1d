//! Queues between processes, for tasks and for threads: what one puts, another gets.
//!
//! ```text
//!   put ──encode──▶ ┌────────────── memory that all of them see ──────────────┐
//!                   │ books │ record │ record │ record │ …                    │ ──decode──▶ get
//!   descriptors ──▶ └─────────────────── a socket beside ─────────────────────┘ ──────────▶
//! ```
//!
//! No process stands behind a queue, and no thread: those who put and get copy the bytes themselves,
//! one at a time, and any of them may be killed at any instant without harm to the others. Nothing has a
//! name, and nothing is left when the last process that has it ends.

// - `plain`: the queue, of items of one type; `joinable`: the same, which knows when all is done, and
//   `hands`, who has what in hand; `simple`: the same with less; `streams`: as `Stream` and `Sink`; `error`: how putting and getting fail
// - `handle`: the queue of bytes, until it is closed in this process
// - `wait`: three ways to wait; `turn`: what is done with the lock; `core`: the memory, and why a kill
//   does no harm; `books`: what is where in it
// - `encoded`: an item as bytes; `parcels`: descriptors on their way; `upkeep`: what is kept for
//   large items
mod books;
mod core;
mod encoded;
mod error;
mod handle;
mod hands;
mod joinable;
mod parcels;
mod plain;
mod simple;
mod streams;
mod turn;
mod upkeep;
mod wait;

pub use self::error::{GetError, JoinError, PutError};
pub use self::joinable::JoinableQueue;
pub use self::plain::Queue;
pub use self::simple::SimpleQueue;
pub use self::streams::{QueueSink, QueueStream};
