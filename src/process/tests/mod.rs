//! Real processes. The test binary boots as the children itself; what a child
//! then does is a [`Step`] list that its parent sends as the first words.

mod ending;
mod faults;
mod launching;
mod orphans;
mod script;
mod support;

pub(crate) use script::{STEPS, serve};
