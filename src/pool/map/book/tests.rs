//! The books by hand: no pool, no time.

use std::time::Duration;

use super::*;
use crate::pool::error::Kind;

const US: Duration = Duration::from_micros(1);

fn measure(ordered: bool) -> Measure {
    Measure {
        look_ahead: 100,
        chunk_size: None,
        ordered,
        workers: 2,
    }
}

/// A book that has taken so many items, and will not take more.
fn book(measure: Measure, items: u8) -> Book {
    let mut book = Book::new(measure);
    (0..items).for_each(|n| book.take(Ok(Packed::copy_of(&[n]))));
    book.exhaust();
    book
}

fn sized(size: usize) -> Measure {
    Measure {
        chunk_size: Some(size),
        ..measure(true)
    }
}

/// The items of a batch.
fn items_of(batch: &Batch) -> Vec<u8> {
    let (mut bytes, mut found) = (&*batch.bytes, Vec::new());
    while let Some((item, rest)) = items::split_first(bytes) {
        found.extend_from_slice(item);
        bytes = rest;
    }
    assert_eq!(found.len(), batch.count as usize);
    found
}

fn result(n: u8) -> Raw {
    Raw::Returned(Packed::copy_of(&[n]))
}

/// Runs the items of a batch from one to another, each giving itself.
fn run(book: &mut Book, batch: &Batch, range: std::ops::Range<usize>) {
    let items = items_of(batch);
    for item in range {
        book.hear(batch.id, News::Item(item as u32, result(items[item])));
    }
}

fn finish(book: &mut Book, batch: &Batch) {
    run(book, batch, 0..batch.count as usize);
    book.hear(batch.id, News::Over(batch.count, US * batch.count));
}

fn lost() -> TaskError {
    TaskError::new(Kind::Cancelled)
}

/// All results that are there: the item, or nothing for an error.
fn given(book: &mut Book) -> Vec<Option<u8>> {
    std::iter::from_fn(|| book.give())
        .map(|(_, raw)| match raw {
            Raw::Returned(bytes) => Some(bytes[0]),
            Raw::Failed(_) => None,
        })
        .collect()
}

#[test]
fn results_are_given_in_the_order_of_the_items() {
    let mut book = book(sized(2), 4);
    let (one, two) = (book.next_batch().unwrap(), book.next_batch().unwrap());
    finish(&mut book, &two);
    assert_eq!(given(&mut book), []);
    assert!(!book.is_finished());
    finish(&mut book, &one);
    assert_eq!(given(&mut book), [0, 1, 2, 3].map(Some));
    assert!(book.is_finished() && !book.is_at_work());
}

#[test]
fn results_are_given_as_they_come_where_order_does_not_count() {
    let mut book = book(
        Measure {
            ordered: false,
            ..sized(2)
        },
        4,
    );
    let (one, two) = (book.next_batch().unwrap(), book.next_batch().unwrap());
    finish(&mut book, &two);
    assert_eq!(given(&mut book), [2, 3].map(Some));
    finish(&mut book, &one);
    assert_eq!(given(&mut book), [0, 1].map(Some));
    assert!(book.is_finished());
}

#[test]
fn chunks_begin_with_one_item_and_grow_to_half_a_millisecond() {
    let mut book = book(
        Measure {
            look_ahead: usize::MAX,
            ..measure(true)
        },
        255,
    );
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let batch = book.next_batch().unwrap();
        sizes.push(batch.count);
        run(&mut book, &batch, 0..batch.count as usize);
        book.hear(batch.id, News::Over(batch.count, 20 * US * batch.count));
    }
    assert_eq!(sizes, [1, 4, 16, 25, 25]);
}

#[test]
fn long_items_go_one_by_one() {
    let mut book = book(measure(true), 10);
    for _ in 0..3 {
        let batch = book.next_batch().unwrap();
        assert_eq!(batch.count, 1);
        run(&mut book, &batch, 0..1);
        book.hear(batch.id, News::Over(1, 900 * US));
    }
}

