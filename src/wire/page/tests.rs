//! Every swap of the page, and every race for one.

use super::*;

/// After every start.
const NOW: Moment = Moment(u64::MAX);

fn pages() -> (ControlPage, ControlPage) {
    let file = create().unwrap();
    (
        ControlPage::new(&file).unwrap(),
        ControlPage::new(&file).unwrap(),
    )
}

fn ticket(sequence: u64) -> Ticket {
    Ticket { lane: 5, sequence }
}

#[test]
fn a_call_taken_back_is_not_begun() {
    let (parent, worker) = pages();
    parent.offer(ticket(1));
    assert!(parent.take_back(ticket(1)));
    assert!(!worker.begin(ticket(1), Moment(9)));
}

#[test]
fn a_call_begun_is_not_taken_back_but_can_be_ended() {
    let (parent, worker) = pages();
    parent.offer(ticket(1));
    assert_eq!(parent.progress(ticket(1)), Progress::Waiting);
    assert!(worker.begin(ticket(1), Moment(9)));
    assert_eq!(parent.progress(ticket(1)), Progress::Running(Moment(9)));
    assert!(!parent.take_back(ticket(1)));
    assert!(!worker.is_ended(ticket(1), 0));
    assert!(parent.end(ticket(1), NOW));
    assert!(worker.is_ended(ticket(1), 0));
    assert!(!worker.finish(ticket(1)), "its response is thrown away");
}

#[test]
fn a_call_finished_is_not_ended() {
    let (parent, worker) = pages();
    parent.offer(ticket(1));
    assert!(worker.begin(ticket(1), Moment(9)) && worker.finish(ticket(1)));
    assert!(!parent.end(ticket(1), NOW));
    assert_eq!(parent.progress(ticket(1)), Progress::Over);
}

#[test]
fn a_late_swap_never_hits_the_lane_s_next_tenant() {
    let (parent, worker) = pages();
    parent.offer(ticket(1));
    parent.offer(ticket(2));
    assert!(!parent.take_back(ticket(1)) && !parent.end(ticket(1), NOW));
    assert!(!worker.begin(ticket(1), Moment(9)) && !worker.finish(ticket(1)));
    assert_eq!(parent.progress(ticket(2)), Progress::Waiting);
}

#[test]
fn every_race_for_a_call_has_one_winner() {
    let (parent, worker) = pages();
    for round in 1..1_000 {
        let ticket = ticket(round);
        parent.offer(ticket);
        let (taken, begun) = race(
            || parent.take_back(ticket),
            || worker.begin(ticket, Moment(1)),
        );
        assert!(
            taken != begun,
            "round {round}: taken {taken}, begun {begun}"
        );
        if begun {
            let (ended, finished) = race(|| parent.end(ticket, NOW), || worker.finish(ticket));
            assert!(
                ended != finished,
                "round {round}: ended {ended}, finished {finished}"
            );
        }
    }
}

/// Runs both at once, `a` on this thread and `b` on another that is already awake.
fn race(a: impl FnOnce() -> bool, b: impl FnOnce() -> bool + Send) -> (bool, bool) {
    let gate = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            gate.wait();
            b()
        });
        gate.wait();
        (a(), other.join().unwrap())
    })
}

#[test]
fn what_was_visible_and_not_read_is_found_across_the_seam() {
    let (parent, worker) = pages();
    let start = OUTBOX as u64 * 3 - 4;
    worker.put(start, b"abcdefgh");
    assert_eq!(parent.rest(start), b"", "nothing is visible yet");
    worker.show(start + 8);
    assert_eq!(parent.rest(start), b"abcdefgh");
    assert_eq!(parent.rest(start + 6), b"gh");
    assert_eq!(parent.rest(start + 8), b"");
}

#[test]
fn a_page_that_makes_no_sense_gives_nothing() {
    let (parent, worker) = pages();
    worker.show(u64::MAX);
    assert_eq!(parent.rest(0), b"");
    assert_eq!(
        parent.rest(u64::MAX - 5).len(),
        5,
        "lengths within the ring are only bytes"
    );
    worker.show(3);
    assert_eq!(parent.rest(4), b"", "less than was read");
}

