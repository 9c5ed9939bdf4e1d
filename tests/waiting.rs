//! Waiting for many handles at once, with what `futures` and tokio have for that: the first, the
//! first that fails, all, all within a time, each as it comes; and handles that change hands.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::future::{FutureExt, join_all, select, select_all, try_join_all};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use gate::{Gate, mark, pass};
use procpool::{ProcessPool, TaskError, TaskHandle, call};
use support::{PROMPTLY, everywhere, pool, soon};
use tokio::task::JoinSet;

fn pass_42(gate: String) -> u32 {
    pass(gate);
    42
}

fn fail(_: String) -> u32 {
    panic!("some error")
}

fn multiply(a: u32, b: u32) -> u32 {
    a * b
}

/// Handles that are cancelled, failed and successful.
async fn finished(pool: &ProcessPool, gate: &Gate) -> [TaskHandle<u32>; 3] {
    let failed = pool.submit(fail, String::new());
    let successful = pool.submit(|_: String| 42, String::new());
    assert!(soon(PROMPTLY, || failed.is_done() && successful.is_done()).await);
    let held: Vec<_> = (0..pool.workers())
        .map(|_| pool.submit(pass, gate.path()))
        .collect();
    assert!(soon(PROMPTLY, || held.iter().all(TaskHandle::is_running)).await);
    let cancelled = pool.submit(pass_42, gate.path());
    assert!(cancelled.cancel());
    // Room again for who comes after these.
    gate.open();
    join_all(held).await;
    [cancelled, failed, successful]
}

fn told(outcome: &Result<u32, TaskError>) -> String {
    match outcome {
        Ok(value) => value.to_string(),
        Err(error) if error.is_cancelled() => "cancelled".to_owned(),
        Err(error) => error.panic().unwrap().message().to_owned(),
    }
}

/// CF-070.
#[test]
fn a_waiter_is_woken_when_the_task_is_done_and_not_before() {
    everywhere(|method| async move {
        for works in [true, false] {
            let (gate, pool) = (Gate::new(), pool(1, method));
            let work: fn(String) -> u32 = if works {
                pass_42
            } else {
                |gate| {
                    pass(gate);
                    panic!("some error")
                }
            };
            let mut handle = pool.submit(work, gate.path());
            let waiter = tokio::spawn(async move {
                let outcome = handle.timeout(PROMPTLY).await;
                (outcome, Instant::now())
            });
            assert!(soon(PROMPTLY, || pool.stats().running() == 1).await);
            assert!(!waiter.is_finished());
            let opened = Instant::now();
            let elsewhere = std::thread::spawn(move || {
                gate.open();
                gate
            });
            let (outcome, woken) = waiter.await.unwrap();
            assert!(woken > opened);
            assert_eq!(told(&outcome), if works { "42" } else { "some error" });
            elsewhere.join().unwrap();
            pool.shutdown().await;
        }
    });
}

/// CF-076: a handle has one owner, so that none is waited for twice; who shares it shares the one
/// result of the one run.
#[test]
fn a_shared_handle_gives_each_waiter_the_result_of_the_one_run() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let work = |gate: String| {
            mark(&gate, &std::process::id().to_string());
            pass_42(gate)
        };
        let shared = pool.submit(work, gate.path()).shared();
        let both = join_all([shared.clone(), shared.clone()]);
        let other = tokio::spawn(shared);
        gate.open();
        let both: Vec<_> = both.await.into_iter().map(Result::unwrap).collect();
        assert_eq!((both, other.await.unwrap().unwrap()), (vec![42, 42], 42));
        assert_eq!((gate.marks().len(), pool.stats().submitted), (1, 1));
        pool.shutdown().await;
    });
}