#[test]
fn what_waits_is_shared_by_all_workers() {
    let mut book = book(measure(true), 40);
    book.each = Some(1);
    book.size = 1000;
    assert_eq!(book.next_batch().unwrap().count, 10);
}

#[test]
fn only_so_many_chunks_are_out() {
    let mut book = book(sized(1), 10);
    let first = book.next_batch().unwrap();
    for _ in 0..3 {
        book.next_batch().unwrap();
    }
    assert!(book.next_batch().is_none());
    finish(&mut book, &first);
    assert!(book.next_batch().is_some());
}

#[test]
fn the_item_that_ends_its_chunk_fails_and_the_rest_goes_out_again() {
    let mut book = book(sized(5), 5);
    let batch = book.next_batch().unwrap();
    run(&mut book, &batch, 0..2);
    let broke = Break {
        victim: Some((2, lost())),
        unbegun: 3..5,
        rest: None,
    };
    book.hear(batch.id, News::Broke(broke));
    let rest = book.next_batch().unwrap();
    assert_eq!(items_of(&rest), [3, 4]);
    finish(&mut book, &rest);
    assert_eq!(given(&mut book), [Some(0), Some(1), None, Some(3), Some(4)]);
}

#[test]
fn answers_on_their_way_when_a_chunk_is_ended_are_waited_for() {
    let mut book = book(sized(5), 5);
    let batch = book.next_batch().unwrap();
    let broke = Break {
        victim: Some((2, lost())),
        unbegun: 3..5,
        rest: Some(lost()),
    };
    book.hear(batch.id, News::Broke(broke));
    assert_eq!(given(&mut book), []);
    run(&mut book, &batch, 0..1);
    book.hear(batch.id, News::Item(1, Raw::Failed(lost())));
    assert_eq!(given(&mut book), [Some(0), None, None, None, None]);
    assert!(book.is_finished() && book.chunks.is_empty());
}

#[test]
fn a_chunk_that_is_cut_gives_back_what_it_will_not_run() {
    let mut book = book(sized(5), 5);
    let batch = book.next_batch().unwrap();
    run(&mut book, &batch, 0..1);
    book.hear(batch.id, News::Cut(1));
    let rest = book.next_batch().unwrap();
    assert_eq!(items_of(&rest), [2, 3, 4]);
    run(&mut book, &batch, 1..2);
    book.hear(batch.id, News::Over(2, US));
    assert_eq!(given(&mut book), [0, 1].map(Some));
    finish(&mut book, &rest);
    assert_eq!(given(&mut book), [2, 3, 4].map(Some));
    assert!(!book.is_at_work());
}

#[test]
fn the_end_of_a_chunk_may_be_heard_before_its_cut_and_its_answers() {
    let mut book = book(sized(5), 5);
    let batch = book.next_batch().unwrap();
    book.hear(batch.id, News::Over(2, US));
    let rest = book.next_batch().unwrap();
    book.hear(batch.id, News::Cut(1));
    assert!(book.next_batch().is_none(), "the rest is out only once");
    book.hear(batch.id, News::Item(1, result(1)));
    book.hear(batch.id, News::Item(0, result(0)));
    finish(&mut book, &rest);
    assert_eq!(given(&mut book), [0, 1, 2, 3, 4].map(Some));
}

#[test]
fn an_item_without_an_encoding_fails_in_its_place() {
    let mut book = Book::new(sized(5));
    book.take(Ok(Packed::copy_of(&[0])));
    book.take(Err(lost()));
    book.take(Ok(Packed::copy_of(&[2])));
    book.exhaust();
    let (one, two) = (book.next_batch().unwrap(), book.next_batch().unwrap());
    assert_eq!((items_of(&one), items_of(&two)), (vec![0], vec![2]));
    finish(&mut book, &one);
    finish(&mut book, &two);
    assert_eq!(given(&mut book), [Some(0), None, Some(2)]);
}

