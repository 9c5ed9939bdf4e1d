//! Callbacks that do what they like: block for long, panic, and call the pool that calls them,
//! even for its end.

#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use gate::{Gate, pass};
use procpool::{ProcessPool, TaskError};
use support::{PROMPTLY, children, everywhere, pool, soon};

fn one_more(n: u32) -> u32 {
    n + 1
}

/// Row 44.
#[test]
fn a_callback_that_blocks_holds_up_other_callbacks_and_no_call() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let (go, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let blocking = pool.submit(one_more, 1);
        blocking.add_done_callback(move |_| {
            let _ = tell.send(());
            let _ = wait.recv_timeout(PROMPTLY);
        });
        assert!(soon(PROMPTLY, || told.try_recv().is_ok()).await);
        for n in 0..50 {
            assert_eq!(pool.submit(one_more, n).await.unwrap(), n + 1);
        }
        // Calls are ended in time, too, and so is a worker.
        let limit = Duration::from_millis(100);
        let hang: fn(()) = |()| std::thread::sleep(Duration::from_secs(600));
        let error = pool.task(hang).timeout(limit).submit(()).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let die: fn(()) = |()| std::process::exit(1);
        assert!(pool.submit(die, ()).await.unwrap_err().is_worker_lost());
        go.send(()).unwrap();
        assert_eq!(blocking.await.unwrap(), 2);
        pool.shutdown().await;
    });
}

/// What a callback does to the pool that calls it; tells what came of it.
type Act = fn(ProcessPool, &Result<u32, TaskError>, Sender<String>);

const ACTS: [(&str, Act); 8] = [
    ("submits and waits", |pool, _, tell| {
        let mut handle = pool.submit(one_more, 1);
        let value = handle.blocking_wait(Some(PROMPTLY)).unwrap();
        tell.send(value.to_string()).unwrap();
    }),
    ("submits what dies and waits", |pool, _, tell| {
        let die: fn(()) = |()| std::process::exit(1);
        let mut handle = pool.submit(die, ());
        let error = handle.blocking_wait(Some(PROMPTLY)).unwrap_err();
        assert!(error.is_worker_lost());
        tell.send("2".to_owned()).unwrap();
    }),
    ("submits with a callback", |pool, _, tell| {
        let handle = pool.submit(one_more, 1);
        handle.add_done_callback(move |result| {
            tell.send(result.as_ref().unwrap().to_string()).unwrap();
        });
    }),
    ("aborts what runs", |pool, _, tell| {
        let hang: fn(()) = |()| std::thread::sleep(Duration::from_secs(600));
        let mut handle = pool.submit(hang, ());
        while !handle.is_running() {
            std::thread::yield_now();
        }
        assert!(handle.abort());
        let error = handle.blocking_wait(Some(PROMPTLY)).unwrap_err();
        assert!(error.is_aborted());
        tell.send("2".to_owned()).unwrap();
    }),
    ("panics", |_, _, tell| {
        tell.send("2".to_owned()).unwrap();
        panic!("as callbacks may");
    }),
    ("closes", |pool, _, tell| {
        pool.close();
        tell.send("2".to_owned()).unwrap();
    }),
    ("terminates", |pool, _, tell| {
        let runtime = support::runtime(1);
        runtime.block_on(async {
            let ended = tokio::time::timeout(PROMPTLY, pool.terminate());
            ended.await.expect("an end");
        });
        tell.send("2".to_owned()).unwrap();
    }),
    ("drops the pool", |pool, _, tell| {
        drop(pool);
        tell.send("2".to_owned()).unwrap();
    }),
];

/// Row 44.
#[test]
fn a_callback_may_do_anything_to_the_pool_that_calls_it() {
    // One of the panics is meant; its noise is not.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("as callbacks may") {
            eprintln!("{info}");
        }
    }));
    everywhere(|method| async move {
        for (name, act) in ACTS {
            for first in ["ok", "lost"] {
                let (gate, pool) = (Gate::new(), pool(2, method));
                let task: fn((String, bool)) -> u32 = |(gate, lives)| {
                    pass(gate);
                    if !lives {
                        std::process::exit(1);
                    }
                    1
                };
                let handle = pool.submit(task, (gate.path(), first == "ok"));
                let (tell, told) = mpsc::channel();
                handle.add_done_callback(move |result| act(pool, result, tell));
                gate.open();
                let mut said = None;
                let done = soon(PROMPTLY, || {
                    said = said.take().or_else(|| told.try_recv().ok());
                    said.is_some()
                });
                assert!(done.await, "{name} after {first} with {method}");
                assert_eq!(said.as_deref(), Some("2"), "{name} after {first}");
                assert_eq!(handle.await.is_ok(), first == "ok", "{name}");
                assert!(soon(PROMPTLY, || children().is_empty()).await, "{name}");
            }
        }
    });
    let _ = std::panic::take_hook();
}
