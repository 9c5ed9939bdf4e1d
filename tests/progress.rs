//! Tasks that say something while they run, and their readers.

#[path = "support/deeds.rs"]
mod deeds;
#[path = "support/gate.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of this")]
mod gate;
mod support;

use std::time::Duration;

use deeds::{Misdeed, commit};
use futures::{FutureExt, StreamExt, TryStreamExt};
use gate::{Gate, mark, pass};
use procpool::task::Progress;
use procpool::{ProcessPool, Updates, WhenFull};
use serde::{Deserialize, Deserializer, Serialize};
use support::{PROMPTLY, builder, everywhere, pool, runtime, scene, soon};

const FOR_EVER: Duration = Duration::from_secs(3600);

/// Sends the numbers up to this one, and returns how many could be sent.
fn count(to: u32, progress: Progress<u32>) -> u32 {
    (1..=to)
        .map(|n| u32::from(progress.send(&n).unwrap()))
        .sum()
}

async fn all<P>(updates: Updates<P>) -> Vec<P> {
    updates.map(Result::unwrap).collect().await
}

#[test]
fn a_thousand_updates_come_in_their_order_to_fast_readers_and_to_slow_ones() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        for (buffer, slow) in [(1, false), (7, true), (1_000, false)] {
            let task = pool.task_with_progress(count).buffer(buffer);
            let (sent, updates) = task.submit(1_000);
            let read = updates.then(async |n| {
                if slow && n.as_ref().is_ok_and(|n| n % 100 == 0) {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                n.unwrap()
            });
            let read: Vec<_> = read.collect().await;
            assert_eq!(read, (1..=1_000).collect::<Vec<_>>());
            assert_eq!(sent.await.unwrap(), 1_000);
        }
        pool.shutdown().await;
    });
}

#[test]
fn without_a_reader_there_is_room_for_as_many_as_the_buffer_holds() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let as_many_as_fit = |_: (), progress: Progress<u32>| {
            (0..).take_while(|n| progress.try_send(n).unwrap()).count()
        };
        for buffer in [1, 5, 64] {
            let task = pool.task_with_progress(as_many_as_fit).buffer(buffer);
            let (sent, updates) = task.submit(());
            assert_eq!(sent.await.unwrap(), buffer);
            assert_eq!(all(updates).await.len(), buffer);
        }
        pool.shutdown().await;
    });
}

/// Leaves a mark before it sends the next number.
fn count_with_marks(gate: String, progress: Progress<u32>) {
    for n in 0..8 {
        mark(&gate, &n.to_string());
        assert!(progress.send(&n).unwrap());
    }
}

#[test]
fn a_task_waits_for_its_reader_and_keeps_nobody_else_waiting() {
    everywhere(|method| async move {
        let gate = Gate::new();
        let pool = builder(1, method).workers(2).build().unwrap();
        let task = pool.task_with_progress(count_with_marks).buffer(3);
        let (done, mut updates) = task.submit(gate.path());
        for taken in 0..5 {
            // So many are in the buffer, and it is about to send the next.
            let marks = 3 + taken + 1;
            assert!(soon(PROMPTLY, || gate.marks().len() == marks).await);
            // Others are served, and in that time it does not go on.
            for n in 0..20 {
                assert_eq!(pool.submit(|n: u32| n, n).await.unwrap(), n);
            }
            assert_eq!(gate.marks().len(), marks);
            assert!(!done.is_done());
            assert_eq!(updates.next().await.unwrap().unwrap(), taken as u32);
        }
        assert_eq!(all(updates).await, [5, 6, 7]);
        done.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn where_the_oldest_are_dropped_the_newest_are_there_and_the_task_never_waits() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = pool.task_with_progress(count).buffer(3);
        let (sent, updates) = task.when_full(WhenFull::DropOldest).submit(10_000);
        assert_eq!(sent.await.unwrap(), 10_000);
        assert_eq!(updates.dropped(), 9_997);
        assert_eq!(all(updates).await, [9_998, 9_999, 10_000]);
        pool.shutdown().await;
    });
}

#[test]
fn a_task_whose_reader_goes_away_goes_on() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let task = |gate: String, progress: Progress<u32>| {
            assert!(progress.send(&1).unwrap() && !progress.is_closed());
            mark(&gate, "sent");
            // Waits for a reader that will never read.
            let sent = progress.send(&2).unwrap();
            (sent, progress.is_closed(), progress.try_send(&3).unwrap())
        };
        let (told, updates) = pool.task_with_progress(task).buffer(1).submit(gate.path());
        assert!(soon(PROMPTLY, || !gate.marks().is_empty()).await);
        drop(updates);
        assert_eq!(told.await.unwrap(), (false, true, false));

        let (told, _) = pool.submit_with_progress(count, 1_000);
        assert!(told.await.unwrap() < 1_000, "nobody ever read");
        pool.shutdown().await;
    });
}

