//! Items of queues that are more than a few bytes: large ones, and those with descriptors.

mod support;

#[path = "support/deeds.rs"]
mod deeds;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use futures::FutureExt;
use procpool::{Connection, Event, Fd, Lock, ProcessPool, Queue, Stdio, one_way, pipe};
use support::{PROMPTLY, everywhere, on_each_runtime, pool, scene};

/// Bytes of which none is where another belongs.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// They are whole, whatever their size, and in their order among small ones.
#[test]
fn items_of_any_size_arrive_whole() {
    fn put_all((queue, sizes): (Queue<bytes::Bytes>, Vec<usize>)) {
        for (size, seed) in sizes.into_iter().zip(1..) {
            queue
                .blocking_put(pattern(size, seed).into(), None)
                .unwrap();
        }
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::with_bounds(8, 4 << 20).unwrap();
        let sizes = vec![
            0,
            1,
            4_095,
            3 << 20,
            7,
            1 << 20,
            4_096,
            65_537,
            (4 << 20) - 16,
            9,
        ];
        let puts = pool.submit(put_all, (queue.clone(), sizes.clone()));
        for (size, seed) in sizes.into_iter().zip(1..) {
            let item = queue.get().await.unwrap();
            assert!(item == pattern(size, seed), "{size}");
        }
        puts.await.unwrap();
        pool.shutdown().await;
    });
}

/// How much memory the queues of this process have, in KiB.
fn memory() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let queues = maps.split("procpool-queue").skip(1);
    let sizes = queues.filter_map(|map| {
        let line = map.lines().find(|line| line.starts_with("Rss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    sizes.sum()
}

/// What was in an unbounded queue is given back when it is empty.
#[test]
fn an_empty_queue_keeps_little_memory() {
    let _scene = scene();
    let queue = Queue::new().unwrap();
    let item = bytes::Bytes::from(pattern(1 << 20, 1));
    for round in 0..2 {
        for _ in 0..32 {
            queue.try_put(item.clone()).unwrap();
        }
        assert!(memory() >= 32 << 10, "round {round}: {} KiB", memory());
        for _ in 0..32 {
            assert!(queue.try_get().unwrap() == item);
        }
        assert!(memory() <= 5 << 10, "round {round}: {} KiB", memory());
    }
}

/// However much goes through it.
#[test]
fn a_queue_that_is_never_empty_needs_no_more_memory_than_is_in_it() {
    let _scene = scene();
    let queue = Queue::new().unwrap();
    let item = |number: u64| bytes::Bytes::from(pattern(1 << 10, number));
    (0..50).for_each(|number| queue.try_put(item(number)).unwrap());
    for number in 50..20_000 {
        queue.try_put(item(number)).unwrap();
        assert!(queue.try_get().unwrap() == item(number - 50));
    }
    assert!(memory() < 512, "{} KiB", memory());

    // More, and less again, with what is at the beginning of the ring moved up.
    (20_000..26_000).for_each(|number| queue.try_put(item(number)).unwrap());
    assert!(memory() > 6_000, "{} KiB", memory());
    for number in 26_000..36_000 {
        queue.try_put(item(number)).unwrap();
        assert!(queue.try_get().unwrap() == item(number - 6_050));
    }
    for number in 29_950..36_000 {
        assert!(queue.try_get().unwrap() == item(number));
    }
    assert!(memory() < 5 << 10, "{} KiB", memory());
}

type Handles = (Connection<u32, String>, Lock, Event, Queue<u32>, Fd<File>);

/// Connections, locks, events, queues and files, and they work where they arrive.
#[test]
fn handles_travel_as_parts_of_items() {
    fn use_them((handles, echo): (Queue<Handles>, Queue<Handles>)) {
        let mut handles = handles.blocking_get(None).unwrap();
        let (connection, lock, event, queue, _) = &mut handles;
        assert_eq!(connection.blocking_recv(None).unwrap(), "hello");
        connection.blocking_send(&5, None).unwrap();
        assert!(lock.is_locked());
        event.set();
        queue.blocking_put(7, None).unwrap();
        echo.blocking_put(handles, None).unwrap();
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let (to, back) = (Queue::new().unwrap(), Queue::new().unwrap());
        let (mut here, there) = pipe::<String, u32>().unwrap();
        let (lock, event, queue) = (
            Lock::new().unwrap(),
            Event::new().unwrap(),
            Queue::new().unwrap(),
        );
        let file = Fd(File::open("/dev/zero").unwrap());
        let guard = lock.try_lock().unwrap();
        let sent = (there, lock.clone(), event.clone(), queue.clone(), file);
        to.put(sent).await.unwrap();
        let task = pool.submit(use_them, (to.clone(), back.clone()));
        here.send(&"hello".to_owned()).await.unwrap();
        assert_eq!(here.recv().await.unwrap(), 5);
        event.wait().await.unwrap();
        assert_eq!(queue.get().await.unwrap(), 7);
        drop(guard);
        let (_, lock, _, _, Fd(mut file)) = back.get().await.unwrap();
        assert!(lock.try_lock().is_ok());
        let mut bytes = [1; 3];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 3]);
        task.await.unwrap();
        drop((to, back));
        pool.shutdown().await;
    });
}

