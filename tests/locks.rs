//! Locks between processes: who has one excludes all others, waits as told, and is missed when he dies.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::error::Error as _;
use std::time::{Duration, Instant};

use deeds::send;
use procpool::{Event, Lock, LockError, Process, ProcessPool, RLock, SharedMemory, Stdio, pipe};
use support::{PROMPTLY, everywhere, is_alive, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);

/// Has the lock until it is killed.
fn hold((lock, held): (Lock, Event)) {
    let guard = lock.blocking_lock(None).unwrap();
    held.set();
    loop {
        std::thread::park();
        assert!(lock.is_locked());
        let _ = &guard;
    }
}

fn add(number: &SharedMemory, value: u32) {
    let mut bytes = [0; 4];
    number.read_at(0, &mut bytes);
    number.write_at(0, &(u32::from_le_bytes(bytes) + value).to_le_bytes());
}

fn value(number: &SharedMemory) -> u32 {
    u32::from_le_bytes(number.to_vec().try_into().unwrap())
}

/// CF-198, CF-199, CF-202: at most one has it, and it is released however its guard goes.
#[test]
fn a_lock_is_released_with_its_guard() {
    let _scene = scene();
    let lock = Lock::new().unwrap();
    let guard = lock.try_lock().unwrap();
    assert!(lock.is_locked());
    assert_eq!(format!("{lock:?}"), "Lock(locked by this process)");
    let error = lock.try_lock().unwrap_err();
    assert!(error.is_would_block() && !error.is_timeout() && error.source().is_none());
    assert!(error.into_guard().is_err());
    drop(guard);
    assert!(!lock.is_locked());
    assert_eq!(format!("{lock:?}"), "Lock(unlocked)");

    let returns_early = || -> Result<(), LockError> {
        let _guard = lock.blocking_lock(None)?;
        assert!(lock.is_locked());
        lock.try_lock().map(drop)
    };
    assert!(returns_early().unwrap_err().is_would_block());
    assert!(!lock.is_locked());
    let panics = || {
        let _guard = lock.blocking_lock(None).unwrap();
        std::panic::resume_unwind(Box::new(()));
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert!(
        lock.try_lock().is_ok(),
        "the process lives, so nothing is wrong"
    );
}

/// CF-200, CF-220.
#[test]
fn what_another_process_has_nobody_else_gets() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (lock, held) = (Lock::new().unwrap(), Event::new().unwrap());
        let holds = pool.submit(hold, (lock.clone(), held.clone()));
        held.wait().await.unwrap();
        assert!(lock.is_locked() && lock.try_lock().unwrap_err().is_would_block());
        assert_eq!(format!("{lock:?}"), "Lock(locked by another process)");
        let begun = Instant::now();
        assert!(lock.lock_timeout(BRIEFLY).await.unwrap_err().is_timeout());
        let blocks =
            |lock: Lock| move || lock.blocking_lock(Some(BRIEFLY)).unwrap_err().is_timeout();
        let blocking = tokio::task::spawn_blocking(blocks(lock.clone()));
        assert!(blocking.await.unwrap());
        let refused = std::panic::AssertUnwindSafe(blocks(lock.clone()));
        assert!(
            std::panic::catch_unwind(refused).is_err(),
            "inside of a task"
        );
        assert!(
            lock.lock_timeout(Duration::ZERO)
                .await
                .unwrap_err()
                .is_timeout()
        );
        assert!(begun.elapsed() >= 2 * BRIEFLY);
        assert!(holds.abort());
        let error = lock.lock().await.unwrap_err();
        assert!(error.is_owner_died());
        pool.shutdown().await;
    });
}

/// CF-199, CF-201, CF-202: it is released with the last guard, whichever that is.
#[test]
fn who_has_an_rlock_can_acquire_it_again() {
    let _scene = scene();
    let lock = RLock::new().unwrap();
    let outer = lock.blocking_lock(None).unwrap();
    let inner = outer.acquire_again();
    let innermost = inner.acquire_again();
    assert_eq!(
        (outer.count(), format!("{inner:?}").contains('3')),
        (3, true)
    );
    drop(outer);
    let error = lock.try_lock().unwrap_err();
    assert!(error.is_would_block() && error.into_guard().is_err());
    // Guards go where the work goes.
    std::thread::spawn(move || drop(inner)).join().unwrap();
    assert!(lock.is_locked());
    assert_eq!(format!("{lock:?}"), "RLock(locked by this process)");
    drop(innermost);
    assert!(!lock.is_locked());
    assert_eq!(format!("{lock:?}"), "RLock(unlocked)");
}

