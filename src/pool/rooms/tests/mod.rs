//! The rooms with the real scheduler, among played workers, by hand: by chance they are played in the
//! scheduler's simulator. [`stage`] is the pool around them, with a driver that [`stand_in`] plays,
//! [`actor`] a worker.

mod actor;
mod stage;
mod stand_in;

use std::time::Duration;

use self::actor::Manner;
use self::stage::{Around, Stage};
use super::guests::UnknownGuest;
use super::{Act, CallSpec};
use crate::pool::scheduler::{JobKey, Outcome, Retry};

const MILLI: Duration = Duration::from_millis(1);

fn call() -> CallSpec {
    CallSpec::default()
}

fn limited(limit: Duration) -> CallSpec {
    CallSpec {
        timeout: Some(limit),
        ..call()
    }
}

#[test]
fn calls_go_to_one_room_and_leave_one_worker_for_others() {
    let mut stage = Stage::new(3, 4);
    let calls: Vec<_> = (0..6)
        .map(|_| stage.submit(call(), Manner::Stays))
        .collect();
    stage.play();
    let workers = stage.workers_of(&calls);
    assert_eq!(
        workers
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        2
    );
    let blocking = stage.submit_blocking();
    stage.play();
    assert!(stage.is_over(blocking), "a worker was left for it");
}

#[test]
fn a_full_room_lets_nobody_in_and_the_last_worker_is_taken_when_all_are_full() {
    let mut stage = Stage::new(2, 2);
    let calls: Vec<_> = (0..5)
        .map(|_| stage.submit(call(), Manner::Stays))
        .collect();
    stage.play();
    assert_eq!(stage.begun(&calls), 4);
    stage.abort(calls[0]);
    stage.play();
    assert_eq!(stage.begun(&calls), 5);
    assert_eq!(stage.outcome(calls[0]), Some(Outcome::Aborted(true)));
}

/// Rooms ended before the calls had come that crossed their end, and so did the next, for ever: those
/// that were still to be passed by had taken their places.
#[test]
fn a_room_is_not_full_of_calls_that_are_only_to_be_passed_by() {
    let mut stage = Stage::new(1, 1);
    let passed = stage.submit(call(), Manner::Returns);
    assert!(stage.step(0), "the worker is ready, and has not looked yet");
    stage.cancel(passed);
    let next = stage.submit(call(), Manner::Returns);
    assert!(stage.rooms.holder(next).is_some());
    stage.play();
    assert_eq!(stage.outcome(passed), Some(Outcome::Cancelled));
    assert!(stage.has_returned(next));
}

#[test]
fn the_first_in_turn_goes_first() {
    let mut stage = Stage::new(1, 1);
    let first = stage.submit(call(), Manner::Stays);
    let low = stage.submit(call(), Manner::Stays);
    let urgent = CallSpec {
        priority: 1,
        ..call()
    };
    let high = stage.submit(urgent, Manner::Stays);
    stage.play();
    stage.abort(first);
    stage.play();
    assert_eq!(stage.begun(&[low, high]), 1);
    assert_eq!(stage.begun(&[high]), 1);
}

#[test]
fn a_call_that_is_ended_is_dropped_and_its_worker_lives() {
    let mut stage = Stage::new(1, 4);
    let (long, short) = (
        stage.submit(limited(MILLI), Manner::Stays),
        stage.submit(call(), Manner::Stays),
    );
    stage.play();
    stage.wait(2 * MILLI);
    assert_eq!(stage.outcome(long), Some(Outcome::RanTooLong));
    assert_eq!(stage.outcome(short), None);
    assert_eq!(stage.killed(), 0);
}

#[test]
fn who_keeps_hold_of_an_ended_call_is_killed() {
    let mut stage = Stage::new(1, 4);
    let beside = stage.submit(call(), Manner::Stays);
    stage.play();
    let hog = stage.submit(call(), Manner::Hogs);
    stage.play();
    stage.abort(hog);
    stage.wait(stage::YIELD_LIMIT - MILLI);
    assert_eq!((stage.outcome(beside), stage.killed()), (None, 0));
    stage.wait(2 * MILLI);
    assert_eq!(stage.killed(), 1);
    assert!(matches!(stage.outcome(beside), Some(Outcome::Lost(_))));
}

