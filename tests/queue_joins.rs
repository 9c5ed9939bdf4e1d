//! Queues that know when everything is done, and queues with nothing but what is needed most.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::time::{Duration, Instant};

use deeds::send;
use futures::FutureExt;
use futures::future::try_join_all;
use procpool::{Event, JoinableQueue, Process, ProcessPool, Queue, SimpleQueue, Stdio, pipe};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, runtime, scene, soon};

const BRIEFLY: Duration = Duration::from_millis(100);

/// CF-187: with a sentinel for each of those who work.
#[test]
fn a_join_returns_when_everything_is_done() {
    fn work(queue: JoinableQueue<Option<u32>>) -> u32 {
        let mut count = 0;
        while let Some(_number) = queue.blocking_get(None).unwrap() {
            std::thread::sleep(BRIEFLY);
            queue.task_done().unwrap();
            count += 1;
        }
        queue.task_done().unwrap();
        count
    }

    everywhere(|method| async move {
        let pool = pool(4, method);
        let queue = JoinableQueue::new().unwrap();
        let begun = Instant::now();
        let workers = [(); 4].map(|()| pool.submit(work, queue.clone()));
        for number in 0..10 {
            queue.put(Some(number)).await.unwrap();
        }
        queue.join().await.unwrap();
        assert!(begun.elapsed() >= 3 * BRIEFLY, "ten by four, one by one");
        assert_eq!((queue.unfinished(), queue.len()), (0, 0));
        for _ in &workers {
            queue.put(None).await.unwrap();
        }
        let done = try_join_all(workers).await.unwrap();
        assert_eq!(done.iter().sum::<u32>(), 10);
        queue.join().await.unwrap();
        assert!(queue.task_done().unwrap_err().is_too_often());
        pool.shutdown().await;
    });
}

#[test]
fn a_join_waits_as_it_is_told() {
    on_each_runtime(|| async {
        let queue = JoinableQueue::bounded(3).unwrap();
        queue.join().await.unwrap();
        queue.put(1).await.unwrap();
        assert_eq!(queue.unfinished(), 1);
        let text = "JoinableQueue { len: 1, capacity: Some(3), unfinished: 1, .. }";
        assert_eq!(format!("{queue:?}"), text);
        let begun = Instant::now();
        assert!(queue.join_timeout(BRIEFLY).await.unwrap_err().is_timeout());
        assert!(
            queue
                .join_timeout(Duration::ZERO)
                .await
                .unwrap_err()
                .is_timeout()
        );
        let thread = queue.clone();
        let blocking = move || {
            thread
                .blocking_join(Some(BRIEFLY))
                .unwrap_err()
                .is_timeout()
        };
        assert!(tokio::task::spawn_blocking(blocking).await.unwrap());
        assert!(begun.elapsed() >= 2 * BRIEFLY);

        let mut joins = Box::pin(queue.join());
        assert!((&mut joins).now_or_never().is_none());
        assert_eq!(queue.get().await.unwrap(), 1);
        assert!((&mut joins).now_or_never().is_none());
        queue.task_done().unwrap();
        tokio::time::timeout(PROMPTLY, joins)
            .await
            .unwrap()
            .unwrap();
        let thread = queue.clone();
        let blocking = tokio::task::spawn_blocking(move || thread.blocking_join(None));
        blocking.await.unwrap().unwrap();
    });
}

/// For every kind of queue (CF-190).
#[test]
fn a_closed_queue_is_joined_by_nobody() {
    on_each_runtime(|| async {
        let queue = JoinableQueue::new().unwrap();
        queue.put(1).await.unwrap();
        let waits = tokio::spawn({
            let queue = queue.clone();
            async move { queue.join().await.unwrap_err().is_closed() }
        });
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        queue.close();
        assert!(waits.await.unwrap());
        assert!(queue.put(1).await.unwrap_err().is_closed());
        assert!(queue.get().await.unwrap_err().is_closed());
        assert!(queue.task_done().unwrap_err().is_closed());
        assert!(queue.join().await.unwrap_err().is_closed());
        assert_eq!(queue.unfinished(), 0);
    });
}

