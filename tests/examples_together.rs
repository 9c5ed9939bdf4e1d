//! The programs in `examples/` whose processes have something together: memory, an event, queues. They are
//! run as they are: what they print, and how they end.

mod support;

#[path = "support/example.rs"]
mod example;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs;
use std::path::Path;

use deeds::Scratch;
use example::{after, run};
use support::scene;

/// What it prints, if it has ended well and complained of nothing.
fn printed(name: &str, arguments: &[&str]) -> String {
    let ended = run(name, arguments);
    let text = ended.text();
    assert!(ended.status.success(), "{text}{}", ended.said);
    assert_eq!(ended.said, "");
    text
}

fn lines<'a>(text: &'a str, end: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.ends_with(end)).collect()
}

/// CF-224: without a lock counts are lost, with one none is, and in no case a number is torn.
#[test]
fn shared_counter_loses_counts_without_a_lock_and_none_with_it() {
    let _scene = scene();
    let text = printed("shared_counter", &[]);
    assert_eq!(after(&text, "with a lock"), "40000: none is lost");
    assert_eq!(after(&text, "by an atomic"), "40000: none is lost");
    assert!(
        after(&text, "without a lock").ends_with(" are lost"),
        "{text}"
    );
    assert!(text.ends_with("no number was torn"), "{text}");
}

/// CF-213: the client was there first.
#[test]
fn connect_when_ready_connects_once_and_succeeds() {
    let _scene = scene();
    let text = printed("connect_when_ready", &[]);
    let place = |line: &str| {
        text.lines()
            .position(|printed| printed == line)
            .expect(line)
    };
    assert!(place("client: waits for the server") < place("client: connects"));
    assert!(place("server: listens") < place("client: connects"));
    let pid: u32 = after(&text, "server: process")
        .strip_suffix(" says hello")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        after(&text, "client: is answered"),
        format!("\"hello process {pid}\"")
    );
}

/// Files of no bytes, of few, of many, and in folders of folders.
#[test]
fn copy_folder_copies_all_and_tells_how_far_it_is() {
    fn same(one: &Path, other: &Path) {
        let names = |folder| {
            let mut names: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(one), names(other));
        for name in names(one) {
            let (one, other) = (one.join(&name), other.join(&name));
            match one.is_dir() {
                true => same(&one, &other),
                false => assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap()),
            }
        }
    }

    let _scene = scene();
    let scratch = Scratch::new();
    let (from, to) = (scratch.at("from"), scratch.at("to"));
    fs::create_dir_all(format!("{from}/a/b")).unwrap();
    let sizes = [0, 1, 100_000, 1_000_000];
    for (number, size) in sizes.into_iter().cycle().take(60).enumerate() {
        let folder = ["", "a", "a/b"][number % 3];
        fs::write(
            format!("{from}/{folder}/{number}"),
            vec![number as u8; size],
        )
        .unwrap();
    }
    let text = printed("copy_folder", &[&from, &to]);
    same(Path::new(&from), Path::new(&to));
    assert!(text.starts_with("60 files, 16.5 MB\n"), "{text}");
    let parts: Vec<u32> = text
        .split('\r')
        .skip(1)
        .map(|part| part.trim().trim_end_matches('%').parse().unwrap())
        .collect();
    assert!(
        parts.is_sorted() && parts.len() > 60 && parts.last() == Some(&100),
        "{parts:?}"
    );
}

/// CF-187, CF-195: each loaf is made by one and eaten by one, and `join` comes after the last.
#[test]
fn produce_and_consume_leaves_nothing_and_ends_by_itself() {
    let _scene = scene();
    let text = printed("produce_and_consume", &[]);
    for producer in 0..3 {
        let made = format!("producer {producer} has made 4 loaves");
        assert_eq!(lines(&text, &made).len(), 1, "{text}");
        for loaf in 0..4 {
            let eaten = format!(" has eaten loaf {loaf} of producer {producer}");
            assert_eq!(lines(&text, &eaten).len(), 1, "{text}");
        }
    }
    let all = "12 loaves were made, and all of them are eaten";
    let place = text.lines().position(|line| line == all).expect(all);
    let after_all = |line: &str| line.contains(" has eaten ");
    assert!(!text.lines().skip(place).any(after_all), "{text}");
    let eaten = after(&text, "consumers ended by themselves: [");
    let eaten = eaten.trim_end_matches(']').split(", ");
    assert_eq!(
        eaten
            .map(|eaten| eaten.parse::<u32>().unwrap())
            .sum::<u32>(),
        12
    );
}

/// A process that is ended while it waits for an item hurts nobody else.
#[test]
fn write_and_read_ends_the_reader_and_goes_on_with_the_queue() {
    let _scene = scene();
    let text = printed("write_and_read", &[]);
    assert_eq!(
        [
            lines(&text, " puts A"),
            lines(&text, " puts B"),
            lines(&text, " puts C")
        ]
        .map(|lines| lines.len()),
        [1; 3]
    );
    assert_eq!(
        [lines(&text, " has got A"), lines(&text, " has got C")].map(|lines| lines.len()),
        [1; 2]
    );
    assert!(
        after(&text, "the reader has got them").ends_with("signal 15 (SIGTERM)"),
        "{text}"
    );
    assert_eq!(after(&text, "the queue is as good as before:"), "D");
}

/// CF-186: what deadlocks in Python.
#[test]
fn join_first_ends_and_has_all_items() {
    let _scene = scene();
    let text = printed("join_first", &[]);
    assert_eq!(
        lines(&text, "and has ended: exit code 0").len(),
        1,
        "{text}"
    );
    assert!(
        text.contains("20000 items are in the queue\nall of them have been got, in order"),
        "{text}"
    );
}

/// CF-195: from tasks to processes to a task, and the end goes the same way.
#[test]
fn pipeline_counts_every_text_once() {
    let _scene = scene();
    let text = printed("pipeline", &[]);
    for number in 0..8 {
        let told = after(&text, &format!("text {number} has "));
        assert!(
            told.starts_with(&format!("{} words", 5_000 * (number + 1))),
            "{text}"
        );
    }
    assert_eq!(lines(&text, ": 180000 words").len(), 1, "{text}");
}
