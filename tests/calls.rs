//! What can be asked of single calls and what can go wrong with them: time limits, bounded queues,
//! names, arguments and results that are large or cannot be carried.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::error::Error;
use std::fs;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use gate::{Gate, mark, pass};
use procpool::{StartMethod, TaskError, WorkerState, call};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{PROMPTLY, builder, everywhere, is_alive, pool, soon};

fn pid<T>(_: T) -> u32 {
    std::process::id()
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

fn reason(error: &TaskError) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// CF-034.
#[test]
fn a_panic_says_what_and_where() {
    everywhere(|method| async move {
        let pool = builder(1, method)
            .env("RUST_BACKTRACE", "1")
            .build()
            .unwrap();
        let line = line!() + 1;
        let failing = pool.submit(|payload: u32| -> u32 { panic!("payload {payload}") }, 123);
        let error = failing.await.unwrap_err();
        let panic = error.panic().unwrap();
        assert_eq!(panic.message(), "payload 123");
        let place = panic.location().unwrap();
        assert!(place.contains(&format!("calls.rs:{line}:")), "{place}");
        assert!(
            panic
                .backtrace()
                .is_some_and(|trace| trace.contains("calls"))
        );
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.contains("payload 123") && source.contains(place),
            "{source}"
        );
        assert_eq!(error.to_string(), "task panicked: payload 123");
        assert_eq!(format!("{error:#}"), format!("task panicked: {source}"));
        pool.shutdown().await;
    });
}

/// CF-046, CF-047.
#[test]
fn a_task_that_runs_too_long_is_ended_with_its_worker() {
    everywhere(|method| async move {
        let limit = Duration::from_millis(100);
        let gate = Gate::new();
        let pool = pool(1, method);
        let before = pool.submit(pid, ()).await.unwrap();
        let begun = Instant::now();
        let endless = pool.task(pass).timeout(limit).submit(gate.path());
        let error = endless.await.unwrap_err();
        assert!(begun.elapsed() >= limit - Duration::from_millis(5));
        assert!(begun.elapsed() < PROMPTLY);
        assert!(error.is_timeout() && !error.is_elapsed() && error.maybe_executed());
        let after = pool.submit(pid, ()).await.unwrap();
        assert_ne!(before, after);
        assert!(soon(PROMPTLY, || !is_alive(before)).await);
        let quick = pool.task(|n: u32| n).timeout(PROMPTLY).submit(5);
        assert_eq!(quick.await.unwrap(), 5);
        assert_eq!(pool.stats().timed_out, 1);
        pool.shutdown().await;
    });
}

/// CF-046.
#[test]
fn a_limit_of_the_whole_pool_holds_unless_the_call_has_its_own() {
    everywhere(|method| async move {
        let limit = Duration::from_millis(100);
        let gate = Gate::new();
        let pool = builder(2, method).task_timeout(limit).build().unwrap();
        let own = pool.task(pass).timeout(PROMPTLY * 3).submit(gate.path());
        assert!(soon(PROMPTLY, || own.is_running()).await);
        let error = pool.submit(pass, gate.path()).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(pool.submit(|n: u32| n, 42).await.unwrap(), 42);
        gate.open();
        own.await.unwrap();
        pool.shutdown().await;
        let zero = builder(1, method).task_timeout(Duration::ZERO).build();
        assert!(zero.unwrap_err().is_invalid_argument());
    });
}

/// CF-048.
#[test]
fn the_clock_of_a_task_starts_with_the_task() {
    everywhere(|method| async move {
        let limit = Duration::from_millis(400);
        let gate = Gate::new();
        let pool = pool(1, method);
        let held = pool.submit(pass, gate.path());
        let queued: Vec<_> = (0..3)
            .map(|n| pool.task(|n: u32| n).timeout(limit).submit(n))
            .collect();
        let begun = Instant::now();
        assert!(soon(PROMPTLY, || begun.elapsed() > limit).await);
        gate.open();
        held.await.unwrap();
        for (n, handle) in (0..).zip(queued) {
            assert_eq!(handle.await.unwrap(), n);
        }
        pool.shutdown().await;
    });
}

