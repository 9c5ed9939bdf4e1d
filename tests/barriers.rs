//! Barriers between processes: all pass or all fail, round after round, and nobody is left behind.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::error::Error as _;
use std::time::{Duration, Instant};

use deeds::send;
use procpool::{Barrier, BarrierError, BarrierWaitResult, Event, Process, SharedMemory, Stdio};
use support::{PROMPTLY, everywhere, is_alive, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);
const A_SECOND: Duration = Duration::from_secs(1);

fn passes(barrier: Barrier) -> usize {
    barrier.blocking_wait(Some(PROMPTLY)).unwrap().index()
}

fn counts(memory: &SharedMemory, range: std::ops::Range<usize>) -> u32 {
    memory.to_vec()[range]
        .iter()
        .map(|byte| u32::from(*byte))
        .sum()
}

/// CF-215, CF-220: two processes, two threads and a task, ten rounds.
#[test]
fn parties_pass_in_lockstep() {
    const PARTIES: u32 = 5;

    type Job = (Barrier, SharedMemory, usize);

    /// Each has a byte of its own for each of two steps.
    fn step((barrier, steps, me): &Job, round: u8, first: bool) {
        let own = if first { *me } else { *me + 5 };
        steps.write_at(own, &[round + 1]);
        let _ = barrier;
    }
    fn check((_, steps, _): &Job, round: u8, first: bool) {
        let now = counts(steps, if first { 0..5 } else { 5..10 });
        assert_eq!(now, PARTIES * (u32::from(round) + 1));
    }
    fn march(job: Job) {
        for round in 0..10 {
            for first in [true, false] {
                step(&job, round, first);
                job.0.blocking_wait(Some(PROMPTLY)).unwrap();
                check(&job, round, first);
            }
        }
    }
    async fn march_async(job: Job) {
        for round in 0..10 {
            for first in [true, false] {
                step(&job, round, first);
                job.0.wait().await.unwrap();
                check(&job, round, first);
            }
        }
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let barrier = Barrier::with_timeout(5, PROMPTLY).unwrap();
        let steps = SharedMemory::new(10).unwrap();
        let job = |me| (barrier.clone(), steps.clone(), me);
        let far = [0, 1].map(|me| pool.submit(march, job(me)));
        let near = [2, 3].map(|me| {
            let job = job(me);
            tokio::task::spawn_blocking(move || march(job))
        });
        march_async(job(4)).await;
        futures::future::try_join_all(far).await.unwrap();
        futures::future::try_join_all(near).await.unwrap();
        assert_eq!((barrier.n_waiting(), barrier.is_broken()), (0, false));
        assert_eq!(
            format!("{barrier:?}"),
            "Barrier { parties: 5, waiting: 0, is_broken: false, .. }"
        );
        pool.shutdown().await;
    });
}

/// CF-216.
#[test]
fn each_party_of_a_round_has_a_number_of_its_own() {
    everywhere(|method| async move {
        let pool = pool(2, method);
        let barrier = Barrier::new(5).unwrap();
        for _ in 0..3 {
            let far = [(); 2].map(|()| pool.submit(passes, barrier.clone()));
            let near = [(); 3].map(|()| {
                let barrier = barrier.clone();
                tokio::spawn(async move { barrier.wait().await.unwrap() })
            });
            let near = futures::future::try_join_all(near).await.unwrap();
            let leaders = near.iter().filter(|one| one.is_leader()).count();
            let mut numbers = futures::future::try_join_all(far).await.unwrap();
            let others = numbers.iter().filter(|number| **number == 0).count();
            assert_eq!(leaders + others, 1);
            numbers.extend(near.iter().map(BarrierWaitResult::index));
            numbers.sort_unstable();
            assert_eq!(numbers, [0, 1, 2, 3, 4]);
        }
        pool.shutdown().await;
    });
}

