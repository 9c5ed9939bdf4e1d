//! Pools and processes whose tasks wait for each other by queues, semaphores, events and locks.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, OnceLock};

use deeds::{Scratch, send};
use futures::future::{join_all, try_join_all};
use procpool::{
    Event, Fd, Lock, Process, ProcessPool, Queue, RawValue, Resource, Semaphore, StartMethod, Stdio,
};
use support::{PROMPTLY, builder, children, everywhere, is_alive, on_each_runtime, pool, soon};

/// Takes a permit for good.
fn take(permits: Semaphore) -> u32 {
    permits.blocking_acquire(None).unwrap().forget();
    std::process::id()
}

/// CF-014: no more workers than it may have, however many tasks wait in them and behind them.
#[test]
fn tasks_that_wait_for_permits_do_not_make_a_pool_grow() {
    everywhere(|method| async move {
        let pool = pool(4, method);
        let permits = Semaphore::new(0).unwrap();
        let tasks = [(); 60].map(|()| pool.submit(take, permits.clone()));
        assert!(soon(PROMPTLY, || pool.stats().running() == 4).await);
        assert_eq!(pool.stats().workers.len(), 4);
        for _ in 0..60 {
            permits.release().unwrap();
        }
        let pids: BTreeSet<_> = try_join_all(tasks).await.unwrap().into_iter().collect();
        assert_eq!((pids.len(), permits.value()), (4, 0));
        pool.shutdown().await;
    });
}

/// CF-025: a shutdown waits for those that wait.
#[test]
fn a_shutdown_waits_until_the_last_has_its_permit() {
    everywhere(|method| async move {
        let pool = pool(3, method);
        let permits = Semaphore::new(0).unwrap();
        let tasks = [(); 3].map(|()| pool.submit(take, permits.clone()));
        assert!(soon(PROMPTLY, || pool.stats().running() == 3).await);
        let ending = pool.clone();
        let shutdown = tokio::spawn(async move { ending.shutdown().await });
        for left in (0..3).rev() {
            assert!(!shutdown.is_finished());
            permits.release().unwrap();
            let running = || pool.stats().running() <= left;
            assert!(soon(PROMPTLY, running).await);
        }
        shutdown.await.unwrap();
        let pids = join_all(tasks).await.into_iter().map(Result::unwrap);
        assert!(pids.into_iter().all(|pid| !is_alive(pid)));
    });
}

/// CF-029: what it would have said after the event never comes.
#[test]
fn a_worker_that_is_ended_while_it_waits_says_no_more() {
    fn wait((said, never): (Queue<String>, Event)) {
        said.blocking_put("started".to_owned(), None).unwrap();
        never.blocking_wait(None).unwrap();
        said.blocking_put("went on".to_owned(), None).unwrap();
    }

    everywhere(|method| async move {
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let pool = pool(1, method);
            let (said, never) = (Queue::new().unwrap(), Event::new().unwrap());
            let waits = pool.submit(wait, (said.clone(), never.clone()));
            assert_eq!(said.get().await.unwrap(), "started");
            let pid = waits.worker_pid().unwrap();
            send(pid, signal);
            let error = waits.await.unwrap_err();
            assert_eq!(error.worker_exit().unwrap().exit().signal(), Some(signal));
            // Nobody else is hurt, and nobody else goes on.
            never.set();
            let said_by_next = pool.submit(wait, (said.clone(), never.clone()));
            said_by_next.await.unwrap();
            let rest = [said.get().await.unwrap(), said.get().await.unwrap()];
            assert!(rest == ["started", "went on"] && said.is_empty());
            pool.shutdown().await;
        }
    });
}

/// CF-146: made by a child, used by its children.
#[test]
fn a_child_has_a_queue_with_its_own_children() {
    fn look(queue: Queue<u64>) -> Option<u64> {
        queue.try_get().ok()
    }
    fn put((queue, number): (Queue<u64>, u64)) {
        queue.blocking_put(number, None).unwrap();
    }
    fn check((queue, number): (Queue<u64>, u64)) -> bool {
        queue.blocking_get(None).unwrap() == number
    }
    fn make(method: usize) -> (Option<u64>, bool) {
        let method = StartMethod::available()[method];
        fn started<A, R>(method: StartMethod, function: fn(A) -> R, argument: A) -> Process<R>
        where
            A: serde::Serialize + serde::de::DeserializeOwned,
            R: serde::Serialize + serde::de::DeserializeOwned,
        {
            let process = Process::builder().start_method(method);
            process.spawn(function, argument).blocking_wait().unwrap()
        }

        let queue = Queue::new().unwrap();
        let looked = started(method, look, queue.clone())
            .blocking_join(None)
            .unwrap();
        let number = u64::from(std::process::id());
        let putting = started(method, put, (queue.clone(), number));
        let checking = started(method, check, (queue, number));
        putting.blocking_join(None).unwrap();
        (looked, checking.blocking_join(None).unwrap())
    }

    on_each_runtime(|| async {
        for method in 0..StartMethod::available().len() {
            let child = Process::spawn(make, method).await.unwrap();
            assert_eq!(child.join().await.unwrap(), (None, true));
        }
    });
}