/// Within a second, also for those who waited before anybody had taken anything.
#[test]
fn what_the_dead_had_in_hand_is_lost_and_nobody_waits_for_it() {
    fn take_two((queue, taken): (JoinableQueue<u32>, Event)) {
        queue.blocking_get(None).unwrap();
        queue.task_done().unwrap();
        queue.blocking_get(None).unwrap();
        queue.blocking_get(None).unwrap();
        taken.set();
        loop {
            std::thread::park();
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (queue, taken) = (JoinableQueue::new().unwrap(), Event::new().unwrap());
        for number in 0..4 {
            queue.put(number).await.unwrap();
        }
        let in_task = tokio::spawn({
            let queue = queue.clone();
            async move { queue.join().await.unwrap_err().lost() }
        });
        let elsewhere = |queue: JoinableQueue<u32>| queue.blocking_join(None).unwrap_err().lost();
        let stranger = pool.submit(elsewhere, queue.clone());
        assert!(soon(PROMPTLY, || stranger.is_running()).await);
        let builder = Process::builder()
            .start_method(method)
            .stderr(Stdio::null());
        let process = builder.spawn(take_two, (queue.clone(), taken.clone()));
        let process = process.await.unwrap();
        taken.wait().await.unwrap();
        assert_eq!((queue.unfinished(), queue.len()), (3, 1));
        assert!(send(process.pid(), libc::SIGKILL));
        let killed = Instant::now();
        assert!(soon(PROMPTLY, || queue.unfinished() == 1).await);
        assert_eq!(queue.get().await.unwrap(), 3);
        queue.task_done().unwrap();
        assert_eq!((in_task.await.unwrap(), stranger.await.unwrap()), (2, 2));
        assert!(killed.elapsed() < PROMPTLY);

        // It is said again until something new is put.
        let error = queue.join().await.unwrap_err();
        assert_eq!(error.lost(), 2);
        assert!(error.to_string().contains("items were lost: 2,"), "{error}");
        queue.put(5).await.unwrap();
        queue.get().await.unwrap();
        queue.task_done().unwrap();
        queue.join().await.unwrap();
        pool.shutdown().await;
    });
}

/// A worker's death is the same, and an item that makes no sense.
#[test]
fn what_cannot_be_decoded_is_lost_at_once() {
    on_each_runtime(|| async {
        let bytes = JoinableQueue::<Vec<u8>>::new().unwrap();
        let texts: JoinableQueue<String> = sent_as(&bytes).await;
        bytes.put(vec![0xff; 3]).await.unwrap();
        bytes.put(b"good".to_vec()).await.unwrap();
        assert!(texts.get().await.unwrap_err().is_decode());
        assert_eq!(texts.get().await.unwrap(), "good");
        texts.task_done().unwrap();
        assert_eq!(bytes.join().await.unwrap_err().lost(), 1);
        assert!(texts.task_done().unwrap_err().is_too_often());
    });
}

/// What arrives as an `A` where a `B` was sent.
async fn sent_as<A: serde::de::DeserializeOwned, B: serde::Serialize>(value: &B) -> A {
    received(value).await.unwrap()
}

async fn received<A: serde::de::DeserializeOwned, B: serde::Serialize>(
    value: &B,
) -> Result<A, procpool::ConnectionError> {
    let (sender, receiver) = std::os::unix::net::UnixStream::pair().unwrap();
    let [sender, receiver] = [sender, receiver].map(std::os::fd::OwnedFd::from);
    let mut sender = procpool::Connection::<&B, ()>::try_from(sender).unwrap();
    let mut receiver = procpool::Connection::<(), A>::try_from(receiver).unwrap();
    sender.send(&value).await.unwrap();
    receiver.recv().await
}

/// What is no queue, or not of that kind, does not arrive as one.
#[test]
fn a_handle_that_is_taken_for_another_is_an_error_when_it_arrives() {
    on_each_runtime(|| async {
        let plain = Queue::<u32>::new().unwrap();
        let error = received::<JoinableQueue<u32>, _>(&plain).await.unwrap_err();
        assert!(error.is_decode());
        let event = Event::new().unwrap();
        assert!(
            received::<Queue<u32>, _>(&event)
                .await
                .unwrap_err()
                .is_decode()
        );
        let joinable = JoinableQueue::<u32>::new().unwrap();
        let as_plain: Queue<u32> = sent_as(&joinable).await;
        as_plain.put(1).await.unwrap();
        assert_eq!(joinable.unfinished(), 1);
    });
}