/// CF-217: as often as there are rounds, and before anybody goes on.
#[test]
fn the_last_party_runs_its_action_before_anybody_goes_on() {
    fn act((barrier, times): (Barrier, SharedMemory)) -> u8 {
        let action = || times.write_at(0, &[times.to_vec()[0] + 1]);
        barrier.blocking_wait_with(Some(PROMPTLY), action).unwrap();
        times.to_vec()[0]
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let (barrier, times) = (Barrier::new(3).unwrap(), SharedMemory::new(1).unwrap());
        for round in 1..=3 {
            let far = [(); 2].map(|()| pool.submit(act, (barrier.clone(), times.clone())));
            let action = || times.write_at(0, &[times.to_vec()[0] + 1]);
            barrier.wait_with(action).await.unwrap();
            assert_eq!(times.to_vec(), [round]);
            let far = futures::future::try_join_all(far).await.unwrap();
            assert_eq!(far, [round; 2]);
        }
        pool.shutdown().await;
    });
}

/// CF-217: and one that panics.
#[test]
fn an_action_that_panics_breaks_the_barrier() {
    everywhere(|_| async {
        let barrier = Barrier::new(2).unwrap();
        let waits = tokio::spawn({
            let barrier = barrier.clone();
            async move { barrier.wait().await }
        });
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 1).await);
        let panics = tokio::spawn({
            let barrier = barrier.clone();
            async move {
                barrier
                    .wait_with(|| std::panic::resume_unwind(Box::new(())))
                    .await
            }
        });
        assert!(panics.await.unwrap_err().is_panic());
        let error = waits.await.unwrap().unwrap_err();
        assert!(error.is_broken() && error.to_string().contains("action"));
        assert!(barrier.is_broken());
    });
}

/// CF-218.
#[test]
fn a_barrier_that_was_aborted_is_reset_and_passed() {
    fn party((barrier, other, resets): (Barrier, Barrier, bool)) -> [bool; 2] {
        let error = barrier.blocking_wait(Some(PROMPTLY)).unwrap_err();
        assert!(barrier.is_broken());
        other.blocking_wait(Some(PROMPTLY)).unwrap();
        if resets {
            barrier.reset();
        }
        other.blocking_wait(Some(PROMPTLY)).unwrap();
        let passed = barrier.blocking_wait(Some(PROMPTLY)).is_ok();
        [error.is_aborted(), passed]
    }

    everywhere(|method| async move {
        let pool = pool(4, method);
        let [barrier, other] = [(); 2].map(|()| Barrier::new(5).unwrap());
        let far: Vec<_> = (0..4)
            .map(|me| pool.submit(party, (barrier.clone(), other.clone(), me == 2)))
            .collect();
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 4).await);
        barrier.abort();
        let last = tokio::task::spawn_blocking({
            let (barrier, other) = (barrier.clone(), other.clone());
            move || party((barrier, other, false))
        });
        assert_eq!(last.await.unwrap(), [true; 2]);
        let far = futures::future::try_join_all(far).await.unwrap();
        assert_eq!(far, [[true; 2]; 4]);
        assert!(!barrier.is_broken() && !other.is_broken());
        pool.shutdown().await;
    });
}

/// CF-218: while some are in.
#[test]
fn a_reset_ends_the_round_for_those_who_are_in() {
    everywhere(|_| async {
        let barrier = Barrier::new(3).unwrap();
        let wait = || {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.wait().await })
        };
        let waits = [wait(), wait()];
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 2).await);
        barrier.reset();
        for wait in waits {
            let error = wait.await.unwrap().unwrap_err();
            assert!(error.is_reset() && error.is_broken() && error.source().is_none());
        }
        assert!(!barrier.is_broken());
        for wait in [wait(), wait(), wait()] {
            wait.await.unwrap().unwrap();
        }
    });
}