#[test]
fn who_has_not_been_begun_for_a_while_goes_elsewhere() {
    let mut stage = Stage::new(3, 4);
    let hog = stage.submit(call(), Manner::Hogs);
    stage.play();
    let later = stage.submit(call(), Manner::Returns);
    stage.play();
    assert_eq!(stage.begun(&[hog, later]), 1);
    stage.wait(super::LATE);
    assert!(stage.is_over(later));
    assert_eq!(stage.killed(), 0);
}

/// A machine that is busy is no reason to take it.
#[test]
fn the_worker_that_is_left_for_blocking_calls_is_taken_only_after_long() {
    let mut stage = Stage::new(2, 4);
    stage.submit(call(), Manner::Hogs);
    stage.play();
    let later = stage.submit(call(), Manner::Returns);
    stage.wait(super::VERY_LATE - MILLI);
    assert!(!stage.is_over(later));
    stage.wait(MILLI);
    assert!(stage.is_over(later));
    assert_eq!(stage.killed(), 0);
}

#[test]
fn while_blocking_calls_wait_a_room_comes_to_its_end() {
    let mut stage = Stage::new(1, 4);
    let first = stage.submit(call(), Manner::Stays);
    stage.play();
    let blocking = stage.submit_blocking();
    let later = stage.submit(call(), Manner::Stays);
    stage.play();
    assert_eq!(stage.begun(&[later]), 0);
    stage.finish(first);
    stage.play();
    assert!(
        stage.is_over(blocking),
        "its turn came before the next room's"
    );
    assert_eq!(stage.begun(&[later]), 1);
}

#[test]
fn a_loss_is_repeated_where_that_is_allowed_and_what_was_not_begun_moves() {
    let mut stage = Stage::new(1, 2);
    let repeated = CallSpec {
        retry: Retry::new(1),
        ..call()
    };
    let (again, lost) = (
        stage.submit(repeated, Manner::Stays),
        stage.submit(call(), Manner::Stays),
    );
    let waits = stage.submit(call(), Manner::Stays);
    stage.play();
    stage.kill_all();
    stage.wait(Duration::ZERO);
    assert!(matches!(stage.outcome(lost), Some(Outcome::Lost(_))));
    assert_eq!((stage.outcome(again), stage.outcome(waits)), (None, None));
    assert_eq!(stage.runs(again), 2);
    stage.kill_all();
    stage.wait(Duration::ZERO);
    assert!(matches!(stage.outcome(again), Some(Outcome::Lost(_))));
}

#[test]
fn a_failure_that_comes_with_the_deadline_is_told_and_not_repeated() {
    let mut stage = Stage::new(1, 2);
    let both = CallSpec {
        deadline: Some(stage.now + MILLI),
        retry: Retry::new(1).on_timeout(true),
        ..limited(MILLI)
    };
    let call = stage.submit(both, Manner::Stays);
    stage.play();
    stage.wait(2 * MILLI);
    assert_eq!(stage.outcome(call), Some(Outcome::RanTooLong));
}

/// Nobody told it, and the pool was finished without it.
#[test]
fn who_waits_for_another_run_is_answered_when_the_pool_breaks() {
    let mut stage = Stage::new(2, 1).never_restarting();
    let repeated = CallSpec {
        retry: Retry::new(1)
            .on_timeout(true)
            .backoff(Duration::from_secs(1), Duration::from_secs(1)),
        ..limited(MILLI)
    };
    let (pauses, runs) = (
        stage.submit(repeated, Manner::Stays),
        stage.submit(call(), Manner::Stays),
    );
    stage.play();
    stage.wait(2 * MILLI);
    assert_eq!(stage.outcome(pauses), None);
    stage.kill_all();
    stage.play();
    for (call, begun) in [(pauses, false), (runs, true)] {
        let outcome = stage.outcome(call);
        let broken = matches!(outcome, Some(Outcome::Broken(Some(_), told)) if told == begun);
        assert!(broken, "{outcome:?}");
    }
    assert!(stage.is_finished());
}

