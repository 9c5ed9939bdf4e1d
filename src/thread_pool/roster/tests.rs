//! What the roster does when.

use super::*;

const NOW: Moment = Moment(7);

/// A thread is done with what it runs.
fn finish(roster: &mut Roster<char>, place: usize) {
    let running = roster.seats[place]
        .as_ref()
        .map(|seat| seat.running.clone());
    for (number, _) in running.into_iter().flatten() {
        roster.done(place, number);
    }
}

impl<J> Roster<J> {
    /// Submits a call with the next number, and returns that as well.
    fn submit_next(
        &mut self,
        job: J,
        is_async: bool,
        priority: i32,
        now: Moment,
    ) -> Result<(u64, Summons), J> {
        let number = self.take_number();
        let summons = self.submit(number, job, is_async, priority, now)?;
        Ok((number, summons))
    }
}

#[test]
fn a_thread_is_started_only_for_a_call_that_finds_none_free() {
    let mut roster = Roster::new(2, 0, 2);
    assert_eq!(
        roster.submit_next('a', false, 0, NOW),
        Ok((1, Summons::Start(0)))
    );
    assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
    finish(&mut roster, 0);
    assert_eq!(
        roster.submit_next('b', false, 0, NOW),
        Ok((2, Summons::Nobody)),
        "it is free"
    );
    assert_eq!(
        roster.submit_next('c', false, 0, NOW),
        Ok((3, Summons::Start(1))),
        "it will be busy"
    );
    assert_eq!(
        roster.submit_next('d', false, 0, NOW),
        Ok((4, Summons::Nobody)),
        "there may be two"
    );
    assert_eq!(roster.take(1, NOW), Step::Run(2, 'b'));
    assert_eq!(roster.take(0, NOW), Step::Run(3, 'c'));
    assert_eq!((roster.running(), roster.waiting()), (2, 1));
}

#[test]
fn what_was_accepted_is_run_before_the_threads_leave() {
    let mut roster = Roster::new(1, 0, 2);
    roster.submit_next('a', false, 0, NOW).unwrap();
    roster.submit_next('b', false, 0, NOW).unwrap();
    roster.close();
    assert_eq!(roster.submit_next('c', false, 0, NOW), Err('c'));
    assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
    finish(&mut roster, 0);
    assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
    finish(&mut roster, 0);
    assert!(!roster.is_over(), "its thread is there");
    assert_eq!(roster.take(0, NOW), Step::Leave);
    assert!(roster.is_over());
}

#[test]
fn only_what_waits_can_be_taken_out() {
    let mut roster = Roster::new(1, 0, 2);
    let (first, _) = roster.submit_next('a', false, 0, NOW).unwrap();
    let (second, _) = roster.submit_next('b', false, 0, NOW).unwrap();
    assert_eq!(roster.take(0, NOW), Step::Run(first, 'a'));
    assert_eq!(roster.stand(first), Some(Stand::Running(0, NOW)));
    assert_eq!(roster.stand(second), Some(Stand::Waiting));
    assert_eq!(roster.withdraw(first), None);
    assert_eq!(roster.withdraw(second), Some('b'));
    assert_eq!(roster.stand(second), None);
    finish(&mut roster, 0);
    assert_eq!(roster.stand(first), None);
    assert_eq!(roster.take(0, NOW), Step::Wait);
}

#[test]
fn calls_wait_for_the_other_threads_when_one_cannot_be_started() {
    let mut roster = Roster::new(3, 0, 2);
    roster.submit_next('a', false, 0, NOW).unwrap();
    assert_eq!(
        roster.submit_next('b', false, 0, NOW),
        Ok((2, Summons::Start(1)))
    );
    assert!(roster.unstarted(1).is_empty());
    assert_eq!(roster.unstarted(0).len(), 2, "nobody is left");
    assert_eq!(
        roster.submit_next('c', false, 0, NOW),
        Ok((3, Summons::Start(0))),
        "it is tried again"
    );
}

#[test]
fn the_higher_priority_goes_first_and_within_one_who_was_first() {
    let mut roster = Roster::new(1, 0, 2);
    for (job, priority) in [('c', -1), ('a', 5), ('b', 5), ('x', 0)] {
        roster.submit_next(job, false, priority, NOW).unwrap();
    }
    assert_eq!(roster.withdraw(4), Some('x'));
    for step in [(2, 'a'), (3, 'b'), (1, 'c')] {
        assert_eq!(roster.take(0, NOW), Step::Run(step.0, step.1));
        finish(&mut roster, 0);
    }
    assert_eq!(roster.take(0, NOW), Step::Wait);
}

/// All calls of a roster run to their end, on threads that ask in this order.
fn busy(roster: &mut Roster<char>, threads: usize) {
    for place in 0..threads {
        let number = place as u64 + 1;
        let (started, job) = (Summons::Start(place), 'x');
        assert_eq!(
            roster.submit_next(job, false, 0, NOW),
            Ok((number, started))
        );
        assert_eq!(roster.take(place, NOW), Step::Run(number, job));
    }
}