#[test]
fn a_chunk_of_a_given_size_waits_until_it_is_whole() {
    let mut book = Book::new(sized(3));
    (0..4).for_each(|n| book.take(Ok(Packed::copy_of(&[n]))));
    let whole = book.next_batch().unwrap();
    assert_eq!(whole.count, 3);
    assert!(book.next_batch().is_none(), "more may come");
    finish(&mut book, &whole);
    assert_eq!(
        book.next_batch().unwrap().count,
        1,
        "but nobody is idle for that"
    );
}

#[test]
fn no_more_is_taken_than_was_asked_for() {
    for (look_ahead, several) in [(1, 1), (FEW, 1), (32, 8)] {
        let mut book = Book::new(Measure {
            look_ahead,
            ..sized(look_ahead)
        });
        assert_eq!(book.room(), look_ahead);
        (0..look_ahead).for_each(|_| book.take(Ok(Packed::copy_of(&[1]))));
        assert_eq!(book.room(), 0);
        let batch = book.next_batch().unwrap();
        finish(&mut book, &batch);
        for _ in 1..several {
            book.give();
            assert_eq!(book.room(), 0, "not for so few");
        }
        book.give();
        assert_eq!(book.room(), several);
    }
}

#[test]
fn items_go_out_in_no_more_bytes_than_a_pipe_holds() {
    let mut book = Book::new(sized(10));
    for _ in 0..3 {
        book.take(Ok(Packed::copy_of(&[7; BYTES / 2])));
    }
    book.exhaust();
    for _ in 0..3 {
        assert_eq!(book.next_batch().unwrap().count, 1);
    }
}

#[test]
fn an_abandoned_book_keeps_nothing() {
    let mut book = book(sized(2), 6);
    let batch = book.next_batch().unwrap();
    book.abandon();
    assert!(book.next_batch().is_none() && !book.is_at_work() && book.is_finished());
    book.hear(batch.id, News::Over(2, US));
    assert!(book.give().is_none());
}

#[test]
fn a_chunk_may_be_heard_to_break_before_it_is_heard_to_be_cut() {
    for ordered in [true, false] {
        let mut book = book(
            Measure {
                ordered,
                ..sized(5)
            },
            5,
        );
        let batch = book.next_batch().unwrap();
        // Cut behind the second item, which was then ended; the first answer is still on the way.
        let broke = Break {
            victim: Some((1, lost())),
            unbegun: 2..2,
            rest: Some(lost()),
        };
        book.hear(batch.id, News::Broke(broke));
        book.hear(batch.id, News::Cut(1));
        let rest = book.next_batch().unwrap();
        assert_eq!(items_of(&rest), [2, 3, 4], "no answer was given for them");
        finish(&mut book, &rest);
        run(&mut book, &batch, 0..1);
        assert_eq!(given(&mut book).len(), 5, "each once");
        assert!(book.is_finished() && book.chunks.is_empty());
    }
}

fn relapse(failure: TaskError, pause: Duration, settled: bool) -> Relapse {
    Relapse {
        failure,
        pause,
        settled,
    }
}

/// An error that is told from [`lost`].
fn late() -> TaskError {
    TaskError::new(Kind::Elapsed(Duration::ZERO))
}