/// The time that a task may wait is not the time that it may run.
#[test]
fn a_task_that_waits_too_long_is_given_up_and_never_runs() {
    everywhere(|method| async move {
        let limit = Duration::from_millis(50);
        let gate = Gate::new();
        let pool = pool(1, method);
        let hurried = pool.task(pass).queue_timeout(limit).submit(gate.path());
        assert!(soon(PROMPTLY, || hurried.is_running() || hurried.is_done()).await);
        // A machine that is very busy may take longer than that for the first worker.
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || hurried.is_running() || held.is_running()).await);
        let ran = |gate: String| mark(&gate, "ran");
        let begun = Instant::now();
        let late = pool.task(ran).queue_timeout(limit).submit(gate.path());
        let error = late.await.unwrap_err();
        assert!(begun.elapsed() >= limit - Duration::from_millis(5));
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        gate.open();
        held.await.unwrap();
        pool.shutdown().await;
        assert!(gate.marks().is_empty());
    });
}

/// What a task learns of itself.
#[test]
fn a_task_knows_its_number_its_name_and_its_deadline() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let ask = |()| {
            let task = procpool::task::current().unwrap();
            let left = task.deadline().map(|at| at.duration_since(Instant::now()));
            let name = task.name().map(str::to_owned);
            (task.id(), name, task.attempt(), left, task.is_cancelled())
        };
        let plain = pool.submit(ask, ());
        let number = plain.id();
        assert_eq!(plain.await.unwrap(), (number, None, 1, None, false));
        let limit = Duration::from_secs(30);
        let named = pool.task(ask).name("n\u{E4}me").timeout(limit).submit(());
        let number = named.id();
        let (id, name, attempt, left, cancelled) = named.await.unwrap();
        assert_eq!((id, attempt, cancelled), (number, 1, false));
        assert_eq!(name.as_deref(), Some("n\u{E4}me"));
        assert!(left.is_some_and(|left| left <= limit && left > limit - PROMPTLY));
        let (_, name, ..) = pool
            .task(ask)
            .name("\u{E4}".repeat(2000))
            .submit(())
            .await
            .unwrap();
        assert_eq!(name.unwrap().len(), 1024);
        assert!(procpool::task::current().is_none());
        pool.shutdown().await;
    });
}

/// A full queue.
#[test]
fn a_bounded_queue_refuses_and_hands_the_argument_back() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(1, method).max_pending(2).build().unwrap();
        let held = pool.submit(pass, gate.path());
        let waiting = [
            pool.submit(|text: String| text, "first".to_owned()),
            pool.try_submit(|text: String| text, "second".to_owned())
                .unwrap(),
        ];
        let refused = pool
            .try_submit(|text: String| text, "mine".to_owned())
            .unwrap_err();
        assert!(refused.is_queue_full() && !refused.is_shut_down());
        assert!(
            refused.to_string().contains("max_pending is 2"),
            "{refused}"
        );
        assert_eq!(refused.into_argument(), "mine");
        let unheard = pool.submit(pid, ());
        assert!(unheard.is_done());
        assert_eq!(unheard.id(), 0);
        let error = unheard.await.unwrap_err();
        assert!(error.is_queue_full() && !error.maybe_executed());
        // `run` waits for the room instead.
        let mut patient = Box::pin(pool.run(|text: String| text, "patient".to_owned()));
        assert!(poll_once(&mut patient).await.is_pending());
        gate.open();
        assert_eq!(patient.await.unwrap(), "patient");
        held.await.unwrap();
        for handle in waiting {
            handle.await.unwrap();
        }
        pool.try_submit(pid, ()).unwrap().await.unwrap();
        pool.close();
        let refused = pool
            .try_submit(|text: String| text, "late".to_owned())
            .unwrap_err();
        assert!(refused.is_shut_down());
        assert_eq!(refused.into_parts().1, "late");
        assert!(pool.run(pid, ()).await.unwrap_err().is_shut_down());
        pool.shutdown().await;
    });
}

