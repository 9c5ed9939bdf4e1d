//! What a call can be given beside its argument: a deadline, a priority.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::time::{Duration, Instant};

use futures::StreamExt;
use gate::{Gate, mark, pass};
use procpool::{ProcessPool, call};
use support::{PROMPTLY, everywhere, pool, runtime, scene, soon};

const LIMIT: Duration = Duration::from_millis(250);

fn same(n: u32) -> u32 {
    n
}

/// How long the task has until its limits end it; `None` without any.
fn time_left(_: ()) -> Option<Duration> {
    let deadline = procpool::task::current().unwrap().deadline()?;
    Some(deadline.saturating_duration_since(Instant::now()))
}

/// CF-046, CF-047: with the limit that counts from the submission.
#[test]
fn a_deadline_ends_what_runs_and_never_starts_what_waits() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        pool.ready().await.unwrap();
        let begun = Instant::now();
        let task = pool.task(|gate: String| {
            mark(&gate, "run");
            pass(gate);
        });
        let runs = task.clone().deadline(LIMIT).submit(gate.path());
        let waits = task.deadline(LIMIT / 2).submit(gate.path());
        let innocent = pool.submit(same, 7);

        let error = runs.await.unwrap_err();
        assert!(begun.elapsed() >= LIMIT);
        assert!(error.is_timeout() && error.maybe_executed() && !error.is_elapsed());
        assert_eq!(error.to_string(), "task ran past its deadline of 250ms");
        let error = waits.await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed());
        let text = "task was not started within its deadline of 125ms";
        assert_eq!(error.to_string(), text);

        assert_eq!(innocent.await.unwrap(), 7);
        assert_eq!(gate.marks(), ["run"]);
        let stats = pool.stats();
        assert_eq!((stats.timed_out, stats.workers_ended), (2, 1));
        pool.shutdown().await;
    });
}

/// CF-048: a timeout counts from the start, a deadline from the submission, and the earlier holds.
#[test]
fn a_task_sees_the_earlier_of_its_two_limits() {
    const HOUR: Duration = Duration::from_secs(3600);
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = pool.task(time_left);
        assert_eq!(task.run(()).await.unwrap(), None);
        for (timeout, deadline) in [(HOUR, 2 * HOUR), (2 * HOUR, HOUR)] {
            let both = task.clone().timeout(timeout).deadline(deadline);
            let left = both.run(()).await.unwrap().unwrap();
            assert!(left <= HOUR && left > HOUR - PROMPTLY, "{left:?}");
        }
        let left = pool.task_call(call!(time_left(()))).deadline(HOUR);
        assert!(left.submit().await.unwrap().unwrap() <= HOUR);
        pool.shutdown().await;
    });
}

#[test]
fn the_limit_that_came_first_is_named() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let hour = Duration::from_secs(3600);
        let held = pool.task(pass).timeout(LIMIT).deadline(hour);
        let error = held.submit(gate.path()).await.unwrap_err();
        assert!(error.to_string().contains("ran longer"), "{error}");

        let held = pool.submit(pass, gate.path());
        let waits = pool.task(same).queue_timeout(LIMIT).deadline(hour);
        let error = waits.submit(1).await.unwrap_err();
        assert!(error.to_string().contains("waited"), "{error}");
        let waits = pool.task(same).queue_timeout(hour).deadline(LIMIT);
        let error = waits.submit(1).await.unwrap_err();
        assert!(error.to_string().contains("deadline"), "{error}");
        gate.open();
        held.await.unwrap();
        pool.shutdown().await;
    });
}

/// CF-008: the items that are done by then have their results, the others that error.
#[test]
fn the_deadline_of_a_map_counts_from_the_call_for_all_items() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        pool.ready().await.unwrap();
        let begun = Instant::now();
        let task = pool.task(|(gate, n): (String, u32)| {
            if n >= 2 {
                mark(&gate, &n.to_string());
                pass(gate);
            }
            n
        });
        let items = (0..300).map(|n| (gate.path(), n));
        let mut results = task
            .deadline(2 * LIMIT)
            .chunk_size(2)
            .look_ahead(100)
            .map(items);
        for n in 0..2 {
            assert_eq!(results.next().await.unwrap().unwrap(), n);
        }
        for _ in 2..300 {
            let error = results.next().await.unwrap().unwrap_err();
            assert!(error.is_timeout(), "{error}");
        }
        assert!(results.next().await.is_none());
        assert!(begun.elapsed() >= LIMIT && begun.elapsed() < PROMPTLY);
        assert!(gate.marks().len() <= 2, "the others were never started");
        pool.shutdown().await;
    });
}

