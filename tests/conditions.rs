//! Conditions between processes: who waits has not the lock, and goes on with it once he is notified.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::error::Error as _;
use std::time::{Duration, Instant};

use deeds::send;
use procpool::{Condition, Event, Lock, LockError, Process, SharedMemory, Stdio, WrongLock, pipe};
use support::{PROMPTLY, everywhere, is_alive, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);
const A_SECOND: Duration = Duration::from_secs(1);

fn how_many_wait(condition: &Condition) -> usize {
    let text = format!("{condition:?}");
    let count = text
        .split("waiting: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    count.unwrap().parse().unwrap()
}

/// As a task: waits until it is notified, and counts that.
fn wait_and_count((condition, count): (Condition, SharedMemory)) {
    let guard = condition.blocking_lock(None).unwrap();
    let (guard, notified) = condition.blocking_wait(guard, None).unwrap();
    assert!(notified);
    count.write_at(0, &[count.to_vec()[0] + 1]);
    drop(guard);
}

/// CF-208, CF-220: a process, a thread and a task.
#[test]
fn each_notification_wakes_exactly_one() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (condition, count) = (Condition::new().unwrap(), SharedMemory::new(1).unwrap());
        let job = || (condition.clone(), count.clone());
        let far = pool.submit(wait_and_count, job());
        let thread = tokio::task::spawn_blocking({
            let job = job();
            move || wait_and_count(job)
        });
        let task = tokio::spawn({
            let (condition, count) = job();
            async move {
                let guard = condition.lock().await.unwrap();
                let guard = condition.wait(guard).await.unwrap();
                count.write_at(0, &[count.to_vec()[0] + 1]);
                drop(guard);
            }
        });
        assert!(soon(PROMPTLY, || how_many_wait(&condition) == 3).await);
        for woken in 0..3 {
            assert_eq!(count.to_vec(), [woken]);
            let guard = condition.lock().await.unwrap();
            assert!(condition.notify_one(&guard).unwrap());
            drop(guard);
            assert!(soon(PROMPTLY, || count.to_vec() == [woken + 1]).await);
        }
        far.await.unwrap();
        thread.await.unwrap();
        task.await.unwrap();
        let guard = condition.lock().await.unwrap();
        assert_eq!(how_many_wait(&condition), 0);
        assert!(!condition.notify_one(&guard).unwrap());
        pool.shutdown().await;
    });
}

/// CF-208: so many of those who wait longest, then the others.
#[test]
fn those_who_wait_longest_are_notified_first() {
    everywhere(|_| async {
        let condition = Condition::new().unwrap();
        let mut waits = Vec::new();
        for number in 1..=5 {
            let waiting = condition.clone();
            waits.push(tokio::spawn(async move {
                let guard = waiting.lock().await.unwrap();
                waiting.wait(guard).await.map(drop)
            }));
            assert!(soon(PROMPTLY, || how_many_wait(&condition) == number).await);
        }
        for (most, notified, done) in [(2, 2, 2), (1, 1, 3), (usize::MAX, 2, 5)] {
            let guard = condition.lock().await.unwrap();
            let told = match most {
                usize::MAX => condition.notify_all(&guard),
                most => condition.notify(&guard, most),
            };
            assert_eq!(told, Ok(notified));
            drop(guard);
            let first_are = || {
                waits[..done]
                    .iter()
                    .all(tokio::task::JoinHandle::is_finished)
            };
            assert!(soon(PROMPTLY, first_are).await);
            let others = &waits[done..];
            assert!(!others.iter().any(tokio::task::JoinHandle::is_finished));
        }
        for wait in waits {
            wait.await.unwrap().unwrap();
        }
    });
}