/// Kills at any instant: what was put is done or lost, and a join comes to its end.
#[test]
#[ignore = "takes a minute"]
fn no_kill_at_any_instant_makes_a_join_hang() {
    soak(1_000);
}

#[test]
fn some_kills_at_any_instant_do_not_make_a_join_hang() {
    soak(30);
}

fn soak(kills: usize) {
    fn work(queue: JoinableQueue<u32>) {
        loop {
            queue.blocking_get(None).unwrap();
            queue.task_done().unwrap();
        }
    }

    let _scene = scene();
    runtime(1).block_on(async {
        let queue = JoinableQueue::bounded(100).unwrap();
        let spawn = || {
            Process::builder()
                .stderr(Stdio::null())
                .spawn(work, queue.clone())
        };
        let mut workers = try_join_all([(); 2].map(|()| spawn())).await.unwrap();
        let (mut random, mut lost) = (1_u64, 0);
        for kill in 0..kills {
            let (puts, victim) = (queue.clone(), workers.remove(0));
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let when = random >> 52;
            for number in 0..500 {
                puts.put(number).await.unwrap();
                if number == 200 {
                    (0..when).for_each(|_| std::hint::spin_loop());
                    assert!(send(victim.pid(), libc::SIGKILL));
                }
            }
            victim.wait().await;
            workers.push(spawn().await.unwrap());
            match queue.join_timeout(PROMPTLY).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.lost(), 1, "kill {kill}: {error} {queue:?}");
                    lost += 1;
                }
            }
            assert!(queue.is_empty());
        }
        println!("{kills} kills, {lost} items lost");
        for worker in workers {
            worker.kill();
            worker.wait().await;
        }
    });
}

/// CF-193.
#[test]
fn a_simple_queue_tells_every_process_whether_it_is_empty() {
    fn look((queue, go): (SimpleQueue<bool>, Event)) {
        go.blocking_wait(None).unwrap();
        queue.blocking_put(queue.is_empty().unwrap()).unwrap();
        queue.blocking_put(queue.is_empty().unwrap()).unwrap();
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (queue, go) = (SimpleQueue::new().unwrap(), Event::new().unwrap());
        assert!(queue.is_empty().unwrap());
        let looks = pool.submit(look, (queue.clone(), go.clone()));
        go.set();
        looks.await.unwrap();
        assert!(!queue.is_empty().unwrap());
        assert!(queue.get().await.unwrap());
        assert!(!queue.blocking_get().unwrap());
        assert!(queue.is_empty().unwrap());
        pool.shutdown().await;
    });
}

/// CF-194.
#[test]
fn a_closed_simple_queue_has_nothing_any_more() {
    fn count() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    on_each_runtime(|| async {
        let before = count();
        let queue = SimpleQueue::new().unwrap();
        queue.put(1).await.unwrap();
        assert!(count() > before);
        queue.close();
        queue.close();
        assert_eq!(count(), before);
        assert!(queue.is_empty().unwrap_err().is_closed());
        assert!(queue.put(1).await.unwrap_err().is_closed());
        assert!(queue.blocking_put(1).unwrap_err().is_closed());
        assert!(queue.get().await.unwrap_err().is_closed());
        assert!(queue.blocking_get().unwrap_err().is_closed());
        assert_eq!(format!("{queue:?}"), "SimpleQueue { len: 0, .. }");
    });
}

/// In a pool, whose workers die, and through a connection.
#[test]
fn joinable_queues_travel() {
    fn die_with_one(queue: JoinableQueue<u32>) {
        queue.blocking_get(None).unwrap();
        std::process::abort();
    }

    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.stderr(Stdio::null()).build().unwrap();
        let (mut here, mut there) = pipe::<JoinableQueue<u32>, ()>().unwrap();
        let queue = JoinableQueue::new().unwrap();
        here.send(&queue).await.unwrap();
        let same = there.recv().await.unwrap();
        same.put(1).await.unwrap();
        let dies = pool.submit(die_with_one, queue.clone());
        assert!(dies.await.unwrap_err().is_worker_lost());
        assert_eq!(same.join().await.unwrap_err().lost(), 1);
        pool.shutdown().await;
    });
}