/// CF-077.
#[test]
fn the_first_to_be_done_ends_the_wait_and_the_others_go_on() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let mut handles = [
            pool.submit(pass_42, gate.path()),
            pool.submit(|_: String| 7, String::new()),
        ];
        let (outcome, first, rest) = select_all(&mut handles).await;
        assert_eq!((outcome.unwrap(), first, rest.len()), (7, 1, 1));
        let [mut held, _] = handles;
        assert!(!held.is_done());

        // The same by `select!`, which drops what it does not take.
        let mut quick = pool.submit(|_: String| 8, String::new());
        let value = tokio::select! {
            outcome = &mut held => outcome,
            outcome = &mut quick => outcome,
        };
        assert_eq!(value.unwrap(), 8);
        assert!(!held.is_done() && !held.is_cancelled());
        gate.open();
        assert_eq!(held.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

/// CF-078.
#[test]
fn the_first_error_ends_the_wait_and_a_success_does_not() {
    everywhere(|method| async move {
        let (fails, holds, pool) = (Gate::new(), Gate::new(), pool(2, method));
        let mut quick = pool.submit(|_: String| 1, String::new());
        let fail = |gate: String| -> u32 {
            pass(gate);
            panic!("some error")
        };
        let mut failing = pool.submit(fail, fails.path());
        let mut held = pool.submit(pass_42, holds.path());
        let opens = async {
            // Not before the first one is done, and the wait for all goes on.
            assert!(soon(PROMPTLY, || pool.stats().completed == 1).await);
            fails.open();
        };
        let all = try_join_all([&mut quick, &mut failing, &mut held]);
        let (outcome, ()) = tokio::join!(all, opens);
        assert_eq!(
            outcome.unwrap_err().panic().unwrap().message(),
            "some error"
        );
        let done = [quick.is_done(), failing.is_done(), held.is_done()];
        assert_eq!(done, [true, true, false]);
        holds.open();
        assert_eq!(held.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

/// CF-079.
#[test]
fn a_wait_for_all_ends_with_the_last_whatever_became_of_the_others() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let [cancelled, failed, successful] = finished(&pool, &gate).await;
        let failing = pool.submit(fail, String::new());
        let multiplying = pool.submit_call(call!(multiply(6, 7)));
        let all = join_all([cancelled, failed, successful, failing, multiplying]).await;
        let all: Vec<_> = all.iter().map(told).collect();
        assert_eq!(all, ["cancelled", "some error", "42", "some error", "42"]);
        assert!(join_all(Vec::<TaskHandle<u32>>::new()).await.is_empty());
        pool.shutdown().await;
    });
}

/// CF-080.
#[test]
fn a_wait_for_all_can_have_a_limit_and_tells_done_from_pending() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let [cancelled, failed, successful] = finished(&pool, &gate).await;
        let gate = Gate::new();
        let held = pool.submit(pass_42, gate.path());
        let mut handles = [cancelled, failed, successful, held];
        let (limit, begun) = (Duration::from_millis(50), Instant::now());
        let mut all: FuturesUnordered<_> = handles
            .iter_mut()
            .enumerate()
            .map(|(n, handle)| handle.map(move |outcome| (n, told(&outcome))))
            .collect();
        let mut done = Vec::new();
        let collects = async {
            while let Some(one) = all.next().await {
                done.push(one);
            }
        };
        assert!(tokio::time::timeout(limit, collects).await.is_err());
        assert!(begun.elapsed() >= limit);
        drop(all);
        let expected = [(0, "cancelled"), (1, "some error"), (2, "42")];
        assert_eq!(done, expected.map(|(n, text)| (n, text.to_owned())));
        let [.., held] = handles;
        assert!(!held.is_done());
        gate.open();
        assert_eq!(held.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

/// CF-081.
#[test]
fn results_come_as_they_are_completed_each_once_and_the_finished_first() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let done = finished(&pool, &gate).await;
        let gate = Gate::new();
        let double = |gate: String| {
            pass(gate);
            2 * 21
        };
        let pending = [
            pool.submit(double, gate.path()),
            pool.submit(|_: String| 7 * 6, String::new()),
        ];
        let numbers = done.each_ref().map(TaskHandle::id);
        // Whatever can be iterated over will do.
        let each = pending.into_iter().chain(done);
        let mut all: FuturesUnordered<_> = each
            .map(|handle| {
                let number = handle.id();
                handle.map(move |outcome| (number, told(&outcome)))
            })
            .collect();
        let mut first = Vec::new();
        for _ in 0..3 {
            first.push(all.next().await.unwrap());
        }
        let expected = ["cancelled", "some error", "42"].map(str::to_owned);
        assert_eq!(first, numbers.into_iter().zip(expected).collect::<Vec<_>>());
        assert!(all.next().now_or_never().is_none());
        gate.open();
        let rest: Vec<_> = all.map(|(_, text)| text).collect().await;
        assert_eq!(rest, ["42", "42"]);
        pool.shutdown().await;
    });
}

