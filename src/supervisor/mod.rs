//! Keeping a slot alive.

pub(crate) mod policy;