#[test]
fn what_was_sent_before_the_worker_died_arrives_before_the_end() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        for misdeed in [Misdeed::Abort, Misdeed::ExitAtOnce(3), Misdeed::Signal(9)] {
            let task = |misdeed: Misdeed, progress: Progress<u32>| {
                count(10, progress);
                commit(misdeed);
            };
            let (lost, updates) = pool.submit_with_progress(task, misdeed);
            assert_eq!(all(updates).await, (1..=10).collect::<Vec<_>>());
            assert!(lost.await.unwrap_err().is_worker_lost());
        }
        pool.shutdown().await;
    });
}

#[test]
fn a_task_that_waits_for_its_reader_can_be_aborted() {
    everywhere(|method| async move {
        for (grace, ended) in [(Duration::ZERO, 1), (FOR_EVER, 0)] {
            let pool = builder(1, method).abort_grace(grace).build().unwrap();
            let task = pool.task_with_progress(count).buffer(2);
            let (aborted, mut updates) = task.submit(1_000);
            assert_eq!(updates.next().await.unwrap().unwrap(), 1);
            assert!(aborted.abort());
            assert!(aborted.await.unwrap_err().is_aborted());
            let read = all(updates).await;
            assert!(read.len() <= 2 && read.iter().zip(2..).all(|(n, m)| *n == m));
            assert_eq!(pool.submit(|n: u32| n, 1).await.unwrap(), 1);
            assert_eq!(pool.stats().workers_ended, ended);
            pool.shutdown().await;
        }
    });
}

#[test]
fn a_task_that_waits_for_its_reader_heeds_its_soft_limit() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let soft = Duration::from_millis(50);
        let task = pool.task_with_progress(count).soft_timeout(soft).buffer(4);
        let (sent, updates) = task.submit(6);
        assert_eq!(sent.await.unwrap(), 4);
        assert_eq!(all(updates).await, [1, 2, 3, 4]);
        // Where there is room, what is sent after that is sent.
        let last_words = |_: (), progress: Progress<String>| {
            let stop = procpool::task::current().unwrap().cancellation();
            assert!(stop.wait_timeout(FOR_EVER));
            progress.send(&"last words".to_owned()).unwrap()
        };
        let task = pool.task_with_progress(last_words).soft_timeout(soft);
        let (sent, updates) = task.submit(());
        assert_eq!(all(updates).await, ["last words"]);
        assert!(sent.await.unwrap());
        pool.shutdown().await;
    });
}

/// Sends which run it is, and dies in the first.
fn dies_once(to: u32, progress: Progress<(u32, u32)>) -> u32 {
    let attempt = procpool::task::current().unwrap().attempt();
    for n in 1..=to {
        assert!(progress.send(&(attempt, n)).unwrap());
    }
    if attempt == 1 {
        std::process::abort();
    }
    attempt
}

#[test]
fn of_a_task_that_is_run_again_the_updates_of_all_runs_come() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = pool.task_with_progress(dies_once).retry(1);
        let (done, updates) = task.clone().buffer(3).submit(3);
        // The second run waits until what is left of the first has been read.
        let updates = all(updates).await;
        let of_run = |attempt| (1..=3).map(move |n| (attempt, n));
        assert_eq!(updates, of_run(1).chain(of_run(2)).collect::<Vec<_>>());
        assert_eq!(done.await.unwrap(), 2);
        pool.shutdown().await;
    });
}

/// Decodes only if it is even.
#[derive(Debug, PartialEq, Serialize)]
struct Even(u32);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            13 => panic!("thirteen"),
            even if even % 2 == 0 => Ok(Self(even)),
            _ => Err(serde::de::Error::custom("odd")),
        }
    }
}