/// CF-219.
#[test]
fn a_barrier_of_one_keeps_nobody_waiting() {
    let _scene = scene();
    let barrier = Barrier::new(1).unwrap();
    for _ in 0..2 {
        let passed = barrier.blocking_wait(Some(Duration::ZERO)).unwrap();
        assert!(passed.is_leader() && barrier.n_waiting() == 0);
    }
    for parties in [0, Barrier::MAX_PARTIES + 1] {
        let refused = Barrier::new(parties).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
    assert_eq!(barrier.parties(), 1);
}

/// As Python's: the limit of one is the end for all, given to the barrier or to the wait.
#[test]
fn a_limit_that_passes_breaks_it_for_all() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let barrier = Barrier::with_timeout(3, BRIEFLY).unwrap();
        let wait = |barrier: Barrier| {
            barrier
                .blocking_wait(Some(PROMPTLY))
                .unwrap_err()
                .is_timeout()
        };
        let far = pool.submit(wait, barrier.clone());
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 1).await);
        let begun = Instant::now();
        assert!(barrier.wait().await.unwrap_err().is_timeout());
        assert!(begun.elapsed() >= BRIEFLY);
        assert!(far.await.unwrap() && begun.elapsed() < BRIEFLY + A_SECOND);
        assert!(barrier.is_broken());
        // And stays so, for whoever comes.
        let error = barrier.wait_timeout(PROMPTLY).await.unwrap_err();
        assert!(error.is_timeout() && error.is_broken() && !error.is_aborted());
        let blocks = std::panic::AssertUnwindSafe(|| barrier.blocking_wait(None));
        assert!(
            std::panic::catch_unwind(blocks).is_err(),
            "inside of a task"
        );
        barrier.reset();
        assert!(!barrier.is_broken());
        pool.shutdown().await;
    });
}

/// A future that is dropped: with it the others cannot pass.
#[test]
fn a_wait_that_is_dropped_breaks_it_for_the_others() {
    everywhere(|_| async {
        let barrier = Barrier::new(3).unwrap();
        let wait = || {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.wait().await })
        };
        let waits = [wait(), wait()];
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 2).await);
        let [dropped, stays] = waits;
        dropped.abort();
        let error = stays.await.unwrap().unwrap_err();
        assert!(error.is_broken() && !error.is_timeout() && !error.is_owner_died());
        assert!(barrier.is_broken() && barrier.n_waiting() == 0);
    });
}

/// Row 12: within a second, in a task, on a thread and in a stranger, and for whoever comes later.
#[test]
fn the_death_of_a_party_breaks_it_for_the_others() {
    fn wait(barrier: Barrier) -> bool {
        let error = barrier.blocking_wait(Some(PROMPTLY)).unwrap_err();
        error.is_owner_died() && error.is_broken()
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        for comes_last in [false, true] {
            let barrier = Barrier::new(5).unwrap();
            let spawn = || {
                let builder = Process::builder().start_method(method);
                builder.spawn(wait, barrier.clone())
            };
            let mut victim = None;
            if !comes_last {
                victim = Some(spawn().await.unwrap());
                assert!(soon(PROMPTLY, || barrier.n_waiting() == 1).await);
            }
            let stranger = pool.submit(wait, barrier.clone());
            let in_thread = tokio::task::spawn_blocking({
                let barrier = barrier.clone();
                move || wait(barrier)
            });
            let in_task = tokio::spawn({
                let barrier = barrier.clone();
                async move { barrier.wait().await.unwrap_err().is_owner_died() }
            });
            let before = if comes_last { 3 } else { 4 };
            assert!(soon(PROMPTLY, || barrier.n_waiting() == before).await);
            let victim = match victim {
                Some(victim) => victim,
                None => spawn().await.unwrap(),
            };
            assert!(soon(PROMPTLY, || barrier.n_waiting() == 4).await);
            assert!(send(victim.pid(), libc::SIGKILL));
            let killed = Instant::now();
            assert!(stranger.await.unwrap() && in_thread.await.unwrap() && in_task.await.unwrap());
            assert!(killed.elapsed() < A_SECOND);
            assert!(barrier.wait().await.unwrap_err().is_owner_died());
            barrier.reset();
            assert!(!barrier.is_broken() && barrier.n_waiting() == 0);
        }
        pool.shutdown().await;
    });
}