/// CF-200, CF-220, row 12.
#[test]
fn an_rlock_that_another_process_has_is_had_by_nobody_else() {
    fn hold((lock, held): (RLock, Event)) {
        let guard = lock.blocking_lock(None).unwrap();
        let _again = guard.acquire_again();
        drop(guard);
        assert!(lock.is_locked() && lock.try_lock().is_err());
        held.set();
        loop {
            std::thread::park();
        }
    }

    everywhere(|method| async move {
        let (lock, held) = (RLock::new().unwrap(), Event::new().unwrap());
        let builder = Process::builder().start_method(method);
        let holder = builder.spawn(hold, (lock.clone(), held.clone()));
        let holder = holder.await.unwrap();
        held.wait().await.unwrap();
        assert!(lock.is_locked() && lock.try_lock().unwrap_err().is_would_block());
        assert_eq!(format!("{lock:?}"), "RLock(locked by another process)");
        assert!(lock.lock_timeout(BRIEFLY).await.unwrap_err().is_timeout());
        let waits = tokio::spawn({
            let lock = lock.clone();
            async move { lock.lock().await }
        });
        tokio::task::yield_now().await;
        assert!(send(holder.pid(), libc::SIGKILL));
        let killed = Instant::now();
        let guard = waits.await.unwrap().unwrap_err().into_guard().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(1));
        guard.acquire_again().mark_sound();
        assert!(lock.is_locked());
        drop(guard);
        assert_eq!(lock.try_lock().unwrap().count(), 1);
    });
}

/// CF-223: threads and processes, tasks and blocking calls, a thousand times each.
#[test]
fn threads_and_processes_exclude_each_other() {
    fn count((lock, number, times): (Lock, SharedMemory, u32)) {
        for _ in 0..times {
            let _guard = lock.blocking_lock(None).unwrap();
            add(&number, 1);
        }
    }
    async fn count_async((lock, number, times): (Lock, SharedMemory, u32)) {
        for _ in 0..times {
            let _guard = lock.lock().await.unwrap();
            add(&number, 1);
            tokio::task::yield_now().await;
        }
    }

    everywhere(|method| async move {
        let pool = pool(3, method);
        let (lock, number) = (Lock::new().unwrap(), SharedMemory::new(4).unwrap());
        let job = || (lock.clone(), number.clone(), 1_000);
        let threads = [(); 3].map(|()| {
            let job = job();
            std::thread::spawn(move || count(job))
        });
        let tasks = [(); 2].map(|()| tokio::spawn(count_async(job())));
        let blocking = [(); 2].map(|()| pool.submit(count, job()));
        pool.submit_async(count_async, job()).await.unwrap();
        futures::future::try_join_all(blocking).await.unwrap();
        futures::future::try_join_all(tasks).await.unwrap();
        let joined = tokio::task::spawn_blocking(|| threads.map(|thread| thread.join().is_ok()));
        assert_eq!(joined.await.unwrap(), [true; 3]);
        assert_eq!((value(&number), lock.is_locked()), (8_000, false));
        pool.shutdown().await;
    });
}

/// Row 12: within a second, in a task and on a thread, also for one whose child it was not.
#[test]
fn the_death_of_a_holder_is_an_error_for_the_next() {
    fn wait_for((lock, waits): (Lock, Event)) -> bool {
        waits.set();
        lock.blocking_lock(None).unwrap_err().is_owner_died()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        for _ in 0..4 {
            let [held, waits] = [(); 2].map(|()| Event::new().unwrap());
            let lock = Lock::new().unwrap();
            let builder = Process::builder().start_method(method);
            let holder = builder
                .spawn(hold, (lock.clone(), held.clone()))
                .await
                .unwrap();
            held.wait().await.unwrap();
            let stranger = pool.submit(wait_for, (lock.clone(), waits.clone()));
            waits.wait().await.unwrap();
            let in_thread = std::thread::spawn({
                let lock = lock.clone();
                move || {
                    lock.blocking_lock(Some(PROMPTLY))
                        .unwrap_err()
                        .is_owner_died()
                }
            });
            let in_task = tokio::spawn({
                let lock = lock.clone();
                async move { lock.lock().await.unwrap_err().is_owner_died() }
            });
            tokio::task::yield_now().await;
            assert!(send(holder.pid(), libc::SIGKILL));
            let killed = Instant::now();
            assert!(in_task.await.unwrap());
            assert!(stranger.await.unwrap());
            assert!(
                tokio::task::spawn_blocking(|| in_thread.join().unwrap())
                    .await
                    .unwrap()
            );
            assert!(killed.elapsed() < PROMPTLY);

            // And for all after them, until one says that all is well.
            let guard = lock.lock().await.unwrap_err().into_guard().unwrap();
            assert!(lock.is_locked());
            drop(guard);
            let guard = lock.try_lock().unwrap_err().into_guard().unwrap();
            guard.mark_sound();
            drop(guard);
            assert!(lock.try_lock().is_ok());
        }
        pool.shutdown().await;
    });
}