/// CF-209, CF-211.
#[test]
fn a_limit_that_passes_is_told_with_the_lock() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let condition = Condition::new().unwrap();
        let guard = condition.lock().await.unwrap();
        let begun = Instant::now();
        let waited = condition.wait_timeout(guard, Duration::ZERO).await;
        let (guard, notified) = waited.unwrap();
        assert!(!notified && condition.as_lock().is_locked());
        let (guard, notified) = condition.wait_timeout(guard, BRIEFLY).await.unwrap();
        assert!(!notified && condition.as_lock().is_locked());
        assert!(begun.elapsed() >= BRIEFLY);
        let begun = Instant::now();
        let never = condition.wait_for_timeout(guard, BRIEFLY, || false).await;
        let (guard, is_so) = never.unwrap();
        assert!(!is_so && begun.elapsed() >= BRIEFLY);
        let notify = |condition: Condition| {
            let guard = condition.blocking_lock(None).unwrap();
            condition.notify_one(&guard).unwrap()
        };
        let notifies = pool.submit(notify, condition.clone());
        let (guard, notified) = condition.wait_timeout(guard, PROMPTLY).await.unwrap();
        assert!(notified && notifies.await.unwrap());
        drop(guard);

        let waiting = condition.clone();
        let blocking = tokio::task::spawn_blocking(move || {
            let guard = waiting.blocking_lock(None).unwrap();
            let begun = Instant::now();
            let (guard, notified) = waiting.blocking_wait(guard, Some(BRIEFLY)).unwrap();
            assert!(!notified && begun.elapsed() >= BRIEFLY);
            let never = waiting.blocking_wait_for(guard, Some(BRIEFLY), || false);
            let (guard, is_so) = never.unwrap();
            assert!(!is_so && waiting.as_lock().is_locked());
            drop(guard);
        });
        blocking.await.unwrap();
        assert!(!condition.as_lock().is_locked());
        pool.shutdown().await;
    });
}

/// CF-210.
#[test]
fn both_sides_wait_for_what_the_other_does() {
    fn wait_for_four((condition, number): (Condition, SharedMemory)) {
        let guard = condition.blocking_lock(None).unwrap();
        number.write_at(0, &[0]);
        condition.notify_one(&guard).unwrap();
        let four = || number.to_vec() == [4];
        let (_guard, is_so) = condition
            .blocking_wait_for(guard, Some(PROMPTLY), four)
            .unwrap();
        assert!(is_so);
    }

    everywhere(|method| async move {
        let (condition, number) = (Condition::new().unwrap(), SharedMemory::new(1).unwrap());
        number.write_at(0, &[255]);
        let builder = Process::builder().start_method(method);
        let child = builder.spawn(wait_for_four, (condition.clone(), number.clone()));
        let child = child.await.unwrap();
        let guard = condition.lock().await.unwrap();
        let guard = condition.wait_for(guard, || number.to_vec() == [0]).await;
        drop(guard.unwrap());
        for value in 1..=4 {
            let guard = condition.lock().await.unwrap();
            number.write_at(0, &[value]);
            condition.notify_one(&guard).unwrap();
            drop(guard);
        }
        child.join().await.unwrap();
    });
}

/// CF-212: what else there is is a guard of another lock.
#[test]
fn the_guard_of_another_lock_is_refused_and_comes_back() {
    everywhere(|_| async {
        let (condition, other) = (Condition::new().unwrap(), Lock::new().unwrap());
        let guard = other.lock().await.unwrap();
        assert_eq!(condition.notify_one(&guard), Err(WrongLock));
        assert_eq!(condition.notify_all(&guard), Err(WrongLock));
        let error = condition.wait(guard).await.unwrap_err();
        assert!(error.is_wrong_lock() && !error.is_owner_died() && error.source().is_none());
        let guard = error.into_guard().unwrap();
        assert!(other.is_locked());
        drop(guard);

        // The same lock is the same by whichever way it came.
        let another = Condition::with_lock(condition.as_lock()).unwrap();
        let (mut here, mut there) = pipe::<(Lock, Condition), ()>().unwrap();
        let sent = (condition.as_lock().clone(), condition.clone());
        here.send(&sent).await.unwrap();
        let (lock, condition) = there.recv().await.unwrap();
        let guard = lock.lock().await.unwrap();
        for condition in [&condition, &another] {
            assert_eq!(condition.notify_one(&guard), Ok(false));
        }
        let waited = condition.wait_timeout(guard, Duration::ZERO).await;
        assert!(!waited.unwrap().1);
        assert!(postcard::to_stdvec(&condition).is_err());
    });
}

