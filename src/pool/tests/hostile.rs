//! A worker breaks the protocol: it is replaced, the call that it runs fails, its exit says why,
//! and nothing else happens.

use std::time::Duration;

use futures::StreamExt;

use super::{Subject, first, one_more, with_every_method};
use crate::pool::error::WorkerExit;
use crate::process::StartMethod;
use crate::task::Progress;
use crate::worker::stand_in::script::{Lie, Script};

/// A lie for which the worker is killed: `violation` is a part of what is said of it.
async fn is_found_out(lie: Lie, violation: &str, method: StartMethod) {
    let subject = first(Script::Lie(lie), method);
    let (call, next) = subject.two_calls().await;
    let error = call.expect_err("a lost call");
    assert!(error.is_worker_lost(), "{lie:?} {method}: {error}");
    let exit = error.worker_exit().expect("an exit");
    assert_eq!(exit.exit().signal(), Some(libc::SIGKILL), "{lie:?}: {exit}");
    let found = exit.violation().unwrap_or_default();
    assert!(found.contains(violation), "{lie:?} {method}: {exit}");
    assert_eq!(next.expect("the next call"), 21, "{lie:?} {method}");
    subject.goes_on(2).await;
}

macro_rules! lies {
    ($($test:ident: $lie:ident, $violation:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            with_every_method(|method| is_found_out(Lie::$lie, $violation, method)).await;
        }
    )*};
}

lies! {
    bytes_that_are_no_frame_are_found_out: Garbage, "no frame begins with";
    a_frame_longer_than_any_may_be_is_found_out: HugeLength, "is announced where";
    an_answer_to_a_call_never_given_is_found_out: StrangerCall, "does not have";
    an_answer_under_another_ticket_is_found_out: OtherTicket, "does not have";
    an_answer_with_another_number_is_found_out: OtherCall, "under another's ticket";
    a_second_hello_is_found_out: HelloAgain, "out of turn";
    a_request_from_a_worker_is_found_out: Request, "out of turn";
    a_panic_that_says_nothing_is_found_out: NonsensePanic, "says nothing";
    a_length_that_says_nothing_is_found_out: NonsenseLength, "says nothing";
    an_update_of_a_call_that_makes_none_is_found_out: Updates, "has none";
    a_call_passed_by_unasked_is_found_out: PassedUnasked, "not asked";
}

/// Without the feature `tracing` nobody is asked for records, and with it they say something.
#[tokio::test]
async fn a_record_that_says_nothing_is_found_out() {
    let violation = match cfg!(feature = "tracing") {
        true => "says nothing",
        false => "out of turn",
    };
    with_every_method(|method| is_found_out(Lie::NonsenseRecord, violation, method)).await;
}

/// What it was granted arrives; with the first update beyond that it is over.
#[tokio::test]
async fn more_updates_than_were_granted_are_found_out() {
    with_every_method(|method| async move {
        let subject = first(Script::Lie(Lie::Updates), method);
        let task = |n: u64, _: Progress<u64>| n + 1;
        let task = subject.pool.task_with_progress(task).buffer(2);
        let (call, updates) = task.submit(10);
        let error = subject.in_time(call).await.expect_err("a lost call");
        let violation = error.worker_exit().and_then(WorkerExit::violation);
        let violation = violation.unwrap_or_default();
        assert!(violation.contains("more updates"), "{method}: {error}");
        let updates: Vec<_> = subject.in_time(updates.collect()).await;
        let [Ok(10), Ok(10)] = &*updates else {
            panic!("{method}: {updates:?}");
        };
        subject.goes_on(2).await;
    })
    .await;
}

/// The first answer counts; the second is nobody's.
#[tokio::test]
async fn a_call_answered_twice_has_its_first_answer() {
    with_every_method(|method| async move {
        let subject = first(Script::Lie(Lie::TwiceAnswered), method);
        let (call, next) = subject.two_calls().await;
        assert_eq!(call.expect("the first answer"), 10, "{method}");
        assert_eq!(next.expect("the next call"), 21, "{method}");
        subject.goes_on(2).await;
    })
    .await;
}

