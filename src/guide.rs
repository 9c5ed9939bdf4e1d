//! The guide: what the parts of the crate are for, and how they go together.
//!
//! | chapter | answers |
//! | --- | --- |
//! | [`choosing_a_call`] | which way to hand over work, and what can be handed over |
//! | [`batches`] | one function over many items: order, chunks, look-ahead, failures |
//! | [`cancellation_and_time`] | who ends a task, what becomes of it, and which limit counts what |
//! | [`failure`] | what an error says, what to do about it, and what a pool survives |
//! | [`lifecycle`] | how workers start, what they are given, and how a pool ends |
//! | [`observing`] | what a pool is doing, and how it is told to others: events, traces, metrics |
//! | [`connections`] | messages between processes that go on while a task runs |
//! | [`queues`] | items between any number of processes, until there is an end of them |
//! | [`listening`] | connections by an address, with a key that both have, and with Python programs |
//! | [`processes`] | one function in a process of its own: how it is started, waited for and ended |
//! | [`shared`] | values, arrays and tables that several processes see, with a lock and without |
//! | [`locks`] | how tasks, threads and processes take turns, count and wait for each other |
//! | [`testing`] | pools in tests, and tests of code that has a pool |
//! | [`from_python`] | the names of Python's pools, and what they are called here |
//!
//! The title page has the [shortest example](crate).

#[doc = include_str!("guide/choosing_a_call.md")]
pub mod choosing_a_call {}

#[doc = include_str!("guide/batches.md")]
pub mod batches {}

#[doc = include_str!("guide/cancellation_and_time.md")]
pub mod cancellation_and_time {}

#[doc = include_str!("guide/failure.md")]
pub mod failure {}

#[doc = include_str!("guide/lifecycle.md")]
pub mod lifecycle {}

#[doc = include_str!("guide/observing.md")]
pub mod observing {}

#[doc = include_str!("guide/connections.md")]
pub mod connections {}

#[doc = include_str!("guide/queues.md")]
pub mod queues {}

#[doc = include_str!("guide/listening.md")]
pub mod listening {}

#[doc = include_str!("guide/processes.md")]
pub mod processes {}

#[doc = include_str!("guide/shared.md")]
pub mod shared {}

#[doc = include_str!("guide/locks.md")]
pub mod locks {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/from_python.md")]
pub mod from_python {}
