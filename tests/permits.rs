//! Semaphores between processes: there are never more permits than there may be, none is lost, and whoever
//! gets that of a process which has died is told so.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::time::{Duration, Instant};

use deeds::send;
use procpool::{
    AcquireError, BoundedSemaphore, Event, Process, ReleaseError, Semaphore, SharedMemory, Stdio,
};
use support::{PROMPTLY, everywhere, is_alive, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);
const A_SECOND: Duration = Duration::from_secs(1);

/// Has a permit until it is killed.
fn hold((permits, held): (Semaphore, Event)) {
    let permit = permits.blocking_acquire(None).unwrap();
    held.set();
    loop {
        std::thread::park();
        let _ = &permit;
    }
}

/// CF-203: permits that are given back, and such as nobody had.
#[test]
fn a_semaphore_counts() {
    let _scene = scene();
    let permits = Semaphore::new(2).unwrap();
    assert_eq!(permits.value(), 2);
    let one = permits.try_acquire().unwrap();
    assert_eq!(permits.value(), 1);
    let other = permits.blocking_acquire(None).unwrap();
    assert_eq!(permits.value(), 0);
    let error = permits.try_acquire().unwrap_err();
    assert!(error.is_would_block() && !error.is_owner_died() && error.into_guard().is_err());
    assert_eq!(format!("{permits:?}"), "Semaphore { value: 0, .. }");
    drop(one);
    assert_eq!(permits.value(), 1);
    other.forget();
    assert_eq!(permits.value(), 1);
    for value in [2, 3, 4] {
        permits.release().unwrap();
        assert_eq!(permits.value(), value);
    }
    assert!(Semaphore::new(Semaphore::MAX_PERMITS + 1).is_err());
    let most = Semaphore::new(Semaphore::MAX_PERMITS).unwrap();
    assert_eq!(most.release(), Err(ReleaseError));
}

/// CF-204.
#[test]
fn a_bounded_semaphore_never_has_more_than_it_began_with() {
    let _scene = scene();
    let seats = BoundedSemaphore::new(2).unwrap();
    let taken = [(); 2].map(|()| seats.try_acquire().unwrap());
    assert!(seats.try_acquire().is_err());
    assert_eq!(seats.release(), Err(ReleaseError), "those have theirs");
    for permit in taken {
        permit.forget();
    }
    for value in [1, 2] {
        seats.release().unwrap();
        assert_eq!(seats.value(), value);
    }
    assert_eq!(seats.release(), Err(ReleaseError));
    assert_eq!((seats.value(), seats.bound()), (2, 2));
}

/// CF-205, CF-207.
#[test]
fn a_limit_passes_not_earlier_than_it_should() {
    everywhere(|_| async {
        let permits = Semaphore::new(0).unwrap();
        assert!(permits.try_acquire().unwrap_err().is_would_block());
        let begun = Instant::now();
        let timed = permits.acquire_timeout(BRIEFLY).await;
        assert!(timed.unwrap_err().is_timeout());
        assert!(begun.elapsed() >= BRIEFLY);
        let none = permits.acquire_timeout(Duration::ZERO).await;
        assert!(none.unwrap_err().is_timeout());
        let blocks =
            |permits: Semaphore| move || permits.blocking_acquire(Some(BRIEFLY)).map(drop).is_err();
        let begun = Instant::now();
        let waits = tokio::task::spawn_blocking(blocks(permits.clone()));
        assert!(waits.await.unwrap() && begun.elapsed() >= BRIEFLY);
        let refused = std::panic::AssertUnwindSafe(blocks(permits.clone()));
        assert!(
            std::panic::catch_unwind(refused).is_err(),
            "inside of a task"
        );
        assert_eq!(permits.value(), 0);
        let late = permits.clone();
        let waits =
            tokio::task::spawn_blocking(move || late.blocking_acquire(Some(PROMPTLY)).is_ok());
        tokio::time::sleep(Duration::from_millis(5)).await;
        permits.release().unwrap();
        assert!(waits.await.unwrap(), "a permit came");
    });
}