/// CF-082.
#[test]
fn results_come_as_they_are_completed_until_time_is_up() {
    everywhere(|method| async move {
        for limit in [Duration::ZERO, Duration::from_millis(100)] {
            let (gate, pool) = (Gate::new(), pool(1, method));
            let done = finished(&pool, &gate).await;
            let gate = Gate::new();
            let mut held = pool.submit(pass_42, gate.path());
            let mut all = FuturesUnordered::new();
            all.push((&mut held).boxed());
            for handle in done {
                all.push(handle.boxed());
            }
            let deadline = tokio::time::Instant::now() + limit;
            let mut yielded = Vec::new();
            let error = loop {
                match tokio::time::timeout_at(deadline, all.next()).await {
                    Ok(Some(outcome)) => yielded.push(told(&outcome)),
                    Ok(None) => panic!("the held one is done"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.to_string(), "deadline has elapsed");
            assert!(tokio::time::Instant::now() >= deadline);
            assert_eq!(yielded, ["cancelled", "some error", "42"], "{limit:?}");
            drop(all);
            assert!(!held.is_done());
            gate.open();
            assert_eq!(held.await.unwrap(), 42);
            pool.shutdown().await;
        }
    });
}

/// All results in the order of submission, whichever comes first.
#[test]
fn ordered_and_buffered_waits_keep_the_order() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let nap = |n: u64| {
            std::thread::sleep(Duration::from_millis(n % 3));
            n
        };
        let ordered: FuturesOrdered<_> = (0..30).map(|n| pool.submit(nap, n)).collect();
        let ordered: Vec<_> = ordered.map(Result::unwrap).collect().await;
        assert_eq!(ordered, (0..30).collect::<Vec<_>>());
        // As futures that are made and polled a few at a time.
        let few = futures::stream::iter(0..30).map(|n| pool.run(nap, n));
        let few: Vec<_> = few.buffered(3).map(Result::unwrap).collect().await;
        assert_eq!(few, ordered);
        pool.shutdown().await;
    });
}

/// A handle is a future that owns what it needs.
#[test]
fn handles_go_into_tasks_and_sets_of_tasks() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let mut set: JoinSet<_> = (0..40_u32).map(|n| pool.submit(|n: u32| n, n)).collect();
        let mut sum = 0;
        while let Some(outcome) = set.join_next().await {
            sum += outcome.unwrap().unwrap();
        }
        assert_eq!(sum, (0..40).sum::<u32>());
        // Tasks that are aborted drop their handles, which detaches what those stand for.
        let gate = Gate::new();
        let held: JoinSet<_> = (0..2).map(|_| pool.submit(pass_42, gate.path())).collect();
        assert!(soon(PROMPTLY, || pool.stats().running() == 2).await);
        drop(held);
        gate.open();
        pool.shutdown().await;
        assert_eq!((pool.stats().completed, pool.stats().cancelled), (42, 0));
    });
}

struct CountsWakes(AtomicUsize);

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Who polled last is the one that is woken.
#[test]
fn a_handle_that_changes_hands_wakes_its_last_owner() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let mut handle = pool.submit(pass_42, gate.path());
        let counts = [(); 2].map(|()| Arc::new(CountsWakes(AtomicUsize::new(0))));
        for count in &counts {
            let waker = Waker::from(count.clone());
            let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        // A poll that wants no news takes the place of both.
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let owner = tokio::spawn(async move {
            let mut handle: TaskHandle<u32> = receiver.await.unwrap();
            (&mut handle).await
        });
        assert!(sender.send(handle).is_ok());
        gate.open();
        assert_eq!(owner.await.unwrap().unwrap(), 42);
        assert_eq!(counts.map(|count| count.0.load(Ordering::SeqCst)), [0, 0]);
        pool.shutdown().await;
    });
}

/// A wait that loses is dropped in the middle of its poll's consequences.
#[test]
fn thousands_of_waits_that_are_given_up_lose_nothing() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let mut handle = pool.submit(pass_42, gate.path());
        for round in 0..2_000 {
            if round % 2 == 0 {
                assert!((&mut handle).now_or_never().is_none());
            } else {
                let turn = Box::pin(tokio::task::yield_now());
                let first = select(&mut handle, turn).await;
                assert!(matches!(first, futures::future::Either::Right(_)));
            }
        }
        gate.open();
        assert_eq!(handle.await.unwrap(), 42);
        pool.shutdown().await;
    });
}

/// Polling again what has given its result is a mistake, and is told as one.
#[test]
fn a_handle_gives_its_result_once_and_panics_after_that() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let mut handle = pool.submit(|n: u32| n, 7);
        assert_eq!((&mut handle).await.unwrap(), 7);
        assert!(handle.is_done() && handle.result().is_none());
        assert!(!handle.cancel() && !handle.abort());
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut context = Context::from_waker(Waker::noop());
            matches!(Pin::new(&mut handle).poll(&mut context), Poll::Ready(_))
        }));
        assert!(again.is_err());
        assert_eq!(pool.submit(|n: u32| n, 8).await.unwrap(), 8);
        pool.shutdown().await;
    });
}
