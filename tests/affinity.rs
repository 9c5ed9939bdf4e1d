//! Tasks with a key: they find in their worker what those before them have left there.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::collections::BTreeMap;

use deeds::own_pid;
use futures::StreamExt;
use gate::{Gate, pass};
use procpool::{ProcessPool, call};
use support::{PROMPTLY, everywhere, pool, soon};

fn pid_after(_: u32) -> u32 {
    std::process::id()
}

/// Two keys whose tasks go to different workers.
async fn two_keys(pool: &ProcessPool) -> [u32; 2] {
    let mut first = None;
    for key in 0..64 {
        let pid = pool.task(own_pid).key(key).run(()).await.unwrap();
        match first {
            None => first = Some((key, pid)),
            Some((other, before)) if before != pid => return [other, key],
            Some(_) => {}
        }
    }
    panic!("all keys go to one worker");
}

/// CF-055: what a task leaves in its worker is there for the next of its key.
#[test]
fn tasks_of_one_key_go_to_one_worker() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        pool.ready().await.unwrap();
        let task = |key: String| pool.task(own_pid).key(key);
        let mut handles = Vec::new();
        for round in 0..30 {
            let key = format!("key-{}", round % 6);
            handles.push((key.clone(), task(key).submit(())));
        }
        let mut pids = BTreeMap::new();
        for (key, handle) in handles {
            let pid = handle.await.unwrap();
            assert_eq!(*pids.entry(key).or_insert(pid), pid);
        }
        let by_call = pool.task_call(call!(own_pid(()))).key("key-3".to_owned());
        assert_eq!(by_call.run().await.unwrap(), pids["key-3"]);
        assert_eq!(pool.stats().workers_started, 2);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_waits_for_its_worker_and_keeps_nobody_else_waiting() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let [key, other] = two_keys(&pool).await;
        let held = pool.task(pass).key(key).submit(gate.path());
        assert!(soon(PROMPTLY, || held.is_running()).await);
        let home = held.worker_pid().unwrap();
        let bound: Vec<_> = (0..3)
            .map(|n| pool.task(pid_after).key(key).submit(n))
            .collect();
        // What comes later and may go elsewhere does.
        assert_ne!(pool.submit(own_pid, ()).await.unwrap(), home);
        assert_ne!(pool.task(own_pid).key(other).run(()).await.unwrap(), home);
        assert!(bound.iter().all(|handle| !handle.is_done()));
        assert!(bound[1].cancel());
        gate.open();
        held.await.unwrap();
        for (n, handle) in bound.into_iter().enumerate() {
            match handle.await {
                Ok(pid) => assert_eq!(pid, home),
                Err(error) => assert!(n == 1 && error.is_cancelled(), "{error}"),
            }
        }
        pool.shutdown().await;
    });
}

/// CF-033: the keys of a worker that died go to the one that takes its place.
#[test]
fn a_successor_gets_the_keys_of_a_worker_that_died() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let [key, other] = two_keys(&pool).await;
        let of = async |key| pool.task(own_pid).key(key).run(()).await.unwrap();
        let (before, neighbour) = (of(key).await, of(other).await);
        let crash = pool.task(|_: ()| -> () { std::process::abort() }).key(key);
        let crash = crash.submit(());
        let waits = pool.task(own_pid).key(key).submit(());
        assert!(crash.await.unwrap_err().is_worker_lost());
        let after = waits.await.unwrap();
        assert!(after != before && after != neighbour);
        assert_eq!((of(key).await, of(other).await), (after, neighbour));
        pool.shutdown().await;
    });
}

#[test]
fn all_items_of_a_map_with_a_key_go_to_one_worker() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let [key, _] = two_keys(&pool).await;
        let home = pool.task(own_pid).key(key).run(()).await.unwrap();
        let pids = pool.task(pid_after).key(key).map(0..300);
        let pids: Vec<_> = pids.collect().await;
        assert_eq!(pids.len(), 300);
        assert!(pids.into_iter().all(|pid| pid.unwrap() == home));
        pool.shutdown().await;
    });
}

/// CF-019: what waits for one worker is finished before the pool goes.
#[test]
fn a_pool_that_shuts_down_serves_those_who_wait_for_one_worker() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(2, method));
        let held = pool.task(pass).key("k").submit(gate.path());
        let bound: Vec<_> = (0..20)
            .map(|n| pool.task(pid_after).key("k").submit(n))
            .collect();
        pool.close();
        gate.open();
        held.await.unwrap();
        for handle in bound {
            handle.await.unwrap();
        }
        pool.join().await.unwrap();
    });
}