/// A future that is dropped: before it is notified, and after.
#[test]
fn a_wait_that_is_dropped_passes_on_what_it_was_notified_of() {
    everywhere(|_| async {
        let condition = Condition::new().unwrap();
        let wait = || {
            let condition = condition.clone();
            tokio::spawn(async move {
                let guard = condition.lock().await.unwrap();
                condition.wait(guard).await.map(drop)
            })
        };
        let mut waits = Vec::new();
        for number in 1..=3 {
            waits.push(wait());
            assert!(soon(PROMPTLY, || how_many_wait(&condition) == number).await);
        }
        waits.remove(0).abort();
        assert!(soon(PROMPTLY, || how_many_wait(&condition) == 2).await);
        let guard = condition.lock().await.unwrap();
        assert!(condition.notify_one(&guard).unwrap());
        // It cannot go on yet: the lock is held.
        let victim = waits.remove(0);
        victim.abort();
        assert!(victim.await.unwrap_err().is_cancelled());
        drop(guard);
        waits.remove(0).await.unwrap().unwrap();
        assert_eq!(how_many_wait(&condition), 0);
        assert!(!condition.as_lock().is_locked());
    });
}

/// Killed while it waits, or once it was notified and before it has the lock.
#[test]
fn a_waiter_that_dies_takes_no_notification_with_it() {
    fn wait((condition, _): (Condition, SharedMemory)) {
        let guard = condition.blocking_lock(None).unwrap();
        condition.blocking_wait(guard, None).map(drop).unwrap();
    }

    everywhere(|method| async move {
        for notified_first in [false, true] {
            let (condition, count) = (Condition::new().unwrap(), SharedMemory::new(1).unwrap());
            let job = || (condition.clone(), count.clone());
            let builder = Process::builder().start_method(method);
            let victim = builder.spawn(wait, job()).await.unwrap();
            assert!(soon(PROMPTLY, || how_many_wait(&condition) == 1).await);
            let lives = tokio::task::spawn_blocking({
                let job = job();
                move || wait_and_count(job)
            });
            assert!(soon(PROMPTLY, || how_many_wait(&condition) == 2).await);
            let guard = condition.lock().await.unwrap();
            if notified_first {
                assert!(condition.notify_one(&guard).unwrap());
            }
            assert!(send(victim.pid(), libc::SIGKILL));
            victim.wait().await;
            if !notified_first {
                assert!(condition.notify_one(&guard).unwrap());
            }
            drop(guard);
            let killed = Instant::now();
            lives.await.unwrap();
            assert!(killed.elapsed() < A_SECOND && count.to_vec() == [1]);
        }
    });
}

/// Row 12: who dies with the lock may have been about to notify.
#[test]
fn all_who_wait_wake_when_a_process_dies_with_the_lock() {
    fn hold((condition, held): (Condition, Event)) {
        let guard = condition.blocking_lock(None).unwrap();
        held.set();
        loop {
            std::thread::park();
            let _ = &guard;
        }
    }
    fn wait(condition: Condition) -> bool {
        let guard = condition.blocking_lock(None).unwrap();
        let waited = condition.blocking_wait(guard, Some(PROMPTLY));
        waited.unwrap_err().is_owner_died()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (condition, held) = (Condition::new().unwrap(), Event::new().unwrap());
        let stranger = pool.submit(wait, condition.clone());
        let in_thread = tokio::task::spawn_blocking({
            let condition = condition.clone();
            move || wait(condition)
        });
        let in_task = tokio::spawn({
            let condition = condition.clone();
            async move {
                let guard = condition.lock().await.unwrap();
                condition.wait(guard).await.unwrap_err().is_owner_died()
            }
        });
        assert!(soon(PROMPTLY, || how_many_wait(&condition) == 3).await);
        let builder = Process::builder().start_method(method);
        let holder = builder.spawn(hold, (condition.clone(), held.clone()));
        let holder = holder.await.unwrap();
        held.wait().await.unwrap();
        assert!(send(holder.pid(), libc::SIGKILL));
        let killed = Instant::now();
        assert!(stranger.await.unwrap() && in_thread.await.unwrap() && in_task.await.unwrap());
        assert!(killed.elapsed() < A_SECOND);
        let guard = condition.lock().await.unwrap_err().into_guard().unwrap();
        guard.mark_sound();
        drop(guard);
        let guard = condition.lock().await.unwrap();
        assert_eq!(condition.notify_all(&guard), Ok(0));
        pool.shutdown().await;
    });
}

