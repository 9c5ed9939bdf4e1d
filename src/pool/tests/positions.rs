//! A worker dies at each of eleven positions in each of five ways: fifty-five cells.

use std::time::Duration;

use super::{LIMIT, Subject, first, one_more, with_every_method};
use crate::pool::error::TaskError;
use crate::process::StartMethod;
use crate::worker::stand_in::script::{Manner, Position, Script};

/// What becomes of the first call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is run by another worker.
    Elsewhere,
    /// The stub's response counts.
    Answered,
    /// It is lost with the stub.
    Lost,
    /// It runs longer than it may.
    TooLong,
}

fn fate(position: Position, manner: Manner) -> Fate {
    use Position::*;
    match (position, manner) {
        (BeforeHello | AfterHello | InInit | BeforeRead | MidRead | BeforeRun, _) => {
            Fate::Elsewhere
        }
        (InRun, Manner::Stop) => Fate::TooLong,
        (InRun | BeforeWrite, _) => Fate::Lost,
        (MidWrite | AfterWrite | AtExit, _) => Fate::Answered,
    }
}

/// Runs the cells of one position, those of one start method side by side.
async fn die_at(position: Position) {
    with_every_method(|method| async move {
        let cells = Manner::ALL.map(|manner| die(position, manner, method));
        futures::future::join_all(cells).await;
    })
    .await;
}

async fn die(position: Position, manner: Manner, method: StartMethod) {
    let script = Script::Die(position, manner);
    let subject = Subject::new(script.for_the_first(), method, |builder| {
        builder
            .handshake_timeout(Duration::from_secs(3))
            .start_timeout(Duration::from_secs(4))
            .task_timeout(Duration::from_secs(4))
    });
    let cell = format!("{script:?} {method}");
    if position == Position::AtExit {
        let call = subject.in_time(subject.pool.submit(one_more, 10)).await;
        assert_eq!(call.expect(&cell), 10, "{cell}");
        return subject.ends().await;
    }
    let (call, next) = subject.two_calls().await;
    match (fate(position, manner), call) {
        (Fate::Elsewhere, Ok(11)) | (Fate::Answered, Ok(10)) => {}
        (Fate::Lost, Err(error)) => check_loss(&error, manner, &cell),
        (Fate::TooLong, Err(error)) if error.is_timeout() && !error.is_elapsed() => {}
        (fate, call) => panic!("{cell}: {call:?} instead of {fate:?}"),
    }
    assert_eq!(next.expect(&cell), 21, "{cell}");
    subject.goes_on(2).await;
}

fn check_loss(error: &TaskError, manner: Manner, cell: &str) {
    assert!(error.is_worker_lost(), "{cell}: {error}");
    assert!(error.maybe_executed(), "{cell}: {error}");
    let exit = error.worker_exit().expect("an exit");
    match manner {
        Manner::Kill => assert_eq!(exit.exit().signal(), Some(libc::SIGKILL), "{cell}: {exit}"),
        Manner::Abort => assert_eq!(exit.exit().signal(), Some(libc::SIGABRT), "{cell}: {exit}"),
        Manner::Exit => assert_eq!(exit.exit().code(), Some(0), "{cell}: {exit}"),
        // It was of no use any more and was killed for that.
        Manner::Stop | Manner::Close => {
            assert_eq!(exit.exit().signal(), Some(libc::SIGKILL), "{cell}: {exit}");
            assert!(exit.violation().is_some(), "{cell}: {exit}");
        }
    }
}

macro_rules! positions {
    ($($test:ident: $position:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            die_at(Position::$position).await;
        }
    )*};
}

positions! {
    a_worker_that_dies_before_its_hello_costs_no_call: BeforeHello;
    a_worker_that_dies_after_its_hello_costs_no_call: AfterHello;
    a_worker_that_dies_before_it_is_ready_costs_no_call: InInit;
    a_worker_that_dies_before_it_reads_a_call_does_not_cost_it: BeforeRead;
    a_worker_that_dies_while_it_reads_a_call_does_not_cost_it: MidRead;
    a_worker_that_dies_before_it_runs_a_call_does_not_cost_it: BeforeRun;
    a_worker_that_dies_while_it_runs_a_call_costs_that_call: InRun;
    a_worker_that_dies_before_its_response_is_visible_costs_that_call: BeforeWrite;
    a_response_of_which_half_was_written_is_delivered: MidWrite;
    a_response_that_was_written_is_delivered: AfterWrite;
    a_worker_that_dies_when_it_is_to_leave_holds_nothing_up: AtExit;
}

/// When no worker gets beyond its start, the pool is broken and says how they failed.
#[tokio::test]
async fn workers_that_all_die_at_their_start_break_the_pool() {
    let at_start = &Position::ALL[..3];
    with_every_method(|method| async move {
        let cells = at_start.iter().flat_map(|&position| {
            let manners = Manner::ALL.into_iter();
            manners.map(move |manner| break_at(position, manner, method))
        });
        futures::future::join_all(cells).await;
    })
    .await;
}

async fn break_at(position: Position, manner: Manner, method: StartMethod) {
    let script = Script::Die(position, manner);
    // The fork server must be ready in the first of the two times.
    let subject = Subject::new(script.for_all(), method, |builder| {
        builder
            .handshake_timeout(Duration::from_secs(5))
            .start_timeout(Duration::from_millis(1500))
    });
    let cell = format!("{script:?} {method}");
    let (call, next) = subject.two_calls().await;
    for error in [call.expect_err(&cell), next.expect_err(&cell)] {
        assert!(
            error.is_broken() && !error.maybe_executed(),
            "{cell}: {error}"
        );
    }
    let refused = subject.in_time(subject.pool.submit(one_more, 30)).await;
    assert!(refused.expect_err(&cell).is_broken(), "{cell}");
    let reason = subject
        .in_time(subject.pool.ready())
        .await
        .expect_err(&cell);
    let exit = reason.exit();
    match manner {
        Manner::Kill => assert_eq!(exit.and_then(|exit| exit.signal()), Some(libc::SIGKILL)),
        Manner::Abort => assert_eq!(exit.and_then(|exit| exit.signal()), Some(libc::SIGABRT)),
        Manner::Exit => assert_eq!(exit.and_then(|exit| exit.code()), Some(0)),
        Manner::Stop | Manner::Close => assert!(reason.is_timeout(), "{cell}: {reason}"),
    }
    assert_eq!(subject.pool.stats().workers_started, 5, "{cell}");
    subject.ends().await;
}

/// Many calls behind a worker that dies: each has the outcome that is its own.
#[tokio::test]
async fn the_calls_behind_a_death_are_all_run() {
    with_every_method(|method| async move {
        let subject = first(Script::Die(Position::InRun, Manner::Kill), method);
        let calls: Vec<_> = (0..50).map(|n| subject.pool.submit(one_more, n)).collect();
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(tokio::time::timeout(LIMIT, call).await.expect("in time"));
        }
        assert!(outcomes[0].as_ref().is_err_and(TaskError::is_worker_lost));
        for (n, outcome) in outcomes.into_iter().enumerate().skip(1) {
            assert_eq!(outcome.unwrap(), n as u64 + 1);
        }
        subject.goes_on(2).await;
    })
    .await;
}
