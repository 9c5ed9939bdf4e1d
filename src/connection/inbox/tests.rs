//! Bytes that come in pieces, and what becomes of them.

use std::fs::File;

use super::*;

const ANY: usize = isize::MAX as usize;

/// Gives it these bytes, as many at once as it has room for, and at most `step`.
fn feed(inbox: &mut Inbox, mut bytes: &[u8], step: usize) {
    while !bytes.is_empty() {
        let room = inbox.room();
        let count = room.len().min(bytes.len()).min(step);
        assert!(count > 0, "no room");
        room[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        inbox.fill(Received {
            count,
            ..Received::default()
        });
        // As a receiver does between two reads.
        let _ = inbox.next(ANY);
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let header = frame::Header::announce(message.len() as u64);
    [header.as_bytes(), message].concat()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn end(inbox: &mut Inbox) {
    inbox.fill(Received::default());
}

#[test]
fn messages_come_out_however_their_bytes_come_in() {
    for length in [0, 1, 5, CHUNK - 4, CHUNK, CHUNK + 1, 300_000] {
        for step in [1_000_000, 70_000, 4096, 7] {
            let mut inbox = Inbox::default();
            let message = pattern(length);
            for _ in 0..2 {
                feed(&mut inbox, &framed(&message), step);
                assert_eq!(inbox.next(ANY).unwrap(), Some(length));
                assert!(inbox.has_something());
                assert!(inbox.take_bytes() == message, "{length} in steps of {step}");
                inbox.shrink();
                assert!(!inbox.has_something());
                assert_eq!(inbox.next(ANY).unwrap(), None);
            }
            end(&mut inbox);
            assert!(matches!(inbox.next(ANY), Err(Fault::Closed)));
        }
    }
}

#[test]
fn messages_are_never_merged() {
    let mut inbox = Inbox::default();
    feed(
        &mut inbox,
        &[framed(b"a"), framed(b"b"), framed(b"cd")].concat(),
        100,
    );
    for expected in [&b"a"[..], b"b", b"cd"] {
        assert!(inbox.next(ANY).unwrap().is_some());
        inbox.take(|bytes, _| assert_eq!(bytes, expected));
    }
    assert_eq!(inbox.next(ANY).unwrap(), None);
}

/// CF-157.
#[test]
fn too_long_a_message_is_the_last_thing_that_is_read() {
    let mut inbox = Inbox::default();
    feed(&mut inbox, &framed(&[0; 10]), 100);
    for limit in [5, ANY] {
        let error = inbox.next(limit).unwrap_err();
        let why = Break::TooLong {
            length: 10,
            limit: 5,
        };
        assert!(matches!(error, Fault::Broken(found) if found == why));
    }
}

#[test]
fn memory_follows_what_has_come_and_not_what_was_announced() {
    let mut inbox = Inbox::default();
    feed(&mut inbox, frame::Header::announce(1 << 40).as_bytes(), 100);
    for _ in 0..100 {
        feed(&mut inbox, &[0; 1000], 1000);
        assert!(inbox.room().len() <= 300_000);
    }
    assert!(inbox.bytes.len() <= 300_000);
}

#[test]
fn what_is_no_header_and_an_end_within_a_message_break_it() {
    let mut inbox = Inbox::default();
    feed(&mut inbox, &(-2_i32).to_be_bytes(), 100);
    assert!(matches!(
        inbox.next(ANY),
        Err(Fault::Broken(Break::Malformed(-2)))
    ));
    for torn in [&framed(b"hello")[..6], &framed(b"hello")[..4], &[0][..]] {
        let mut inbox = Inbox::default();
        feed(&mut inbox, torn, 100);
        end(&mut inbox);
        for _ in 0..2 {
            assert!(matches!(inbox.next(ANY), Err(Fault::Broken(Break::Torn))));
        }
    }
}

fn with_descriptors(inbox: &mut Inbox, bytes: &[u8], count: usize) {
    inbox.room()[..bytes.len()].copy_from_slice(bytes);
    let descriptors = (0..count).map(|_| File::open("/dev/null").unwrap().into());
    inbox.fill(Received {
        count: bytes.len(),
        descriptors: descriptors.collect(),
        truncated: false,
    });
}

#[test]
fn descriptors_belong_to_the_message_that_they_came_with() {
    let mut inbox = Inbox::default();
    feed(&mut inbox, &framed(b"none"), 100);
    with_descriptors(&mut inbox, &framed(b"two"), 2);
    with_descriptors(&mut inbox, &framed(b"three")[..1], 3);
    feed(&mut inbox, &framed(b"three")[1..], 100);
    feed(&mut inbox, &framed(b"none"), 100);
    for (expected, count) in [("none", 0), ("two", 2), ("three", 3), ("none", 0)] {
        assert!(inbox.next(ANY).unwrap().is_some());
        inbox.take(|bytes, beside| {
            assert_eq!(bytes, expected.as_bytes());
            assert_eq!(beside.descriptors.len(), count);
        });
    }
    assert!(!inbox.has_something());
}

#[test]
fn nobody_hoards_descriptors_in_the_middle_of_a_message() {
    let message = framed(&[0; 10]);
    // Nor in the middle of its header.
    for (first, second) in [(5, 6), (4, 5), (3, 4), (1, 2)] {
        let mut inbox = Inbox::default();
        with_descriptors(&mut inbox, &message[..first], 1);
        assert_eq!(inbox.next(ANY).unwrap(), None);
        with_descriptors(&mut inbox, &message[first..second], 1);
        assert!(matches!(
            inbox.next(ANY),
            Err(Fault::Broken(Break::Misplaced))
        ));
        assert!(!inbox.has_descriptors());
    }
}

#[test]
fn another_continues_where_one_is() {
    let all = [
        framed(b"one"),
        framed(&pattern(CHUNK - 1)),
        framed(b"three"),
    ]
    .concat();
    for cut in [0, 2, 7, 9, 100, CHUNK, all.len() - 1] {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &all[..cut], 1 << 20);
        let taken = inbox.next(ANY).unwrap().is_some();
        if taken {
            assert_eq!(inbox.take_bytes(), b"one");
            let _ = inbox.next(ANY);
        }
        let mut other = Inbox::of_unread(inbox.to_unread().unwrap());
        let _ = other.next(ANY);
        feed(&mut other, &all[cut..], 1 << 20);
        let expected = [b"one".to_vec(), pattern(CHUNK - 1), b"three".to_vec()];
        for message in &expected[usize::from(taken)..] {
            assert!(other.next(ANY).unwrap().is_some());
            assert!(other.take_bytes() == *message, "cut at {cut}");
        }
        assert!(!other.has_something());
    }
}