/// CF-206: and a future that is dropped has nothing and keeps nobody waiting.
#[test]
fn aborted_tasks_leave_the_lock_to_others() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (lock, go) = (Lock::new().unwrap(), Event::new().unwrap());
        let has_it = tokio::spawn({
            let (lock, go) = (lock.clone(), go.clone());
            async move {
                let _guard = lock.lock().await.unwrap();
                go.set();
                std::future::pending::<()>().await;
            }
        });
        go.wait().await.unwrap();
        let waits: Vec<_> = (0..20)
            .map(|_| {
                let lock = lock.clone();
                tokio::spawn(async move { lock.lock().await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        waits.iter().step_by(2).for_each(|wait| wait.abort());
        has_it.abort();
        let other = |lock: Lock| lock.blocking_lock(None).is_ok();
        assert!(pool.submit(other, lock.clone()).await.unwrap());
        for (number, wait) in waits.into_iter().enumerate() {
            let waited = wait.await;
            assert!(number % 2 == 0 || waited.unwrap().is_ok());
        }
        assert!(!lock.is_locked());
        pool.shutdown().await;
    });
}

/// CF-207: who waits in a task keeps no other task of its thread waiting.
#[test]
fn a_task_that_waits_does_not_block_its_runtime() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (lock, held) = (Lock::new().unwrap(), Event::new().unwrap());
        let holds = pool.submit(hold, (lock.clone(), held.clone()));
        held.wait().await.unwrap();
        let waits = tokio::spawn({
            let lock = lock.clone();
            async move { lock.lock().await.map(drop) }
        });
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!waits.is_finished());
        assert!(holds.abort());
        assert!(waits.await.unwrap().unwrap_err().is_owner_died());
        pool.shutdown().await;
    });
}

/// One that takes it again as soon as it has released it.
#[test]
fn nobody_starves_beside_one_who_is_always_faster() {
    fn hog((lock, enough): (Lock, Event)) -> u64 {
        let mut times = 0;
        while !enough.is_set() {
            let _guard = lock.blocking_lock(None).unwrap();
            times += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
        times
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (lock, enough) = (Lock::new().unwrap(), Event::new().unwrap());
        let hogs = pool.submit(hog, (lock.clone(), enough.clone()));
        assert!(soon(PROMPTLY, || lock.is_locked()).await);
        for _ in 0..50 {
            let locked = lock.lock_timeout(PROMPTLY).await;
            drop(locked.unwrap());
        }
        let thread = lock.clone();
        let blocking = move || (0..50).all(|_| thread.blocking_lock(Some(PROMPTLY)).is_ok());
        assert!(tokio::task::spawn_blocking(blocking).await.unwrap());
        enough.set();
        assert!(hogs.await.unwrap() > 0);
        pool.shutdown().await;
    });
}

/// CF-221, and where it can: through connections, to grandchildren and back.
#[test]
fn locks_and_events_travel() {
    fn pass_on((deeper, lock, event): (u8, Lock, Event)) -> (Lock, Event) {
        if deeper > 0 {
            let process = Process::spawn(pass_on, (deeper - 1, lock, event));
            return process
                .blocking_wait()
                .unwrap()
                .blocking_join(None)
                .unwrap();
        }
        std::mem::forget(lock.try_lock().unwrap());
        event.set();
        (lock, event)
    }

    everywhere(|method| async move {
        let (lock, event) = (Lock::new().unwrap(), Event::new().unwrap());
        let (mut here, mut there) = pipe::<(u8, Lock, Event), ()>().unwrap();
        here.send(&(1, lock.clone(), event.clone())).await.unwrap();
        let sent = there.recv().await.unwrap();
        let process = Process::builder().start_method(method).spawn(pass_on, sent);
        let (same_lock, same_event) = process.await.unwrap().join().await.unwrap();
        assert!(event.is_set() && lock.is_locked() && same_lock.is_locked());
        same_event.clear();
        assert!(!event.is_set());
        assert!(lock.lock().await.unwrap_err().is_owner_died(), "he is dead");
        assert!(postcard::to_stdvec(&lock).is_err() && postcard::to_stdvec(&event).is_err());
    });
}