/// They are among items without, and each gets its own.
#[test]
fn descriptors_stay_with_their_items() {
    fn file(text: &str) -> Fd<UnixStream> {
        let (one, mut other) = UnixStream::pair().unwrap();
        other.write_all(text.as_bytes()).unwrap();
        Fd(one)
    }

    on_each_runtime(|| async {
        let queue = Queue::<(u32, Vec<Fd<UnixStream>>)>::with_bounds(40, 2_000).unwrap();
        for round in 0..20_u32 {
            for number in 0..30 {
                let files = (0..number % 3).map(|place| file(&format!("{round} {number} {place}")));
                queue.put((number, files.collect())).await.unwrap();
            }
            for expected in 0..30 {
                let (number, files) = queue.get().await.unwrap();
                assert_eq!((number, files.len() as u32), (expected, expected % 3));
                for (place, Fd(file)) in files.into_iter().enumerate() {
                    let text = std::io::read_to_string(file);
                    assert_eq!(text.unwrap(), format!("{round} {number} {place}"));
                }
            }
        }
    });
}

/// The system holds so many descriptors and no more: a put waits, and goes on when one was got.
#[test]
fn a_put_waits_where_the_system_takes_no_more_descriptors() {
    on_each_runtime(|| async {
        let queue = Queue::new().unwrap();
        let file = || Some(Fd(File::open("/dev/null").unwrap()));
        let mut put = 0;
        let error = loop {
            match queue.try_put(file()) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(
            error.is_full() && put >= 100 && put == queue.len(),
            "{put}: {error}"
        );
        let mut waits = Box::pin(queue.put(file()));
        assert!((&mut waits).now_or_never().is_none());
        // One without any is not held up.
        queue.try_put(None).unwrap();
        drop(queue.get().await.unwrap());
        tokio::time::timeout(PROMPTLY, waits)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(queue.len(), put + 1);
    });
}

/// A process that may have no more descriptors leaves items that bring some to others.
#[test]
fn an_item_whose_descriptors_find_no_room_stays_in_the_queue() {
    fn get_too_much(queue: Queue<Fd<File>>) -> (String, bool, usize) {
        use rustix::process::{Resource, getrlimit, setrlimit};
        use std::error::Error;
        let before = getrlimit(Resource::Nofile);
        // The lowest number that is free is the first that may not be had.
        let lowest = File::open("/dev/null").unwrap();
        let mut few = before;
        few.current = Some(lowest.as_raw_fd() as u64);
        drop(lowest);
        setrlimit(Resource::Nofile, few).unwrap();
        let refused = queue.blocking_get(None).map(drop).unwrap_err();
        let length = queue.len();
        setrlimit(Resource::Nofile, before).unwrap();
        let source = refused.source().map(ToString::to_string);
        (source.unwrap_or_default(), refused.is_decode(), length)
    }

    everywhere(|method| async move {
        let pool = pool(1, method);
        let queue = Queue::new().unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        queue
            .put(Fd(File::from(OwnedFd::from(there))))
            .await
            .unwrap();
        let (refused, is_decode, length) = pool.submit(get_too_much, queue.clone()).await.unwrap();
        let expected = std::io::Error::from_raw_os_error(libc::EMFILE).to_string();
        assert_eq!((refused, is_decode, length), (expected, false, 1));
        let Fd(mut there) = queue.get_timeout(PROMPTLY).await.unwrap();
        there.write_all(b"still the same").unwrap();
        drop(there);
        let mut said = String::new();
        here.read_to_string(&mut said).unwrap();
        assert_eq!(said, "still the same");
        pool.shutdown().await;
    });
}

/// What is in a queue that nobody has any more is closed with it.
#[test]
fn what_nobody_got_is_closed_with_the_queue() {
    on_each_runtime(|| async {
        let queue = Queue::new().unwrap();
        let (sender, mut receiver) = one_way::<u32>().unwrap();
        queue.put(sender).await.unwrap();
        assert!(
            receiver.try_recv().unwrap_err().is_empty(),
            "it is in the queue"
        );
        drop(queue);
        let ended = tokio::time::timeout(PROMPTLY, receiver.recv()).await;
        assert!(ended.unwrap().unwrap_err().is_closed());
    });
}

/// Who dies with an item in his hand has its descriptors closed with him.
#[test]
fn an_item_in_the_hand_of_one_who_dies_is_gone_with_him() {
    fn die_with_one(queue: Queue<procpool::connection::Sender<u32>>) {
        let _sender = queue.blocking_get(None).unwrap();
        std::process::abort();
    }

    everywhere(|method| async move {
        let pool = ProcessPool::builder().workers(1).start_method(method);
        let pool = pool.stderr(Stdio::null()).build().unwrap();
        let queue = Queue::new().unwrap();
        let ends = [(); 2].map(|()| one_way::<u32>().unwrap());
        let [(first, mut gone), (second, mut kept)] = ends;
        queue.put(first).await.unwrap();
        queue.put(second).await.unwrap();
        let dies = pool.submit(die_with_one, queue.clone());
        assert!(dies.await.unwrap_err().is_worker_lost());
        let ended = gone.recv().await.unwrap_err();
        assert!(ended.is_closed());
        let mut second = queue.get_timeout(PROMPTLY).await.unwrap();
        second.send(&9).await.unwrap();
        assert_eq!(kept.recv().await.unwrap(), 9);
        pool.shutdown().await;
    });
}

/// A descriptor of a queue is what a process has of it, and no more.
#[test]
fn a_closed_queue_has_no_descriptors_any_more() {
    fn count() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    let _scene = scene();
    let before = count();
    let queue = Queue::<u32>::new().unwrap();
    let clone = queue.clone();
    assert_eq!(count(), before + 6);
    queue.close();
    assert_eq!(count(), before);
    drop(clone);
}
