//! What a pool tells those who listen to it.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::time::Duration;

use futures::StreamExt;
use gate::{Gate, pass};
use procpool::{Events, PoolEvent, ProcessPool};
use support::{everywhere, pool};

/// The next event that `wanted` makes something of.
async fn next<T>(events: &mut Events, wanted: impl Fn(PoolEvent) -> Option<T>) -> T {
    loop {
        let event = events.next().await.expect("it is still to come");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

#[test]
fn a_task_is_told_from_its_start_to_its_end() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let mut events = pool.events();
        let task = pool.submit(|n: u64| n + 1, 1);
        let id = task.id();
        task.await.unwrap();
        let ready = next(&mut events, |event| match event {
            PoolEvent::WorkerReady { pid, replaces, .. } => Some((pid, replaces)),
            _ => None,
        });
        let (worker, replaces) = ready.await;
        assert_eq!(replaces, None);
        let started = next(&mut events, |event| match event {
            PoolEvent::TaskStarted { task, items, pid } => Some((task, items, pid)),
            _ => None,
        });
        assert_eq!(started.await, (id, 1, worker));
        let done = next(&mut events, |event| match event {
            PoolEvent::TaskDone { task, took } => Some((task, took)),
            _ => None,
        });
        let (task, took) = done.await;
        assert!(task == id && took < Duration::from_secs(10));
        pool.shutdown().await;
        let left = events.collect::<Vec<_>>().await;
        let exit = left.iter().find_map(|event| match event {
            PoolEvent::WorkerEnded(exit) => Some(exit.clone()),
            _ => None,
        });
        assert_eq!(exit.expect("the worker left").pid(), worker);
        assert_eq!(
            pool.events().count().await,
            0,
            "a pool that is over has none"
        );
    });
}

#[test]
fn a_lost_worker_is_told_with_its_reason_and_its_replacement() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let mut events = pool.events();
        let crash = pool.submit(|_: ()| -> () { std::process::abort() }, ());
        let id = crash.id();
        let exit = crash.await.unwrap_err().worker_exit().unwrap().clone();
        pool.submit(|n: u64| n, 1).await.unwrap();
        let lost = next(&mut events, |event| match event {
            PoolEvent::WorkerLost(lost) => Some(lost),
            PoolEvent::TaskFailed { .. } => panic!("the reason comes first"),
            _ => None,
        });
        let lost = lost.await;
        assert_eq!((lost.pid(), lost.exit().signal()), (exit.pid(), Some(6)));
        let failed = next(&mut events, |event| match event {
            PoolEvent::TaskFailed { task, error } => Some((task, error)),
            _ => None,
        });
        let (task, error) = failed.await;
        assert!(task == id && error.is_worker_lost());
        let replaces = next(&mut events, |event| match event {
            PoolEvent::WorkerReady { replaces, .. } => Some(replaces),
            PoolEvent::TaskFailed { .. } => panic!("told twice"),
            _ => None,
        });
        assert_eq!(replaces.await, Some(exit.pid()));
        pool.shutdown().await;
    });
}

#[test]
fn items_of_a_map_are_told_one_by_one() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let mut events = pool.events();
        let task = pool.task(|n: i32| 12 / n).chunk_size(5);
        assert_eq!(task.map(-2..=2).count().await, 5);
        pool.shutdown().await;
        let (mut started, mut done, mut failed) = (0, Vec::new(), Vec::new());
        while let Some(event) = events.next().await {
            match event {
                PoolEvent::TaskStarted { items, .. } => started += items,
                PoolEvent::TaskDone { task, .. } => done.push(task),
                PoolEvent::TaskFailed { task, .. } => failed.push(task),
                _ => {}
            }
        }
        assert_eq!(
            (started, &*done, &*failed),
            (5, &[1, 2, 4, 5][..], &[3][..])
        );
    });
}

#[test]
fn a_full_queue_is_told() {
    everywhere(async |method| {
        let builder = ProcessPool::builder().workers(1).max_pending(1);
        let pool = builder.start_method(method).build().unwrap();
        let mut events = pool.events();
        let park = |_: ()| std::thread::park();
        let (running, waiting) = (pool.submit(park, ()), pool.submit(park, ()));
        assert!(pool.try_submit(park, ()).is_err());
        let full = next(&mut events, |event| match event {
            PoolEvent::QueueFull { max_pending } => Some(max_pending),
            _ => None,
        });
        assert_eq!(full.await, 1);
        pool.terminate().await;
        drop((running, waiting));
    });
}

