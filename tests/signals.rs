//! Events between processes: flags that any of them sets and clears, and any number wait for.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::time::{Duration, Instant};

use deeds::send;
use procpool::{Event, Process, Stdio};
use support::{PROMPTLY, everywhere, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);

/// CF-213, CF-220.
#[test]
fn an_event_is_waited_for_until_it_is_set() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let event = Event::new().unwrap();
        assert!(!event.is_set());
        assert!(!event.wait_timeout(Duration::ZERO).await.unwrap());
        assert!(!event.blocking_wait(Some(Duration::ZERO)).unwrap());
        let begun = Instant::now();
        assert!(!event.wait_timeout(BRIEFLY).await.unwrap());
        let blocks = |event: Event| move || event.blocking_wait(Some(BRIEFLY)).unwrap();
        let blocking = tokio::task::spawn_blocking(blocks(event.clone()));
        assert!(!blocking.await.unwrap());
        let refused = std::panic::AssertUnwindSafe(blocks(event.clone()));
        assert!(
            std::panic::catch_unwind(refused).is_err(),
            "inside of a task"
        );
        assert!(begun.elapsed() >= 2 * BRIEFLY);
        for _ in 0..2 {
            event.set();
            assert!(event.is_set() && event.wait_timeout(Duration::ZERO).await.unwrap());
            event.wait().await.unwrap();
            assert!(event.blocking_wait(None).unwrap());
        }
        event.clear();
        assert!(!event.is_set() && !event.wait_timeout(BRIEFLY).await.unwrap());
        let set_late = |event: Event| {
            std::thread::sleep(BRIEFLY);
            event.set();
        };
        let sets = pool.submit(set_late, event.clone());
        event.wait().await.unwrap();
        assert!(event.is_set());
        sets.await.unwrap();
        assert_eq!(format!("{event:?}"), "Event { is_set: true, .. }");
        pool.shutdown().await;
    });
}

/// CF-214: five processes, five tasks and five threads, although it is cleared at once.
#[test]
fn setting_it_lets_go_on_all_who_wait() {
    fn wait_for((event, waits): (Event, Event)) -> bool {
        waits.set();
        event.blocking_wait(Some(PROMPTLY)).unwrap()
    }

    everywhere(|method| async move {
        let pool = pool(5, method);
        let event = Event::new().unwrap();
        let waiting = [(); 10].map(|()| Event::new().unwrap());
        let (far, near) = waiting.split_at(5);
        let far = far
            .iter()
            .map(|waits| pool.submit(wait_for, (event.clone(), waits.clone())));
        let far: Vec<_> = far.collect();
        let near = near.iter().cloned().map(|waits| {
            let event = event.clone();
            tokio::task::spawn_blocking(move || wait_for((event, waits)))
        });
        let near: Vec<_> = near.collect();
        let tasks = (0..5).map(|_| {
            let event = event.clone();
            tokio::spawn(async move { event.wait_timeout(PROMPTLY).await.unwrap() })
        });
        let tasks: Vec<_> = tasks.collect();
        for waits in &waiting {
            waits.wait().await.unwrap();
        }
        // Whoever waits by then hears of one of these, although it is over.
        let all_heard = || {
            event.set();
            event.clear();
            let mut here = near.iter().chain(&tasks);
            here.all(|wait| wait.is_finished()) && far.iter().all(|wait| wait.is_done())
        };
        assert!(soon(PROMPTLY, all_heard).await);
        let here = futures::future::try_join_all(near.into_iter().chain(tasks)).await;
        assert_eq!(here.unwrap(), [true; 10]);
        let far = futures::future::try_join_all(far).await;
        assert_eq!(far.unwrap(), [true; 5]);
        pool.shutdown().await;
    });
}

/// Two processes that let each other go on, round after round: no wake-up is lost.
#[test]
fn turns_are_taken_without_a_loss() {
    fn play((mine, yours, rounds): (Event, Event, u32)) -> bool {
        (0..rounds).all(|_| {
            let mine = mine
                .blocking_wait(Some(PROMPTLY))
                .unwrap()
                .then(|| mine.clear());
            yours.set();
            mine.is_some()
        })
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let [one, other] = [(); 2].map(|()| Event::new().unwrap());
        let plays = pool.submit(play, (one.clone(), other.clone(), 2_000));
        for _ in 0..2_000 {
            one.set();
            assert!(other.wait_timeout(PROMPTLY).await.unwrap());
            other.clear();
        }
        assert!(plays.await.unwrap());
        pool.shutdown().await;
    });
}

/// Killed at whatever instant of `set`: where the flag is there to see, everybody sees it.
#[test]
fn who_dies_while_he_sets_it_leaves_nobody_asleep() {
    soak(100);
}

#[test]
#[ignore = "takes a minute"]
fn no_kill_at_any_instant_leaves_anybody_asleep() {
    soak(1_000);
}

fn soak(kills: u32) {
    fn set_and_clear(event: Event) {
        loop {
            event.set();
            event.clear();
        }
    }

    let _scene = scene();
    runtime(2).block_on(async {
        for round in 0..kills {
            let event = Event::new().unwrap();
            let builder = Process::builder().stderr(Stdio::null());
            let setter = builder.spawn(set_and_clear, event.clone()).await.unwrap();
            event.wait().await.unwrap();
            let waits = tokio::spawn({
                let event = event.clone();
                async move { event.wait().await.unwrap() }
            });
            for _ in 0..round % 199 {
                tokio::task::yield_now().await;
            }
            assert!(send(setter.pid(), libc::SIGKILL));
            setter.wait().await;
            if event.is_set() {
                assert!(
                    soon(PROMPTLY, || waits.is_finished()).await,
                    "round {round}"
                );
            }
            event.set();
            waits.await.unwrap();
        }
    });
}