#[test]
fn who_was_busy_last_is_woken_first() {
    let mut roster = Roster::new(3, 0, 2);
    busy(&mut roster, 3);
    for place in [1, 2, 0] {
        finish(&mut roster, place);
        assert_eq!(roster.take(place, NOW), Step::Wait);
    }
    assert_eq!(
        roster.submit_next('a', false, 0, NOW),
        Ok((4, Summons::Wake(0)))
    );
    assert_eq!(
        roster.submit_next('b', false, 0, NOW),
        Ok((5, Summons::Wake(2)))
    );
    assert_eq!(roster.take(0, NOW), Step::Run(4, 'a'));
    assert_eq!(
        roster.submit_next('c', false, 0, NOW),
        Ok((6, Summons::Wake(1)))
    );
    assert_eq!(
        roster.submit_next('d', false, 0, NOW),
        Ok((7, Summons::Nobody))
    );
}

#[test]
fn idle_threads_leave_down_to_those_that_stay() {
    let mut roster = Roster::new(3, 1, 2);
    assert_eq!(roster.sit_down_to_stay(NOW), Some(0));
    assert_eq!(roster.sit_down_to_stay(NOW), None, "it is there");
    assert_eq!(roster.take(0, NOW), Step::Wait);
    assert!(!roster.leave(0), "it stays");
    assert_eq!(
        roster.submit_next('a', false, 0, NOW),
        Ok((1, Summons::Wake(0)))
    );
    assert_eq!(
        roster.submit_next('b', false, 0, NOW),
        Ok((2, Summons::Start(1)))
    );
    assert!(!roster.leave(0), "it was woken");
    assert_eq!(roster.take(1, NOW), Step::Run(1, 'a'));
    assert_eq!(roster.take(0, NOW), Step::Run(2, 'b'));
    for place in [0, 1] {
        finish(&mut roster, place);
        assert_eq!(roster.take(place, NOW), Step::Wait);
    }
    assert!(roster.leave(0));
    assert!(!roster.leave(1), "it is the last one");
    assert_eq!(
        roster.submit_next('c', false, 0, NOW),
        Ok((3, Summons::Wake(1)))
    );
}

#[test]
fn a_call_is_left_to_others_by_whom_there_is_no_room_for() {
    let mut roster = Roster::new(2, 0, 2);
    busy(&mut roster, 2);
    finish(&mut roster, 0);
    assert_eq!(roster.take(0, NOW), Step::Wait);
    // Woken for a call, it learns that it is too many.
    assert_eq!(
        roster.submit_next('a', false, 0, NOW),
        Ok((3, Summons::Wake(0)))
    );
    roster.resize(1);
    assert_eq!(roster.take(0, NOW), Step::Leave);
    assert_eq!(roster.summon(NOW), Summons::Nobody, "the other is busy");
    roster.resize(2);
    assert_eq!(roster.summon(NOW), Summons::Start(0));
    finish(&mut roster, 1);
    assert_eq!(roster.take(1, NOW), Step::Run(3, 'a'));
    assert_eq!(roster.take(0, NOW), Step::Wait);
}

#[test]
fn a_host_takes_async_calls_while_there_are_berths() {
    let mut roster = Roster::new(2, 0, 2);
    assert_eq!(
        roster.submit_next('a', true, 0, NOW),
        Ok((1, Summons::Start(0)))
    );
    assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
    assert_eq!(
        roster.submit_next('b', true, 0, NOW),
        Ok((2, Summons::Host(0)))
    );
    assert_eq!(roster.take_guest(0, NOW), Some((2, 'b')));
    assert_eq!(
        roster.submit_next('c', true, 0, NOW),
        Ok((3, Summons::Start(1))),
        "it is full"
    );
    assert_eq!(roster.take_guest(0, NOW), None);
    roster.done(0, 1);
    assert!(!roster.is_idle(0) && roster.running() == 1 && !roster.is_blocked());
    assert_eq!(roster.take_guest(0, NOW), Some((3, 'c')));
    assert_eq!(roster.take(1, NOW), Step::Wait);
    finish(&mut roster, 0);
    assert!(roster.is_idle(0));
}

#[test]
fn no_guest_goes_before_a_blocking_call_that_has_no_thread() {
    let mut roster = Roster::new(1, 0, 9);
    roster.submit_next('a', true, 0, NOW).unwrap();
    assert_eq!(roster.take(0, NOW), Step::Run(1, 'a'));
    assert_eq!(
        roster.submit_next('x', false, 0, NOW),
        Ok((2, Summons::Nobody))
    );
    assert_eq!(
        roster.submit_next('b', true, 0, NOW),
        Ok((3, Summons::Nobody))
    );
    assert_eq!(roster.take_guest(0, NOW), None);
    assert_eq!(
        roster.submit_next('c', true, 1, NOW),
        Ok((4, Summons::Host(0)))
    );
    assert_eq!(roster.take_guest(0, NOW), Some((4, 'c')), "it is urgent");
    finish(&mut roster, 0);
    assert_eq!(roster.take(0, NOW), Step::Run(2, 'x'));
    assert!(roster.is_blocked());
    assert_eq!(roster.host(), None);
}