#[test]
fn an_update_that_cannot_be_decoded_is_an_error_in_its_place() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = |_: (), progress: Progress<Even>| {
            for n in [2, 3, 13, 4] {
                assert!(progress.send(&Even(n)).unwrap());
            }
        };
        let (done, updates) = pool.submit_with_progress(task, ());
        let updates: Vec<_> = updates.collect().await;
        let [Ok(Even(2)), Err(odd), Err(panicked), Ok(Even(4))] = &*updates else {
            panic!("{updates:?}");
        };
        assert!(odd.is_decode() && panicked.is_decode());
        assert_eq!(odd.to_string(), "update could not be decoded");
        done.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn what_is_too_large_is_an_error_where_it_is_sent_and_nothing_else_happens() {
    everywhere(|method| async move {
        let pool = builder(1, method).max_frame(1_000_000).build().unwrap();
        let task = |lengths: Vec<usize>, progress: Progress<String>| {
            let sent = lengths.into_iter().map(|length| {
                let sent = progress.send(&"x".repeat(length));
                sent.map_err(|error| (error.is_too_large(), error.is_encode()))
            });
            sent.collect::<Vec<_>>()
        };
        // Larger than the outbox, larger than the pipe, larger than a frame.
        let lengths = vec![10, 100_000, 2_000_000, 900_000, 10];
        let (sent, updates) = pool.submit_with_progress(task, lengths);
        let updates: Vec<_> = updates
            .map_ok(|text| text.len())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(updates, [10, 100_000, 900_000, 10]);
        let sent = sent.await.unwrap();
        let too_large = Err((true, false));
        assert_eq!(sent, [Ok(true), Ok(true), too_large, Ok(true), Ok(true)]);
        pool.shutdown().await;
    });
}

#[test]
fn the_threads_of_a_task_may_send_side_by_side() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = |threads: u32, progress: Progress<(u32, u32)>| {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let progress = progress.clone();
                    scope.spawn(move || {
                        for n in 0..200 {
                            assert!(progress.send(&(thread, n)).unwrap());
                        }
                    });
                }
            });
        };
        let (done, updates) = pool.task_with_progress(task).buffer(5).submit(4);
        let mut next = [0; 4];
        for (thread, n) in all(updates).await {
            assert_eq!(n, next[thread as usize]);
            next[thread as usize] += 1;
        }
        assert_eq!(next, [200; 4]);
        done.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn what_is_left_of_a_task_when_it_is_over_sends_nothing_more() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = |_: (), progress: Progress<u32>| {
            assert!(progress.send(&1).unwrap());
            std::thread::spawn(move || while progress.send(&2).unwrap() {});
        };
        for _ in 0..20 {
            let (done, updates) = pool.task_with_progress(task).buffer(2).submit(());
            let updates = all(updates).await;
            assert!(updates[0] == 1 && updates[1..].iter().all(|n| *n == 2));
            done.await.unwrap();
        }
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

#[test]
fn futures_of_a_task_wait_for_its_reader_without_blocking_each_other() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let task = |to: u32, progress: Progress<u32>| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                let send = async |from: u32| {
                    for n in (from..to).step_by(2) {
                        assert!(progress.send_async(&n).await.unwrap());
                    }
                };
                tokio::join!(send(0), send(1));
            });
        };
        let (done, updates) = pool.task_with_progress(task).buffer(1).submit(400);
        let mut updates = all(updates).await;
        updates.sort_unstable();
        assert_eq!(updates, (0..400).collect::<Vec<_>>());
        done.await.unwrap();
        pool.shutdown().await;
    });
}

#[test]
fn updates_end_with_the_task_however_that_ends() {
    everywhere(|method| async move {
        let (gate, pool) = (Gate::new(), pool(1, method));
        let held = |gate: String, _: Progress<u32>| pass(gate);
        let (first, mut updates) = pool.submit_with_progress(held, gate.path());
        // Waits for room, runs, and is dropped; and was never polled.
        let (run, ended) = pool.task_with_progress(held).run(gate.path());
        let (never, unrun) = pool.task_with_progress(held).run(gate.path());
        drop(never);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), run)
                .await
                .is_err()
        );
        assert!(all(ended).await.is_empty() && all(unrun).await.is_empty());
        let (cancelled, unsent) = pool.submit_with_progress(held, gate.path());
        assert!(cancelled.cancel());
        assert!(all(unsent).await.is_empty());
        assert!(
            updates.next().now_or_never().is_none(),
            "that one still runs"
        );
        gate.open();
        first.await.unwrap();
        assert!(updates.next().await.is_none() && updates.next().await.is_none());

        let (panicked, updates) = pool.submit_with_progress(
            |_: (), progress: Progress<u32>| {
                count(2, progress);
                panic!("as it was told to");
            },
            (),
        );
        assert_eq!(all(updates).await, [1, 2]);
        let panicked: Result<(), _> = panicked.await;
        assert!(panicked.unwrap_err().is_panic());
        pool.shutdown().await;
        let (refused, updates) = pool.submit_with_progress(count, 1);
        assert!(all(updates).await.is_empty());
        assert!(refused.await.unwrap_err().is_shut_down());
    });
}

