//! The operating system and nothing else; the home of `unsafe`.

pub(crate) mod clock;