#[test]
fn an_item_that_is_to_be_run_again_goes_out_alone_and_keeps_its_place() {
    for ordered in [true, false] {
        let mut book = book(
            Measure {
                ordered,
                ..sized(3)
            },
            3,
        );
        let batch = book.next_batch().unwrap();
        assert!(batch.failures.is_empty());
        run(&mut book, &batch, 0..1);
        let again = relapse(late(), Duration::ZERO, true);
        book.hear(batch.id, News::Again(1, again));
        run(&mut book, &batch, 2..3);
        book.hear(batch.id, News::Over(3, US));
        assert!(book.pauses() && book.is_at_work() && book.chunks.is_empty());
        assert!(book.next_batch().is_none(), "it pauses");

        assert_eq!(book.resume(Moment(1)), None);
        let second = book.next_batch().unwrap();
        assert_eq!((items_of(&second), second.failures.len()), (vec![1], 1));
        let again = relapse(lost(), Duration::ZERO, true);
        book.hear(second.id, News::Again(0, again));
        book.hear(second.id, News::Over(1, US));
        book.resume(Moment(2));
        let third = book.next_batch().unwrap();
        assert!(third.failures[0].is_timeout() && third.failures[1].is_cancelled());
        // Nobody has begun it: its history goes with it.
        book.hear(third.id, News::Over(0, US));
        let third = book.next_batch().unwrap();
        assert_eq!((items_of(&third), third.failures.len()), (vec![1], 2));
        finish(&mut book, &third);
        let order = if ordered { [0, 1, 2] } else { [0, 2, 1] };
        assert_eq!(given(&mut book), order.map(Some));
        assert!(book.is_finished() && !book.is_at_work());
    }
}

#[test]
fn a_pause_begins_when_it_is_first_looked_at_and_is_waited_for() {
    let mut book = book(sized(1), 2);
    let (one, two) = (book.next_batch().unwrap(), book.next_batch().unwrap());
    for (batch, pause) in [(&one, 10), (&two, 3)] {
        let again = relapse(lost(), Duration::from_nanos(pause), true);
        book.hear(batch.id, News::Again(0, again));
        book.hear(batch.id, News::Over(1, US));
    }
    assert_eq!(book.resume(Moment(100)), Some(Moment(103)));
    assert_eq!(book.resume(Moment(102)), Some(Moment(103)));
    assert!(book.next_batch().is_none());
    assert_eq!(book.resume(Moment(103)), Some(Moment(110)));
    assert_eq!(items_of(&book.next_batch().unwrap()), [1]);
    assert!(book.next_batch().is_none());
    assert_eq!(book.resume(Moment(u64::MAX)), None);
    assert_eq!(items_of(&book.next_batch().unwrap()), [0]);
}

#[test]
fn a_run_that_may_go_on_is_waited_for_before_the_next() {
    let broke = |unbegun| {
        News::Broke(Break {
            victim: None,
            unbegun,
            rest: None,
        })
    };
    let again = || News::Again(1, relapse(lost(), Duration::ZERO, false));
    let news: [[fn(_, _) -> News; 3]; 3] = [
        [|a: News, _| a, |_, b: News| b, |_, _| News::Settled],
        [|_, b: News| b, |a: News, _| a, |_, _| News::Settled],
        [|_, _| News::Settled, |_, b: News| b, |a: News, _| a],
    ];
    for order in news {
        let mut book = book(sized(3), 3);
        let batch = book.next_batch().unwrap();
        run(&mut book, &batch, 0..1);
        for (position, next) in order.into_iter().enumerate() {
            assert!(!book.pauses(), "at {position}");
            book.hear(batch.id, next(again(), broke(2..3)));
        }
        assert!(book.chunks.is_empty() && book.pauses());
        book.resume(Moment(1));
        let (rest, again) = (book.next_batch().unwrap(), book.next_batch().unwrap());
        assert_eq!((items_of(&rest), items_of(&again)), (vec![2], vec![1]));
        finish(&mut book, &again);
        finish(&mut book, &rest);
        assert_eq!(given(&mut book), [0, 1, 2].map(Some));
    }
}

#[test]
fn what_pauses_is_dropped_with_its_book() {
    let mut book = book(sized(1), 1);
    let batch = book.next_batch().unwrap();
    let again = relapse(lost(), US, true);
    book.hear(batch.id, News::Again(0, again));
    book.abandon();
    assert!(!book.pauses() && !book.is_at_work());
}
