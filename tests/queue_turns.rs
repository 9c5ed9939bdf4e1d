//! Who of many gets the next item, or the next place; and what it costs where nobody waits.

mod support;

use std::time::Duration;

use procpool::{Event, Queue};
use support::{PROMPTLY, everywhere, pool, scene};

/// One that is there again as soon as it has got something.
#[test]
fn no_consumer_starves_beside_one_that_is_always_faster() {
    fn hog((queue, begun): (Queue<u32>, Event)) -> u32 {
        begun.set();
        std::iter::from_fn(|| queue.blocking_get(None).ok()).count() as u32
    }
    fn feed((queue, enough): (Queue<u32>, Event)) {
        while !enough.is_set() {
            queue.blocking_put(1, None).unwrap();
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let queue = Queue::bounded(4).unwrap();
        let [begun, enough] = [(); 2].map(|()| Event::new().unwrap());
        let hogs = pool.submit(hog, (queue.clone(), begun.clone()));
        begun.wait().await.unwrap();
        let feeds = pool.submit(feed, (queue.clone(), enough.clone()));
        for _ in 0..20 {
            queue.get_timeout(PROMPTLY).await.unwrap();
        }
        let thread = queue.clone();
        let blocking = move || (0..20).all(|_| thread.blocking_get(Some(PROMPTLY)).is_ok());
        assert!(tokio::task::spawn_blocking(blocking).await.unwrap());
        enough.set();
        feeds.await.unwrap();
        queue.finish().unwrap();
        assert!(hogs.await.unwrap() > 0);
        pool.shutdown().await;
    });
}

/// And one that fills every place that somebody makes.
#[test]
fn no_producer_starves_beside_one_that_is_always_faster() {
    fn hog(queue: Queue<u32>) -> u32 {
        (0..)
            .take_while(|_| queue.blocking_put(0, None).is_ok())
            .count() as u32
    }
    fn drain(queue: Queue<u32>) -> u32 {
        let items = std::iter::from_fn(|| {
            std::thread::sleep(Duration::from_micros(50));
            queue.blocking_get(None).ok()
        });
        items.sum()
    }

    everywhere(|method| async move {
        let pool = pool(2, method);
        let queue = Queue::bounded(2).unwrap();
        let hogs = pool.submit(hog, queue.clone());
        let drains = pool.submit(drain, queue.clone());
        for _ in 0..20 {
            queue.put_timeout(1, PROMPTLY).await.unwrap();
        }
        let thread = queue.clone();
        let blocking = move || (0..20).all(|_| thread.blocking_put(1, Some(PROMPTLY)).is_ok());
        assert!(tokio::task::spawn_blocking(blocking).await.unwrap());
        queue.finish().unwrap();
        assert!(hogs.await.unwrap() > 0);
        assert_eq!(drains.await.unwrap(), 40);
        pool.shutdown().await;
    });
}

/// No bell is rung that nobody hears: a ring is a write, and the system counts those of each thread.
#[test]
fn nobody_is_woken_where_nobody_sleeps() {
    fn writes() -> u64 {
        let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("syscw: "));
        line.unwrap().parse().unwrap()
    }

    let _scene = scene();
    let queue = Queue::bounded(10).unwrap();
    // One who has slept at it before, and does so no more, costs one ring.
    queue
        .blocking_get(Some(Duration::from_millis(1)))
        .unwrap_err();
    queue.try_put(0).unwrap();
    queue.try_get().unwrap();
    let before = writes();
    for _ in 0..100 {
        (0..10).for_each(|number| queue.blocking_put(number, None).unwrap());
        assert!(queue.try_put(10).unwrap_err().is_full());
        (0..10).for_each(|number| assert_eq!(queue.blocking_get(None).unwrap(), number));
        assert!(queue.try_get().unwrap_err().is_empty());
    }
    assert_eq!(writes(), before);
}