#[test]
fn the_items_of_a_chunk_are_begun_and_finished_one_by_one() {
    let (parent, worker) = pages();
    parent.offer(ticket(3));
    assert_eq!(parent.begun(ticket(3)), 0);
    assert!(worker.begin(ticket(3), Moment(9)));
    assert_eq!(worker.finish_item(ticket(3), 0), Step::On);
    assert_eq!(parent.begun(ticket(3)), 1);
    assert!(worker.next_item(ticket(3), 0, Moment(10)));
    assert_eq!(parent.begun(ticket(3)), 2);
    assert_eq!(parent.progress(ticket(3)), Progress::Running(Moment(10)));
    assert_eq!(worker.finish_item(ticket(3), 1), Step::On);
    assert_eq!(parent.progress(ticket(3)), Progress::Between(Moment(10)));
    worker.close(ticket(3), 1);
    assert_eq!(parent.progress(ticket(3)), Progress::Over);
    assert_eq!(parent.cut(ticket(3)), None);
    assert_eq!(parent.begun(ticket(3)), 2);
}

#[test]
fn a_chunk_is_cut_behind_the_item_that_runs() {
    let (parent, worker) = pages();
    parent.offer(ticket(3));
    assert_eq!(parent.cut(ticket(3)), None, "it can be taken back instead");
    worker.begin(ticket(3), Moment(9));
    assert_eq!(parent.cut(ticket(3)), Some(0));
    assert_eq!(parent.cut(ticket(3)), None, "once is enough");
    assert!(!worker.is_ended(ticket(3), 0));
    assert_eq!(worker.finish_item(ticket(3), 0), Step::Last);
    assert!(!worker.next_item(ticket(3), 0, Moment(10)));
}

#[test]
fn a_chunk_cut_between_two_items_stays_there() {
    let (parent, worker) = pages();
    parent.offer(ticket(3));
    worker.begin(ticket(3), Moment(9));
    worker.finish_item(ticket(3), 0);
    assert_eq!(parent.cut(ticket(3)), Some(0));
    assert!(!worker.next_item(ticket(3), 0, Moment(10)));
    assert!(
        !parent.end(ticket(3), NOW),
        "nothing runs that could be ended"
    );
}

#[test]
fn the_end_of_an_item_never_hits_the_next() {
    let (parent, worker) = pages();
    parent.offer(ticket(3));
    worker.begin(ticket(3), Moment(9));
    worker.finish_item(ticket(3), 0);
    worker.next_item(ticket(3), 0, Moment(20));
    assert!(!parent.end(ticket(3), Moment(9)), "that one is over");
    assert!(parent.end(ticket(3), Moment(20)));
    assert!(worker.is_ended(ticket(3), 1));
    assert_eq!(worker.finish_item(ticket(3), 1), Step::Ended);
    assert_eq!(parent.begun(ticket(3)), 2);
}

#[test]
fn an_item_that_runs_last_can_be_ended() {
    let (parent, worker) = pages();
    parent.offer(ticket(3));
    worker.begin(ticket(3), Moment(9));
    parent.cut(ticket(3));
    assert!(parent.end(ticket(3), NOW));
    assert_eq!(worker.finish_item(ticket(3), 0), Step::Ended);
}

#[test]
fn a_cut_and_the_steps_of_a_chunk_agree_on_what_was_begun() {
    let (parent, worker) = pages();
    for round in 1..1_000 {
        let ticket = ticket(round);
        parent.offer(ticket);
        worker.begin(ticket, Moment(1));
        let run = || {
            let mut item = 0;
            while item < 20 && worker.finish_item(ticket, item) == Step::On {
                if !worker.next_item(ticket, item, Moment(1)) {
                    break;
                }
                item += 1;
            }
            item
        };
        let gate = std::sync::Barrier::new(2);
        let (cut, last) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                gate.wait();
                run()
            });
            gate.wait();
            (parent.cut(ticket), other.join().unwrap())
        });
        if let Some(cut) = cut {
            assert_eq!(cut, last, "round {round}");
        }
    }
}