/// It had been ended already, and said so later.
#[test]
fn a_call_that_is_aborted_when_it_has_panicked_is_not_run_again() {
    let mut stage = Stage::new(1, 1);
    let repeated = CallSpec {
        retry: Retry::new(1).on_panic(true),
        ..call()
    };
    let panics = stage.submit(repeated, Manner::Panics);
    while stage.runs(panics) == 0 {
        assert!(stage.step(1), "it is about to begin");
    }
    assert!(stage.step(1), "it is over, and nobody has heard that");
    stage.abort(panics);
    stage.play();
    assert!(stage.is_over(panics));
    assert_eq!(stage.runs(panics), 1);
}

/// Else nobody would know of it, and nobody be let into a room as long as it waits.
#[test]
fn a_room_that_its_worker_did_not_begin_waits_when_that_is_given_another() {
    let mut stage = Stage::new(1, 2);
    stage.submit(call(), Manner::Stays);
    assert!(stage.step(0), "the worker is ready");
    assert_eq!(stage.rooms.jobs(), 1);
    let worker = stage.workers_of(&[1])[0];
    let other = JobKey::of_number(2);
    stage.rooms.asked_for(other);
    let around = Around(&stage.scheduler, &stage.actors);
    stage.rooms.opened(stage.now, &around, worker, other);
    assert_eq!(stage.rooms.jobs(), 2);
    assert!(stage.rooms.holder(1).is_none(), "it is not there either");
}

#[test]
fn another_room_is_asked_for_in_the_name_of_who_is_let_in() {
    let mut stage = Stage::new(3, 4);
    stage.submit(call(), Manner::Stays);
    stage.play();
    let number = stage.scheduler.take_numbers(1);
    let urgent = CallSpec {
        number,
        priority: 7,
        ..call()
    };
    stage.rooms.submit(stage.now, urgent, None, ());
    let around = Around(&stage.scheduler, &stage.actors);
    stage.rooms.turn(stage.now, &around);
    let acts = [(); 2].map(|()| stage.rooms.next_act());
    let [Some(Act::Enter(_, _, entered)), Some(Act::Open(asker, 7))] = acts else {
        panic!("{acts:?}");
    };
    assert_eq!((entered, asker), (number, number));
}

/// Such a worker is stopped, and a call with a limit must not wait for it.
#[test]
fn who_does_not_say_what_it_has_finished_is_given_up_and_that_is_found() {
    let mut stage = Stage::new(1, 2);
    let call = stage.submit(limited(MILLI), Manner::Stays);
    stage.play();
    stage.finish_in_silence(call);
    stage.tick(stage.now + MILLI);
    stage.tick(stage.now + (super::SILENCE - MILLI));
    assert_eq!(stage.killed(), 0);
    stage.tick(stage.now + MILLI);
    assert_eq!(stage.killed(), 1);
    stage.play();
    assert!(stage.has_returned(call));
}

/// Nobody looked for its answer any more, also where it was over just when its limit was.
#[test]
fn who_does_not_say_what_was_over_when_it_was_to_be_ended_is_given_up() {
    let mut stage = Stage::new(1, 2);
    let call = stage.submit(call(), Manner::Stays);
    stage.play();
    stage.finish_in_silence(call);
    stage.abort(call);
    stage.tick(stage.now + (super::SILENCE - MILLI));
    assert_eq!(stage.killed(), 0);
    stage.tick(stage.now + MILLI);
    assert_eq!(stage.killed(), 1);
    stage.play();
    assert!(stage.has_returned(call));
}

/// It is stopped, too: whoever came there was taken back, and waited for ever.
#[test]
fn who_does_not_leave_a_room_in_which_nobody_is_is_given_up() {
    let mut stage = Stage::new(1, 2);
    let first = stage.submit(call(), Manner::Stays);
    stage.play();
    stage.finish_in_silence(first);
    assert!(stage.step(0), "its answer is read");
    let late = stage.submit(call(), Manner::Returns);
    stage.tick(stage.now + super::LATE);
    let known = stage.now;
    stage.tick(known + (super::SILENCE - MILLI));
    assert_eq!(stage.killed(), 0);
    stage.tick(known + super::SILENCE);
    assert_eq!(stage.killed(), 1);
    stage.play();
    assert!(stage.has_returned(first) && stage.has_returned(late));
}