/// Told while it runs, once, and of a map for each item.
#[test]
fn a_slow_call_is_told_while_it_runs() {
    everywhere(async |method| {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let bound = Duration::from_millis(50);
        let pool = builder.slow_call(bound).build().unwrap();
        let mut events = pool.events();
        pool.submit(|n: u64| n, 1).await.unwrap();
        let park = pool.task(|_: ()| std::thread::park()).name("park");
        let parked = park.submit(());
        let slow = next(&mut events, |event| match event {
            PoolEvent::SlowCall {
                task,
                name,
                pid,
                ran_for,
            } => Some((task, name, pid, ran_for)),
            PoolEvent::TaskFailed { .. } => panic!("it runs"),
            _ => None,
        });
        let (task, name, pid, ran_for) = slow.await;
        assert_eq!((task, name.as_deref()), (parked.id(), Some("park")));
        assert_eq!(Some(pid), parked.worker_pid());
        assert!(ran_for >= bound, "{ran_for:?}");
        let running = &pool.stats().workers[0];
        assert_eq!(running.running_name.as_deref(), Some("park"));
        parked.abort();
        // Each item of a chunk is told of by itself, and once.
        let gates = [Gate::new(), Gate::new()];
        let wait = |gate: Option<String>| gate.into_iter().for_each(pass);
        let paths = gates.each_ref().map(|gate| Some(gate.path()));
        let [second, fourth] = paths;
        let items = [None, second, None, fourth];
        let waits = pool.task(wait).chunk_size(4).map(items);
        let all = tokio::spawn(waits.count());
        let mut slow = Vec::new();
        for (gate, item) in gates.iter().zip([2, 4]) {
            while !slow.contains(&item) {
                let told = |event| match event {
                    PoolEvent::SlowCall { task, .. } => Some(task - parked.id()),
                    _ => None,
                };
                slow.push(next(&mut events, told).await);
            }
            gate.open();
        }
        assert_eq!(all.await.unwrap(), 4);
        pool.shutdown().await;
        while let Some(event) = events.next().await {
            if let PoolEvent::SlowCall { task, .. } = event {
                slow.push(task - parked.id());
            }
        }
        // On a machine with much else to do the other two may be slow as well.
        let told = |item| slow.iter().filter(|told| **told == item).count();
        assert!((1..=4).all(|item| told(item) <= 1), "{slow:?}");
    });
}

#[test]
fn who_does_not_keep_up_is_told_how_much_was_missed() {
    everywhere(async |method| {
        let pool = pool(1, method);
        let events = pool.events();
        assert_eq!(pool.map(|n: u32| n, 0..5_000).count().await, 5_000);
        pool.shutdown().await;
        let mut missed = 0;
        let mut told = 0u64;
        for event in events.collect::<Vec<_>>().await {
            match event {
                PoolEvent::Missed(count) => missed += count,
                PoolEvent::TaskDone { .. } => told += 1,
                _ => {}
            }
        }
        assert!(
            missed > 0 && told <= 4_096 && told + missed >= 5_000,
            "{missed} and {told}"
        );
    });
}

/// What is shown of those that tell of a worker's end, and of what a task has said.
#[test]
fn an_event_is_a_line_for_a_log() {
    everywhere(async |method| {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.worker_name("press").build().unwrap();
        let events = pool.events();
        let says = pool.submit(|_: ()| -> u8 { panic!("no luck\ntoday") }, ());
        assert!(says.await.unwrap_err().is_panic());
        let dies = pool.submit(|_: ()| -> u8 { std::process::exit(3) }, ());
        assert!(dies.await.unwrap_err().is_worker_lost());
        pool.submit(|n: u32| n, 1).await.unwrap();
        pool.shutdown().await;
        let lines: Vec<_> = events.map(|event| event.to_string()).collect().await;
        let told = |begin: &str, part: &str| {
            let mut lines = lines.iter();
            lines.any(|line| line.starts_with(begin) && line.contains(part))
        };
        assert!(told("worker press-1 (pid ", " is ready"), "{lines:#?}");
        assert!(
            told("task 1 failed: task panicked: ", r"no luck\ntoday"),
            "{lines:#?}"
        );
        assert!(
            told("lost: worker press-1 (pid ", "exit code 3"),
            "{lines:#?}"
        );
        assert!(
            told("worker press-2 (pid ", "ended by exit code 0"),
            "{lines:#?}"
        );
        assert!(lines.iter().all(|line| !line.contains('\n')), "{lines:#?}");
    });
}

#[test]
fn a_start_that_fails_is_told() {
    everywhere(async |method| {
        let builder = ProcessPool::builder().workers(1).start_method(method);
        let pool = builder.current_dir("/nowhere/at/all").build().unwrap();
        let mut events = pool.events();
        let refused = pool.ready().await.unwrap_err();
        let failed = next(&mut events, |event| match event {
            PoolEvent::StartFailed(error) => Some(error),
            _ => None,
        });
        assert_eq!(failed.await.to_string(), refused.to_string());
        pool.shutdown().await;
    });
}
