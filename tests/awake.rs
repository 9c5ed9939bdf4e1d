//! Short calls one after another, whose callers wait for the answers awake, and workers that wait so
//! for calls: results, endings and deaths are what they are where everybody sleeps.

#[path = "support/deeds.rs"]
mod deeds;
mod support;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use deeds::{Misdeed, commit, send};
use procpool::{ProcessPool, ProcessPoolBuilder, StartMethod};
use serde::{Deserialize, Serialize};
use support::{PROMPTLY, builder, everywhere, is_alive, runtime, scene, soon};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Deed {
    /// Return so many bytes.
    Give(usize),
    /// Take so long.
    Last(Duration),
    End(Misdeed),
}

/// One function for all, because it is by the function that a pool knows what is short.
fn act(deed: Deed) -> String {
    match deed {
        Deed::Give(size) => return "x".repeat(size),
        Deed::Last(time) => thread::sleep(time),
        Deed::End(misdeed) => commit(misdeed),
    }
    String::new()
}

/// A pool as it is by default, then one in which both sides wait awake, for much longer than a call
/// takes.
fn in_both_modes<F: Future<Output = ()>>(test: impl Fn(ProcessPool) -> F) {
    let awake = |builder: ProcessPoolBuilder| builder.busy_poll(Duration::from_millis(20));
    everywhere(|method| test(builder(1, method).build().unwrap()));
    everywhere(|method| test(awake(builder(1, method)).build().unwrap()));
}

/// So many calls that are short, one after another.
async fn talk(pool: &ProcessPool, calls: usize) {
    for _ in 0..calls {
        assert_eq!(pool.submit(act, Deed::Give(3)).await.unwrap(), "xxx");
    }
}

/// Polls once.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// An executor that knows nothing of tokio's.
fn wait(future: impl Future<Output = ()>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    while future
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
    {
        thread::park();
    }
}

/// Also those whose answers are larger than what the page has room for.
#[test]
fn answers_of_every_size_are_whole() {
    in_both_modes(|pool| async move {
        for round in 0..2_000_usize {
            let size = match round % 200 {
                0 => 100_000 + round,
                _ => round * 31 % 900,
            };
            let given = pool.submit(act, Deed::Give(size)).await.unwrap();
            assert_eq!(given.len(), size);
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_worker_that_dies_costs_the_call_that_it_ran() {
    in_both_modes(|pool| async move {
        for misdeed in [Misdeed::ExitAtOnce(3), Misdeed::Abort].repeat(5) {
            talk(&pool, 50).await;
            let error = pool.submit(act, Deed::End(misdeed)).await.unwrap_err();
            assert!(error.is_worker_lost(), "{error:#}");
        }
        talk(&pool, 50).await;
        pool.shutdown().await;
    });
}

/// After every number of microseconds that a caller may be awake.
#[test]
fn who_gives_up_waiting_loses_nothing() {
    in_both_modes(|pool| async move {
        for micros in (0..60).chain(0..60) {
            talk(&pool, 10).await;
            let mut handle = pool.submit(act, Deed::Give(7));
            let limit = Duration::from_micros(micros);
            match tokio::time::timeout(limit, &mut handle).await {
                Ok(given) => assert_eq!(given.unwrap().len(), 7),
                Err(_) => assert_eq!(handle.await.unwrap().len(), 7),
            }
            // What is polled once and dropped goes on by itself.
            let _ = once(&mut pool.submit(act, Deed::Give(1))).await;
        }
        pool.shutdown().await;
    });
}

/// What was short may be long at any time.
#[test]
fn a_call_that_takes_longer_than_expected_is_waited_for_and_can_be_ended() {
    in_both_modes(|pool| async move {
        for round in 0..10 {
            // So many that it is believed again that they are short.
            talk(&pool, 80).await;
            let length = Duration::from_millis(round);
            let mut long = pool.submit(act, Deed::Last(length));
            if once(&mut long).await.is_ready() {
                continue;
            }
            if round % 2 == 0 {
                assert_eq!(long.await.unwrap(), "");
            } else {
                let ended = long.abort();
                assert_eq!(long.await.is_err(), ended);
            }
        }
        pool.shutdown().await;
    });
}

/// At any moment of its wait, which is short after a call and long after the last one.
#[test]
fn a_worker_that_is_killed_while_it_waits_awake_is_replaced() {
    in_both_modes(|pool| async move {
        for round in 0..12 {
            talk(&pool, 20).await;
            let pid = pool.stats().workers[0].pid;
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            assert!(send(pid, libc::SIGKILL));
            assert!(soon(PROMPTLY, || !is_alive(pid)).await);
        }
        talk(&pool, 1).await;
        pool.shutdown().await;
    });
}

/// It leaves at once, and does not go on looking for calls.
#[test]
fn a_pool_is_shut_down_while_its_workers_wait_awake() {
    everywhere(|method| async move {
        let longest = builder(2, method).busy_poll(Duration::from_secs(1));
        let pool = longest.build().unwrap();
        talk(&pool, 20).await;
        pool.shutdown().await;
    });
}

#[test]
fn nobody_waits_awake_for_longer_than_a_second() {
    let second = Duration::from_secs(1);
    let builder = || builder(1, StartMethod::ForkServer);
    let error = builder()
        .busy_poll(second + Duration::from_nanos(1))
        .build();
    assert!(error.unwrap_err().to_string().contains("busy polling"));
    drop(builder().busy_poll(Duration::ZERO).build().unwrap());
}

static TURNS: AtomicU32 = AtomicU32::new(0);

/// They have their turns on the same thread, however many calls are made there.
#[test]
fn other_tasks_of_the_runtime_go_on() {
    let scene = scene();
    let runtime = runtime(1);
    runtime.block_on(async {
        let pool = builder(1, StartMethod::ForkServer).build().unwrap();
        talk(&pool, 50).await;
        let other = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
                TURNS.fetch_add(1, Ordering::Relaxed);
            }
        });
        let before = TURNS.load(Ordering::Relaxed);
        // No machine makes them in less than five milliseconds, and there is a turn in less than
        // a tenth of one.
        talk(&pool, 5_000).await;
        assert!(TURNS.load(Ordering::Relaxed) - before >= 50);
        other.abort();
        pool.shutdown().await;
    });
    drop(runtime);
    drop(scene);
}

/// On a thread of the runtime's and on one of its own; and none at all.
#[test]
fn an_executor_of_another_make_ends() {
    let scene = scene();
    let runtime = runtime(2);
    let pool = runtime.block_on(async { builder(1, StartMethod::ForkServer).build().unwrap() });
    let talks = {
        let pool = pool.clone();
        move || wait(talk(&pool, 300))
    };
    let inside = talks.clone();
    runtime.block_on(async { tokio::spawn(async move { inside() }).await.unwrap() });
    thread::spawn(talks).join().unwrap();
    for size in 0..300 {
        let given = pool.submit(act, Deed::Give(size)).blocking_wait(None);
        assert_eq!(given.unwrap().len(), size);
    }
    runtime.block_on(pool.shutdown());
    drop((pool, runtime));
    drop(scene);
}