/// CF-206, CF-207: and a future that is dropped has taken nothing.
#[test]
fn aborted_tasks_leave_their_permits_to_others() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (permits, go) = (Semaphore::new(2).unwrap(), Event::new().unwrap());
        let both = tokio::spawn({
            let (permits, go) = (permits.clone(), go.clone());
            async move {
                let _both = [permits.acquire().await, permits.acquire().await];
                go.set();
                std::future::pending::<()>().await;
            }
        });
        go.wait().await.unwrap();
        let waits: Vec<_> = (0..20)
            .map(|_| {
                let permits = permits.clone();
                tokio::spawn(async move { permits.acquire().await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        waits.iter().step_by(2).for_each(|wait| wait.abort());
        both.abort();
        let other = |permits: Semaphore| permits.blocking_acquire(None).is_ok();
        assert!(pool.submit(other, permits.clone()).await.unwrap());
        for (number, wait) in waits.into_iter().enumerate() {
            let waited = wait.await;
            assert!(number % 2 == 0 || waited.unwrap().is_ok());
        }
        assert_eq!(permits.value(), 2);
        pool.shutdown().await;
    });
}

/// CF-220: what one process acquires the others miss, and either kind may come back.
#[test]
fn semaphores_travel() {
    fn use_them((permits, seats): (Semaphore, BoundedSemaphore)) -> (Semaphore, BoundedSemaphore) {
        permits.try_acquire().unwrap().forget();
        permits.release().unwrap();
        permits.release().unwrap();
        assert_eq!((permits.value(), seats.release()), (3, Err(ReleaseError)));
        seats.blocking_acquire(None).unwrap().forget();
        (permits, seats)
    }

    everywhere(|method| async move {
        let (permits, seats) = (
            Semaphore::new(2).unwrap(),
            BoundedSemaphore::new(3).unwrap(),
        );
        let builder = Process::builder().start_method(method);
        let process = builder.spawn(use_them, (permits.clone(), seats.clone()));
        let (same, same_seats) = process.await.unwrap().join().await.unwrap();
        assert_eq!((permits.value(), seats.value()), (3, 2));
        same_seats.release().unwrap();
        drop((permits, seats));
        assert_eq!((same.value(), same_seats.bound()), (3, 3));
        assert!(postcard::to_stdvec(&same).is_err());
    });
}

/// CF-223: three threads, three processes and some tasks; never more than two inside.
#[test]
fn never_more_are_inside_than_there_are_permits() {
    /// One byte for each that may be inside.
    fn enter(inside: &SharedMemory, me: usize) {
        inside.write_at(me, &[1]);
        let all = inside.to_vec();
        assert!(
            all.iter().filter(|byte| **byte == 1).count() <= 2,
            "{all:?}"
        );
        inside.write_at(me, &[0]);
    }
    fn visit((permits, inside, me): (Semaphore, SharedMemory, usize)) {
        for _ in 0..1_000 {
            let _permit = permits.blocking_acquire(None).unwrap();
            enter(&inside, me);
        }
    }
    async fn visit_async((permits, inside, me): (Semaphore, SharedMemory, usize)) {
        for _ in 0..1_000 {
            let _permit = permits.acquire().await.unwrap();
            enter(&inside, me);
            tokio::task::yield_now().await;
        }
    }

    everywhere(|method| async move {
        let pool = pool(3, method);
        let (permits, inside) = (Semaphore::new(2).unwrap(), SharedMemory::new(8).unwrap());
        let job = |me| (permits.clone(), inside.clone(), me);
        let threads = [0, 1, 2].map(|me| {
            let job = job(me);
            tokio::task::spawn_blocking(move || visit(job))
        });
        let tasks = [3, 4].map(|me| tokio::spawn(visit_async(job(me))));
        let blocking = [5, 6].map(|me| pool.submit(visit, job(me)));
        pool.submit_async(visit_async, job(7)).await.unwrap();
        futures::future::try_join_all(blocking).await.unwrap();
        futures::future::try_join_all(tasks).await.unwrap();
        futures::future::try_join_all(threads).await.unwrap();
        assert_eq!(permits.value(), 2);
        pool.shutdown().await;
    });
}

/// Row 12: within a second, in a task, on a thread and in a stranger, each told once.
#[test]
fn the_permits_of_the_dead_come_back_and_each_is_told_once() {
    fn wait_for((permits, waits, go): (Semaphore, Event, Event)) -> bool {
        waits.set();
        let acquired = permits.blocking_acquire(None);
        go.blocking_wait(None).unwrap();
        acquired.unwrap_err().is_owner_died()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let permits = Semaphore::new(3).unwrap();
        let builder = || Process::builder().start_method(method);
        let mut holders = Vec::new();
        for _ in 0..3 {
            let held = Event::new().unwrap();
            let holder = builder().spawn(hold, (permits.clone(), held.clone()));
            holders.push(holder.await.unwrap());
            held.wait().await.unwrap();
        }
        let [waits, go] = [(); 2].map(|()| Event::new().unwrap());
        let stranger = pool.submit(wait_for, (permits.clone(), waits.clone(), go.clone()));
        waits.wait().await.unwrap();
        let in_thread = tokio::task::spawn_blocking({
            let permits = permits.clone();
            move || permits.blocking_acquire(Some(PROMPTLY))
        });
        let in_task = tokio::spawn({
            let permits = permits.clone();
            async move { permits.acquire().await }
        });
        tokio::task::yield_now().await;
        let killed = Instant::now();
        for holder in &holders {
            assert!(send(holder.pid(), libc::SIGKILL));
        }
        let permit = |error: AcquireError| error.into_guard().unwrap();
        let here = [
            permit(in_task.await.unwrap().unwrap_err()),
            permit(in_thread.await.unwrap().unwrap_err()),
        ];
        assert!(killed.elapsed() < A_SECOND);
        assert_eq!(permits.value(), 0);
        go.set();
        assert!(stranger.await.unwrap());
        drop(here);
        assert_eq!(permits.value(), 3);
        for _ in 0..3 {
            permits.try_acquire().unwrap().forget();
        }
        pool.shutdown().await;
    });
}