#[test]
fn waiting_for_room_is_part_of_the_time_until_the_deadline() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let builder = ProcessPool::builder().workers(1).max_pending(0);
        let pool = builder.start_method(method).build().unwrap();
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let error = pool.task(same).deadline(LIMIT).run(1).await.unwrap_err();
        assert!(error.is_timeout() && !error.maybe_executed(), "{error}");
        assert_eq!(pool.stats().submitted, 1);

        let patient = pool.task(same).deadline(PROMPTLY);
        let patient = tokio::spawn(patient.run(2));
        tokio::task::yield_now().await;
        gate.open();
        assert_eq!(patient.await.unwrap().unwrap(), 2);
        held.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn a_deadline_needs_no_clock_of_the_callers_runtime() {
    let _scene = scene();
    let gate = Gate::new();
    let pool = ProcessPool::builder().workers(1).max_pending(0).build();
    let pool = pool.unwrap();
    let held = pool.submit(pass, gate.path());
    let bare = tokio::runtime::Builder::new_current_thread().build();
    let late = pool.task(same).deadline(LIMIT).run(1);
    assert!(bare.unwrap().block_on(late).unwrap_err().is_timeout());
    gate.open();
    runtime(1).block_on(held).unwrap();
    runtime(1).block_on(pool.shutdown());
}

/// Takes the line's order out of the order in which one worker runs what waits.
fn note(gate: &str, name: &str) {
    let turn = (0..).find(|turn| {
        !std::path::Path::new(gate)
            .join(format!("mark-{turn:02}"))
            .exists()
    });
    mark(gate, &format!("{:02}", turn.unwrap()));
    mark(gate, &format!("{:02}-{name}", turn.unwrap()));
}

#[test]
fn the_most_urgent_goes_first_and_within_one_priority_who_was_first() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let task = pool.task(|(gate, name): (String, String)| note(&gate, &name));
        let submit = |name: &str, priority| {
            let task = task.clone().priority(priority);
            task.submit((gate.path(), name.to_owned()))
        };
        let mut all = vec![
            submit("normal", 0),
            submit("low", -1),
            submit("lowest", i32::MIN),
        ];
        all.push(submit("urgent", 9));
        all.push(task.submit((gate.path(), "normal-too".to_owned())));
        let regretted = submit("regretted", 99);
        all.push(
            pool.task_call(call!(note_call(gate.path(), "highest".to_owned())))
                .priority(i32::MAX)
                .submit(),
        );
        all.push(submit("urgent-too", 9));
        assert!(regretted.cancel());
        gate.open();
        for handle in all {
            handle.await.unwrap();
        }
        let order: Vec<_> = gate
            .marks()
            .into_iter()
            .filter(|mark| mark.len() > 2)
            .collect();
        let expected = [
            "00-highest",
            "01-urgent",
            "02-urgent-too",
            "03-normal",
            "04-normal-too",
            "05-low",
            "06-lowest",
        ];
        assert_eq!(order, expected);
        held.await.unwrap();
        pool.shutdown().await;
    });
}

fn note_call(gate: String, name: String) {
    note(&gate, &name);
}

#[test]
fn urgent_calls_overtake_the_items_of_a_map_that_wait() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = pool.submit(pass, gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let items = (0..20).map(|n| (gate.path(), format!("item-{n:02}")));
        let bulk = pool.task(|(gate, name): (String, String)| note(&gate, &name));
        let bulk = bulk.priority(-1).chunk_size(1).map(items);
        let urgent = pool.submit(
            |(gate, name): (String, String)| note(&gate, &name),
            (gate.path(), "call".to_owned()),
        );
        gate.open();
        urgent.await.unwrap();
        assert_eq!(bulk.count().await, 20);
        assert!(
            gate.marks().contains(&"00-call".to_owned()),
            "{:?}",
            gate.marks()
        );
        held.await.unwrap();
        pool.shutdown().await;
    });
}
