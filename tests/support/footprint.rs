//! What processes take of the system, and whether that grows.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses its own part of this"
)]

use std::fmt;
use std::fs;

use crate::support::{PROMPTLY, eventually};

/// What one process takes. Memory is what it has written to and shares with nobody but by
/// copy-on-write, in KiB: pages of the program's file come and go as the system likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    pub memory: u64,
    pub descriptors: usize,
    pub threads: usize,
    pub mappings: usize,
}

impl Footprint {
    /// That of this process.
    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    /// That of another; of a process that is no more it is nothing.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let count =
            |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).map_or(0, Iterator::count);
        let status = read("status").unwrap_or_default();
        let memory = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let memory = memory.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self {
            memory: memory.unwrap_or(0),
            descriptors: count("fd"),
            threads: count("task"),
            mappings: read("maps").unwrap_or_default().lines().count(),
        }
    }

    /// Whether this has become more since then than may come of chance: the allocator keeps what it
    /// likes, and has a mapping or two for each thread that was.
    pub fn has_grown(&self, since: &Self, memory: u64) -> bool {
        self.memory > since.memory + memory
            || self.descriptors > since.descriptors
            || self.threads > since.threads
            || self.mappings > since.mappings + 16
    }

    /// Fails if this process takes more than then by so many KiB or by anything else, once what is
    /// on its way out has had the time to go.
    pub fn must_not_have_grown(since: &Self, memory: u64) -> Self {
        let mut now = Self::own();
        let same = eventually(PROMPTLY, || {
            now = Self::own();
            !now.has_grown(since, memory)
        });
        assert!(same, "{since} became {now}");
        now
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory,
            descriptors,
            threads,
            mappings,
        } = self;
        write!(
            f,
            "{memory} KiB, {descriptors} descriptors, {threads} threads, {mappings} mappings"
        )
    }
}
