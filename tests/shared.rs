//! The pool that everybody in a program shares.

mod support;

use procpool::{ProcessPool, TaskError};
use support::{runtime, scene};

fn pid(_: ()) -> u32 {
    std::process::id()
}

#[test]
fn everybody_gets_the_same_pool_and_a_new_one_after_its_end() {
    let scene = scene();
    let first = ProcessPool::shared().unwrap();
    let names: Vec<_> = (0..4).map(|_| ProcessPool::shared().unwrap()).collect();
    first.submit(pid, ()).blocking_wait(None).unwrap();
    for pool in &names {
        assert_eq!(pool.stats().completed, 1);
    }
    runtime(1).block_on(first.shutdown());
    assert!(
        names[0]
            .submit(pid, ())
            .blocking_wait(None)
            .unwrap_err()
            .is_shut_down()
    );
    let next = ProcessPool::shared().unwrap();
    next.submit(pid, ()).blocking_wait(None).unwrap();
    assert_eq!(next.stats().completed, 1);
    runtime(1).block_on(next.shutdown());
    drop((first, names, next));
    drop(scene);
}

#[test]
fn it_outlives_the_runtime_that_asked_for_it_first() {
    let scene = scene();
    for threads in [1, 2] {
        let runtime = runtime(threads);
        let answer: Result<u32, TaskError> =
            runtime.block_on(async { ProcessPool::shared().unwrap().submit(pid, ()).await });
        answer.unwrap();
        drop(runtime);
        let pool = ProcessPool::shared().unwrap();
        assert!(!pool.is_closed());
        pool.submit(pid, ()).blocking_wait(None).unwrap();
    }
    assert_eq!(ProcessPool::shared().unwrap().stats().completed, 4);
    runtime(1).block_on(ProcessPool::shared().unwrap().shutdown());
    drop(scene);
}

#[test]
fn a_worker_has_no_part_in_it() {
    let scene = scene();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let refused = |_: ()| ProcessPool::shared().is_err_and(|error| error.is_in_worker());
    assert!(pool.submit(refused, ()).blocking_wait(None).unwrap());
    runtime(1).block_on(pool.shutdown());
    drop(pool);
    drop(scene);
}

#[test]
fn threads_that_ask_at_once_get_one_pool() {
    let scene = scene();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                let pool = ProcessPool::shared().unwrap();
                pool.submit(pid, ()).blocking_wait(None).unwrap();
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let pool = ProcessPool::shared().unwrap();
    assert_eq!(pool.stats().completed, 8);
    runtime(1).block_on(pool.shutdown());
    drop(pool);
    drop(scene);
}