/// Without a runtime, and with runtimes that cannot wait for descriptors.
#[test]
fn no_runtime_is_needed() {
    let _scene = scene();
    let lock = Lock::new().unwrap();
    let guard = lock.blocking_lock(None).unwrap();
    let plain = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let waiting = lock.clone();
    let waits = std::thread::spawn(move || {
        let limited = plain.block_on(waiting.lock_timeout(PROMPTLY)).is_ok();
        limited && plain.block_on(waiting.lock()).is_ok()
    });
    std::thread::sleep(Duration::from_millis(20));
    drop(guard);
    assert!(waits.join().unwrap());
}

/// A thousand holders and waiters killed at any instant: the lock is always to be had by the next.
#[test]
#[ignore = "takes minutes"]
fn no_kill_at_any_instant_locks_it_for_ever() {
    soak(1_000);
}

/// The same of one that is acquired again.
#[test]
#[ignore = "takes minutes"]
fn no_kill_at_any_instant_locks_an_rlock_for_ever() {
    soak_rlock(1_000);
}

#[test]
fn some_kills_at_any_instant_do_not_lock_it_for_ever() {
    soak(30);
    soak_rlock(10);
}

fn soak_rlock(kills: u32) {
    fn work((lock, number): (RLock, SharedMemory)) {
        loop {
            let locked = lock.blocking_lock(None);
            let guard = locked.or_else(LockError::into_guard).unwrap();
            let again = guard.acquire_again();
            drop(guard);
            add(&number, 1);
            drop(again);
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        let (lock, number) = (RLock::new().unwrap(), SharedMemory::new(4).unwrap());
        let spawn = || {
            let builder = Process::builder().stderr(Stdio::null());
            builder.spawn(work, (lock.clone(), number.clone()))
        };
        let mut workers = vec![spawn().await.unwrap(), spawn().await.unwrap()];
        for kill in 0..kills {
            let before = value(&number);
            let goes_on = || value(&number) > before + 100;
            assert!(soon(PROMPTLY, goes_on).await, "kill {kill}: {lock:?}");
            let victim = workers.remove(0);
            assert!(send(victim.pid(), libc::SIGKILL));
            victim.wait().await;
            workers.push(spawn().await.unwrap());
        }
        for worker in workers {
            worker.kill();
            worker.wait().await;
        }
    });
}

fn soak(kills: u32) {
    fn work((lock, number): (Lock, SharedMemory)) {
        loop {
            let guard = match lock.blocking_lock(None) {
                Ok(guard) => guard,
                Err(error) => error.into_guard().unwrap(),
            };
            add(&number, 1);
            drop(guard);
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        let (lock, number) = (Lock::new().unwrap(), SharedMemory::new(4).unwrap());
        let spawn = || {
            let builder = Process::builder().stderr(Stdio::null());
            builder.spawn(work, (lock.clone(), number.clone()))
        };
        let mut workers = futures::future::try_join_all([(); 3].map(|()| spawn()))
            .await
            .unwrap();
        for kill in 0..kills {
            let before = value(&number);
            assert!(
                soon(PROMPTLY, || value(&number) > before + 100).await,
                "kill {kill}: {lock:?}"
            );
            for _ in 0..kill % 97 {
                std::hint::spin_loop();
            }
            let victim = workers.remove(0);
            assert!(send(victim.pid(), libc::SIGKILL));
            victim.wait().await;
            workers.push(spawn().await.unwrap());
            let locked = lock.lock_timeout(PROMPTLY).await;
            if let Err(error) = locked {
                error
                    .into_guard()
                    .unwrap_or_else(|error| panic!("kill {kill}: {error}"))
                    .mark_sound();
            }
        }
        for worker in workers {
            worker.kill();
            worker.wait().await;
            assert!(!is_alive(worker.pid()));
        }
    });
}

/// The pool's workers have them without anything being arranged.
#[test]
fn a_worker_that_dies_with_the_lock_is_missed_by_the_next_call() {
    fn die(lock: Lock) {
        std::mem::forget(lock.blocking_lock(None));
        std::process::abort();
    }

    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.stderr(Stdio::null()).build().unwrap();
        let lock = Lock::new().unwrap();
        assert!(
            pool.submit(die, lock.clone())
                .await
                .unwrap_err()
                .is_worker_lost()
        );
        let next = |lock: Lock| lock.blocking_lock(None).unwrap_err().is_owner_died();
        assert!(pool.submit(next, lock.clone()).await.unwrap());
        pool.shutdown().await;
    });
}