/// A frame of nearly 4 GiB is announced where that is allowed, and does not come.
#[tokio::test]
async fn a_promise_of_much_costs_no_memory() {
    with_every_method(|method| async move {
        let script = Script::Lie(Lie::HugePromise);
        let subject = Subject::new(script.for_the_first(), method, |builder| {
            builder
                .max_frame(u32::MAX as usize - 64 * 1024)
                .task_timeout(Duration::from_secs(2))
        });
        let before = resident_kib();
        let (call, next) = subject.two_calls().await;
        assert!(call.expect_err("no answer").is_timeout(), "{method}");
        assert_eq!(next.expect("the next call"), 21, "{method}");
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 256 * 1024, "{method}: {grown} KiB");
        subject.goes_on(2).await;
    })
    .await;
}

/// The most memory that this process ever had.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number of KiB")
}

/// Another build cannot be talked to, and no other try will change that.
#[tokio::test]
async fn a_worker_of_another_build_breaks_the_pool_at_once() {
    with_every_method(|method| async move {
        for lie in [Lie::OtherBuild, Lie::OtherProtocol] {
            let subject = first(Script::Lie(lie), method);
            let (call, next) = subject.two_calls().await;
            for error in [call.expect_err("no worker"), next.expect_err("no worker")] {
                assert!(error.is_broken(), "{lie:?} {method}: {error}");
                assert!(!error.maybe_executed(), "{lie:?} {method}: {error}");
            }
            let reason = subject.in_time(subject.pool.ready()).await;
            assert!(reason.expect_err("no worker").is_mismatch(), "{lie:?}");
            assert_eq!(subject.pool.stats().workers_started, 1, "{lie:?} {method}");
            subject.ends().await;
        }
    })
    .await;
}

/// A greeting that is none costs a start and no call.
#[tokio::test]
async fn a_worker_that_does_not_say_hello_is_replaced() {
    with_every_method(|method| async move {
        for lie in [Lie::NonsenseHello, Lie::NoHello] {
            let subject = first(Script::Lie(lie), method);
            let (call, next) = subject.two_calls().await;
            assert_eq!(call.expect("another worker"), 11, "{lie:?} {method}");
            assert_eq!(next.expect("the next call"), 21, "{lie:?} {method}");
            subject.goes_on(2).await;
        }
    })
    .await;
}

/// Whatever a dead worker's page says, only its own call is affected.
#[tokio::test]
async fn a_page_full_of_nonsense_costs_one_call() {
    with_every_method(|method| async move {
        for lie in [Lie::WildPage, Lie::WildOutbox] {
            for _ in 0..5 {
                let subject = first(Script::Lie(lie), method);
                let (call, next) = subject.two_calls().await;
                let error = call.expect_err("a lost call");
                assert!(error.is_worker_lost(), "{lie:?} {method}: {error}");
                assert_eq!(next.expect("the next call"), 21, "{lie:?} {method}");
                subject.goes_on(2).await;
            }
        }
    })
    .await;
}

/// A frame that breaks off is no answer.
#[tokio::test]
async fn a_torn_response_costs_its_call() {
    with_every_method(|method| async move {
        for (lie, code, signal) in [
            (Lie::HalfFrame, Some(0), None),
            (Lie::TornFrame, None, Some(libc::SIGKILL)),
        ] {
            let subject = first(Script::Lie(lie), method);
            let (call, next) = subject.two_calls().await;
            let error = call.expect_err("a lost call");
            assert!(error.is_worker_lost(), "{lie:?} {method}: {error}");
            let exit = error.worker_exit().expect("an exit").exit();
            assert_eq!((exit.code(), exit.signal()), (code, signal), "{lie:?}");
            assert_eq!(next.expect("the next call"), 21, "{lie:?} {method}");
            subject.goes_on(2).await;
        }
    })
    .await;
}

/// A stub does not disturb the pool beside it.
#[tokio::test]
async fn another_pool_does_not_notice() {
    with_every_method(|method| async move {
        let healthy = Subject::new("healthy".to_owned(), method, |builder| builder);
        for lie in [Lie::Garbage, Lie::WildPage, Lie::StrangerCall] {
            let subject = first(Script::Lie(lie), method);
            let (hit, well) = futures::future::join(
                subject.two_calls(),
                healthy.in_time(healthy.pool.submit(one_more, 1)),
            )
            .await;
            assert!(hit.0.is_err() && hit.1.is_ok(), "{lie:?} {method}");
            assert_eq!(well.expect("a healthy pool"), 2, "{lie:?} {method}");
            subject.goes_on(2).await;
        }
        healthy.goes_on(1).await;
    })
    .await;
}