/// The last one who comes finds out himself, where nobody else is there to.
#[test]
fn nobody_passes_with_one_who_is_dead() {
    everywhere(|method| async move {
        let barrier = Barrier::new(2).unwrap();
        let builder = Process::builder().start_method(method);
        let victim = builder.spawn(passes, barrier.clone()).await.unwrap();
        assert!(soon(PROMPTLY, || barrier.n_waiting() == 1).await);
        assert!(send(victim.pid(), libc::SIGKILL));
        victim.wait().await;
        let error = barrier
            .wait_with(|| panic!("not all are there"))
            .await
            .unwrap_err();
        assert!(error.is_owner_died());
    });
}

/// CF-221.
#[test]
fn barriers_travel_and_only_where_they_can() {
    everywhere(|method| async move {
        let barrier = Barrier::new(2).unwrap();
        let builder = Process::builder().start_method(method);
        let pass = |barrier: Barrier| barrier.blocking_wait(None).map(|_| barrier).unwrap();
        let child = builder.spawn(pass, barrier.clone()).await.unwrap();
        barrier.wait().await.unwrap();
        let same = child.join().await.unwrap();
        same.abort();
        assert!(barrier.is_broken());
        assert!(postcard::to_stdvec(&same).is_err());
    });
}

/// A thousand parties killed at any instant: the others are told, and go on.
#[test]
#[ignore = "takes minutes"]
fn no_kill_at_any_instant_leaves_a_party_behind() {
    soak(1_000);
}

#[test]
fn some_kills_at_any_instant_leave_no_party_behind() {
    soak(20);
}

fn soak(kills: u32) {
    fn work((barrier, beats, me): (Barrier, SharedMemory, usize)) {
        for beat in (0..=u8::MAX).cycle() {
            // It breaks if the limit passes, too: then somebody was left behind.
            match barrier.blocking_wait(Some(PROMPTLY)) {
                Ok(_) => beats.write_at(me, &[beat]),
                Err(error) if error.is_timeout() => beats.write_at(4, &[1]),
                Err(_) => barrier.reset(),
            }
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        let (barrier, beats) = (Barrier::new(3).unwrap(), SharedMemory::new(5).unwrap());
        let spawn = |me: usize| {
            let builder = Process::builder().stderr(Stdio::null());
            builder.spawn(work, (barrier.clone(), beats.clone(), me))
        };
        let mut workers = std::collections::VecDeque::new();
        for me in 0..3 {
            workers.push_back((me, spawn(me).await.unwrap()));
        }
        for kill in 0..kills {
            let before = beats.to_vec();
            let all_go_on = || {
                let now = beats.to_vec();
                now[..3]
                    .iter()
                    .zip(&before[..3])
                    .all(|(now, then)| now != then)
            };
            assert!(soon(PROMPTLY, all_go_on).await, "kill {kill}: {barrier:?}");
            assert_eq!(beats.to_vec()[4], 0, "kill {kill}");
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
    });
}

/// Killed while they abort and reset: whoever is in is told of what is there to be seen.
#[test]
fn who_dies_while_he_aborts_leaves_nobody_asleep() {
    fn abort_and_reset((barrier, goes): (Barrier, Event)) {
        goes.set();
        loop {
            barrier.abort();
            barrier.reset();
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        for round in 0..50 {
            let (barrier, goes) = (Barrier::new(2).unwrap(), Event::new().unwrap());
            let builder = Process::builder().stderr(Stdio::null());
            let job = (barrier.clone(), goes.clone());
            let aborts = builder.spawn(abort_and_reset, job).await.unwrap();
            goes.wait().await.unwrap();
            let waits = tokio::spawn({
                let barrier = barrier.clone();
                async move {
                    loop {
                        let waited: Result<_, BarrierError> = barrier.wait().await;
                        if waited.is_ok() {
                            return;
                        }
                    }
                }
            });
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            assert!(send(aborts.pid(), libc::SIGKILL));
            aborts.wait().await;
            // Where it is broken that one fails again and again; else it waits.
            barrier.reset();
            assert!(
                soon(PROMPTLY, || barrier.n_waiting() == 1).await,
                "round {round}"
            );
            barrier.wait_timeout(PROMPTLY).await.unwrap();
            waits.await.unwrap();
        }
    });
}
