//! The operating system and nothing else; the home of `unsafe`.

pub(crate) mod attributes;
pub(crate) mod bell;
pub(crate) mod blocking;
pub(crate) mod buffer;
pub(crate) mod build_id;
pub(crate) mod clock;
#[cfg(feature = "auto-init")]
pub(crate) mod constructor;
pub(crate) mod descriptors;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod frozen;
pub(crate) mod futex;
// Without the constructor nobody asks for the array that it stands in.
#[cfg_attr(not(feature = "auto-init"), allow(dead_code))]
pub(crate) mod image;
pub(crate) mod incarnation;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod prctl;
pub(crate) mod reactor;
pub(crate) mod ready;
pub(crate) mod required;
pub(crate) mod secret;
pub(crate) mod signal;
pub(crate) mod slab;
pub(crate) mod socket;
pub(crate) mod stack;
pub(crate) mod start;
pub(crate) mod stream;
pub(crate) mod title;
pub(crate) mod wait;