/// One that takes it again as soon as it has given it back.
#[test]
fn nobody_starves_beside_some_who_are_always_faster() {
    fn hog((permits, enough): (Semaphore, Event)) -> u64 {
        let mut times = 0;
        while !enough.is_set() {
            let _permit = permits.blocking_acquire(None).unwrap();
            times += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
        times
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let (permits, enough) = (Semaphore::new(2).unwrap(), Event::new().unwrap());
        let hogs = [(); 2].map(|()| pool.submit(hog, (permits.clone(), enough.clone())));
        assert!(soon(PROMPTLY, || permits.value() == 0).await);
        for _ in 0..50 {
            permits.acquire_timeout(PROMPTLY).await.map(drop).unwrap();
        }
        enough.set();
        for hog in hogs {
            assert!(hog.await.unwrap() > 0);
        }
        pool.shutdown().await;
    });
}

/// A thousand holders, waiters and releasers killed at any instant: no permit is lost.
#[test]
#[ignore = "takes a minute"]
fn no_kill_at_any_instant_loses_a_permit() {
    soak(1_000);
}

#[test]
fn some_kills_at_any_instant_lose_no_permit() {
    soak(30);
}

fn soak(kills: u32) {
    fn work((permits, beats, me): (Semaphore, SharedMemory, usize)) {
        for beat in (0..=u8::MAX).cycle() {
            let acquired = permits.blocking_acquire(None);
            let permit = acquired.or_else(AcquireError::into_guard).unwrap();
            beats.write_at(me, &[beat]);
            drop(permit);
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        let (permits, beats) = (Semaphore::new(2).unwrap(), SharedMemory::new(4).unwrap());
        let spawn = |me: usize| {
            let builder = Process::builder().stderr(Stdio::null());
            builder.spawn(work, (permits.clone(), beats.clone(), me))
        };
        let mut workers = std::collections::VecDeque::new();
        for me in 0..4 {
            workers.push_back((me, spawn(me).await.unwrap()));
        }
        for kill in 0..kills {
            let before = beats.to_vec();
            let all_go_on = || {
                beats
                    .to_vec()
                    .iter()
                    .zip(&before)
                    .all(|(now, then)| now != then)
            };
            assert!(soon(PROMPTLY, all_go_on).await, "kill {kill}: {permits:?}");
            for _ in 0..kill % 97 {
                std::hint::spin_loop();
            }
            let (me, victim) = workers.pop_front().unwrap();
            assert!(send(victim.pid(), libc::SIGKILL));
            victim.wait().await;
            workers.push_back((me, spawn(me).await.unwrap()));
        }
        for (_, worker) in workers {
            worker.kill();
            worker.wait().await;
            assert!(!is_alive(worker.pid()));
        }
        let both = [
            permits.acquire_timeout(PROMPTLY).await,
            permits.acquire_timeout(PROMPTLY).await,
        ];
        let both = both.map(|one| one.or_else(AcquireError::into_guard).unwrap());
        assert!(permits.try_acquire().is_err(), "and none was made");
        drop(both);
    });
}

/// Killed while they release what nobody had: what is there to be seen somebody gets.
#[test]
fn who_dies_while_he_adds_permits_leaves_nobody_asleep() {
    fn add(permits: Semaphore) {
        while permits.release().is_ok() {
            // As many as are taken.
            while permits.value() > 2 {
                std::thread::yield_now();
            }
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        for round in 0..100 {
            let permits = Semaphore::new(0).unwrap();
            let builder = Process::builder().stderr(Stdio::null());
            let adds = builder.spawn(add, permits.clone()).await.unwrap();
            permits.acquire().await.unwrap().forget();
            let taker = tokio::spawn({
                let permits = permits.clone();
                async move {
                    loop {
                        permits.acquire().await.unwrap().forget();
                    }
                }
            });
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            assert!(send(adds.pid(), libc::SIGKILL));
            adds.wait().await;
            let all_taken = || permits.value() == 0;
            assert!(soon(PROMPTLY, all_taken).await, "round {round}");
            taker.abort();
            let _ = taker.await;
        }
    });
}
