//! Whether the kernel has been killing processes because memory had run out.
//!
//! Such a kill looks like any other SIGKILL. The system counts them, though not whom they hit, so
//! what this supports is a suspicion.

/// How many processes the system has killed for lack of memory since it started; zero where it
/// does not say.
pub(crate) fn kills() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counters
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}