/// The only thread of the pool's runtime is the one that waits.
#[test]
fn a_blocked_thread_reads_as_well_even_inside_of_the_pools_runtime() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (mut sent, mut updates) = pool.task_with_progress(count).buffer(2).submit(50);
        for n in 1..=50 {
            assert_eq!(updates.blocking_next().unwrap().unwrap(), n);
        }
        assert!(updates.blocking_next().is_none());
        assert_eq!(sent.blocking_wait(None).unwrap(), 50);
        pool.shutdown().await;
    });
}

/// Sends the numbers up to this one, and waits in between only where it has to.
async fn count_async(to: u32, progress: Progress<u32>) -> u32 {
    for n in 1..=to {
        if !progress.send_async(&n).await.unwrap() {
            return n;
        }
    }
    to
}

#[test]
fn async_tasks_in_one_worker_wait_each_for_its_own_reader() {
    everywhere(|method| async move {
        let pool = builder(1, method).abort_grace(FOR_EVER).build().unwrap();
        let task = pool.task_async_with_progress(count_async).buffer(2);
        let (unread, updates) = task.submit(100);
        // Beside it others come to their ends.
        for to in [1, 10, 100] {
            let (sent, updates) = task.submit(to);
            assert_eq!(all(updates).await, (1..=to).collect::<Vec<_>>());
            assert_eq!(sent.await.unwrap(), to);
        }
        assert!(!unread.is_done());
        drop(updates);
        assert_eq!(
            unread.await.unwrap(),
            3,
            "the first for which there was no room"
        );

        let (aborted, updates) = task.submit(100);
        let (run, beside) = task.run(100);
        let (run, beside, ()) = tokio::join!(run, all(beside), async {
            assert!(soon(PROMPTLY, || aborted.is_running()).await);
            assert!(aborted.abort());
        });
        assert!(aborted.await.unwrap_err().is_aborted());
        assert!(all(updates).await.len() <= 2);
        assert_eq!((run.unwrap(), beside.len()), (100, 100));
        assert_eq!(pool.stats().workers_ended, 0);
        pool.shutdown().await;
    });
}

async fn count_and_die(to: u32, progress: Progress<u32>) {
    count_async(to, progress).await;
    std::process::abort();
}

#[test]
fn what_an_async_task_has_sent_survives_its_worker() {
    everywhere(|method| async move {
        let pool = pool(1, method);
        let (lost, updates) = pool.task_async_with_progress(count_and_die).submit(10);
        assert_eq!(all(updates).await, (1..=10).collect::<Vec<_>>());
        assert!(lost.await.unwrap_err().is_worker_lost());
        pool.shutdown().await;
    });
}

/// Nobody can read before it is over, so nothing is waited for.
#[test]
fn without_workers_all_that_was_sent_is_kept_or_the_newest_of_it() {
    let _scene = scene();
    runtime(1).block_on(async {
        let pool = ProcessPool::builder().inline().build().unwrap();
        let task = pool.task_with_progress(count).buffer(2);
        let (sent, updates) = task.submit(100);
        assert_eq!(sent.await.unwrap(), 100);
        assert_eq!(all(updates).await, (1..=100).collect::<Vec<_>>());
        let newest = task.when_full(WhenFull::DropOldest);
        let (sent, updates) = newest.submit(100);
        assert_eq!(sent.await.unwrap(), 100);
        assert_eq!((updates.dropped(), all(updates).await), (98, vec![99, 100]));
        let (sent, updates) = pool.task_async_with_progress(count_async).submit(5);
        assert_eq!(sent.await.unwrap(), 5);
        assert_eq!(all(updates).await, [1, 2, 3, 4, 5]);
        pool.shutdown().await;
    });
}

#[tokio::test]
async fn what_an_async_task_says_does_not_wear_out_its_worker() {
    let pool = ProcessPool::builder().workers(1).max_tasks_per_worker(3);
    let pool = pool.build().unwrap();
    let talks = |count: u32, progress: Progress<u32>| async move {
        for number in 0..count {
            progress.send_async(&number).await.unwrap();
        }
        std::process::id()
    };
    let talks = pool.task_async_with_progress(talks);
    let (first, updates) = talks.submit(20);
    let first = first.await.unwrap();
    drop(updates);
    let (second, _updates) = talks.submit(0);
    assert_eq!(second.await.unwrap(), first);
    pool.shutdown().await;
}