/// CF-075: the form that cancels.
#[test]
fn a_run_that_is_dropped_ends_its_work_or_gives_up_its_place() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(1, method).max_pending(0).build().unwrap();
        let work = |gate: String| {
            mark(&gate, &std::process::id().to_string());
            pass(gate);
        };
        let mut running = Box::pin(pool.run(work, gate.path()));
        assert!(poll_once(&mut running).await.is_pending());
        assert!(soon(PROMPTLY, || gate.marks().len() == 1).await);
        let worker: u32 = gate.marks()[0].parse().unwrap();
        // This one waits for room, is dropped, and never gets it.
        let mut queued = Box::pin(pool.run(work, gate.path()));
        assert!(poll_once(&mut queued).await.is_pending());
        drop(queued);
        drop(running);
        assert!(soon(PROMPTLY, || !is_alive(worker)).await);
        assert_eq!(pool.run(|n: u32| n, 3).await.unwrap(), 3);
        assert_eq!(gate.marks().len(), 1);
        assert_eq!((pool.stats().cancelled, pool.stats().submitted), (1, 2));
        pool.shutdown().await;
    });
}

/// Each call takes its part of the room, and gives it back however it ends.
#[test]
fn room_is_given_back_whatever_becomes_of_who_took_it() {
    everywhere(|method| async move {
        let pool = builder(2, method)
            .max_pending(3)
            .max_frame(1000)
            .build()
            .unwrap();
        let ends = |(how, gate): (u32, String)| match how % 4 {
            0 => panic!("meant"),
            1 => std::process::exit(1),
            2 => pass(gate),
            _ => {}
        };
        for round in 0..24 {
            let gate = Gate::new();
            let mut runs = Vec::new();
            // Some run, some wait in the line and some for room when they are dropped.
            for n in 0..8 {
                let mut run = Box::pin(pool.run(ends, (round + n, gate.path())));
                if poll_once(&mut run).await.is_pending() {
                    runs.push(run);
                }
            }
            runs.truncate(3);
            let large = pool.try_submit(|text: String| text.len(), "x".repeat(1_001));
            assert!(large.unwrap_err().error().is_too_large());
            if let Ok(handle) = pool.try_submit(ends, (round, gate.path())) {
                handle.cancel();
            }
            let limit = Duration::from_millis(1);
            drop(
                pool.task(ends)
                    .queue_timeout(limit)
                    .submit((3, gate.path())),
            );
            gate.open();
            for run in runs {
                let _ = run.await;
            }
            assert!(soon(PROMPTLY, || pool.stats().unfinished == 0).await);
        }
        let gate = Gate::new();
        let held: Vec<_> = (0..5)
            .map(|_| pool.try_submit(pass, gate.path()).unwrap())
            .collect();
        assert!(
            pool.try_submit(pass, gate.path())
                .unwrap_err()
                .is_queue_full()
        );
        gate.open();
        for handle in held {
            handle.await.unwrap();
        }
        pool.shutdown().await;
    });
}

/// A value that can be made to fail on each of its ways.
#[derive(Debug, PartialEq)]
struct Fragile(Fault);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Fault {
    Nowhere,
    EncodeHere,
    DecodeThere,
    EncodeThere,
    DecodeHere,
    PanicThere,
}