/// It would count as a task of its worker, though it was none.
#[test]
fn it_is_known_of_who_is_passed_by_whether_it_was_begun() {
    let mut stage = Stage::new(1, 4);
    stage.submit(call(), Manner::Hogs);
    stage.play();
    let later = stage.submit(call(), Manner::Returns);
    let (worker, ticket) = stage.rooms.holder(later).expect("it is in a room");
    stage.wait(super::LATE);
    assert_eq!(stage.rooms.passed(stage.now, worker, ticket), Ok(false));
}

/// A worker that breaks the protocol, and is killed for that.
#[test]
fn a_guest_that_is_passed_by_unasked_is_lost_with_its_worker() {
    let mut stage = Stage::new(1, 2);
    let call = stage.submit(call(), Manner::Stays);
    stage.play();
    let (worker, ticket) = stage.rooms.holder(call).expect("it is in a room");
    let believed = stage.rooms.passed(stage.now, worker, ticket);
    assert_eq!(believed, Err(UnknownGuest));
    stage.kill_all();
    stage.play();
    assert_eq!(stage.outcome(call), Some(Outcome::Lost(worker)));
    assert_eq!(stage.runs(call), 1);
}

/// The same.
#[test]
fn a_room_that_ends_before_its_guests_takes_them_along() {
    let mut stage = Stage::new(1, 2);
    let begun = stage.submit(call(), Manner::Stays);
    stage.play();
    let (worker, _) = stage.rooms.holder(begun).expect("it is in a room");
    let around = Around(&stage.scheduler, &stage.actors);
    let believed = stage.rooms.closed(&around, worker);
    assert_eq!(believed, Err(UnknownGuest));
    stage.kill_all();
    stage.play();
    assert_eq!(stage.outcome(begun), Some(Outcome::Lost(worker)));
    assert_eq!(stage.runs(begun), 1);
}

/// It would have waited until that worker is dead, and been told that it was lost.
#[test]
fn who_was_left_behind_in_a_room_that_ended_is_answered_when_the_pool_breaks() {
    let mut stage = Stage::new(2, 1).never_restarting();
    let calls = [(); 2].map(|()| stage.submit(call(), Manner::Stays));
    stage.play();
    let [left, lost] = calls.map(|call| stage.rooms.holder(call).expect("it is in a room").0);
    let around = Around(&stage.scheduler, &stage.actors);
    let believed = stage.rooms.closed(&around, left);
    assert_eq!(believed, Err(UnknownGuest));
    stage.kill(lost);
    stage.play();
    for call in calls {
        assert_eq!(stage.outcome(call), Some(Outcome::Broken(Some(lost), true)));
    }
    assert!(stage.is_finished());
}

#[test]
fn waiting_calls_have_limits_and_running_ones_finish_when_the_rest_is_cancelled() {
    let mut stage = Stage::new(1, 1);
    let runs = stage.submit(call(), Manner::Stays);
    let impatient = CallSpec {
        queue_timeout: Some(MILLI),
        ..call()
    };
    let late = stage.submit(impatient, Manner::Stays);
    let waits = stage.submit(call(), Manner::Stays);
    stage.play();
    stage.wait(2 * MILLI);
    assert_eq!(stage.outcome(late), Some(Outcome::WaitedTooLong));
    stage.cancel_pending();
    stage.play();
    assert_eq!(stage.outcome(waits), Some(Outcome::Cancelled));
    assert_eq!(stage.outcome(runs), None);
    stage.finish(runs);
    stage.play();
    assert!(stage.is_over(runs) && stage.is_finished());
}

#[test]
fn a_closed_pool_finishes_what_is_in_and_a_terminated_one_ends_it() {
    let mut stage = Stage::new(1, 1);
    let calls: Vec<_> = (0..3)
        .map(|_| stage.submit(call(), Manner::Returns))
        .collect();
    stage.close();
    stage.play();
    assert!(calls.iter().all(|call| stage.has_returned(*call)));
    assert!(stage.is_finished());

    let mut stage = Stage::new(1, 1);
    let calls: Vec<_> = (0..3)
        .map(|_| stage.submit(call(), Manner::Stays))
        .collect();
    stage.play();
    stage.terminate();
    stage.play();
    assert_eq!(stage.outcome(calls[0]), Some(Outcome::ShutDown(true)));
    assert_eq!(stage.outcome(calls[1]), Some(Outcome::ShutDown(false)));
    assert!(stage.is_finished());
}