/// CF-170: through a queue, to a child that runs already.
#[test]
fn a_socket_that_is_put_into_a_queue_works_where_it_is_got() {
    fn echo(sockets: Queue<Fd<UnixStream>>) {
        while let Ok(Fd(mut socket)) = sockets.blocking_get(None) {
            let mut bytes = [0; 2];
            socket.read_exact(&mut bytes).unwrap();
            socket.write_all(&bytes).unwrap();
        }
    }

    everywhere(|method| async move {
        let sockets = Queue::new().unwrap();
        let process = Process::builder().start_method(method);
        let process = process.spawn(echo, sockets.clone()).await.unwrap();
        for bytes in [b"hi", b"ho"] {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.set_read_timeout(Some(PROMPTLY)).unwrap();
            sockets.put(Fd(there)).await.unwrap();
            here.write_all(bytes).unwrap();
            let mut back = [0; 2];
            // The other end is in another process.
            here.read_exact(&mut back).unwrap();
            assert_eq!(back, *bytes);
        }
        sockets.finish().unwrap();
        process.join().await.unwrap();
    });
}

/// CF-196, CF-268: given to a child, and by that to a child of its own.
#[test]
fn a_queue_is_passed_on_from_child_to_child() {
    fn pass_on((queue, depth): (Queue<u32>, u32)) {
        if depth > 1 {
            let child = Process::spawn(pass_on, (queue.clone(), depth - 1));
            child.blocking_wait().unwrap().blocking_join(None).unwrap();
        }
        queue.blocking_put(depth, None).unwrap();
    }

    everywhere(|method| async move {
        let queue = Queue::new().unwrap();
        let child = Process::builder().start_method(method);
        let child = child.spawn(pass_on, (queue.clone(), 2)).await.unwrap();
        let both = [queue.get().await.unwrap(), queue.get().await.unwrap()];
        assert_eq!(both, [1, 2]);
        child.join().await.unwrap();
    });
}

/// CF-272: what a preload makes is the same for all who are forked after it.
#[test]
fn a_lock_that_is_preloaded_is_the_lock_of_all_workers() {
    static MADE: OnceLock<(Lock, RawValue<u64>)> = OnceLock::new();
    fn make((): ()) {
        let made = (Lock::new().unwrap(), RawValue::new(0).unwrap());
        assert!(MADE.set(made).is_ok());
    }
    fn count(times: u64) -> u64 {
        let (lock, counter) = MADE.get().unwrap();
        for _ in 0..times {
            let _guard = lock.blocking_lock(None).unwrap();
            counter.set(counter.get() + 1);
        }
        counter.get()
    }

    on_each_runtime(|| async {
        let pool = ProcessPool::builder().workers(2).preload(make, ());
        let pool = pool.build().unwrap();
        let counts = [(); 4].map(|()| pool.submit(count, 500));
        let counts = try_join_all(counts).await.unwrap();
        assert_eq!(counts.into_iter().max(), Some(2_000));
        pool.shutdown().await;
    });
}

/// CF-297: of a program's own static, in whatever process it is: nothing is said, and nothing is left.
#[test]
fn a_semaphore_in_a_static_leaves_nothing_behind() {
    static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(1).unwrap());
    /// The child's is its own, and what it is given its parent's.
    fn look(given: Semaphore) -> bool {
        PERMITS.try_acquire().is_ok() && given.try_acquire().is_err()
    }
    fn has_a_child_and_a_pool((): ()) -> bool {
        let _permit = PERMITS.try_acquire().unwrap();
        let child = Process::spawn(look, PERMITS.clone()).blocking_wait();
        let seen = child.unwrap().blocking_join(None).unwrap();
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        let fails = |_: Semaphore| -> () { std::process::abort() };
        let lost = pool.submit(fails, PERMITS.clone()).blocking_wait(None);
        seen && lost.unwrap_err().is_worker_lost()
    }
    let named = || fs::read_dir("/dev/shm").into_iter().flatten().count();

    everywhere(|method| async move {
        let (scratch, before) = (Scratch::new(), named());
        let said = scratch.at("said");
        let process = Process::builder().start_method(method);
        let process = process.stderr(Stdio::to(fs::File::create(&said).unwrap()));
        let process = process.spawn(has_a_child_and_a_pool, ()).await.unwrap();
        assert!(process.join().await.unwrap());
        assert_eq!(
            (fs::read_to_string(&said).unwrap(), named()),
            (String::new(), before)
        );
    });
}

/// CF-299: an error with its cause, and what there is goes on.
#[test]
fn what_finds_no_descriptors_says_so_and_leaves_nothing() {
    fn exhaust((): ()) -> (String, usize) {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let lock = Lock::new().unwrap();
        let before = descriptors();
        let mut made = Vec::new();
        let error = loop {
            match Queue::<u8>::new() {
                Ok(queue) => made.push(queue),
                Err(error) => break error,
            }
        };
        // With some left, but not enough.
        assert!(!made.is_empty() && lock.try_lock().is_ok());
        made[0].try_put(7).unwrap();
        assert_eq!(made[0].try_get().unwrap(), 7);
        drop(made);
        assert!(Queue::<u8>::new().is_ok());
        (error.to_string(), descriptors() - before)
    }

    everywhere(|method| async move {
        let pool = builder(1, method).rlimit(Resource::OpenFiles, 64, 64);
        let pool = pool.build().unwrap();
        for _ in 0..2 {
            let (error, left) = pool.submit(exhaust, ()).await.unwrap();
            assert!(error.contains("Too many open files"), "{error}");
            assert_eq!(left, 0);
        }
        pool.shutdown().await;
        assert!(children().is_empty());
    });
}