fn in_worker() -> bool {
    procpool::task::current().is_some() || std::env::var("FRAGILE").is_ok()
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0, in_worker()) {
            (Fault::EncodeHere, false) => Err(S::Error::custom("cannot pickle here")),
            (Fault::EncodeThere, true) => Err(S::Error::custom("cannot pickle there")),
            (fault, _) => fault.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match (Fault::deserialize(deserializer)?, in_worker()) {
            (Fault::DecodeThere, true) => Err(D::Error::custom("cannot unpickle there")),
            (Fault::DecodeHere, false) => Err(D::Error::custom("cannot unpickle here")),
            (Fault::PanicThere, true) => panic!("unpickling panics"),
            (fault, _) => Ok(Self(fault)),
        }
    }
}

/// CF-094 for single calls.
#[test]
fn what_cannot_be_carried_fails_its_own_call_and_says_why() {
    everywhere(|method| async move {
        let pool = builder(1, method).env("FRAGILE", "1").build().unwrap();
        let worker = pool.submit(pid, ()).await.unwrap();
        let send = |fault| pool.submit(|fragile: Fragile| fragile, Fragile(fault));
        assert_eq!(send(Fault::Nowhere).await.unwrap().0, Fault::Nowhere);

        let error = send(Fault::EncodeHere).await.unwrap_err();
        assert!(error.is_encode() && !error.maybe_executed());
        assert!(
            reason(&error).contains("cannot pickle here"),
            "{}",
            reason(&error)
        );
        assert!(reason(&error).contains("Fragile"), "{}", reason(&error));
        let error = send(Fault::EncodeThere).await.unwrap_err();
        assert!(error.is_encode() && error.maybe_executed());
        assert!(
            reason(&error).contains("cannot pickle there"),
            "{}",
            reason(&error)
        );
        let error = send(Fault::DecodeThere).await.unwrap_err();
        assert!(error.is_decode() && !error.maybe_executed());
        assert!(
            reason(&error).contains("cannot unpickle there"),
            "{}",
            reason(&error)
        );
        let error = send(Fault::DecodeHere).await.unwrap_err();
        assert!(error.is_decode() && error.maybe_executed());
        assert!(
            reason(&error).contains("cannot unpickle here"),
            "{}",
            reason(&error)
        );
        let error = send(Fault::PanicThere).await.unwrap_err();
        assert!(error.is_decode(), "{error}");
        assert!(
            reason(&error).contains("unpickling panics"),
            "{}",
            reason(&error)
        );

        let kept = pool.try_submit(|fragile: Fragile| fragile, Fragile(Fault::EncodeHere));
        let (error, argument) = kept.unwrap_err().into_parts();
        assert!(error.is_encode());
        assert_eq!(argument.0, Fault::EncodeHere);
        assert_eq!(pool.submit(pid, ()).await.unwrap(), worker);
        pool.shutdown().await;
    });
}

/// CF-052 for single calls.
#[test]
fn what_is_larger_than_a_frame_may_be_fails_its_own_call() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_frame(1000).build().unwrap();
        let worker = pool.submit(pid, ()).await.unwrap();
        let fits = pool
            .submit(|text: String| text, "x".repeat(998))
            .await
            .unwrap();
        assert_eq!(fits.len(), 998);
        let error = pool.submit(pid, "x".repeat(999)).await.unwrap_err();
        assert!(error.is_too_large() && !error.maybe_executed());
        assert!(
            error.to_string().contains("1001") && error.to_string().contains("1000"),
            "{error}"
        );
        let result = pool.submit(|n: usize| "x".repeat(n), 100_000);
        let error = result.await.unwrap_err();
        assert!(error.is_too_large() && error.maybe_executed());
        assert!(error.to_string().contains("100003"), "{error}");
        let refused = pool
            .try_submit(|text: String| text, "x".repeat(999))
            .unwrap_err();
        assert!(refused.error().is_too_large());
        assert_eq!(refused.into_argument().len(), 999);
        assert_eq!(pool.submit(pid, ()).await.unwrap(), worker);
        pool.shutdown().await;
    });
}

fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        / 1024
}