/// CF-223: three threads, three processes and some tasks hand a number round.
#[test]
fn turns_are_taken_by_threads_processes_and_tasks() {
    const PLAYERS: u8 = 8;
    const ROUNDS: u8 = 20;

    type Job = (Condition, SharedMemory, u8);

    fn play((condition, turn, me): Job) {
        for _ in 0..ROUNDS {
            let guard = condition.blocking_lock(None).unwrap();
            let mine = || turn.to_vec() == [me];
            let waited = condition.blocking_wait_for(guard, Some(PROMPTLY), mine);
            let (guard, is_mine) = waited.unwrap();
            assert!(is_mine, "{me}: {:?}", turn.to_vec());
            turn.write_at(0, &[(me + 1) % PLAYERS]);
            condition.notify_all(&guard).unwrap();
        }
    }
    async fn play_async((condition, turn, me): Job) {
        for _ in 0..ROUNDS {
            let guard = condition.lock().await.unwrap();
            let mine = || turn.to_vec() == [me];
            let guard = condition.wait_for(guard, mine).await.unwrap();
            turn.write_at(0, &[(me + 1) % PLAYERS]);
            condition.notify_all(&guard).unwrap();
        }
    }

    everywhere(|method| async move {
        let pool = pool(3, method);
        let (condition, turn) = (Condition::new().unwrap(), SharedMemory::new(1).unwrap());
        let job = |me| (condition.clone(), turn.clone(), me);
        let threads = [0, 1, 2].map(|me| {
            let job = job(me);
            tokio::task::spawn_blocking(move || play(job))
        });
        let tasks = [3, 4].map(|me| tokio::spawn(play_async(job(me))));
        let blocking = [5, 6].map(|me| pool.submit(play, job(me)));
        pool.submit_async(play_async, job(7)).await.unwrap();
        futures::future::try_join_all(blocking).await.unwrap();
        futures::future::try_join_all(tasks).await.unwrap();
        futures::future::try_join_all(threads).await.unwrap();
        assert_eq!(how_many_wait(&condition), 0);
        pool.shutdown().await;
    });
}

/// A thousand who wait and notify killed at any instant: the others go on.
#[test]
#[ignore = "takes minutes"]
fn no_kill_at_any_instant_stops_the_others() {
    soak(1_000);
}

#[test]
fn some_kills_at_any_instant_do_not_stop_the_others() {
    soak(20);
}

fn soak(kills: u32) {
    /// Takes what there is, makes one more, and waits where there is none.
    fn work((condition, state, me): (Condition, SharedMemory, usize)) {
        for beat in (0..=u8::MAX).cycle() {
            let locked = condition.blocking_lock(None);
            let mut guard = locked.or_else(LockError::into_guard).unwrap();
            guard.mark_sound();
            while state.to_vec()[0] == 0 {
                let waited = condition.blocking_wait(guard, None);
                guard = match waited {
                    Ok((guard, _)) => guard,
                    Err(error) => error.into_guard().unwrap(),
                };
                guard.mark_sound();
            }
            state.write_at(0, &[0]);
            state.write_at(me, &[beat]);
            state.write_at(0, &[1]);
            condition.notify_one(&guard).unwrap();
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        let (condition, state) = (Condition::new().unwrap(), SharedMemory::new(5).unwrap());
        state.write_at(0, &[1]);
        let spawn = |me: usize| {
            let builder = Process::builder().stderr(Stdio::null());
            builder.spawn(work, (condition.clone(), state.clone(), me))
        };
        let mut workers = std::collections::VecDeque::new();
        for me in 1..=4 {
            workers.push_back((me, spawn(me).await.unwrap()));
        }
        for kill in 0..kills {
            let before = state.to_vec();
            let all_go_on = || {
                let now = state.to_vec();
                now[1..]
                    .iter()
                    .zip(&before[1..])
                    .all(|(now, then)| now != then)
            };
            assert!(
                soon(PROMPTLY, all_go_on).await,
                "kill {kill}: {condition:?}"
            );
            for _ in 0..kill % 97 {
                std::hint::spin_loop();
            }
            let (me, victim) = workers.pop_front().unwrap();
            assert!(send(victim.pid(), libc::SIGKILL));
            victim.wait().await;
            // It may have died between taking and making.
            let locked = condition.as_lock().lock_timeout(PROMPTLY).await;
            let guard = locked.or_else(LockError::into_guard).unwrap();
            guard.mark_sound();
            state.write_at(0, &[1]);
            condition.notify_one(&guard).unwrap();
            drop(guard);
            workers.push_back((me, spawn(me).await.unwrap()));
        }
        for (_, worker) in workers {
            worker.kill();
            worker.wait().await;
            assert!(!is_alive(worker.pid()));
        }
    });
}
