//! The smaller programs in `examples/`, run as they are: what they print, and how they end. The
//! larger ones have tests of their own.

mod support;

#[path = "support/example.rs"]
mod example;

use example::{after, run};
use support::scene;

/// The first thing to try does what its page says.
#[test]
fn quickstart_tells_of_a_crash_and_a_limit_and_goes_on() {
    let _scene = scene();
    let ended = run("quickstart", &[]);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    assert_eq!(after(&text, "fib(30) ="), "832040");
    assert_eq!(after(&text, "1 + 2 ="), "3");
    assert!(after(&text, "the crash:").contains("signal 6 (SIGABRT)"));
    assert_eq!(after(&text, "its neighbour:"), "42");
    assert!(after(&text, "the endless one:").contains("its limit of 200ms"));
}

/// CF-033, CF-034, CF-046: each bad end is told for what it was, and costs nobody else.
#[test]
fn crash_and_carry_on_tells_what_became_of_each_task_and_carries_on() {
    let _scene = scene();
    let ended = run("crash_and_carry_on", &[]);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    let died = "worker died while it ran the task: ";
    for (deed, became) in [
        ("returns ", "a value: 42".to_owned()),
        ("returns an error", "its own error: no such luck".to_owned()),
        ("panics", "task panicked: so it goes (at ".to_owned()),
        ("aborts", format!("{died}signal 6 (SIGABRT)")),
        ("writes to nowhere", format!("{died}signal 11 (SIGSEGV)")),
        ("overflows its stack", format!("{died}signal 6 (SIGABRT)")),
        ("exits", format!("{died}exit code 3")),
        ("hangs", "task ran longer than its limit of 1s".to_owned()),
        ("eats memory", format!("{died}signal 6 (SIGABRT)")),
    ] {
        let told = after(&text, deed);
        assert!(told.starts_with(&became), "{deed}: {told}\n{text}");
    }
    assert!(text.contains("has overflowed its stack"), "{text}");
    assert!(
        text.contains("memory allocation of 67108864 bytes failed"),
        "{text}"
    );
    assert_eq!(
        after(
            &text,
            "and 1000 tasks that came after them are done: the sum is"
        ),
        "999000"
    );
    // Captured, all of it.
    assert_eq!(ended.said, "");
}

/// CF-124, CF-128, CF-129, CF-131, CF-147: the first steps, one line after the other.
#[test]
fn processes_tells_how_each_of_them_went() {
    let _scene = scene();
    let ended = run("processes", &[]);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    for line in [
        "create: hello Bob",
        "name: I am worker bee",
        "wait: process sleeper is still running after 10ms",
        "wait: then it has ended by exit code 0",
        "terminate: endless is alive: true",
        "terminate: process endless ended without a value: signal 15 (SIGTERM)",
        "terminate: process leaver ended without a value: exit code 3",
        "talk: 53 - 2354 = -2301",
        "all at once: [1, 4, 9, 16]",
        "all at once: 0 are left",
    ] {
        assert!(
            text.lines().any(|printed| printed == line),
            "{line}\n{text}"
        );
    }
    assert!(text.contains("who is who: process "));
    assert_eq!(ended.said, "");
}

/// CF-275: before the runtime, and not after.
#[test]
fn fork_before_runtime_has_what_its_program_has_read() {
    let _scene = scene();
    let ended = run("fork_before_runtime", &[]);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    assert_eq!(after(&text, "word 1 is"), "\"process\"");
    assert_eq!(after(&text, "it has answered"), "3 times");
    assert!(after(&text, "once more:").contains("cannot be forked"));
}

/// CF-272: a worker has little memory of its own where the table is loaded before it is forked, and all
/// of the table where it loads that itself.
#[test]
fn preload_shows_that_a_table_is_there_once() {
    let _scene = scene();
    let ended = run("preload", &[]);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    let own = |how: &str| {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(how)?.split(" has ").nth(1));
        let own = lines.map(|line| line.split(' ').next().unwrap().parse::<f64>().unwrap());
        own.collect::<Vec<_>>()
    };
    let (shared, alone) = (own("preloaded: worker"), own("initialized: worker"));
    assert_eq!((shared.len(), alone.len()), (3, 3), "{text}");
    assert!(shared.iter().all(|own| *own < 20.0), "{text}");
    assert!(alone.iter().all(|own| *own >= 200.0), "{text}");
    let sums = text
        .lines()
        .filter_map(|line| line.split("the sum is ").nth(1));
    assert_eq!(
        sums.collect::<std::collections::BTreeSet<_>>().len(),
        1,
        "{text}"
    );
}

/// Sequence, threads and processes agree, also where there is nothing to sum and nothing to share.
#[test]
fn speedup_finds_the_same_sum_three_times() {
    let _scene = scene();
    for (n, sum) in [("0", 0), ("1", 0), ("3", 17), ("200000", formula(200_000))] {
        let ended = run("speedup", &["--n", n]);
        let text = ended.text();
        assert!(ended.status.success(), "{text}{}", ended.said);
        assert_eq!(after(&text, "the sum is"), format!("{sum}, modulo 2^64"));
        for way in ["in sequence", "in threads", "in processes"] {
            assert!(after(&text, way).ends_with("times as fast"), "{text}");
        }
        let longest = text.lines().map(|line| line.matches('█').count()).max();
        assert_eq!(longest, Some(40), "{text}");
    }
    let ended = run("speedup", &["--m", "1"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.said.contains("--m"), "{}", ended.said);
}

/// The sum of `i + i² + i³` below `n`, by the formulas for each power.
fn formula(n: u128) -> u64 {
    let m = n - 1;
    let (first, second) = (m * n / 2, m * n * (2 * m + 1) / 6);
    ((first + second + first * first) % (1 << 64)) as u64
}