/// CF-052.
#[test]
fn a_hundred_mebibytes_go_and_come_and_their_memory_is_given_back() {
    let _scene = support::scene();
    support::runtime(1).block_on(async {
        let pool = pool(1, StartMethod::default());
        let worker = pool.submit(pid, ()).await.unwrap();
        let before = (resident(std::process::id()), resident(worker));
        let text = "0123456789abcdef".repeat((100 << 20) / 16);
        let back = pool
            .submit(|text: String| text, text.clone())
            .await
            .unwrap();
        assert!(back == text, "what came back is not what was sent");
        drop((back, text));
        assert_eq!(pool.submit(pid, ()).await.unwrap(), worker);
        let mut after = (0, 0);
        let given_back = soon(PROMPTLY, || {
            after = (resident(std::process::id()), resident(worker));
            after.0 < before.0 + 50 && after.1 < before.1 + 50
        });
        assert!(
            given_back.await,
            "MiB here and there: {before:?}, then {after:?}"
        );
        pool.shutdown().await;
    });
}

/// CF-052.
#[test]
fn results_beyond_a_pipes_size_come_whole_from_all_workers_at_once() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let fill = |text: String| text.repeat(2 << 20);
        let handles: Vec<_> = (0..13).map(|n| pool.submit(fill, n.to_string())).collect();
        let check = |text: String| text == "7".repeat(2 << 20);
        let checks: Vec<_> = (0..4)
            .map(|_| pool.submit(check, fill("7".to_owned())))
            .collect();
        for (n, handle) in (0..).zip(handles) {
            let n: i32 = n;
            assert!(handle.await.unwrap() == fill(n.to_string()), "{n}");
        }
        for check in checks {
            assert!(check.await.unwrap());
        }
        pool.shutdown().await;
    });
}

fn add(a: i32, b: i32) -> i32 {
    a + b
}

/// `task_call` has the same options as `task`.
#[test]
fn calls_of_several_arguments_take_options() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(1, method);
        assert_eq!(
            pool.task_call(call!(add(1, 2)))
                .name("sum")
                .submit()
                .await
                .unwrap(),
            3
        );
        assert_eq!(pool.task_call(call!(add(1, 3))).run().await.unwrap(), 4);
        let limit = Duration::from_millis(50);
        let endless = pool
            .task_call(call!(pass(gate.path())))
            .timeout(limit)
            .run();
        assert!(endless.await.unwrap_err().is_timeout());
        let task = pool.task(|n: i32| n + 1).name("again");
        let (first, second) = (task.submit(1), task.clone().submit(2));
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (2, 3));
        assert!(format!("{task:?}").contains("again"));
        pool.shutdown().await;
    });
}

/// What is counted.
#[test]
fn stats_count_what_was_done() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = pool(1, method);
        pool.submit(pid, ()).await.unwrap();
        let _ = pool.submit(|()| -> () { panic!("counted") }, ()).await;
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let waiting = pool.submit(pid, ());
        let cancelled = pool.submit(pid, ());
        assert!(cancelled.cancel());
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed, stats.failed), (5, 1, 1));
        assert_eq!((stats.cancelled, stats.timed_out, stats.lost), (1, 0, 0));
        assert_eq!((stats.unfinished, stats.max_workers), (2, 1));
        assert_eq!((stats.workers_started, stats.workers_ended), (1, 0));
        let worker = &stats.workers[0];
        assert_eq!(worker.running, Some(held.id()));
        assert_eq!(Some(worker.pid), held.worker_pid());
        assert!(worker.running_for.is_some());
        assert_eq!(worker.state, WorkerState::Running);
        assert_eq!((worker.done, worker.restarts), (2, 0));
        gate.open();
        held.await.unwrap();
        waiting.await.unwrap();
        let _ = pool
            .submit(|code| -> () { std::process::exit(code) }, 3)
            .await;
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.lost, stats.unfinished), (3, 1, 0));
        pool.shutdown().await;
        assert!(pool.stats().workers.is_empty());
    });
}
